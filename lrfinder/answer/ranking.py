"""Every policy at its own best peak, and how much warmup: what convex theory and other trainings say of a schedule."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrfinder.advice.gradients import NORMAL_90
from lrfinder.errors import InputError
from lrfinder.schedules.policy import ENDLESS, POLICIES, UNWARMED, Policy

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
    """Return the features of a policy; ``steps`` is the length of the training, for a policy without a total."""
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

    ``multipliers`` are shares of the peak rate, (k,) >= 0, evenly spaced over the training.
    """
    count = min(steps, _MAX_STEPS)
    values = np.asarray(multipliers, dtype=np.float64)
    spaced = values[np.arange(count) * values.size // count] if values.ndim == 1 and values.size else values
    return TRANSFER * math.log2(ConvexBound.of(spaced).lr / _bound(Policy("linear", count))[0].lr)


def named_policy(name: str, alternatives: Sequence[Alternative], own: Policy, steps: int | None) -> Policy:
    """Return the policy of this name: the alternative that has it, else one with the same steps of warmup as ``own``.

    Raises:
        InputError: there is no such policy, or it needs ``steps`` and there are none.
    """
    for alternative in alternatives:
        if alternative.policy.name == name:
            return alternative.policy
    if steps is None and name in POLICIES and name not in ENDLESS:
        raise InputError(f"steps must be given for policy {name!r}, which ends after so many, got steps = None")
    return Policy(name, steps, 0 if name in UNWARMED else own.warmup_steps)


def peak_for(policy: Policy, alternatives: Sequence[Alternative], lr: float) -> float:
    """Return the peak of the same policy among the alternatives, else of the first of its name, else ``lr``."""
    namesakes = [alternative for alternative in alternatives if alternative.policy.name == policy.name]
    namesakes.sort(key=lambda alternative: alternative.policy != policy)
    return namesakes[0].lr_at(policy.warmup_steps > 0) if namesakes else lr


def peak_for_schedule(
    rates: NDArray[np.float64], alternatives: Sequence[Alternative], lr: float, steps: int | None
) -> float:
    """Return the best peak of any schedule, moved there from that of "linear" by the convex bound.

    Args:
        rates: (k,) learning rates >= 0 in any unit, evenly spaced over the training.
        lr: peak of the policy suggested, which stands if "linear" was not considered.
    """
    octaves = octaves_to_own_best(rates / max(rates.max(initial=0.0), 1e-300), steps or 1000)
    linear = next((one for one in alternatives if one.policy.name == "linear"), None)
    return lr if linear is None else linear.lr_at(warmed=bool(rates[0] < 0.5 * rates.max())) * 2.0**octaves


MATERIAL = 0.005
"""Minimum difference of the final loss, as a share of it, that counts as a difference."""

_WARMUP_SHARE, _LONG_SHARE, _ENOUGH_WARMUP = 0.15, 0.01, 400
"""15% of a short training warms up, a hundredth of a long one, and 400 steps in between (docs/policies.md)."""

_NOISE_REMOVED, _PROGRESS_LOST = 0.068, 0.040
"""Mean fall of the log loss if a schedule removes all the noise that linear decay removes, and its mean rise per octave
of progress given up, over 18 tasks and twelve schedules (benchmarks/policies.py)."""

_VARIANCES, _COVARIANCE = (0.0127, 0.0043), 0.0004
"""Of these two numbers from task to task."""

_MISFIT = (0.005, 0.3)
"""Standard deviation of the law: a constant, and a share of the predicted rise."""

_UNWARMED = -0.5
"""Octaves from the best peak with warmup to that without."""


def warmup_steps(steps: int) -> int:
    """Return the steps of warmup for a training: 15% of a short one, 400 steps, or 1% of a long one.

    A longer warmup lowers the final loss at the best rate and moves the cliff above that rate up (docs/policies.md).
    """
    return round(min(_WARMUP_SHARE * steps, max(_ENOUGH_WARMUP, _LONG_SHARE * steps)))


@dataclass(frozen=True)
class Alternative:
    """A policy that was considered, at its own best peak learning rate.

    Attributes:
        policy: the policy.
        lr: its own best peak learning rate.
        gain: share of the final loss that it saves over a constant rate on average over other trainings, both at their
            own best peak: 0.08 is a loss 8% lower; None if that is unknown. Nothing of it was measured on this model.
        gain_low: lower end of the 90% interval.
        gain_high: upper end.
        reason: why it ranks where it does, one sentence.
        lr_unwarmed: its best peak without warmup; None if that is ``lr``.
    """

    policy: Policy
    lr: float
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    reason: str = field(repr=False)
    lr_unwarmed: float | None = None

    def lr_at(self, warmed: bool) -> float:
        """Return its best peak with warmup if ``warmed``, else without."""
        return self.lr if warmed or self.lr_unwarmed is None else self.lr_unwarmed

    def to_dict(self) -> dict[str, Any]:
        """Return the alternative as JSON-ready data."""
        return {
            **self.policy.to_dict(),
            "lr": self.lr,
            "lr_unwarmed": self.lr_unwarmed,
            "predicted_gain": self.gain,
            "predicted_gain_low": self.gain_low,
            "predicted_gain_high": self.gain_high,
            "reason": self.reason,
        }


def rank(chosen: Policy, horizon: int, lr: float) -> tuple[Alternative, ...]:
    """Return every policy at its own best peak, the one that did best on other trainings first.

    The law is ``log(loss / loss of a constant rate) = -0.068 r + 0.040 o`` with the features ``r`` and ``o`` of
    `Features`. Peaks differ by the convex bound. None of this was measured on the model at
    hand.

    Args:
        chosen: the policy that is suggested; its class has the table of those that are ranked.
        lr: its peak.
    """
    own = features(chosen, horizon)
    rows = []
    for name, shape in chosen.shapes.items():
        policy = type(chosen)(name, horizon, chosen.warmup_steps if shape.warms_up else 0)
        of = features(policy, horizon)
        mean, deviation = _expected_rise(of)
        gain, low, high = (
            1 - math.exp(mean + z * deviation) if shape.ranked else None for z in (0.0, NORMAL_90, -NORMAL_90)
        )
        peak = lr * 2.0 ** (of.lr - own.lr)
        unwarmed = peak * 2.0**_UNWARMED if policy.warmup_steps else None
        rows.append(Alternative(policy, peak, gain, low, high, _reason(policy, of, policy == chosen), unwarmed))
    return tuple(sorted(rows, key=lambda one: -math.inf if one.gain is None else one.gain, reverse=True))


def _expected_rise(of: Features) -> tuple[float, float]:
    """Return the expected log of the loss over that at a constant rate, and its standard deviation."""
    removed, lost = -of.noise_removed, of.progress_lost
    value = _NOISE_REMOVED * removed + _PROGRESS_LOST * lost
    misfit = _MISFIT[0] + _MISFIT[1] * abs(value) if removed or lost else 0.0
    variance = _VARIANCES[0] * removed**2 + _VARIANCES[1] * lost**2 + 2 * _COVARIANCE * removed * lost
    return value, math.sqrt(max(variance, 0.0) + misfit**2)


def _reason(policy: Policy, of: Features, chosen: bool) -> str:
    if chosen:
        return "It does well on other trainings of every length; no search of this size tells policies apart."
    if not policy.shape.ranked:
        return "Its result is not predicted, because it depends on losses to come. It needs no horizon."
    if policy.name == "constant":
        return "What the others are compared with: no progress given up, no noise removed."
    kept, removed = 2**-of.progress_lost, max(of.noise_removed, 0.0)
    return f"Keeps {kept:.0%} of the peak rate on average; by the convex bound it removes {removed:.0%} of the noise."
