"""A range test drawn with matplotlib: numbers first (`curve_view`), then ink; and what all plots share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrfinder.curve import Curve
from lrfinder.fit import RangeFit, fit_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lrfinder.suggestion import Suggestion

__all__ = [
    "CurveView",
    "Palette",
    "bare",
    "curve_view",
    "draw_curve",
    "mark_answer",
    "new_axes",
    "plain",
    "plot_curve",
    "rates",
]


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
    soft: str = "#9aa3ad"


def curve_view(curve: Curve, fit: RangeFit | None = None) -> CurveView:
    """Work out what `plot_curve` draws; ``fit`` is its fit, where that was made already."""
    fit = fit or fit_range(curve)
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
    colours = palette or Palette()
    ax = draw_curve(curve_view(curve), suggestion, ax or new_axes(), colours)
    ax.legend(frameon=False, labelcolor=colours.ink, fontsize="small")
    return ax


def draw_curve(view: CurveView, suggestion: Suggestion | None, ax: Axes, colours: Palette) -> Axes:
    """Draw what `curve_view` worked out, without a legend."""
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
        mark_answer(ax, suggestion, colours)
    ax.set_ylim(view.bottom, view.top)
    first, last = math.floor(math.log10(view.lr[0])), math.ceil(math.log10(view.lr[-1]))
    rates(ax, 10.0**first, 10.0 ** max(last, first + 1))
    ax.set_ylabel("training loss")
    bare(ax, colours)
    return ax


def new_axes() -> Axes:
    """Return the Axes of a new figure of pyplot."""
    import matplotlib.pyplot as plt

    axes: Axes = plt.subplots(figsize=(7, 4), layout="constrained")[1]
    return axes


def mark_answer(ax: Axes, suggestion: Suggestion, colours: Palette) -> None:
    """Mark the suggested learning rate and its interval on the axis of learning rates; nothing where refused."""
    if suggestion.lr is None:
        return
    low, high = suggestion.lr_low or suggestion.lr, suggestion.lr_high or suggestion.lr
    ax.axvspan(low, high, color=colours.answer, alpha=0.12, linewidth=0, label=f"90% interval {low:.2g} to {high:.2g}")
    ax.axvline(suggestion.lr, color=colours.answer, linewidth=2, label=f"suggested {suggestion.lr:.3g}")


def rates(ax: Axes, low: float, high: float) -> None:
    """Make the x axis one of learning rates, logarithmic, with plain numbers at its ticks."""
    from matplotlib.ticker import NullFormatter, NullLocator

    ax.set_xscale("log")
    ax.set_xlim(low, high)
    if high > 1e3 * low:
        ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_locator(_ticks(low, high))
    ax.xaxis.set_major_formatter(plain)
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("learning rate")


def _ticks(low: float, high: float) -> Any:
    """Return where ticks go: at most seven, whole decades where there are three of them."""
    from matplotlib.ticker import LogLocator

    decades = math.log10(high / low)
    return LogLocator(numticks=7) if decades >= 3 else LogLocator(subs=(1, 3) if decades >= 1.3 else (1, 2, 5))


def plain(value: float, _: float = 0.0) -> str:
    """Write a number as a person would: 0.001, 1e-05."""
    return f"{value:g}"


def bare(ax: Axes, colours: Palette) -> None:
    """Take away what frames a plot, and colour the rest."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        ax.spines[side].set_color(colours.soft)
    ax.tick_params(color=colours.soft, labelcolor=colours.ink, which="both")
    for text in (ax.xaxis.label, ax.yaxis.label):
        text.set_color(colours.ink)
