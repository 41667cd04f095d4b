"""`Alternative`: one decay policy and what it is predicted to give; and the best peaks of other schedules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfinder.errors import InputError
from lrfinder.schedules import ENDLESS, POLICIES, Policy
from lrfinder.worth import octaves_to_own_best

__all__ = ["Alternative", "named_policy", "peak_for", "peak_for_schedule"]


@dataclass(frozen=True)
class Alternative:
    """A policy that was considered, at its own best peak learning rate.

    Attributes:
        policy: what is done.
        lr: its own best peak learning rate.
        gain: predicted share of the final loss that it saves over a constant rate, that one at its own best peak: 0.08
            is a loss 8% lower; None where it cannot be predicted.
        gain_low: lower end of the 90% interval.
        gain_high: upper end.
        reason: why it ranks where it does, one sentence.
        lr_unwarmed: its best peak without warmup; None where that is ``lr``.
    """

    policy: Policy
    lr: float
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    reason: str
    lr_unwarmed: float | None = None

    def lr_at(self, warmed: bool) -> float:
        """Return its best peak with warmup, or without."""
        return self.lr if warmed or self.lr_unwarmed is None else self.lr_unwarmed

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            **self.policy.to_dict(),
            "lr": self.lr,
            "lr_unwarmed": self.lr_unwarmed,
            "predicted_gain": self.gain,
            "predicted_gain_low": self.gain_low,
            "predicted_gain_high": self.gain_high,
            "reason": self.reason,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Alternative:
        """Rebuild it from `to_dict`; KeyError, TypeError, ValueError or InputError where a field is not as it was."""
        gains = [data[f"predicted_gain{end}"] for end in ("", "_low", "_high")]
        gain, low, high = (None if value is None else float(value) for value in gains)
        if len({value is None for value in gains}) > 1 or not all(map(math.isfinite, filter(None, (gain, low, high)))):
            raise InputError(f"predicted_gain, _low and _high must be three numbers or three nulls, got {gains!r:.60}")
        unwarmed = data.get("lr_unwarmed")
        unwarmed = None if unwarmed is None else float(unwarmed)
        lr = float(data["lr"])
        if not (math.isfinite(lr) and lr > 0):
            raise InputError(f"lr of a policy must be positive, got lr = {lr!r}")
        return cls(Policy.from_dict(data), lr, gain, low, high, str(data["reason"]), unwarmed)


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
    return Policy(name, steps, 0 if name == "plateau" else own.warmup_steps)


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
        InputError: this is no schedule, see `lrfinder.bound.Bound.of`.
    """
    octaves = octaves_to_own_best(rates / max(rates.max(initial=0.0), 1e-300), steps or 1000)
    linear = next((one for one in alternatives if one.policy.name == "linear"), None)
    return lr if linear is None else linear.lr_at(warmed=bool(rates[0] < 0.5 * rates.max())) * 2.0**octaves
