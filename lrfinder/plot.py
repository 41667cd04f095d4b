"""Records drawn with matplotlib: numbers first (`curve_view`, `probes_view`), then ink."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrfinder.choice import evidence_of
from lrfinder.curve import Curve
from lrfinder.errors import InputError
from lrfinder.fit import fit_range
from lrfinder.landscape import fit_landscape, valley_shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lrfinder.suggestion import Suggestion

__all__ = ["CurveView", "Palette", "Rung", "bare", "curve_view", "plot_curve", "plot_probes", "probes_view"]


_TOP_RISE = 8.0
"""Top of the axis of probes: what a factor of eight or so costs."""


class CurveView(NamedTuple):
    """What a plot of a range test shows, as numbers.

    Attributes:
        lr: (n,) learning rates measured.
        loss: (n,) raw losses; those above ``top`` are drawn at the upper edge.
        fit_lr: (m,) learning rates at which the fit is drawn, where it is below its ceiling; empty without a fit.
        fit_loss: (m,) the fitted loss there.
        bottom: lower end of the loss axis.
        top: upper end of the loss axis.
        lr_limit: where training stops being stable; None where it never did.
    """

    lr: NDArray[np.float64]
    loss: NDArray[np.float64]
    fit_lr: NDArray[np.float64]
    fit_loss: NDArray[np.float64]
    bottom: float
    top: float
    lr_limit: float | None

    @property
    def above(self) -> NDArray[np.bool_]:
        """(n,) whether a loss is too high for the axis, or not finite."""
        return np.asarray(~(self.loss <= self.top))


class Palette(NamedTuple):
    """Colours of a plot, as matplotlib reads them."""

    ink: str = "#333333"
    data: str = "#7a8ca5"
    fit: str = "#c4532d"
    answer: str = "#1f6f54"


def curve_view(curve: Curve) -> CurveView:
    """Work out what `plot_curve` draws."""
    fit = fit_range(curve)
    finite = curve.loss[np.isfinite(curve.loss)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    fit_lr, fit_loss = np.empty(0), np.empty(0)
    if fit is not None:
        high = min(high, fit.ceiling)
        fit_lr = np.geomspace(10**fit.x_first, 10**fit.x_last, 400)
        fit_loss = fit(fit_lr)
        below = fit_loss < fit.ceiling
        fit_lr, fit_loss = fit_lr[below], fit_loss[below]
    margin = 0.06 * (high - low) or max(abs(low), 1.0) * 0.06
    limit = None if fit is None else fit.lr_diverge
    return CurveView(curve.lr, curve.loss, fit_lr, fit_loss, low - margin, high + margin, limit)


def plot_curve(
    curve: Curve, suggestion: Suggestion | None = None, ax: Axes | None = None, *, palette: Palette | None = None
) -> Axes:
    """Draw the raw curve, the fit and, where given, the suggested learning rate with its interval.

    Losses above the axis (a blow-up) are drawn as triangles at its upper edge.

    Args:
        curve: a range test.
        suggestion: marks its learning rate and interval; a refused one marks nothing.
        ax: where to draw; a new figure when None.
        palette: colours.

    Returns:
        The Axes drawn on.
    """
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    view, colours = curve_view(curve), palette or Palette()
    inside = ~view.above
    ax.plot(view.lr[inside], view.loss[inside], ".", color=colours.data, label="measured loss")
    if view.above.any():
        edge = np.full(int(view.above.sum()), view.top)
        ax.plot(view.lr[view.above], edge, "^", color=colours.data, clip_on=False, label="beyond the axis")
    if view.fit_lr.size:
        ax.plot(view.fit_lr, view.fit_loss, color=colours.fit, label="fit")
    if view.lr_limit is not None:
        ax.axvline(
            view.lr_limit, color=colours.ink, linestyle=":", label=f"training gets worse above {view.lr_limit:.2g}"
        )
    if suggestion is not None:
        _mark_answer(ax, suggestion, colours)
    ax.set_ylim(view.bottom, view.top)
    ax.set_xlim(10 ** math.floor(math.log10(view.lr[0])), 10 ** math.ceil(math.log10(view.lr[-1])))
    _finish(ax, "training loss", colours)
    return ax


class Rung(NamedTuple):
    """The probes of one length, as numbers.

    Attributes:
        steps: length.
        lr: (n,) peak learning rates, increasing.
        loss: (n,) mean held-out losses; inf where training blew up.
        rise: (n,) loss above the lowest, in units of the fitted rise at half or double the best rate, so that one curve
            fits every length; in units of what training gained where there is no fit.
        fit_lr: (m,) learning rates at which the fit is drawn; empty without a fit.
        fit_rise: (m,) the fitted rise there.
    """

    steps: int
    lr: NDArray[np.float64]
    loss: NDArray[np.float64]
    rise: NDArray[np.float64]
    fit_lr: NDArray[np.float64]
    fit_rise: NDArray[np.float64]


def probes_view(suggestion: Suggestion) -> tuple[Rung, ...]:
    """Work out what `plot_probes` draws: one `Rung` per length, the shortest first.

    Raises:
        InputError: the suggestion was made without probes.
    """
    evidence = evidence_of(suggestion)
    if evidence is None or not evidence.outcomes:
        raise InputError(f"suggestion must have probes to plot, got method = {suggestion.method!r} with none")
    landscape = fit_landscape(evidence) if suggestion.fit is not None else None
    rungs = []
    for rung in evidence.rungs:
        steps = rung[0].probe.steps
        lr, loss = np.array([o.probe.lr for o in rung]), np.array([o.mean for o in rung])
        valley = None if landscape is None else landscape.valley(rung)
        if valley is None:
            low = float(loss.min()) if np.isfinite(loss.min()) else evidence.untrained.mean
            rise = (loss - low) / (max(evidence.untrained.mean - low, 0.0) or 1.0)
            rungs.append(Rung(steps, lr, loss, rise, np.empty(0), np.empty(0)))
            continue
        centre, level, sharpness = valley
        octaves = np.linspace(centre - 4, centre + 4, 200)
        unit = sharpness * float(valley_shape(np.array(-1.0)))
        fitted = sharpness * valley_shape(octaves - centre) / unit
        rungs.append(Rung(steps, lr, loss, (loss - level) / unit, 2**octaves, fitted))
    return tuple(rungs)


def plot_probes(suggestion: Suggestion, ax: Axes | None = None, *, palette: Palette | None = None) -> Axes:
    """Draw how much worse than the best each probe ended, the fit, and the suggested rate with its interval.

    Probes beyond the axis, and those that blew up, are drawn as triangles at its upper edge.

    Args:
        suggestion: one made from probes; a refused one marks no rate.
        ax: where to draw; a new figure when None.
        palette: colours.

    Returns:
        The Axes drawn on.

    Raises:
        InputError: the suggestion was made without probes.
    """
    rungs, colours = probes_view(suggestion), palette or Palette()
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    top = _TOP_RISE if any(rung.fit_lr.size for rung in rungs) else 1.2
    for i, rung in enumerate(rungs):
        colour, mark = (colours.fit, "s") if i == len(rungs) - 1 else (colours.data, "o")
        inside = rung.rise <= top
        ax.plot(rung.lr[inside], rung.rise[inside], mark, color=colour, label=f"probes of {rung.steps} steps")
        if not inside.all():
            ax.plot(rung.lr[~inside], np.full(int((~inside).sum()), top), "^", color=colour, clip_on=False)
        below = rung.fit_rise <= top
        ax.plot(rung.fit_lr[below], rung.fit_rise[below], color=colour, linewidth=1)
    _mark_answer(ax, suggestion, colours)
    ax.set_ylim(-0.08 * top, top)
    _finish(
        ax,
        "rise of the held-out loss\n(1: what half the best rate costs)" if top > 2 else "share of the gain lost",
        colours,
    )
    return ax


def _mark_answer(ax: Axes, suggestion: Suggestion, colours: Palette) -> None:
    if suggestion.lr is None:
        return
    low, high = suggestion.lr_low or suggestion.lr, suggestion.lr_high or suggestion.lr
    ax.axvspan(low, high, color=colours.answer, alpha=0.12, label=f"90% interval {low:.2g} to {high:.2g}")
    ax.axvline(suggestion.lr, color=colours.answer, linewidth=2, label=f"suggested {suggestion.lr:.3g}")


def bare(ax: Axes, colours: Palette) -> None:
    """Take away what frames a plot, and colour the rest."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        ax.spines[side].set_color(colours.ink)
    ax.tick_params(colors=colours.ink, which="both")
    for text in (ax.xaxis.label, ax.yaxis.label):
        text.set_color(colours.ink)


def _finish(ax: Axes, ylabel: str, colours: Palette) -> None:
    ax.set_xscale("log")
    ax.set_xlabel("learning rate")
    ax.set_ylabel(ylabel)
    bare(ax, colours)
    ax.legend(frameon=False, labelcolor=colours.ink, fontsize="small")
