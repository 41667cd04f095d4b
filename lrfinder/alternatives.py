"""`Alternative`: one decay policy and what it is predicted to give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lrfinder.schedules import Policy

__all__ = ["Alternative"]


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
    """

    policy: Policy
    lr: float
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            **self.policy.to_dict(),
            "lr": self.lr,
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
        return cls(Policy.from_dict(data), float(data["lr"]), gain, low, high, str(data["reason"]))
