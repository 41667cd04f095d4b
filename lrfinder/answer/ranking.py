"""Every policy at its own best peak, and how much warmup: what is known from other trainings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfinder.errors import InputError
from lrfinder.schedules.policy import ENDLESS, POLICIES, UNWARMED, Policy
from lrfinder.schedules.theory import Features, features, octaves_to_own_best

__all__ = ["MATERIAL", "Alternative", "named_policy", "peak_for", "peak_for_schedule", "rank", "warmup_steps"]


def named_policy(name: str, alternatives: Sequence[Alternative], own: Policy, steps: int | None) -> Policy:
    """Return the policy that a person asks for by its name.

    Args:
        name: of the policy.
        alternatives: the policies considered; one of this name is taken as it stands.
        own: the policy suggested; another takes the same steps of warmup.
        steps: optimizer steps of the training; None if unknown.

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
    """Return the best peak learning rate of a policy, as far as it is known.

    Args:
        policy: the policy to follow.
        alternatives: the policies considered; the peak is that of the same policy, else of the first of its name.
        lr: peak of the policy suggested, which any other policy gets too.
    """
    namesakes = [alternative for alternative in alternatives if alternative.policy.name == policy.name]
    namesakes.sort(key=lambda alternative: alternative.policy != policy)
    return namesakes[0].lr_at(policy.warmup_steps > 0) if namesakes else lr


def peak_for_schedule(
    rates: NDArray[np.float64], alternatives: Sequence[Alternative], lr: float, steps: int | None
) -> float:
    """Return the best peak learning rate of any schedule, moved there from that of "linear" by the convex bound.

    Args:
        rates: (k,) learning rates >= 0 in any unit, evenly spaced over the training.
        alternatives: the policies considered.
        lr: peak of the policy suggested, which stands if "linear" was not considered.
        steps: optimizer steps of the training; None if unknown.

    Raises:
        InputError: this is no schedule, see `lrfinder.schedules.theory.ConvexBound.of`.
    """
    octaves = octaves_to_own_best(rates / max(rates.max(initial=0.0), 1e-300), steps or 1000)
    linear = next((one for one in alternatives if one.policy.name == "linear"), None)
    return lr if linear is None else linear.lr_at(warmed=bool(rates[0] < 0.5 * rates.max())) * 2.0**octaves


MATERIAL = 0.005
"""Minimum difference of the final loss, as a share of it, that counts as a difference."""

_WARMUP_SHARE, _LONG_SHARE, _ENOUGH_WARMUP = 0.05, 0.01, 100
"""A twentieth of a short training warms up, a hundredth of a long one, and 100 steps in between."""

_NOISE_REMOVED, _PROGRESS_LOST = 0.068, 0.040
"""Mean fall of the log loss if a schedule removes all the noise that linear decay removes, and its mean rise per octave
of progress given up, over 18 tasks and twelve schedules (benchmarks/policies.py)."""

_VARIANCES, _COVARIANCE = (0.0127, 0.0043), 0.0004
"""Of these two numbers from task to task."""

_MISFIT = (0.005, 0.3)
"""Standard deviation of the law: a constant, and a share of the predicted rise."""

_UNWARMED = -0.5
"""Octaves from the best peak with warmup to that without."""

_NORMAL_90 = NormalDist().inv_cdf(0.95)


def warmup_steps(steps: int) -> int:
    """Return the steps of warmup for a training: 5% of a short one, 100 steps, or 1% of a long one.

    A short warmup lowered the final loss of a language model by 1 to 3% (docs/policies.md).
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


def rank(chosen: Policy, horizon: int, lr: float, policies: type[Policy] = Policy) -> tuple[Alternative, ...]:
    """Return every policy at its own best peak, the one that did best on other trainings first.

    The law is ``log(loss / loss of a constant rate) = -0.068 r + 0.040 o`` with the features ``r`` and ``o`` of
    `lrfinder.schedules.theory.Features`. Peaks differ by the convex bound. None of this was measured on the model at
    hand.

    Args:
        chosen: the policy that is suggested.
        horizon: T, optimizer steps.
        lr: its peak.
        policies: the class whose table is ranked.
    """
    own = features(chosen, horizon)
    rows = []
    for name, shape in policies.shapes.items():
        policy = policies(name, horizon, chosen.warmup_steps if shape.warms_up else 0)
        of = features(policy, horizon)
        mean, deviation = _expected_rise(of)
        gain, low, high = (
            1 - math.exp(mean + z * deviation) if shape.ranked else None for z in (0.0, _NORMAL_90, -_NORMAL_90)
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
