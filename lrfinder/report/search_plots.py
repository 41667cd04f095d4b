"""The probes drawn with matplotlib: held-out loss against learning rate, in its own units."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrfinder.errors import InputError
from lrfinder.evidence.curve import Curve
from lrfinder.evidence.probe import standard_error
from lrfinder.evidence.range_fit import FAINT, RangeFit, fit_range
from lrfinder.evidence.valley import valley_shape
from lrfinder.report.figure import Palette, make_axes, mark_answer, set_rate_axis, strip_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lrfinder.answer.suggestion import Suggestion
    from lrfinder.evidence.probe import Evidence
    from lrfinder.evidence.valley import ValleyFit


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


def curve_view(curve: Curve, fit: RangeFit | None = None) -> CurveView:
    """Work out what `plot_curve` draws; ``fit`` is its fit, where that was made already."""
    fit, curve = fit or fit_range(curve), curve.thinned()
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
    ax = draw_curve(curve_view(curve), suggestion, ax or make_axes(), colours)
    ax.legend(framealpha=0.85, edgecolor="none", labelcolor=colours.ink, fontsize="small")
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
    set_rate_axis(ax, 10.0**first, 10.0 ** max(last, first + 1))
    ax.set_ylabel("training loss")
    strip_frame(ax, colours)
    return ax


_TOP = float(valley_shape(np.array(-4.0)))
"""Height of the axis in units of a valley's sharpness: what four octaves cost."""


class Rung(NamedTuple):
    """The probes that are compared, as numbers.

    Attributes:
        steps: optimizer steps of each.
        lr: (n,) peak learning rates, increasing.
        loss: (n,) mean held-out losses; inf where training blew up.
        error: (n,) standard error of the difference from the best one's, paired batch by batch; 0 for the best one and
            if it is unknown.
        fit_lr: (m,) learning rates at which the fit is drawn; empty without a fit.
        fit_loss: (m,) the fitted loss there.
    """

    steps: int
    lr: NDArray[np.float64]
    loss: NDArray[np.float64]
    error: NDArray[np.float64]
    fit_lr: NDArray[np.float64]
    fit_loss: NDArray[np.float64]

    @property
    def best(self) -> int:
        """Which probe ended lowest."""
        return int(np.argmin(self.loss))


class ProbesView(NamedTuple):
    """What a plot of the probes shows, as numbers.

    Attributes:
        rung: the probes.
        untrained: held-out loss of the starting state; not finite where that is.
        bottom: lower end of the loss axis.
        top: upper end; probes above it are drawn there.
        bracket: learning rates between which the loss of the range test fell, from its steepest place to where it got
            worse; None where it showed no descent.
        blow_up: lowest learning rate above the best at which a probe blew up; None where none did.
    """

    rung: Rung
    untrained: float
    bottom: float
    top: float
    bracket: tuple[float, float] | None
    blow_up: float | None


def probes_view(suggestion: Suggestion) -> ProbesView:
    """Work out what `plot_probes` draws; the suggestion must have been made from probes."""
    evidence, valley = suggestion.evidence, suggestion.valley
    if not evidence.outcomes:
        raise InputError(f"suggestion must have probes to plot, got method = {suggestion.method!r} with none")
    rung = rung_view(evidence, valley)
    bottom, top = _axis(evidence, valley, rung)
    bracket = _bracket(suggestion.range_fit)
    blow_up = 2.0**valley.blow_up if valley is not None and math.isfinite(valley.blow_up) else None
    return ProbesView(rung, evidence.untrained.mean, bottom, top, bracket, blow_up)


def rung_view(evidence: Evidence, valley: ValleyFit | None) -> Rung:
    """Return the probes as numbers, with their fit."""
    rung = evidence.rung
    lr, loss = np.array([o.probe.lr for o in rung]), np.array([o.mean for o in rung])
    best = min(rung, key=lambda outcome: outcome.mean)
    error = np.array([0.0 if o.diverged else standard_error(o.loss - best.loss) or 0.0 for o in rung])
    fitted = None if valley is None else valley.valley(rung)
    if fitted is None:
        return Rung(rung[0].probe.steps, lr, loss, error, np.empty(0), np.empty(0))
    centre, level, sharpness = fitted
    low, high = min(centre - 4, math.log2(lr[0]) - 0.5), max(centre + 4, math.log2(lr[-1]) + 0.5)
    octaves = np.linspace(low, high, 120)
    return Rung(rung[0].probe.steps, lr, loss, error, 2**octaves, level + sharpness * valley_shape(octaves - centre))


def _axis(evidence: Evidence, valley: ValleyFit | None, rung: Rung) -> tuple[float, float]:
    losses = rung.loss[np.isfinite(rung.loss)]
    if not losses.size:
        return 0.0, 1.0
    low, untrained = float(losses.min()), evidence.untrained.mean
    high = max(float(losses.max()), untrained if math.isfinite(untrained) else -math.inf)
    fitted = None if valley is None else valley.valley(evidence.rung)
    if fitted is not None:
        high = min(high, fitted[1] + _TOP * fitted[2])
    else:  # most of them in view, whatever the worst did
        most = float(np.quantile(losses, 0.75))
        high = min(high, low + 2 * (max(most, untrained if math.isfinite(untrained) else most) - low))
    low = min(low, float(rung.fit_loss.min(initial=math.inf)))
    margin = 0.07 * (high - low) or max(abs(low), 1.0) * 0.07
    return low - margin, high + margin


def _bracket(fit: RangeFit | None) -> tuple[float, float] | None:
    if fit is None or fit.evidence < FAINT:
        return None
    low, high = fit.lr_steepest, fit.lr_diverge or fit.lr_lowest
    return (low, high) if low < high else None


def plot_probes(suggestion: Suggestion, ax: Axes | None = None, *, palette: Palette | None = None) -> Axes:
    """Draw the held-out loss of every probe, the fit, and the suggested rate with its interval.

    Bars are standard errors of the difference from the best probe. Probes beyond the axis, and those
    that blew up, are drawn as triangles at its upper edge.

    Args:
        suggestion: one made from probes; a refused one marks no rate.
        ax: where to draw; a new figure when None.
        palette: colours.

    Returns:
        The Axes drawn on.

    Raises:
        InputError: the suggestion was made without probes.
    """
    view, colours = probes_view(suggestion), palette or Palette()
    ax = draw_probes(view, suggestion, ax or make_axes(), colours)
    ax.legend(framealpha=0.85, edgecolor="none", labelcolor=colours.ink, fontsize="small")
    return ax


def draw_probes(view: ProbesView, suggestion: Suggestion, ax: Axes, colours: Palette) -> Axes:
    """Draw what `probes_view` worked out, without a legend."""
    _draw_rung(view.rung, view.top, ax, colours.fit)
    if view.bottom < view.untrained < view.top:
        ax.axhline(view.untrained, color=colours.soft, linewidth=1, linestyle=":", label="untrained")
    if view.bracket is not None:
        ax.axvspan(
            *view.bracket, ymax=0.035, color=colours.data, alpha=0.5, linewidth=0, label="descent of the range test"
        )
    if view.blow_up is not None:
        ax.axvline(view.blow_up, color=colours.ink, linewidth=1, linestyle=":", label=f"blew up at {view.blow_up:.2g}")
    mark_answer(ax, suggestion, colours)
    ax.set_ylim(view.bottom, view.top)
    tried = [*view.rung.lr]
    tried += [rate for rate in (suggestion.lr_low, suggestion.lr_high) if rate is not None]
    set_rate_axis(ax, min(tried) / 1.5, max(tried) * 1.5)
    ax.set_ylabel("held-out loss")
    strip_frame(ax, colours)
    return ax


def _draw_rung(rung: Rung, top: float, ax: Axes, colour: str) -> None:
    inside = rung.loss <= top
    ax.errorbar(
        rung.lr[inside], rung.loss[inside], rung.error[inside], fmt="s", color=colour, markersize=5, elinewidth=1,
        label=f"probes of {rung.steps} steps",
    )  # fmt: skip
    if not inside.all():
        ax.plot(rung.lr[~inside], np.full(int((~inside).sum()), top), "^", color=colour, clip_on=False)
    below = rung.fit_loss <= top
    if below.any():
        ax.plot(rung.fit_lr[below], rung.fit_loss[below], color=colour, linewidth=1.2, label="fit")
