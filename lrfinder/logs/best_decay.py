"""The non-increasing schedule for which a fitted law predicts the lowest final loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrfinder.logs.loss_law import MIN_LR, LossLaw, spent

__all__ = ["best_decay", "loss_after_lines", "loss_after_stairs"]

Array = NDArray[np.float64]

_KNOTS = 48
"""Maximum number of knots; they are denser towards the end, where the rate falls."""

_LOWEST_STAIR = 0.1
"""Minimum rate after a jump, as a share of the peak. With γ > 1 the law predicts that a jump to almost 0 gains
everything at once, which no log supports; in the curves that the law was found on, the deepest jumps go to a tenth."""


def best_decay(law: LossLaw, lr: Array, warmup_steps: int, end_lr: float, starts: Sequence[Array]) -> Array:
    """Minimise the predicted final loss over decays from the peak that never rise, with SciPy's L-BFGS-B.

    The falls between knots are a softmax of the unknowns, the last of which is the share that never falls. So the rate
    starts at the peak, never rises and stays at or above ``end_lr``. The search is made twice, for lines between the
    knots and for stairs at them, because under the law a jump gains sooner than the same fall along a line. The law
    does not know that a rate can be too high, so the peak is given and not sought.

    Args:
        law: fitted to falls.
        lr: (T + 1,) a schedule with the warmup and peak wanted; the part after warmup is replaced.
        warmup_steps: W, below T.
        end_lr: lowest rate allowed, at most the peak.
        starts: (T + 1,) schedules with this warmup, the best first; the search starts from the first three.

    Returns:
        (T + 1,) learning rate of every step. Its predicted loss is at most that of any of ``starts`` that
        keeps the rules.
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
            lines(_descended(lambda h: loss_after_lines(law, knots, h, before), heights, peak, end_lr))
            for heights in nearby
        ]
    floor = max(end_lr, _LOWEST_STAIR * peak)
    if peak > floor:

        def objective(heights: Array) -> tuple[float, Array]:
            return loss_after_stairs(law, knots, heights, before)

        drops = [np.where(knots < knot, peak, low) for knot in knots[1:] for low in np.linspace(floor, peak, 6)[:-1]]
        drops.sort(key=lambda heights: objective(heights)[0])
        found += [stairs(drops[0])]
        found += [stairs(_descended(objective, heights, peak, floor)) for heights in (drops[0], *nearby)]
    return min(found, key=lambda one: float(law(one, np.array([last])).loss[0]))


def _descended(objective: Callable[[Array], tuple[float, Array]], heights: Array, peak: float, floor: float) -> Array:
    """Return (k,) rates at the knots, from ``peak`` down to ``floor`` at the lowest, that minimise the objective."""
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
    """Return knots whose distance to the end falls as a square: whole steps, all different."""
    share = 1 - np.linspace(1, 0, min(_KNOTS, last - first + 1)) ** 2
    return np.unique(np.round(first + (last - first) * share))


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return np.asarray(e / e.sum())


def _never_rises(lr: Array) -> bool:
    return not (np.diff(lr) > 1e-12 * lr.max()).any()


class _Terms(NamedTuple):
    """The law at the end of a schedule with few falls, and its derivatives by the arguments of `_terms`."""

    value: float
    by_travelled: float
    by_fall: Array
    by_lr: Array
    by_since: Array


def _terms(law: LossLaw, travelled: float, fall: Array, lr: Array, since: Array) -> _Terms:
    a, alpha, b, _, _, gamma = np.exp(law.parameters[1:])
    since = np.maximum(since, 1e-300)
    _, _, left, slope = spent(law.parameters, lr, since)
    return _Terms(
        float(law.parameters[0] + a * travelled**-alpha - b * float((1 - left) @ fall)),
        float(-alpha * a * travelled ** (-alpha - 1)),
        -b * (1 - left),
        b * gamma * slope * fall * (lr > MIN_LR) / np.maximum(lr, MIN_LR),  # the law is flat below
        -b * slope * fall / since,
    )


def loss_after_lines(law: LossLaw, knots: Array, heights: Array, before: float) -> tuple[float, Array]:
    """Return the final loss and its gradient by the (k,) rates at the knots, with lines between them.

    Each piece between knots counts as one fall at its middle, where S_k is exact.

    Args:
        law: fitted to falls.
        knots: (k,) steps, the first at the end of warmup and the last at T.
        heights: (k,) rates at the knots, never rising.
        before: sum of the rates before the first knot.
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


def loss_after_stairs(law: LossLaw, knots: Array, heights: Array, before: float) -> tuple[float, Array]:
    """Return the same for rates that stay from each knot until the step before the next, for which it is exact."""
    h, width = heights / law.lr_unit, np.diff(knots, append=knots[-1] + 1) / law.sum_unit
    since = np.cumsum((width * h)[::-1])[::-1]
    t = _terms(law, before / law.lr_unit / law.sum_unit + float(since[0]), h[:-1] - h[1:], h[1:], since[1:])
    by_height = width * t.by_travelled
    by_height[:-1] += t.by_fall
    by_height[1:] += t.by_lr - t.by_fall + width[1:] * np.cumsum(t.by_since)
    return t.value * law.loss_unit, by_height * law.loss_unit / law.lr_unit
