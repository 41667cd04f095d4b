"""Decay policies: pure functions of the optimizer step that return a multiplier of the peak learning rate.

To add a policy, write its decay function and its entry in `POLICIES`, and add its row to docs/policies.md. The ranking,
the printed code, the checks and the texts follow from the entry.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from lrfinder.errors import InputError
from lrfinder.schedules.shape import Shape, count, end_share, factor, positive, ratio, share

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

__all__ = ["ENDLESS", "POLICIES", "RANKED", "UNWARMED", "Policy"]


def to_steps(share: float, n: int) -> int:
    """Return a share of n steps as a whole number of steps, at least 1."""
    return max(1, round(share * n))


def step_decay(t: int, n: int, gamma: float, step_size: float) -> float:
    """Multiply by ``gamma`` after every ``step_size`` of the steps."""
    return math.pow(gamma, t // to_steps(step_size, n))


def multi_step(t: int, n: int, gamma: float, milestones: tuple[float, ...]) -> float:
    """Multiply by ``gamma`` at every milestone."""
    return math.pow(gamma, sum(t >= to_steps(milestone, n) for milestone in milestones))


def exponential(t: int, n: int, end: float) -> float:
    """Fall by the same factor in every step, to ``end``."""
    return math.pow(end, t / n)


def polynomial(t: int, n: int, power: float) -> float:
    """Fall to zero as a power of the share of steps that remain."""
    return math.pow(1 - t / n, power)


def linear(t: int, n: int, end: float) -> float:
    """Fall along a straight line to ``end``."""
    return end + (1 - end) * (1 - t / n)


def cosine(t: int, n: int, end: float) -> float:
    """Fall along half a cosine to ``end``."""
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * t / n))


def cosine_restarts(t: int, n: int, cycles: int) -> float:
    """Fall along half a cosine to zero in every cycle; each cycle is twice as long as the one before."""
    bounds = [round(n * (2**cycle - 1) / (2**cycles - 1)) for cycle in range(cycles + 1)]
    start = max(bound for bound in bounds if bound <= min(t, n - 1))
    end = min(bound for bound in bounds if bound > start)
    return 0.5 * (1 + math.cos(math.pi * (t - start) / (end - start)))


def wsd(t: int, n: int, cooldown: float, end: float) -> float:
    """Stay at the peak, then fall along a straight line to ``end`` over the cooldown."""
    return end + (1 - end) * min(1.0, (n - t) / to_steps(cooldown, n))


def wsd_sqrt(t: int, n: int, cooldown: float) -> float:
    """Stay at the peak, then fall to zero as 1 - sqrt over the cooldown."""
    length = to_steps(cooldown, n)
    return 1 - math.sqrt(max(t - (n - length), 0) / length)


def one_cycle(t: int, n: int, rise: float, div_factor: float, final_div_factor: float) -> float:
    """Rise along half a cosine over the first steps, then fall along another."""
    top, last = max(rise * n - 1, 0.0), max(n - 1, 1)
    start, end = 1 / div_factor, 1 / div_factor / final_div_factor
    if t < top:
        return 1 + (start - 1) * 0.5 * (1 + math.cos(math.pi * t / top))
    down = (last - top) or 1.0  # a rise over all steps leaves none
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * min((t - top) / down, 1.0)))


def inverse_sqrt(t: int, n: int, timescale: float) -> float:
    """Fall as one over the square root of the step, in units of the timescale."""
    unit = to_steps(timescale, n)
    return math.sqrt(unit / (unit + t))


POLICIES: Mapping[str, Shape] = {
    "constant": Shape(None, {}, "constant", "the simplest", 12),
    "step": Shape(
        step_decay, {"gamma": factor(0.1), "step_size": share(1 / 3)},
        "times {gamma} every {step_size} of {steps} steps", "He et al. 2016, section 3.4 (arXiv 1512.03385)", 3,
    ),
    "multi-step": Shape(
        multi_step, {"gamma": factor(0.1), "milestones": share((0.5, 0.75))},
        "times {gamma} after each of the shares {milestones} of {steps} steps",
        "He et al. 2016, section 4.2 (arXiv 1512.03385)", 4,
    ),
    "exponential": Shape(
        exponential, {"end": share(0.01)},
        "exponential to {end} over {steps} steps", "torch's ExponentialLR", 6,
    ),
    "polynomial": Shape(
        polynomial, {"power": positive(2.0)},
        "to zero as the power {power} of what is left of {steps} steps",
        "Chen et al. 2017, section 4.1 (arXiv 1606.00915)", 7,
    ),
    "cosine": Shape(
        cosine, {"end": end_share(0.0)},
        "cosine to {end} over {steps} steps", "Loshchilov and Hutter 2017, section 3 (arXiv 1608.03983)", 10,
    ),
    "cosine-restarts": Shape(
        cosine_restarts, {"cycles": count(3)},
        "cosine to zero {cycles} times in {steps} steps, each twice as long",
        "Loshchilov and Hutter 2017, section 3 (arXiv 1608.03983)", 2,
    ),
    "linear": Shape(
        linear, {"end": end_share(0.0)},
        "linear to {end} over {steps} steps", "Defazio et al. 2023 (arXiv 2310.07831)", 11,
    ),
    "wsd": Shape(
        wsd, {"cooldown": share(0.4), "end": end_share(0.0)},
        "constant, then linear to {end} over the last {cooldown} of {steps} steps",
        "Hägele et al. 2024, section 3 (arXiv 2405.18392); 40%: Schaipp et al. 2025 (arXiv 2501.18965)", 9,
    ),
    "wsd-sqrt": Shape(
        wsd_sqrt, {"cooldown": share(0.2)},
        "constant, then as 1 - sqrt to zero over the last {cooldown} of {steps} steps",
        "Hägele et al. 2024, section 3 (arXiv 2405.18392)", 8,
    ),
    "one-cycle": Shape(
        one_cycle, {"rise": share(0.3), "div_factor": ratio(25.0), "final_div_factor": ratio(1e4)},
        "up over the first {rise} of {steps} steps, then down to zero, as cosines",
        "Smith and Topin 2018 (arXiv 1708.07120), as torch's OneCycleLR has it", 1, warms_up=False,
    ),
    "inverse-sqrt": Shape(
        inverse_sqrt, {"timescale": share(0.1)},
        "as 1 over the square root of the step, in units of {timescale} of {steps} steps",
        "Zhai et al. 2022, section 3.5 (arXiv 2106.04560)", 5,
    ),
    "plateau": Shape(
        None, {"factor": factor(0.1), "patience": count(10)},
        "constant, times {factor} when {patience} epochs have brought nothing",
        "torch's ReduceLROnPlateau", 0, warms_up=False, follows_metric=True,
    ),
}  # fmt: skip
"""Every policy, by name."""

ENDLESS = tuple(name for name, shape in POLICIES.items() if not shape.needs_total)

RANKED = tuple(name for name, shape in POLICIES.items() if shape.ranked)

UNWARMED = tuple(name for name, shape in POLICIES.items() if not shape.warms_up)


@dataclass(frozen=True)
class Policy:
    """Linear warmup, then decay: step ``t`` of ``T`` is taken at ``peak * policy(t)``.

    ``policy(t) = (t + 1) / (W + 1)`` for ``t < W`` steps of warmup, then ``decay(t - W, T - W)``. The first step
    after warmup is taken at the peak ("one-cycle", which rises by itself, begins at its start value). The value at
    ``t = T``, after the last step, is the end of the decay; later values equal it. Shares are rounded to whole steps.

    Attributes:
        name: a key of `shapes`.
        total_steps: T, optimizer steps; None for a rate without end.
        warmup_steps: W, optimizer steps.
        params: the parameters that differ from their defaults; afterwards all of them. Shares are of ``T - W``.

    Raises:
        InputError: the name or a parameter is unknown, a value breaks its rule, warmup is not below the total, or a
            policy that ends has no total.

    Examples:
        >>> [round(Policy("linear", 4)(t), 2) for t in range(5)]
        [1.0, 0.75, 0.5, 0.25, 0.0]
    """

    shapes: ClassVar[Mapping[str, Shape]] = POLICIES
    """The policies there are; a subclass may have more. No field: LambdaLR stores the fields in checkpoints."""

    name: str
    total_steps: int | None = None
    warmup_steps: int = 0
    params: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.name not in self.shapes:
            raise InputError(f"policy must be one of {', '.join(self.shapes)}, got {self.name!r}")
        if self.total_steps is None and self.shape.needs_total:
            raise InputError(f"total_steps must be given for policy {self.name!r}, got None")
        for key, minimum in (("total_steps", 1), ("warmup_steps", 0)):
            value = getattr(self, key)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < minimum):
                raise InputError(f"{key} must be a whole number of optimizer steps, at least {minimum}, got {value!r}")
        if self.total_steps is not None and self.warmup_steps >= self.total_steps:
            raise InputError(
                f"warmup_steps must be in [0, total_steps), got warmup_steps = {self.warmup_steps},"
                f" total_steps = {self.total_steps}"
            )
        for key, value in self.params.items():
            if key not in self.shape.parameters:
                known = ", ".join(self.shape.parameters) or "none"
                raise InputError(f"params of policy {self.name!r} must be among {known}, got {key!r}")
            self.shape.parameters[key].check(f"{key} of policy {self.name!r}", value)
        object.__setattr__(self, "params", {**self.shape.defaults, **self.params})

    def __call__(self, step: int) -> float:
        """Return the multiplier of step ``step``, in [0, 1]."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        decay = self.shape.decay
        if decay is None or self.total_steps is None:
            return 1.0
        n = self.total_steps - self.warmup_steps
        return decay(min(step - self.warmup_steps, n), n, **self.params)

    @property
    def shape(self) -> Shape:
        """The entry of this policy in the table."""
        return self.shapes[self.name]

    @property
    def text(self) -> str:
        """What the policy does, in words."""
        steps = None if self.total_steps is None else self.total_steps - self.warmup_steps
        words = {name: self.shape.parameters[name].describe(value) for name, value in self.params.items()}
        decay = self.shape.text.format(**{"steps": steps, **words})  # a parameter of this name is meant
        return f"{self.warmup_steps} steps of warmup, {decay}" if self.warmup_steps else decay

    def scheduler(self, optimizer: Optimizer, mode: str = "min") -> LRScheduler:
        """Return a torch scheduler that takes every param group from its present rate, the peak, along the policy.

        Step the scheduler once per optimizer step ("plateau": once per epoch, with the metric). To resume from a
        checkpoint it needs only its step count.

        Args:
            optimizer: its param groups are at their peak rates.
            mode: "min" or "max", whether a lower or a higher metric is better; only "plateau" uses it.
        """
        from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

        if self.shape.follows_metric:
            return ReduceLROnPlateau(optimizer, "max" if mode == "max" else "min", **self.params)
        return LambdaLR(optimizer, dataclasses.replace(self))  # a copy: loading a state changes it

    def to_dict(self) -> dict[str, Any]:
        """Return the policy as JSON-ready data."""
        params = {name: list(value) if isinstance(value, tuple) else value for name, value in self.params.items()}
        steps = {"warmup_steps": self.warmup_steps, "total_steps": self.total_steps}
        return {"name": self.name, "params": params, **steps}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Policy:
        """Rebuild a policy from `to_dict`; parameters that are missing from ``params`` get their defaults.

        Raises:
            InputError: a value breaks a rule; KeyError, TypeError or ValueError if one is missing or malformed.
        """
        total = data["total_steps"]
        params = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in (data.get("params") or {}).items()
        }
        return cls(data["name"], None if total is None else int(total), int(data["warmup_steps"]), params)
