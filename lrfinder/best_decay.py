"""The non-increasing schedule for which a fitted law predicts the lowest final loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lrfinder.losslaw import LossLaw

__all__ = ["best_decay"]

Array = NDArray[np.float64]

_KNOTS = 48
"""Between them the rate is a line. They are denser towards the end, where the rate falls."""


def best_decay(law: LossLaw, lr: Array, warmup_steps: int, end_lr: float, starts: Sequence[Array]) -> Array:
    """Minimise the predicted final loss over decays from the peak that never rise, with SciPy's L-BFGS-B.

    The falls between knots are a softmax of the unknowns, the last of which is what never falls: so the rate starts at
    the peak, never rises and stays at or above ``end_lr``. The law gives a rate near the peak no chance of being too
    high; the peak is given, not sought.

    Args:
        law: fitted to falls.
        lr: (T + 1,) a schedule with the warmup and peak wanted; what is after warmup is replaced.
        warmup_steps: W, below T.
        end_lr: lowest rate allowed, below the peak.
        starts: (T + 1,) schedules with this warmup, the best first; the search starts from the first three.

    Returns:
        (T + 1,) learning rate of every step: never predicted worse than any of ``starts`` that is itself allowed.
    """
    from scipy.optimize import minimize

    last, peak = lr.size - 1, float(lr[warmup_steps])
    knots = _knots(warmup_steps, last)
    end = np.array([last])

    def schedule(shares: Array) -> Array:
        heights = np.concatenate([[peak], peak - (peak - end_lr) * np.cumsum(shares)])
        steps = np.arange(warmup_steps, last + 1)
        return np.concatenate([lr[:warmup_steps], np.maximum(np.interp(steps, knots, heights), end_lr)])

    before = float(lr[:warmup_steps].sum())

    def objective(x: Array) -> tuple[float, Array]:
        shares = _softmax(x)[:-1]
        value, slope = _final_loss(law, knots, np.cumsum(shares), peak, end_lr, before)
        by_share = np.cumsum(slope[::-1])[::-1]
        full = np.concatenate([by_share, [0.0]])
        weights = _softmax(x)
        return value, weights * (full - float(weights @ full))

    allowed = [start for start in starts if _never_rises(start[warmup_steps:]) and start[-1] >= end_lr * (1 - 1e-9)]
    found = list(allowed)
    for start in starts[:3]:
        heights = np.minimum.accumulate(np.clip(np.interp(knots, np.arange(last + 1), start), end_lr, peak))
        shares = np.maximum(-np.diff(heights, prepend=peak)[1:] / (peak - end_lr), 1e-6)
        x = np.log(np.concatenate([shares, [max(1 - float(shares.sum()), 1e-6)]]))
        done = minimize(objective, x, jac=True, method="L-BFGS-B", options={"maxiter": 300})
        found.append(schedule(_softmax(done.x)[:-1]))
    return min(found, key=lambda one: float(law(one, end).loss[0]))


def _knots(first: int, last: int) -> Array:
    """Return knots whose distance to the end falls as a square; whole steps, all different."""
    share = 1 - np.linspace(1, 0, min(_KNOTS, last - first + 1)) ** 2
    return np.unique(np.round(first + (last - first) * share))


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return np.asarray(e / e.sum())


def _never_rises(lr: Array) -> bool:
    return not (np.diff(lr) > 1e-12 * lr.max()).any()


def _final_loss(
    law: LossLaw, knots: Array, fallen: Array, peak: float, end_lr: float, before: float
) -> tuple[float, Array]:
    """Return the final loss and its gradient by ``fallen``, (k,): the share of the way to ``end_lr`` at each knot.

    Each piece between knots is one fall, at its middle, so that S_k is exact for it.
    """
    floor, log_a, log_alpha, log_b, log_c, log_beta, log_gamma = law.parameters
    a, alpha, b, beta, gamma = np.exp([log_a, log_alpha, log_b, log_beta, log_gamma])
    depth = (peak - end_lr) / law.lr_unit
    height = peak / law.lr_unit - depth * np.concatenate([[0.0], fallen])
    width = np.diff(knots) / law.sum_unit
    # By height h: middle m_i = (h_i + h_{i+1})/2, fall f_i = h_i - h_{i+1}, travelled after the middle
    # s_i = w_i (h_i + 3 h_{i+1})/8 + Σ_{j>i} w_j m_j.
    middle, fall = (height[:-1] + height[1:]) / 2, height[:-1] - height[1:]
    pieces = width * middle
    later = np.concatenate([np.cumsum(pieces[::-1])[::-1][1:], [0.0]])
    since = np.maximum(later + width * (height[:-1] + 3 * height[1:]) / 8, 1e-300)
    travelled = before / law.lr_unit / law.sum_unit + pieces.sum()
    x = log_c - gamma * np.log(middle) + np.log(since)
    log_1x = np.logaddexp(0.0, x)
    left = np.exp(-beta * log_1x)
    slope = beta * np.exp(x - log_1x) * left
    value = floor + a * travelled**-alpha - b * float((1 - left) @ fall)
    by_travelled = -alpha * a * travelled ** (-alpha - 1)
    by_fall, by_middle, by_since = -b * (1 - left), b * gamma * slope * fall / middle, -b * slope * fall / since
    earlier = np.concatenate([[0.0], np.cumsum(by_since)[:-1]])
    by_middle = by_middle + width * (earlier + by_travelled)
    by_height = np.zeros(height.size)
    by_height[:-1] += by_middle / 2 + by_fall + by_since * width / 8
    by_height[1:] += by_middle / 2 - by_fall + by_since * width * 3 / 8
    return value * law.loss_unit, -depth * by_height[1:] * law.loss_unit
