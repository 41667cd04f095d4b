"""What a person asked for, checked before anything runs: method, horizon, budget, limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from lrfinder.errors import InputError, checked_horizon
from lrfinder.sweep import Ladder

__all__ = ["LEAST_BUDGET", "METHODS", "Budget", "Settings"]

METHODS = ("probe", "range")

LEAST_BUDGET = 60
"""Fewest steps a search can do with: ten for the range test, and probes of three steps and of ten."""

_MAX_LR = {"probe": 100.0, "range": 10.0}
_RANGE_STEPS = 100
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Budget:
    """What a search may spend: a number of optimizer steps, or seconds.

    Attributes:
        steps: optimizer steps; None where seconds are given.
        seconds: wall time, evaluation included.
    """

    steps: int | None
    seconds: float | None = None

    @classmethod
    def of(cls, budget: float | str | None, horizon: int | None = None) -> Budget:
        """Read a budget: a share of the horizon (0.05, "5%"), steps (300), or a time ("60s", "5min").

        None is 5% of the horizon, but at least 250 steps, and 300 where the horizon is 500 or less. A share comes to at
        least 60 steps; of an unknown horizon it is the default.

        Raises:
            InputError: none of these, or too little.
        """
        default = max(300 if horizon is not None and horizon <= 500 else 250, round(0.05 * (horizon or 0)))
        if budget is None:
            return cls(default)
        rule = 'budget must be a share of the horizon (0.05 or "5%"), a number of steps (300) or a time ("60s")'
        number, unit = _split(budget, rule)
        if unit in _SECONDS:
            if not 0 < number < math.inf:
                raise InputError(f"budget as a time must be positive, got {budget!r}")
            return cls(None, number * _SECONDS[unit])
        if unit == "%":
            number /= 100
        if not 0 < number < math.inf:
            raise InputError(f"{rule}, got {budget!r}")
        if unit == "%" or number < 1:
            return cls(default if horizon is None else max(round(number * horizon), LEAST_BUDGET))
        if number != int(number):
            raise InputError(f"{rule}, got {budget!r}")
        if number < LEAST_BUDGET:
            raise InputError(f"budget must come to at least {LEAST_BUDGET} steps, got {budget!r}, which is {number:g}")
        return cls(int(number))


def _split(budget: object, rule: str) -> tuple[float, str]:
    if isinstance(budget, str):
        unit = next((unit for unit in ("min", "s", "h", "%") if budget.strip().endswith(unit)), "")
        text = budget.strip().removesuffix(unit)
        try:
            return float(text), unit
        except ValueError:
            raise InputError(f"{rule}, got {budget!r}") from None
    if isinstance(budget, bool) or not isinstance(budget, Real):
        raise InputError(f"{rule}, got {budget!r}")
    return float(budget), ""


def _rungs(budget: object) -> int:
    if isinstance(budget, bool) or not isinstance(budget, Integral):
        raise InputError(f"budget of a range test must be a whole number of steps, got {budget!r}")
    return int(budget)


class Settings:
    """What a person asked for, checked before anything runs.

    Args:
        method: "probe" or "range".
        steps: optimizer steps of the training asked about; None where unknown.
        budget: see `Budget.of`; of a range test, rungs.
        min_lr: lowest learning rate to try.
        max_lr: highest; by default 100 for probes, 10 for a range test.
        anneal: share of a probe, its end, over which the rate falls to zero.

    Raises:
        InputError: one of them breaks a rule.
    """

    def __init__(
        self,
        method: str = "probe",
        steps: int | None = None,
        budget: float | str | None = None,
        min_lr: float = 1e-7,
        max_lr: float | None = None,
        anneal: float = 1.0,
    ) -> None:
        if method not in METHODS:
            raise InputError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        self.method, self.horizon, self.anneal = method, checked_horizon(steps), anneal
        rungs = _RANGE_STEPS
        if method == "range" and budget is not None:
            rungs = _rungs(budget)
        self.ladder = Ladder(min_lr, _MAX_LR[method] if max_lr is None else max_lr, rungs)
        self.budget = Budget.of(budget, self.horizon) if method == "probe" else Budget(rungs)

    def to_dict(self) -> dict[str, Any]:
        """Return them as JSON-ready data."""
        return {
            "method": self.method,
            "steps": self.horizon,
            "budget_steps": self.budget.steps,
            "budget_seconds": self.budget.seconds,
            "min_lr": self.ladder.min_lr,
            "max_lr": self.ladder.max_lr,
        }
