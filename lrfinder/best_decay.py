"""The non-increasing schedule for which a fitted law predicts the lowest final loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrfinder.losslaw import LossLaw

__all__ = ["best_decay"]

Array = NDArray[np.float64]

_KNOTS = 48
"""Denser towards the end, where the rate falls."""

_LEAST_STAIR = 0.1
"""Of the peak; no jump goes below. With γ > 1 the law has a jump to almost nothing gain all at once, which no log
backs; in the curves that the law was found on the deepest jumps go to a tenth."""


def best_decay(law: LossLaw, lr: Array, warmup_steps: int, end_lr: float, starts: Sequence[Array]) -> Array:
    """Minimise the predicted final loss over decays from the peak that never rise, with SciPy's L-BFGS-B.

    The falls between knots are a softmax of the unknowns, the last of which is what never falls: so the rate starts at
    the peak, never rises and stays at or above ``end_lr``. It is sought twice: as lines between the knots, and as
    stairs at them, for to the law a jump gains sooner than the same fall along a line. The law gives a rate near the
    peak no chance of being too high; the peak is given, not sought.

    Args:
        law: fitted to falls.
        lr: (T + 1,) a schedule with the warmup and peak wanted; what is after warmup is replaced.
        warmup_steps: W, below T.
        end_lr: lowest rate allowed, at most the peak.
        starts: (T + 1,) schedules with this warmup, the best first; the search starts from the first three.

    Returns:
        (T + 1,) learning rate of every step: never predicted worse than any of ``starts`` that is itself allowed.
    """
    last, peak = lr.size - 1, float(lr[warmup_steps])
    knots = _knots(warmup_steps, last)
    steps = np.arange(warmup_steps, last + 1)
    warmup, before = lr[:warmup_steps], float(lr[:warmup_steps].sum())

    def lines(heights: Array) -> Array:
        return np.concatenate([warmup, np.interp(steps, knots, heights)])

    def stairs(heights: Array) -> Array:
        return np.concatenate([warmup, heights[np.searchsorted(knots, steps, "right") - 1]])

    found = [start for start in starts if _never_rises(start[warmup_steps:]) and start[-1] >= end_lr * (1 - 1e-9)]
    nearby = [np.interp(knots, np.arange(last + 1), start) for start in starts[:3]]
    if peak > end_lr:
        found += [
            lines(_descended(lambda h: _end_of_lines(law, knots, h, before), heights, peak, end_lr))
            for heights in nearby
        ]
    floor = max(end_lr, _LEAST_STAIR * peak)
    if peak > floor:

        def objective(heights: Array) -> tuple[float, Array]:
            return _end_of_stairs(law, knots, heights, before)

        drops = [np.where(knots < knot, peak, low) for knot in knots[1:] for low in np.linspace(floor, peak, 6)[:-1]]
        drops.sort(key=lambda heights: objective(heights)[0])
        found += [stairs(drops[0])]
        found += [stairs(_descended(objective, heights, peak, floor)) for heights in (drops[0], *nearby)]
    return min(found, key=lambda one: float(law(one, np.array([last])).loss[0]))


def _descended(objective: Callable[[Array], tuple[float, Array]], heights: Array, peak: float, floor: float) -> Array:
    """Return (k,) rates at the knots, falling from ``peak`` to ``floor`` at most, that minimise the objective."""
    from scipy.optimize import minimize

    def unfolded(x: Array) -> Array:
        shares = _softmax(x)[:-1]
        return np.maximum(peak - (peak - floor) * np.concatenate([[0.0], np.cumsum(shares)]), floor)

    def by_x(x: Array) -> tuple[float, Array]:
        value, slope = objective(unfolded(x))
        by_share = -(peak - floor) * np.cumsum(slope[:0:-1])[::-1]
        full, weights = np.concatenate([by_share, [0.0]]), _softmax(x)
        return value, weights * (full - float(weights @ full))

    falling = np.minimum.accumulate(np.clip(heights, floor, peak))
    shares = np.maximum(-np.diff(falling) / (peak - floor), 1e-6)
    x = np.log(np.concatenate([shares, [max(1 - float(shares.sum()), 1e-6)]]))
    return unfolded(minimize(by_x, x, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x)


def _knots(first: int, last: int) -> Array:
    """Return knots whose distance to the end falls as a square; whole steps, all different."""
    share = 1 - np.linspace(1, 0, min(_KNOTS, last - first + 1)) ** 2
    return np.unique(np.round(first + (last - first) * share))


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return np.asarray(e / e.sum())


def _never_rises(lr: Array) -> bool:
    return not (np.diff(lr) > 1e-12 * lr.max()).any()


class _Terms(NamedTuple):
    """The law at the end of a schedule whose falls are few, and its derivatives by what it was given."""

    value: float
    by_travelled: float
    by_fall: Array
    by_lr: Array
    by_since: Array


def _terms(law: LossLaw, travelled: float, fall: Array, lr: Array, since: Array) -> _Terms:
    floor, log_a, log_alpha, log_b, log_c, log_beta, log_gamma = law.parameters
    a, alpha, b, beta, gamma = np.exp([log_a, log_alpha, log_b, log_beta, log_gamma])
    lr, since = np.maximum(lr, 1e-300), np.maximum(since, 1e-300)
    log_1x = np.logaddexp(0.0, x := log_c - gamma * np.log(lr) + np.log(since))
    left = np.exp(-beta * log_1x)
    slope = beta * np.exp(x - log_1x) * left
    return _Terms(
        float(floor + a * travelled**-alpha - b * float((1 - left) @ fall)),
        float(-alpha * a * travelled ** (-alpha - 1)),
        -b * (1 - left),
        b * gamma * slope * fall / lr,
        -b * slope * fall / since,
    )


def _end_of_lines(law: LossLaw, knots: Array, heights: Array, before: float) -> tuple[float, Array]:
    """Return the final loss and its gradient by the (k,) rates at the knots, with lines between them.

    Each piece between knots is one fall, at its middle, so that S_k is exact for it.
    """
    h, width = heights / law.lr_unit, np.diff(knots) / law.sum_unit
    # By height h: middle m_i = (h_i + h_{i+1})/2, fall f_i = h_i - h_{i+1}, travelled after the middle
    # s_i = w_i (h_i + 3 h_{i+1})/8 + Σ_{j>i} w_j m_j.
    middle = (h[:-1] + h[1:]) / 2
    pieces = width * middle
    later = np.concatenate([np.cumsum(pieces[::-1])[::-1][1:], [0.0]])
    since = later + width * (h[:-1] + 3 * h[1:]) / 8
    travelled = before / law.lr_unit / law.sum_unit + float(pieces.sum())
    t = _terms(law, travelled, h[:-1] - h[1:], middle, since)
    earlier = np.concatenate([[0.0], np.cumsum(t.by_since)[:-1]])
    by_middle = t.by_lr + width * (earlier + t.by_travelled)
    by_height = np.zeros(h.size)
    by_height[:-1] += by_middle / 2 + t.by_fall + t.by_since * width / 8
    by_height[1:] += by_middle / 2 - t.by_fall + t.by_since * width * 3 / 8
    return t.value * law.loss_unit, by_height * law.loss_unit / law.lr_unit


def _end_of_stairs(law: LossLaw, knots: Array, heights: Array, before: float) -> tuple[float, Array]:
    """Return the same for rates that stay from each knot until the step before the next: the law, exactly."""
    h, width = heights / law.lr_unit, np.diff(knots, append=knots[-1] + 1) / law.sum_unit
    since = np.cumsum((width * h)[::-1])[::-1]
    t = _terms(law, before / law.lr_unit / law.sum_unit + float(since[0]), h[:-1] - h[1:], h[1:], since[1:])
    by_height = width * t.by_travelled
    by_height[:-1] += t.by_fall
    by_height[1:] += t.by_lr - t.by_fall + width[1:] * np.cumsum(t.by_since)
    return t.value * law.loss_unit, by_height * law.loss_unit / law.lr_unit
