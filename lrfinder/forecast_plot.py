"""A forecast drawn with matplotlib: numbers first (`forecast_view`), then ink."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrfinder.plot import Palette, bare

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lrfinder.forecasts import Forecast

__all__ = ["Line", "forecast_png", "forecast_view", "plot_forecast", "plot_forecast_lr"]

_COLOURS = ("#c4532d", "#1f6f54", "#3b5b92", "#9a6a00", "#7b4a8c", "#b0356b", "#4f7d8c")
_MAX_SCHEDULES = 5
"""Maximum number of predicted schedules drawn, the best ones: more curves cannot be told apart."""


class Line(NamedTuple):
    """One curve of the figure, as numbers.

    Attributes:
        label: text in the legend.
        kind: "log" (raw losses), "fit" (the law on a log it was fitted to), "target" (its losses), "prediction".
        step: (n,) steps.
        lr: (n,) learning rates there.
        loss: (n,) losses there.
        of: number of the group of curves that belong together, such as a log and its fit.
    """

    label: str
    kind: str
    step: NDArray[np.int64]
    lr: NDArray[np.float64]
    loss: NDArray[np.float64]
    of: int


def forecast_view(forecast: Forecast) -> list[Line]:
    """Work out what `plot_forecast` draws: logs and fits after warmup, targets, the best schedules."""
    lines: list[Line] = []
    for run in forecast.runs:
        keep = run.has_loss & (run.step >= max(run.warmup_steps, 1))
        step, every = run.step[keep], run.every_lr()
        of = len(lines)
        lines.append(Line(_short(run.name), "log", step, every[step], run.value[keep], of))
        lines.append(Line("fit", "fit", step, every[step], forecast.law(every, step).loss, of))
    for target in forecast.targets:
        log, of = target.log, len(lines)
        start, every = max(log.warmup_steps, 1), log.every_lr()
        both = log.has_loss & (log.step >= start)
        if both.any():
            step = log.step[both]
            lines.append(Line(_short(log.name), "target", step, every[step], log.value[both], of))
        error = "" if target.mae is None else f", mean error {target.mae:.4f}"
        label = f"{_short(log.name)} predicted{error}"
        step = target.step[target.step >= start]
        lines.append(Line(label, "prediction", step, every[step], target.loss[target.step >= start], of))
    best = ([forecast.optimal] if forecast.optimal else []) + list(forecast.schedules[:_MAX_SCHEDULES])
    for schedule in best:
        label = f"{schedule.name}: {schedule.final_loss:.4f}"
        lines.append(Line(label, "prediction", schedule.step, schedule.lr, schedule.loss, len(lines)))
    return lines


def plot_forecast(forecast: Forecast, ax: Axes | None = None, *, palette: Palette | None = None) -> Axes:
    """Draw the losses logged, the fits, and the predicted curves of targets and of the best five schedules.

    The axis leaves out the steep start so that the ends can be told apart.

    Args:
        forecast: what to draw.
        ax: the Axes to draw on; a new figure if None.
        palette: colours of text and logs.

    Returns:
        The Axes drawn on.
    """
    return _losses_on(_axes(ax), forecast_view(forecast), palette or Palette())


def _losses_on(ax: Axes, lines: list[Line], colours: Palette) -> Axes:
    hues = _hues(lines)
    for line in lines:
        if line.kind in ("log", "target"):
            hue = hues.get(line.of, colours.data)
            ax.plot(line.step, line.loss, ".", markersize=3, color=hue, alpha=0.45, label=_label(line, lines))
        else:
            fit = line.kind == "fit"
            ax.plot(
                line.step, line.loss, color=colours.ink if fit else hues[line.of], linewidth=1 if fit else 1.6,
                label=_label(line, lines),
            )  # fmt: skip
    losses = np.concatenate([line.loss for line in lines])
    low, top = float(losses.min()), max(float(np.quantile(line.loss, 0.9)) for line in lines)
    margin = 0.05 * (top - low) or 1.0
    ax.set_ylim(low - margin, top + 2 * margin)
    ax.set_ylabel("loss")
    ax.set_xlabel("step")
    bare(ax, colours)
    ax.legend(frameon=False, labelcolor=colours.ink, fontsize="small", loc="upper right")
    return ax


def plot_forecast_lr(forecast: Forecast, ax: Axes | None = None, *, palette: Palette | None = None) -> Axes:
    """Draw the learning rates behind `plot_forecast`, in its colours.

    Args:
        forecast: what to draw.
        ax: the Axes to draw on; a new figure if None.
        palette: colours of text and logs.

    Returns:
        The Axes drawn on.
    """
    return _rates_on(_axes(ax), forecast_view(forecast), palette or Palette())


def _rates_on(ax: Axes, lines: list[Line], colours: Palette) -> Axes:
    hues = _hues(lines)
    for line in lines:
        if line.kind != "fit":
            ax.plot(line.step, line.lr, color=hues.get(line.of, colours.data), linewidth=1.2)
    ax.set_ylim(bottom=0)
    ax.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3))
    ax.set_ylabel("learning rate")
    ax.set_xlabel("step")
    bare(ax, colours)
    return ax


def forecast_png(forecast: Forecast) -> bytes:
    """Return loss and learning rate over steps as a PNG picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    lines, colours = forecast_view(forecast), Palette()
    _losses_on(above, lines, colours)
    above.set_xlabel("")
    _rates_on(below, lines, colours)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    return file.getvalue()


def _axes(ax: Axes | None) -> Axes:
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(8, 4), layout="constrained")
    return ax


def _hues(lines: list[Line]) -> dict[int, str]:
    predicted = [line.of for line in lines if line.kind == "prediction"]
    return {of: _COLOURS[i % len(_COLOURS)] for i, of in enumerate(predicted)}


def _label(line: Line, lines: list[Line]) -> str | None:
    """Return the text in the legend: logs share one entry and fits another, and a target is named by its prediction."""
    if line.kind == "prediction":
        return line.label
    first = next(one for one in lines if one.kind == line.kind)
    return {"log": "logs", "fit": "fits", "target": None}[line.kind] if line is first else None


def _short(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2].removesuffix(".csv")
