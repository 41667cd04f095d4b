"""The non-increasing schedule for which a fitted law predicts the lowest final loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrfinder.logs.loss_law import MIN_LR, LossLaw, spent

__all__ = ["best_decay", "loss_after_lines"]

Array = NDArray[np.float64]

_KNOTS = 11
"""Maximum number of knots, evenly spaced. No fall is then shorter than a tenth of the training: the law would let the
rate fall at once and at the very end, which no log supports."""


def best_decay(law: LossLaw, lr: Array, warmup_steps: int, end_lr: float, starts: Sequence[Array]) -> Array:
    """Minimise the predicted final loss over decays from the peak that never rise, with SciPy's L-BFGS-B.

    The falls between knots are a softmax of the unknowns, the last of which is the share that never falls. So the rate
    starts at the peak, never rises and stays at or above ``end_lr``. Between the knots it falls along lines of at least
    a tenth of the training. The law does not know that a rate can be too high, so the peak is given and not sought.

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

    found = [start for start in starts if _never_rises(start[warmup_steps:]) and start[-1] >= end_lr * (1 - 1e-9)]
    nearby = [np.interp(knots, np.arange(last + 1), start) for start in starts[:3]]
    if peak > end_lr:
        found += [
            lines(_descended(lambda h: loss_after_lines(law, knots, h, before), heights, peak, end_lr))
            for heights in nearby
        ]
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
    """Return whole steps, all different."""
    return np.unique(np.round(np.linspace(first, last, min(_KNOTS, last - first + 1))))


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
    a, alpha, b, _, _, gamma = np.exp(law.parameters[1:7])
    d = float(law.parameters[7])
    since = np.maximum(since, 1e-300)
    _, _, left, slope = spent(law.parameters, lr, since)
    way = np.maximum(travelled - since, 1e-12)
    scaled = way**-d
    gained, by_way = scaled * (1 - left), d * scaled * (1 - left) * fall / way
    return _Terms(
        float(law.parameters[0] + a * travelled**-alpha - b * float(gained @ fall)),
        float(-alpha * a * travelled ** (-alpha - 1) + b * by_way.sum()),
        -b * gained,
        b * gamma * scaled * slope * fall * (lr > MIN_LR) / np.maximum(lr, MIN_LR),  # the law is flat below
        -b * (scaled * slope * fall / since + by_way),
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
