"""Records drawn with matplotlib: numbers first (`curve_view`), then ink (`plot_curve`)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrfinder.curve import Curve
from lrfinder.fit import fit_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lrfinder.suggestion import Suggestion

__all__ = ["CurveView", "Palette", "curve_view", "plot_curve"]


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
    if suggestion is not None and suggestion.lr is not None:
        low, high = suggestion.lr_low or suggestion.lr, suggestion.lr_high or suggestion.lr
        ax.axvspan(low, high, color=colours.answer, alpha=0.12, label=f"90% interval {low:.2g} to {high:.2g}")
        ax.axvline(suggestion.lr, color=colours.answer, linewidth=2, label=f"suggested {suggestion.lr:.3g}")
    ax.set_xscale("log")
    ax.set_ylim(view.bottom, view.top)
    ax.set_xlim(10 ** math.floor(math.log10(view.lr[0])), 10 ** math.ceil(math.log10(view.lr[-1])))
    ax.set_xlabel("learning rate")
    ax.set_ylabel("training loss")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        ax.spines[side].set_color(colours.ink)
    ax.tick_params(colors=colours.ink, which="both")
    for text in (ax.xaxis.label, ax.yaxis.label):
        text.set_color(colours.ink)
    ax.legend(frameon=False, labelcolor=colours.ink, fontsize="small")
    return ax
