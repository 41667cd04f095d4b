"""The shape of a range test: a plateau, a descent, a blow-up, fitted in log10 of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfinder.evidence.curve import MIN_POINTS, Curve
from lrfinder.evidence.range_shape import PARAMETERS, ShapeFit, fit_shape, shape_at
from lrfinder.evidence.range_test import TAIL, BlowUp, blow_up, blown_up, last_step, noise

Array = NDArray[np.float64]

_FIRST = 5
"""Losses whose median is the level before learning."""

_DIGITS = 9
"""Decimals kept for fitting, of losses in units of their range and of decades: far below any noise, far above
rounding."""

_STARTS = ((0.3, 0.1), (0.8, 0.3), (2.0, 0.4))
"""Where the search for the descent begins: decades below the lowest loss, and the width there. The best fit counts."""

_GRID = 2001
"""Points on which the fitted shape is searched for its lowest and steepest places."""


@dataclass(frozen=True, eq=False)
class RangeFit:
    """The fitted shape ``f(x)``, ``x = log10(lr)``, of the loss after the step taken at ``lr``.

    ``f(x) = level - drop * S((x - descent) / descent_width) + unit * exp((x - rise) / rise_width)`` with the logistic
    ``S``; losses above ``ceiling`` count as ``ceiling``, so that a blow-up to 1e30 weighs no more than one to 10.

    Attributes:
        parameters: (6,) in the order of `PARAMETERS`; level and drop in units of the loss, the rest in decades of lr.
        covariance: (6, 6) of the parameters; inf where the curve does not determine them.
        unit: the loss difference by which the rise is measured.
        ceiling: the loss above which a point only counts as "high".
        noise: standard deviation of the residuals below the ceiling, in units of the loss.
        x_first: log10 of the first learning rate fitted.
        x_last: log10 of the last one.
        points: number of points fitted.
        diverged: whether training left for good within the curve.
        evidence: log-likelihood ratio (base e) of a curve with a descent over one without.
        evidence_of_rise: the same of a rise without descent over a constant.
        blow_up: the stability limit read off the rising end, where that follows gradient descent's law.
    """

    parameters: Array
    covariance: Array
    unit: float
    ceiling: float
    noise: float
    x_first: float
    x_last: float
    points: int
    diverged: bool
    evidence: float
    evidence_of_rise: float
    blow_up: BlowUp | None

    def __call__(self, lr: float | Array) -> Array:
        """Return the fitted loss at ``lr``, at most `ceiling`."""
        return np.minimum(shape_at(np.log10(lr), self.parameters, self.unit), self.ceiling)

    @property
    def lr_steepest(self) -> float:
        """Where the fitted loss falls fastest per decade."""
        xs, ys = self._drawn()
        return float(10 ** xs[np.argmin(np.gradient(ys, xs))])

    @property
    def lr_lowest(self) -> float:
        """Where the fitted loss is lowest: to its right training got worse."""
        return float(10 ** self._lowest())

    @property
    def lr_diverge(self) -> float | None:
        """Largest learning rate that is stable; None where training never left for good.

        From gradient descent's law of growth where the end of the curve follows it, else `lr_lowest`.
        """
        if self.blow_up is not None:
            return self.blow_up.lr_limit
        return self.lr_lowest if self.diverged else None

    @property
    def gain(self) -> float:
        """How far the fitted loss falls from the first learning rate to the lowest place, in units of the loss."""
        return float(self(10**self.x_first) - self(10 ** self._lowest()))

    @property
    def at_edge(self) -> bool:
        """Whether the lowest place is the last learning rate tried."""
        return self._lowest() == self.x_last

    def standard_error(self, name: str) -> float:
        """Return the standard error of one of `PARAMETERS`; inf where the curve does not determine it."""
        i = PARAMETERS.index(name)
        return float(math.sqrt(self.covariance[i, i])) if self.covariance[i, i] >= 0 else math.inf

    def to_dict(self) -> dict[str, Any]:
        """Return the fit as JSON-ready data; an undetermined covariance is null."""
        known = bool(np.all(np.isfinite(self.covariance)))
        return {
            "shape": "level - drop*S((x-descent)/descent_width) + unit*exp((x-rise)/rise_width), x = log10(lr)",
            "parameters": dict(zip(PARAMETERS, self.parameters.tolist(), strict=True)),
            "covariance": self.covariance.tolist() if known else None,
            "unit": self.unit,
            "noise": self.noise,
            "evidence": self.evidence if math.isfinite(self.evidence) else None,
            "lr_steepest": self.lr_steepest,
            "lr_lowest": self.lr_lowest,
            "lr_diverge": self.lr_diverge,
            "gain": self.gain,
        }

    def _drawn(self) -> tuple[Array, Array]:
        xs = np.linspace(self.x_first, self.x_last, _GRID)
        return xs, np.minimum(shape_at(xs, self.parameters, self.unit), self.ceiling)

    def _lowest(self) -> float:
        """Return log10 of the lowest place: where the rise begins to outweigh the descent.

        It is found where the logarithms of the two slopes cross: on a flat bottom the values differ by rounding only.
        """
        _, drop, descent, descent_width, rise, rise_width = self.parameters
        xs, ys = self._drawn()
        away = np.abs(xs - descent) / descent_width
        falling = math.log(max(drop / self.unit, 1e-300)) - math.log(descent_width) - away - 2 * np.log1p(np.exp(-away))
        rising = (xs - rise) / rise_width - math.log(rise_width)
        surplus = falling - rising
        last = int(np.max(np.flatnonzero(surplus > 0), initial=-1))
        if last < 0 or ys[last] >= ys[0]:
            return self.x_first
        if last == xs.size - 1:
            return self.x_last
        return float(xs[last] + (xs[last + 1] - xs[last]) * surplus[last] / (surplus[last] - surplus[last + 1]))


FAINT, CLEAR = 4.0, 9.5
"""Log-likelihood ratios of a descent: from the first on there may be one, but noise alone gives as much now and then;
the second it hardly reaches (docs/measured.md, "How much evidence")."""

_BELOW_MIDDLE = 3.0
"""Octaves from the middle between the lowest place of a range test and the place where training left for good down to
the best rate of a whole training, the mean over our tasks (docs/measured.md, "Where a range test points")."""

_FALL = 8.0
"""Octaves below the place where training left for good that the lowest place counts as at most."""

_BELOW_LOWEST = 1.0
"""Octaves from the lowest place down to the best rate, where training never left for good."""

_BELOW_END = 6.0
"""Octaves from the end of a range test down to the best rate, where there is neither a descent nor an end to it."""

_SMOOTHED = 7
"""Points of the moving average of a test of 100 steps; longer tests average the same share."""


def expected_place(curve: Curve, fit: RangeFit | None) -> float:
    """Return log2 of the learning rate at which a range test puts the best rate of a whole training.

    It lies three octaves below the middle between the lowest place of the moving average and the place where training
    left for good. The lowest place alone is chance where the curve is flat before it rises. Where training never left
    for good, the best rate is expected an octave below the lowest place, or six octaves below the end of a curve
    without a descent or a fit.
    """
    lr, loss, left = usable(curve)
    if fit is None or (left is None and fit.evidence < FAINT):
        return math.log2(curve.lr[-1]) - _BELOW_END
    lowest = math.log2(lowest_place(lr, loss))
    if fit.blow_up is not None:
        lowest = min(lowest, math.log2(fit.blow_up.lr_limit))
    if left is None:
        return lowest - _BELOW_LOWEST
    return (max(lowest, math.log2(left) - _FALL) + math.log2(left)) / 2 - _BELOW_MIDDLE


def lowest_place(lr: Array, loss: Array) -> float:
    """Return the learning rate at which the moving average of the `usable` part of a range test is lowest.

    It tells more than the lowest place of the fitted shape, which a blow-up out of the range test's own speed pulls
    upwards.
    """
    width = min(max(_SMOOTHED, round(_SMOOTHED * loss.size / 100)), loss.size // 2) // 2 * 2 + 1
    averages = np.convolve(loss, np.ones(width) / width, "valid")
    return float(lr[int(np.argmin(averages)) + width // 2])


def usable(curve: Curve) -> tuple[Array, Array, float | None]:
    """Return ``(lr, loss, left)`` of a thinned curve: finite losses only, up to shortly after training left for good.

    ``left`` is the learning rate at which it did, None where it never did.
    """
    curve = curve.thinned()
    keep, diverged = last_step(curve.loss)
    failed = blown_up(curve.loss[keep - 1])
    finite = keep - 1 if failed else keep
    left = curve.lr[keep - 1 if failed else keep - 1 - TAIL] if diverged else None
    return curve.lr[:finite], curve.loss[:finite], None if left is None else float(left)


def fit_range(curve: Curve) -> RangeFit | None:
    """Fit the shape to a range test by robust least squares (soft L1); None where fewer than ten points are usable.

    The loss enters through differences only, and in units of its own range, the learning rate in decades above the
    first: a scaled or shifted loss, or scaled learning rates, give the scaled and shifted fit. Point ``i`` pairs
    ``lr[i]`` with ``loss[i + 1]``, the loss that the step at ``lr[i]`` led to.

    Source: the shape is ours; `scipy.optimize.least_squares` fits it, and the covariance is its Gauss-Newton
    approximation, ``inv(J.T @ J)`` times the residual variance.
    """
    lr, loss, left = usable(curve)
    if lr.size < MIN_POINTS:
        return None
    x, y = np.round(np.log10(lr[:-1] / lr[0]), _DIGITS), loss[1:]
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(loss, 3), axis=1)
    first, best, sigma = float(np.median(loss[:_FIRST])), float(smooth.min()), noise(loss)
    improvement = max(first - best, 0.0)
    ceiling = first + max(improvement, 6 * sigma)
    unit = max(ceiling - best, 1e-300)
    if not np.any(y != y[0]) or unit <= 1e-300:
        unit, ceiling = 1.0, math.inf  # a constant: nothing to scale by, nothing to fit
    # Rounded, so that a scaled or shifted loss gives the very same numbers to fit, not merely close ones.
    z = np.round((np.minimum(y, ceiling) - first) / unit, _DIGITS)
    top = float(np.round((ceiling - first) / unit, _DIGITS))
    soft = float(np.round(max(sigma / unit, 1e-3), _DIGITS))
    drop = float(np.round(max(improvement / unit, 0.05), _DIGITS))

    span = float(x[-1])
    sharp, narrow = min(0.01, span / 20), min(0.02, span / 10)  # least widths of rise and descent
    lowest = float(x[int(np.argmin(smooth[: x.size]))])
    lower = np.array([-2.0, 0.0, 0.0, narrow, 0.0, sharp])
    upper = np.array([2.0, 4.0, span + 0.5, span / 2, 2 * span, span])

    def fitted(free: Sequence[int], *starts: Sequence[float]) -> ShapeFit:
        """Return the best fit of the parameters that are free, the others staying where they start."""
        fixed = np.isin(np.arange(lower.size), free, invert=True)
        fits = [
            fit_shape(x, z, top, soft, start, np.where(fixed, start, lower), np.where(fixed, start, upper))
            for start in map(np.array, starts)
        ]
        return min(fits, key=lambda fit: fit.cost)

    flat = fitted([0], [0.0, 0.0, 0.0, 1.0, 1e3, 0.1])  # so many decades away there is no rise
    rising = fitted([0, 4, 5], *([0.0, 0.0, 0.0, 1.0, place, 0.1] for place in (span, lowest)))
    full = fitted(
        range(6),
        *([0.0, drop, lowest - below, width, max(span, lowest + 0.1), 0.1] for below, width in _STARTS),
    )
    x_first = float(np.log10(lr[0]))
    scale = np.array([unit, unit, 1.0, 1.0, 1.0, 1.0])
    below = z < top
    residual = float(np.sqrt(np.sum(full.residuals[below] ** 2) / max(int(below.sum()) - 6, 1)))
    return RangeFit(
        parameters=full.parameters * scale + np.array([first, 0, x_first, 0, x_first, 0]),
        covariance=_covariance(full.slopes, residual) * np.outer(scale, scale),
        unit=unit,
        ceiling=ceiling,
        noise=residual * unit,
        x_first=x_first,
        x_last=x_first + span,
        points=int(np.searchsorted(curve.lr, lr[x.size - 1], side="right")),
        diverged=left is not None,
        evidence=_evidence(rising, full, soft),
        evidence_of_rise=_evidence(flat, rising, soft),
        blow_up=None if left is None else blow_up(lr, loss),
    )


def _evidence(simpler: ShapeFit, richer: ShapeFit, soft: float) -> float:
    """Log-likelihood ratio of the richer shape, robust: the difference of the soft-L1 costs in units of the noise.

    Only independent residuals, those of the richer shape, count: autocorrelation ``r`` at lag one leaves
    ``(1 - r) / (1 + r)`` of them. Large residuals are clipped first, so that the chaos before a blow-up does not pass
    for correlation.
    """
    residuals = np.clip(richer.residuals, -3 * soft, 3 * soft)
    square = float(np.sum(residuals**2))
    lag = float(np.sum(residuals[1:] * residuals[:-1])) / square if square > 0 else 0.0
    return max(simpler.cost - richer.cost, 0.0) / soft**2 * (1 - max(lag, 0.0)) / (1 + max(lag, 0.0))


def _covariance(jacobian: Array, residual: float) -> Array:
    singular, vectors = np.linalg.svd(jacobian, full_matrices=False)[1:]
    if singular.size == 0 or singular[-1] <= 1e-10 * singular[0]:
        return np.full((jacobian.shape[1], jacobian.shape[1]), np.inf)
    return np.asarray((vectors.T / singular**2) @ vectors * residual**2)
