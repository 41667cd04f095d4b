"""Decay policies: pure functions of the step that return a multiplier of the peak learning rate."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lrfinder.errors import InputError

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

__all__ = ["ENDLESS", "POLICIES", "RANKED", "UNWARMED", "Policy", "Shape", "part"]

Decay = Callable[[int, int, Mapping[str, Any]], float]
"""From the steps since warmup ``t``, those of the whole decay ``n`` >= 1, ``t`` <= ``n``, and parameters."""


@dataclass(frozen=True)
class Shape:
    """A kind of decay.

    Attributes:
        decay: from (t, n, parameters) to the multiplier: 1 at ``t = 0``, but for one-cycle.
        defaults: every parameter and its default.
        text: what it does, in words; a format string over ``steps`` and the parameters.
        source: where it is from.
    """

    decay: Decay
    defaults: Mapping[str, Any]
    text: str
    source: str


def part(share: float, steps: int) -> int:
    """Return a share of the steps, whole, at least one."""
    return max(1, round(share * steps))


def _constant(t: int, n: int, p: Mapping[str, Any]) -> float:
    return 1.0


def _step(t: int, n: int, p: Mapping[str, Any]) -> float:
    return float(p["gamma"] ** (t // part(p["step_size"], n)))


def _multi_step(t: int, n: int, p: Mapping[str, Any]) -> float:
    return float(p["gamma"] ** sum(t >= part(milestone, n) for milestone in p["milestones"]))


def _exponential(t: int, n: int, p: Mapping[str, Any]) -> float:
    return float(p["end"] ** (t / n))


def _polynomial(t: int, n: int, p: Mapping[str, Any]) -> float:
    return float((1 - t / n) ** p["power"])


def _linear(t: int, n: int, p: Mapping[str, Any]) -> float:
    return float(p["end"] + (1 - p["end"]) * (1 - t / n))


def _cosine(t: int, n: int, p: Mapping[str, Any]) -> float:
    return float(p["end"] + (1 - p["end"]) * 0.5 * (1 + math.cos(math.pi * t / n)))


def _cosine_restarts(t: int, n: int, p: Mapping[str, Any]) -> float:
    parts = 2 ** p["cycles"] - 1
    bounds = [round(n * (2**cycle - 1) / parts) for cycle in range(p["cycles"] + 1)]
    start = max(bound for bound in bounds if bound <= min(t, n - 1))
    end = min(bound for bound in bounds if bound > start)
    return 0.5 * (1 + math.cos(math.pi * (t - start) / (end - start)))


def _wsd(t: int, n: int, p: Mapping[str, Any]) -> float:
    return float(p["end"] + (1 - p["end"]) * min(1.0, (n - t) / part(p["cooldown"], n)))


def _wsd_sqrt(t: int, n: int, p: Mapping[str, Any]) -> float:
    cooldown = part(p["cooldown"], n)
    return 1 - math.sqrt(max(t - (n - cooldown), 0) / cooldown)


def _one_cycle(t: int, n: int, p: Mapping[str, Any]) -> float:
    top, last = max(p["rise"] * n - 1, 0.0), max(n - 1, 1)
    start, end = 1 / p["div_factor"], 1 / p["div_factor"] / p["final_div_factor"]
    if t < top:
        return float(1 + (start - 1) * 0.5 * (1 + math.cos(math.pi * t / top)))
    down = (last - top) or 1.0  # a rise over all steps leaves none
    return float(end + (1 - end) * 0.5 * (1 + math.cos(math.pi * min((t - top) / down, 1.0))))


def _inverse_sqrt(t: int, n: int, p: Mapping[str, Any]) -> float:
    timescale = part(p["timescale"], n)
    return math.sqrt(timescale / (timescale + t))


POLICIES: Mapping[str, Shape] = {
    "constant": Shape(_constant, {}, "constant", "the simplest"),
    "step": Shape(
        _step,
        {"gamma": 0.1, "step_size": 1 / 3},
        "times {gamma:g} every {step_size:.0%} of {steps} steps",
        "He et al. 2016, section 3.4 (arXiv 1512.03385)",
    ),
    "multi-step": Shape(
        _multi_step,
        {"gamma": 0.1, "milestones": (0.5, 0.75)},
        "times {gamma:g} after each of the shares {milestones} of {steps} steps",
        "He et al. 2016, section 4.2 (arXiv 1512.03385)",
    ),
    "exponential": Shape(
        _exponential, {"end": 0.01}, "exponential to {end} over {steps} steps", "torch's ExponentialLR"
    ),
    "polynomial": Shape(
        _polynomial, {"power": 2.0}, "to zero as the power {power:g} of what is left of {steps} steps",
        "Chen et al. 2017, section 4.1 (arXiv 1606.00915)",
    ),
    "cosine": Shape(
        _cosine, {"end": 0.0}, "cosine to {end} over {steps} steps",
        "Loshchilov and Hutter 2017, section 3 (arXiv 1608.03983)",
    ),
    "cosine-restarts": Shape(
        _cosine_restarts, {"cycles": 3}, "cosine to zero {cycles} times in {steps} steps, each twice as long",
        "Loshchilov and Hutter 2017, section 3 (arXiv 1608.03983)",
    ),
    "linear": Shape(
        _linear, {"end": 0.0}, "linear to {end} over {steps} steps", "Defazio et al. 2023 (arXiv 2310.07831)"
    ),
    "wsd": Shape(
        _wsd, {"cooldown": 0.4, "end": 0.0},
        "constant, then linear to {end} over the last {cooldown:.0%} of {steps} steps",
        "Hägele et al. 2024, section 3 (arXiv 2405.18392); 40%: Schaipp et al. 2025 (arXiv 2501.18965)",
    ),
    "wsd-sqrt": Shape(
        _wsd_sqrt, {"cooldown": 0.2},
        "constant, then as 1 - sqrt to zero over the last {cooldown:.0%} of {steps} steps",
        "Hägele et al. 2024, section 3 (arXiv 2405.18392)",
    ),
    "one-cycle": Shape(
        _one_cycle, {"rise": 0.3, "div_factor": 25.0, "final_div_factor": 1e4},
        "up over the first {rise:.0%} of {steps} steps, then down to zero, as cosines",
        "Smith and Topin 2018 (arXiv 1708.07120), as torch's OneCycleLR has it",
    ),
    "inverse-sqrt": Shape(
        _inverse_sqrt, {"timescale": 0.1},
        "as 1 over the square root of the step, in units of {timescale:.0%} of {steps} steps",
        "Zhai et al. 2022, section 3.5 (arXiv 2106.04560)",
    ),
    "plateau": Shape(
        _constant, {"factor": 0.1, "patience": 10},
        "constant, times {factor:g} when {patience} epochs have brought nothing",
        "torch's ReduceLROnPlateau",
    ),
}  # fmt: skip
"""Every kind of decay, by name."""

ENDLESS = ("constant", "plateau")
"""Those that need no total."""

RANKED = tuple(name for name in POLICIES if name != "plateau")
"""Those that are functions of the step, so that their loss can be predicted."""

UNWARMED = ("one-cycle", "plateau")
"""Those that get no warmup: one-cycle rises by itself, `torch.optim.lr_scheduler.ReduceLROnPlateau` cannot."""


@dataclass(frozen=True)
class Policy:
    """Linear warmup, then decay: step ``t`` of ``T`` is taken at ``peak * policy(t)``.

    ``policy(t) = (t + 1) / (W + 1)`` for ``t < W`` steps of warmup, then ``decay(t - W, T - W)``. The first step
    after warmup is taken at the peak (with "one-cycle", which rises by itself, at its start); the value at ``t = T``,
    after the last step, is the end of the decay, where it stays. Shares are rounded to whole steps.

    Attributes:
        name: a key of `POLICIES`.
        total_steps: T, optimizer steps; None for a rate without end.
        warmup_steps: W.
        params: parameters of the shape that differ from its defaults; afterwards all of them. Shares of ``T - W``.

    Raises:
        InputError: an unknown name or parameter, warmup not below the total, or a decay without a total.

    Examples:
        >>> [round(Policy("linear", 4)(t), 2) for t in range(5)]
        [1.0, 0.75, 0.5, 0.25, 0.0]
    """

    name: str
    total_steps: int | None = None
    warmup_steps: int = 0
    params: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.name not in POLICIES:
            raise InputError(f"policy must be one of {', '.join(POLICIES)}, got {self.name!r}")
        if self.total_steps is None and self.name not in ENDLESS:
            raise InputError(f"total_steps must be given for policy {self.name!r}, got None")
        for key, least in (("total_steps", 1), ("warmup_steps", 0)):
            value = getattr(self, key)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
                raise InputError(f"{key} must be a whole number of optimizer steps, at least {least}, got {value!r}")
        if self.total_steps is not None and self.warmup_steps >= self.total_steps:
            raise InputError(
                f"warmup_steps must be in [0, total_steps), got warmup_steps = {self.warmup_steps},"
                f" total_steps = {self.total_steps}"
            )
        object.__setattr__(self, "params", _checked(self.name, self.params))

    def __call__(self, step: int) -> float:
        """Return the multiplier of step ``step``, in [0, 1]."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        if self.total_steps is None:
            return 1.0
        steps = self.total_steps - self.warmup_steps
        return POLICIES[self.name].decay(min(step - self.warmup_steps, steps), steps, self.params)

    @property
    def text(self) -> str:
        """What it does, in words."""
        steps = None if self.total_steps is None else self.total_steps - self.warmup_steps
        words = {name: _in_words(name, value) for name, value in self.params.items()}
        decay = POLICIES[self.name].text.format(steps=steps, **words)
        return f"{self.warmup_steps} steps of warmup, {decay}" if self.warmup_steps else decay

    def scheduler(self, optimizer: Optimizer, mode: str = "min") -> LRScheduler:
        """Return a torch scheduler that takes every param group from its present rate, the peak, along the policy.

        Step it once per optimizer step ("plateau": once per epoch, with the metric, for which ``mode`` is "min" or
        "max"). It needs no more than its step count to go on from a checkpoint.
        """
        from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

        if self.name == "plateau":
            return ReduceLROnPlateau(optimizer, "max" if mode == "max" else "min", **self.params)
        return LambdaLR(optimizer, dataclasses.replace(self))  # a copy: loading a state changes it

    def to_dict(self) -> dict[str, Any]:
        """Return the policy as JSON-ready data."""
        params = {name: list(value) if isinstance(value, tuple) else value for name, value in self.params.items()}
        return {
            "name": self.name,
            "params": params,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Policy:
        """Rebuild a policy from `to_dict`; what is missing of ``params`` is at its default.

        Raises:
            InputError: a value breaks a rule; KeyError, TypeError or ValueError where one is missing or malformed.
        """
        total = data["total_steps"]
        params = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in (data.get("params") or {}).items()
        }
        return cls(data["name"], None if total is None else int(total), int(data["warmup_steps"]), params)


_AT_LEAST_ONE = ("cycles", "patience", "div_factor", "final_div_factor")


def _checked(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    defaults = POLICIES[name].defaults
    for key, value in given.items():
        if key not in defaults:
            known = ", ".join(defaults) or "none"
            raise InputError(f"params of policy {name!r} must be among {known}, got {key!r}")
        _check(name, key, value, whole=isinstance(defaults[key], int))
    return {**defaults, **given}


def _check(name: str, key: str, value: Any, whole: bool) -> None:
    what = f"{key} of policy {name!r}"
    values = value if key == "milestones" and isinstance(value, tuple) else (value,)
    numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v)]
    if key in _AT_LEAST_ONE:
        rule, kept = "at least 1", all(v >= 1 for v in numbers)
    elif key == "power":
        rule, kept = "positive", all(v > 0 for v in numbers)
    elif key == "end" and name != "exponential":
        rule, kept = "from 0 to 1", all(0 <= v <= 1 for v in numbers)
    else:
        rule, kept = "in (0, 1]", all(0 < v <= 1 for v in numbers)
    if len(numbers) < len(values) or not numbers or not kept or (whole and not isinstance(value, int)):
        raise InputError(f"{what} must be {'a whole number ' if whole else ''}{rule}, got {value!r}")
    if list(numbers) != sorted(numbers):
        raise InputError(f"{what} must increase, got {value!r}")


def _in_words(name: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return " and ".join(f"{share:.0%}" for share in value)
    return ("zero" if value == 0 else f"{value:.0%}") if name == "end" else value
