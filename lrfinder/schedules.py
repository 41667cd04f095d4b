"""Decay policies: pure functions of the step that return a multiplier of the peak learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lrfinder.errors import InputError

__all__ = ["COOLDOWN", "POLICIES", "Policy"]


COOLDOWN = 0.4
"""Share of the decay phase of "wsd" (warmup, stable, decay) in which the rate falls linearly to zero."""


def _constant(progress: float) -> float:
    return 1.0


def _linear(progress: float) -> float:
    return 1.0 - progress


def _cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _wsd(progress: float) -> float:
    return min(1.0, (1.0 - progress) / COOLDOWN)


POLICIES = {"constant": _constant, "linear": _linear, "cosine": _cosine, "wsd": _wsd}
"""Decay after warmup: from progress in [0, 1] to a multiplier, 1 at 0."""


@dataclass(frozen=True)
class Policy:
    """Linear warmup, then decay: step ``t`` of ``T`` is taken at ``peak * policy(t)``.

    ``policy(t) = (t + 1) / (W + 1)`` for ``t < W`` steps of warmup, then ``decay((t - W) / (T - W))``. The first
    step after warmup is taken at the peak; the value at ``t = T``, after the last step, is the end of the decay.

    Attributes:
        name: a key of `POLICIES`.
        total_steps: T, optimizer steps; None for a constant rate without end.
        warmup_steps: W.

    Raises:
        InputError: an unknown name, warmup not below the total, or a decay without a total.

    Examples:
        >>> [round(Policy("linear", 4)(t), 2) for t in range(5)]
        [1.0, 0.75, 0.5, 0.25, 0.0]
    """

    name: str
    total_steps: int | None = None
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        if self.name not in POLICIES:
            raise InputError(f"name must be one of {', '.join(POLICIES)}, got {self.name!r}")
        if self.total_steps is None and self.name != "constant":
            raise InputError(f"total_steps must be given for policy {self.name!r}, got None")
        if self.warmup_steps < 0 or (self.total_steps is not None and self.warmup_steps >= self.total_steps):
            raise InputError(
                f"warmup_steps must be in [0, total_steps), got warmup_steps = {self.warmup_steps},"
                f" total_steps = {self.total_steps}"
            )

    def __call__(self, step: int) -> float:
        """Return the multiplier of step ``step``, in [0, 1]."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        if self.total_steps is None:
            return 1.0
        progress = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        return POLICIES[self.name](min(progress, 1.0))

    def to_dict(self) -> dict[str, Any]:
        """Return the policy as JSON-ready data; gains are null until they are measured."""
        return {
            "name": self.name,
            "params": {"cooldown": COOLDOWN} if self.name == "wsd" else {},
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
            "predicted_gain": None,
            "predicted_gain_low": None,
            "predicted_gain_high": None,
        }
