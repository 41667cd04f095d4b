"""What theory says about a schedule: its convex bound, its best peak rate, and the effect of annealing."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrfinder.errors import InputError
from lrfinder.schedules.policy import Policy

__all__ = ["TRANSFER", "ConvexBound", "Features", "features", "octaves_to_own_best"]

_MAX_STEPS = 10_000
"""Maximum number of steps at which a schedule is sampled."""

TRANSFER = 0.6
"""Measured distance between the best rates of two schedules, in octaves, over the distance that the convex bound
predicts: a slope over the tasks of the benchmark and twelve schedules."""


@dataclass(frozen=True)
class ConvexBound:
    """``distance / lr + noise * lr`` bounds the expected loss above the minimum, for peak rate ``lr``.

    In these units the start is at distance D = 1 from the optimum, and gradients have norm G = 1.

    Attributes:
        distance: ``1 / (2 sum(eta))``: cost of a distant start; longer and higher schedules lower it.
        noise: cost of noise in the gradients; late annealing lowers it.
    """

    distance: float
    noise: float

    @property
    def lr(self) -> float:
        """The best peak rate, in units of D/G."""
        return math.sqrt(self.distance / self.noise)

    @property
    def value(self) -> float:
        """The bound at the best peak rate, in units of D G."""
        return 2 * math.sqrt(self.distance * self.noise)

    @classmethod
    def of(cls, multipliers: ArrayLike) -> ConvexBound:
        """Return the bound of a schedule for the last iterate of SGD.

        ``distance = 1 / (2 S)`` and ``noise = Q / (2 S) + 1/2 sum_{k<T} (eta_k / S_{k+1}) (Q_k / S_k)``, where
        ``S_k`` and ``Q_k`` are the sums of ``eta_t`` and ``eta_t**2`` from ``k`` to the end, ``S`` and ``Q`` of all.

        Args:
            multipliers: ``eta`` (T,) >= 0, at least one of them positive, one per step.

        Raises:
            InputError: a multiplier is negative or not finite, or none is positive.

        Source: Schaipp et al. 2025, theorem 3.1 (arXiv 2501.18965).
        """
        eta: NDArray[np.float64] = np.asarray(multipliers, dtype=np.float64)
        if eta.ndim != 1 or not np.all(np.isfinite(eta)) or np.any(eta < 0) or not np.any(eta > 0):
            raise InputError("multipliers must be finite, at least 0, and some of them positive")
        eta = eta[: int(np.flatnonzero(eta)[-1]) + 1]  # at rate zero nothing happens
        rest, squares = np.cumsum(eta[::-1])[::-1], np.cumsum(eta[::-1] ** 2)[::-1]
        late = float(np.sum(eta[:-1] / rest[1:] * squares[:-1] / rest[:-1]))
        return cls(float(1 / (2 * rest[0])), float(squares[0] / (2 * rest[0]) + late / 2))


@dataclass(frozen=True)
class Features:
    """The features of a schedule that the law of annealing uses.

    Attributes:
        noise_removed: r, share of the noise that the schedule removes by the convex bound: 0 for a constant rate, 1 for
            linear to zero.
        progress_lost: o, octaves of progress that it loses: minus log2 of the mean multiplier.
        lr: octaves from the best peak rate of linear to zero to that of the schedule.
    """

    noise_removed: float
    progress_lost: float
    lr: float


@lru_cache(256)
def _bound(policy: Policy) -> tuple[ConvexBound, float]:
    """Return the bound of a policy, and its mean multiplier."""
    multipliers = np.array([policy(step) for step in range(policy.total_steps or 1)])
    return ConvexBound.of(multipliers), float(multipliers.mean())


def features(policy: Policy, steps: int) -> Features:
    """Return the features of a policy.

    Args:
        policy: the policy.
        steps: optimizer steps of the training, for a policy without a total.
    """
    total = policy.total_steps or steps
    count = min(total, _MAX_STEPS)
    warmup = min(round(policy.warmup_steps / total * count), count - 1)
    bound, mean = _bound(dataclasses.replace(policy, total_steps=count, warmup_steps=warmup))
    constant, linear = (_bound(Policy(name, count))[0] for name in ("constant", "linear"))
    spread = constant.value - linear.value
    removed = (constant.value - bound.value) / spread if spread > 0 else 0.0
    return Features(removed, -math.log2(mean), TRANSFER * math.log2(bound.lr / linear.lr))


def octaves_to_own_best(multipliers: ArrayLike, steps: int) -> float:
    """Return the octaves from the best peak rate of linear decay to that of another schedule over the same steps.

    Args:
        multipliers: (k,) >= 0, shares of the peak rate, evenly spaced over the training.
        steps: T, optimizer steps of the training.

    Raises:
        InputError: the multipliers break a rule of `ConvexBound.of`.
    """
    count = min(steps, _MAX_STEPS)
    values = np.asarray(multipliers, dtype=np.float64)
    spaced = values[np.arange(count) * values.size // count] if values.ndim == 1 and values.size else values
    return TRANSFER * math.log2(ConvexBound.of(spaced).lr / _bound(Policy("linear", count))[0].lr)
