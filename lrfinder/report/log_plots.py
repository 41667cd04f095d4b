"""Forecasts and plateaus drawn with matplotlib: numbers first (`forecast_view`, `plateau_view`), then ink."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrfinder.report.figure import Palette, draw_png, make_axes, strip_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lrfinder.logs.forecast import Forecast
    from lrfinder.plateau.detector import Detector
    from lrfinder.plateau.gain_test import Plateau
    from lrfinder.plateau.scan import Scan


_COLOURS = ("#c4532d", "#1f6f54", "#3b5b92", "#9a6a00", "#7b4a8c", "#b0356b", "#4f7d8c")

_MAX_SCHEDULES = 5
"""Maximum number of predicted schedules drawn, the best ones: more curves cannot be told apart."""


class Line(NamedTuple):
    """One curve of the figure, as numbers.

    Attributes:
        label: text in the legend; None if another line has it.
        kind: "log" (raw losses), "fit" (the law on a log it was fitted to), "target" (its losses), "prediction".
        step: (n,) steps.
        lr: (n,) learning rates there.
        loss: (n,) losses there.
        of: number of the group of curves that belong together, such as a log and its fit.
    """

    label: str | None
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
        logs, fits = (None, None) if lines else ("logs", "fits")
        lines.append(Line(logs, "log", step, every[step], run.value[keep], of))
        lines.append(Line(fits, "fit", step, every[step], forecast.law(every, step).loss, of))
    for target in forecast.targets:
        log, of = target.log, len(lines)
        start, every = max(log.warmup_steps, 1), log.every_lr()
        both = log.has_loss & (log.step >= start)
        if both.any():
            step = log.step[both]
            lines.append(Line(None, "target", step, every[step], log.value[both], of))
        error = "" if target.mae is None else f", mean error {target.mae:.4f}"
        name = log.name.replace("\\", "/").rpartition("/")[2].removesuffix(".csv")
        label = f"{name} predicted{error}"
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
    return _losses_on(ax or make_axes(), forecast_view(forecast), palette or Palette())


def _losses_on(ax: Axes, lines: list[Line], colours: Palette) -> Axes:
    hues = _hues(lines)
    for line in lines:
        if line.kind in ("log", "target"):
            hue = hues.get(line.of, colours.data)
            ax.plot(line.step, line.loss, ".", markersize=3, color=hue, alpha=0.45, label=line.label)
        else:
            fit = line.kind == "fit"
            ax.plot(
                line.step, line.loss, color=colours.ink if fit else hues[line.of], linewidth=1 if fit else 1.6,
                label=line.label,
            )  # fmt: skip
    losses = np.concatenate([line.loss for line in lines])
    low, top = float(losses.min()), max(float(np.quantile(line.loss, 0.9)) for line in lines)
    margin = 0.05 * (top - low) or 1.0
    ax.set_ylim(low - margin, top + 2 * margin)
    ax.set_ylabel("loss")
    ax.set_xlabel("step")
    strip_frame(ax, colours)
    ax.legend(frameon=False, labelcolor=colours.ink, fontsize="small", loc="upper right")
    return ax


def _rates_on(ax: Axes, lines: list[Line], colours: Palette) -> Axes:
    hues = _hues(lines)
    for line in lines:
        if line.kind != "fit":
            ax.plot(line.step, line.lr, color=hues.get(line.of, colours.data), linewidth=1.2)
    ax.set_ylim(bottom=0)
    ax.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3))
    ax.set_ylabel("learning rate")
    ax.set_xlabel("step")
    strip_frame(ax, colours)
    return ax


def forecast_png(forecast: Forecast) -> bytes:
    """Return loss and learning rate over steps as a PNG picture."""

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        lines, colours = forecast_view(forecast), Palette()
        _losses_on(above, lines, colours)
        above.set_xlabel("")
        _rates_on(below, lines, colours)

    return draw_png(draw, (8, 5.6))


def _hues(lines: list[Line]) -> dict[int, str]:
    predicted = [line.of for line in lines if line.kind == "prediction"]
    return {of: _COLOURS[i % len(_COLOURS)] for i, of in enumerate(predicted)}


_STRETCHES = 600
"""Number of stretches of a long log, each drawn as two points: more do not fit side by side."""

_USUAL = (0.02, 0.98)
"""Quantiles of the values; those between them are always on the axis."""

_FEW = 300
"""Maximum number of points that are drawn large."""

Array = NDArray[np.float64]


class PlateauView(NamedTuple):
    """What a plot of plateaus shows, as numbers.

    Attributes:
        label: name of the values.
        step: (n,) steps of the values drawn as points, increasing; empty for a live `Detector`, which keeps no values.
        value: (n,) those values, finite: the lowest and the highest of every 1/600 of the log. Values above ``top`` or
            below ``bottom`` are drawn at the edge.
        thinned: whether other values were left out.
        block_step: (m,) steps at the middle of each block.
        block_mean: (m,) means of the blocks, NaN for a block without a finite value.
        block_length: number of rows in a block; 1 if the blocks are the values themselves.
        plateaus: plateaus to mark, with window and step.
        lr_changes: steps at which the learning rate changed.
        bottom: lower end of the axis.
        top: upper end of the axis.
    """

    label: str
    step: NDArray[np.int64]
    value: Array
    thinned: bool
    block_step: Array
    block_mean: Array
    block_length: int
    plateaus: tuple[Plateau, ...]
    lr_changes: tuple[int, ...]
    bottom: float
    top: float


def plateau_view(found: Scan | Detector) -> PlateauView:
    """Work out what `plot_plateaus` draws. Reads from the device of a live `Detector`."""
    from lrfinder.plateau.scan import Scan

    if isinstance(found, Scan):
        log, blocks = found.log, found.blocks
        keep = _extremes(log.value)
        label, step, value, middle = log.column, log.step[keep], log.value[keep], found.block_step
        limits, lr_changes, plateaus = _limits(log.value), found.lr_changes, found.plateaus
        thinned = len(log) - log.skipped > keep.size
    else:
        blocks, plateaus = found.record(), found.events
        label, step, value, thinned, lr_changes = "loss", np.empty(0, dtype=np.int64), np.empty(0), False, ()
        middle = np.float64(blocks.length) * (np.arange(blocks.mean.size) + 0.5) + 0.5  # steps are counted from 1
        limits = _limits(blocks.mean)
    return PlateauView(label, step, value, thinned, middle, *blocks, plateaus, lr_changes, *limits)


def _extremes(value: Array) -> NDArray[np.int64]:
    """Return the indices of the lowest and the highest finite value of every stretch, increasing."""
    finite = np.flatnonzero(np.isfinite(value))
    if finite.size <= 2 * _STRETCHES:
        return finite
    stretches = np.array_split(finite, _STRETCHES)
    return np.unique(
        [index for part in stretches for index in (part[value[part].argmin()], part[value[part].argmax()])]
    )


def _limits(value: Array) -> tuple[float, float]:
    """Return the ends of the axis: the range of the usual values, extended by up to its length on both sides."""
    value = value[np.isfinite(value)]
    if not value.size:
        return 0.0, 1.0
    low, high = (float(end) for end in np.quantile(value, _USUAL))
    low, high = max(2 * low - high, float(value.min())), min(2 * high - low, float(value.max()))
    margin = 0.06 * (high - low) or max(abs(low), 1.0) * 0.06
    return low - margin, high + margin


def plot_plateaus(found: Scan | Detector, ax: Axes | None = None, *, palette: Palette | None = None) -> Axes:
    """Draw the values, their block means, every plateau with the window behind it, and where the learning rate changed.

    Values beyond the axis (spikes) are drawn as triangles at its edge.

    Args:
        found: result of `find_plateaus`, or a live `Detector`, which has block means only.
        ax: the Axes to draw on; a new figure if None.
        palette: colours.

    Returns:
        The Axes drawn on.
    """
    ax, view, colours = ax or make_axes(), plateau_view(found), palette or Palette()
    above, below = view.value > view.top, view.value < view.bottom
    inside = ~(above | below)
    if view.step.size:
        label = f"{view.label}, {'highest and lowest' if view.thinned else 'as logged'}"
        size = 6 if view.step.size <= _FEW else 2.5
        ax.plot(view.step[inside], view.value[inside], ".", markersize=size, color=colours.data, alpha=0.6, label=label)
    for out, edge, mark in ((above, view.top, "^"), (below, view.bottom, "v")):
        if out.any():
            at = np.full(int(out.sum()), edge)
            named = "beyond the axis" if mark == "^" or not above.any() else None
            ax.plot(view.step[out], at, mark, markersize=4, color=colours.data, clip_on=False, label=named)
    # Blocks of one are the points once more.
    means = f"means of {view.block_length} values" if view.block_length > 1 else None if view.step.size else view.label
    ax.plot(view.block_step, view.block_mean, color=colours.ink, linewidth=1.2, label=means)
    _mark(ax, view, colours)
    ax.set_ylim(view.bottom, view.top)
    ax.set_xlabel("step")
    ax.set_ylabel(view.label)
    strip_frame(ax, colours)
    ax.legend(  # above: a line may be anywhere below
        frameon=False, labelcolor=colours.ink, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3
    )
    return ax


def _mark(ax: Axes, view: PlateauView, colours: Palette) -> None:
    for i, plateau in enumerate(view.plateaus):
        ax.axvspan(
            plateau.since, plateau.step, color=colours.answer, alpha=0.12, label=None if i else "window of its test"
        )
        ax.axvline(plateau.step, color=colours.answer, linewidth=1.6, label=None if i else "plateau")
        ax.annotate(
            f"step {plateau.step}", (plateau.step, 0.97), xycoords=("data", "axes fraction"), xytext=(-3, 0),
            textcoords="offset points", rotation=90, ha="right", va="top", fontsize="x-small", color=colours.answer,
        )  # fmt: skip
    if view.lr_changes:
        height = 0.03 * (view.top - view.bottom)
        ax.vlines(
            view.lr_changes, view.bottom, view.bottom + height, color=colours.fit, linewidth=1.2,
            label="learning rate changes",
        )  # fmt: skip


def plateau_png(scan: Scan) -> bytes:
    """Return the picture of `plot_plateaus` as PNG."""
    return draw_png(lambda figure: plot_plateaus(scan, figure.subplots()), (8, 4))
