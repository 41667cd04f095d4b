"""The learning-rate ladder of a range test, and the rule that ends the climb."""

from __future__ import annotations

import math
from bisect import insort
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrfinder.errors import InputError
from lrfinder.evidence.curve import MIN_POINTS

_MIN_RUNGS = 4
"""Growth factors needed: two parameters, and two degrees of freedom to see whether the law holds."""

_TOLERANCE = 0.01
"""Largest root-mean-square misfit of the log growth per step (1%): mini-batch noise and adaptive optimizers, whose
blow-ups follow no such law, exceed it by far."""


@dataclass(frozen=True)
class BlowUp:
    """The stability limit of gradient descent with heavy-ball momentum, from the growth of the loss.

    Attributes:
        lr_limit: largest stable learning rate, ``2 (1 + momentum) / sharpness``.
        momentum: the momentum that explains the growth best; 0 for plain gradient descent.
        misfit: root-mean-square error of the log growth per step.
    """

    lr_limit: float
    momentum: float
    misfit: float


def blow_up(lr: NDArray[np.float64], loss: NDArray[np.float64]) -> BlowUp | None:
    """Fit the growth law to the rising end of a range test; None where the end follows no such law.

    With ``L`` the loss above its minimum, one step at ``lr`` multiplies ``sqrt(L)`` by the larger root ``z`` of
    ``z**2 - (lr * h - 1 - b) z + b = 0``, so that ``h = (1 + b + z + b / z) / lr``, for sharpness ``h`` and momentum
    ``b`` (times the ratio of two rungs, since the step before was taken at the rung before).

    Args:
        lr: (n,) increasing learning rates, one step each.
        loss: (n,) finite losses before the steps.

    Source: Cohen et al. 2021, "Gradient descent on neural networks typically occurs at the edge of stability",
    section 2 and appendix B (arXiv 2103.00065): limits ``2 / h`` and ``(2 + 2 b) / h``.
    """
    from scipy.optimize import least_squares

    bottom = loss.size - 1 - int(np.argmin(loss[::-1]))  # the last of equals: growth is measured from above it
    above = loss[bottom + 1 :] - loss[bottom]
    if above.size <= _MIN_RUNGS or np.any(np.diff(above) <= 0):
        return None
    # The last factors are the cleanest: there the growing direction outweighs all others.
    growth = 0.5 * np.log(above[1:] / above[:-1])[-_MIN_RUNGS:]
    rungs = lr[bottom + 1 : -1][-_MIN_RUNGS:]
    ratio = float(rungs[1] / rungs[0])

    def misfit(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        log_sharpness, momentum = parameters
        half = 0.5 * (rungs * np.exp(log_sharpness) - 1 - momentum)
        root = half + np.sqrt(np.maximum(half**2 - momentum, 0.0))
        return np.asarray(np.log(np.maximum(root, 1e-3)) - growth)

    start = float(np.log((1 + np.exp(growth[-1])) / rungs[-1]))
    fit = least_squares(
        misfit, [start, 0.0], bounds=([-np.inf, 0.0], [np.inf, ratio]), xtol=1e-14, ftol=1e-14, gtol=1e-14
    )
    error = float(np.sqrt(np.mean(fit.fun**2)))
    momentum = min(float(fit.x[1]) / ratio, 1.0) if fit.x[1] > 1e-3 else 0.0
    limit = 2 * (1 + momentum) / float(np.exp(fit.x[0]))
    return BlowUp(limit, momentum, error) if error <= _TOLERANCE and limit < rungs[-1] else None


_LEFT_FOR_GOOD = 3.0
"""Left for good: this many times the whole improvement lost again. A catapult (Lewkowycz et al. 2020,
arXiv 2003.02218, section 2) returns from a rise of about the improvement itself, so it is given more."""

_NOISE_SIGMAS = 12.0
"""Where nothing was learnt there is no improvement to measure by: then this many standard deviations of noise."""

TAIL = 4
"""Rungs kept after leaving for good: the growth per rung there tells where stability ended (`blow_up`)."""

_HUGE = 1e100
"""Squares and differences of larger losses overflow: they count as infinite."""

_CHANGE_PER_SD = 0.6744897501960817 * math.sqrt(6.0)
"""Median absolute second difference of independent normal noise, in its standard deviations."""

_ROUNDING = 2.0**-17
"""Losses come from float32 (2**-24) through sums: differences below this share of the loss are rounding."""


@dataclass(frozen=True)
class Ladder:
    """Learning rates of a range test: ``lr[i] = min_lr * (max_lr / min_lr) ** (i / (steps - 1))``.

    Attributes:
        min_lr: first learning rate, exact.
        max_lr: last learning rate, exact.
        steps: number of rungs, one optimizer step each.

    Raises:
        InputError: not ``0 < min_lr < max_lr < inf``, or fewer than ten steps.

    >>> Ladder(1e-3, 1e1, 10).lrs()[[0, -1]].tolist()
    [0.001, 10.0]
    """

    min_lr: float = 1e-7
    max_lr: float = 10.0
    steps: int = 100

    def __post_init__(self) -> None:
        for name, value in (("min_lr", self.min_lr), ("max_lr", self.max_lr)):
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} must be positive and finite, got {name} = {value:g}")
        if self.min_lr >= self.max_lr:
            raise InputError(f"min_lr must be below max_lr, got min_lr = {self.min_lr:g}, max_lr = {self.max_lr:g}")
        if self.steps < MIN_POINTS:
            raise InputError(f"steps of the range test must be at least {MIN_POINTS}, got {self.steps}")

    def lrs(self) -> NDArray[np.float64]:
        """Return the rungs: (steps,) float64, strictly increasing, first and last exact."""
        return np.asarray(np.geomspace(self.min_lr, self.max_lr, self.steps))


def blown_up(loss: float) -> bool:
    """Whether a loss is not finite, or too large to compute with."""
    return not abs(loss) < _HUGE


def noise(loss: ArrayLike) -> float:
    """Robust standard deviation of what changes from one loss to the next without trend.

    Second differences remove any linear trend; their median absolute value over ``0.6745 * sqrt(6)`` is the standard
    deviation of independent normal noise, and a blow-up at the end does not move it. Zero for fewer than three values.
    """
    values = np.asarray(loss, dtype=np.float64)
    values = values[np.isfinite(values)]
    if values.size < 3:
        return 0.0
    return float(np.median(np.abs(np.diff(values, n=2)))) / _CHANGE_PER_SD


def last_step(loss: ArrayLike) -> tuple[int, bool]:
    """Where a range test ends: ``(points to keep, diverged)``.

    It ends at the first non-finite loss (that point is kept, as evidence), or four rungs after
    ``loss - best > 3 * (first - best)``. First, best and current loss are medians of three neighbours, so that one
    unlucky batch neither raises the hopes nor ends the test. The rule knows differences only: it is the same for
    a scaled, shifted or negative loss.

    >>> last_step([-5.0] * 40)
    (40, False)
    >>> last_step([1.0] * 12 + [float("nan"), 1.0])
    (13, True)
    """
    values = np.asarray(loss, dtype=np.float64)
    bad = np.flatnonzero(~(np.abs(values) < _HUGE))
    finite = values[: bad[0]] if bad.size else values
    if finite.size >= MIN_POINTS:
        a, b, c = finite[:-2], finite[1:-1], finite[2:]
        smooth = np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))  # medians of three
        best = np.minimum.accumulate(smooth)
        floor = _ROUNDING * float(np.max(np.abs(finite[:MIN_POINTS])))
        lost = smooth - best
        high = np.flatnonzero(lost > np.maximum(_LEFT_FOR_GOOD * (smooth[0] - best), floor))
        high = high[high >= MIN_POINTS - 3]
        changes = np.abs(np.diff(finite, n=2)).tolist() if high.size else []
        ordered: list[float] = []  # the changes so far: a noisy test at tiny rates may be high everywhere
        for i in high.tolist():
            for change in changes[len(ordered) : i + 1]:
                insort(ordered, change)
            if lost[i] > _NOISE_SIGMAS * (median(ordered) / _CHANGE_PER_SD):
                return min(i + 3 + TAIL, finite.size + bool(bad.size)), True
    return (int(bad[0]) + 1, True) if bad.size else (values.size, False)
