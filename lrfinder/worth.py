"""What annealing is worth at the horizon: two numbers, from a prior and from what branches measured.

The final loss with schedule ``s``, at its own best peak rate, over that with a constant rate, at its own, is

    log(L_s / L_constant) = -relief * r_s + cost * o_s

``r_s`` is the share of the noise that the schedule removes by the convex bound, 0 for a constant rate and 1 for linear
to zero; ``o_s = -log2(mean multiplier)`` the octaves of progress it gives up. Over the benchmark's tasks and twelve
schedules these two numbers explain four fifths of the squares (`benchmarks/policies.py`, docs/measured.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls

from lrfinder.bound import Bound
from lrfinder.branches import ANNEALED, Annealed
from lrfinder.schedules import Policy

__all__ = ["PRIOR", "Features", "Worth", "features", "octaves_to_own_best", "worth_at"]

Array = NDArray[np.float64]

_MOST_STEPS = 10_000
"""Of a longer schedule so many steps are looked at."""

TRANSFER = 0.6
"""Share of the octaves between best rates by the convex bound that is seen: their slope over the benchmark's tasks and
twelve schedules."""

_LEVEL_ERROR = 0.03
"""Standard deviation of a measured rise: the rates are not quite those that are best."""
_DISTRUST = 0.5
"""Share by which a measured rise is doubted: large ones, at losses near zero, are mostly chance."""
_WANDER = 0.05
"""Standard deviation by which either number changes per square root of a doubling of the steps."""
_MISFIT = (0.005, 0.3)
"""Standard deviation of the law: a constant, and a share of the predicted rise."""


@dataclass(frozen=True)
class Features:
    """What the law needs to know of a schedule.

    Attributes:
        relief: r, share of the noise removed.
        octaves: o, progress given up.
        lr: octaves of the best peak rate above that of linear to zero.
    """

    relief: float
    octaves: float
    lr: float


@lru_cache(256)
def _bound(name: str, params: tuple[tuple[str, object], ...], warmup: float, steps: int) -> tuple[Bound, float]:
    count = min(steps, _MOST_STEPS)
    policy = Policy(name, count, min(round(warmup * count), count - 1), dict(params))
    multipliers = np.array([policy(step) for step in range(count)])
    return Bound.of(multipliers), float(multipliers.mean())


def features(policy: Policy, steps: int) -> Features:
    """Return the features of a policy over its own total, or over ``steps`` steps where it has none."""
    total = policy.total_steps or steps
    bound, mean = _bound(policy.name, tuple(policy.params.items()), policy.warmup_steps / total, total)
    constant, linear = (_bound(name, params, 0.0, total)[0] for name, params in (("constant", ()), ("linear", ())))
    spread = constant.value - linear.value
    relief = (constant.value - bound.value) / spread if spread > 0 else 0.0
    return Features(relief, -math.log2(mean), TRANSFER * math.log2(bound.lr / linear.lr))


def octaves_to_own_best(multipliers: ArrayLike, steps: int) -> float:
    """Return the octaves from the best peak of linear decay to that of any schedule over so many steps.

    Args:
        multipliers: (k,) >= 0, of the peak, evenly spaced over the training.
        steps: T, of the training.

    Raises:
        InputError: this is no schedule, see `Bound.of`.
    """
    count = min(steps, _MOST_STEPS)
    values = np.asarray(multipliers, dtype=np.float64)
    spaced = values[np.arange(count) * values.size // count] if values.ndim == 1 and values.size else values
    return TRANSFER * math.log2(Bound.of(spaced).lr / _bound("linear", (), 0.0, count)[0].lr)


@dataclass(frozen=True, eq=False)
class Worth:
    """A belief about (relief, cost): normal, with ``mean`` (2,) and ``covariance`` (2, 2).

    Attributes:
        mean: (2,).
        covariance: (2, 2).
        measured: share of the certainty that comes from branches, from 0 for the prior alone to 1.
    """

    mean: Array
    covariance: Array
    measured: float = 0.0

    def rise(self, of: Features) -> tuple[float, float]:
        """Return the predicted log of the loss over that at a constant rate, and its standard deviation."""
        row = np.array([-of.relief, of.octaves])
        value = float(row @ self.mean)
        misfit = (_MISFIT[0] + _MISFIT[1] * abs(value)) if np.any(row) else 0.0
        return value, math.sqrt(float(row @ self.covariance @ row) + misfit**2)


PRIOR = Worth(np.array([0.056, 0.038]), np.array([[0.0077, 0.0004], [0.0004, 0.0030]]))
"""Mean and covariance over the benchmark's cells, rounded."""


def worth_at(horizon: int, measured: Sequence[Annealed], prior: Worth = PRIOR) -> Worth:
    """Return what annealing is worth after ``horizon`` steps.

    What was measured wanders off by a standard deviation of 0.05 per square root of a doubling of the steps, from the
    shortest branch to the longest and on to the horizon; then it is weighed against the prior. Neither is negative.

    Args:
        horizon: T, optimizer steps.
        measured: what branches say, the shortest first.
        prior: what is believed without them.
    """
    precision, information, steps = np.zeros((2, 2)), np.zeros(2), 1
    for one in measured:
        precision, information = _wandered(precision, information, steps, one.steps)
        steps = one.steps
        rises = [(one.late, one.late_error, Policy("wsd", steps, params={"cooldown": ANNEALED}))]
        if one.throughout is not None:
            rises.append((one.throughout, one.throughout_error, Policy("linear", steps)))
        for rise, error, policy in rises:
            of = features(policy, steps)
            row = np.array([-of.relief, of.octaves])
            variance = error**2 + _LEVEL_ERROR**2 + (_DISTRUST * rise) ** 2
            precision = precision + np.outer(row, row) / variance
            information = information + row * rise / variance
    precision, information = _wandered(precision, information, steps, horizon)
    believed = np.linalg.inv(prior.covariance)
    covariance = np.asarray(np.linalg.inv(believed + precision), dtype=np.float64)
    # Neither number can be negative: less progress does not help, annealing does not add noise.
    root = np.linalg.cholesky(believed + precision).T
    mean, _ = nnls(root, root @ covariance @ (believed @ prior.mean + information))
    return Worth(mean, covariance, float(np.trace(covariance @ precision)) / 2)


def _wandered(precision: Array, information: Array, before: int, after: int) -> tuple[Array, Array]:
    """Return precision and precision times mean once both numbers have wandered from one length to another."""
    if not precision.any() or after <= before:
        return precision, information
    # (P^-1 + q I)^-1 = (I + q P)^-1 P, which needs no inverse of a P that is known in one direction only.
    shrink = np.linalg.inv(np.eye(2) + _WANDER**2 * math.log2(after / before) * precision)
    return shrink @ precision, shrink @ information
