"""`Alternative`: one decay policy and what it is predicted to give."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrfinder.errors import InputError
from lrfinder.schedules import ENDLESS, POLICIES, Policy

__all__ = ["Alternative", "asked_for"]


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


def asked_for(
    policy: str | Policy, alternatives: Sequence[Alternative], own: Policy, lr: float, steps: int | None
) -> tuple[Policy, float]:
    """Return a policy that a person asks for, and its own best peak learning rate as far as it is known.

    Args:
        policy: the name of one, or one with parameters.
        alternatives: those considered; of its name, or of its very parameters, the rate is theirs.
        own: the one suggested; one that is asked for by name takes the same steps of warmup.
        lr: the rate of ``own``, which any other gets.
        steps: of the training; None where unknown.

    Raises:
        InputError: there is no such policy, or it needs ``steps`` and there are none.
    """
    name = policy.name if isinstance(policy, Policy) else policy
    namesakes = [alternative for alternative in alternatives if alternative.policy.name == name]
    if isinstance(policy, Policy):
        same = [alternative for alternative in namesakes if alternative.policy == policy]
        return policy, (same + namesakes)[0].lr_at(policy.warmup_steps > 0) if namesakes else lr
    if namesakes:
        return namesakes[0].policy, namesakes[0].lr
    if steps is None and name in POLICIES and name not in ENDLESS:
        raise InputError(f"steps must be given for policy {name!r}, which ends after so many, got steps = None")
    return Policy(name, steps, 0 if name == "plateau" else own.warmup_steps), lr
