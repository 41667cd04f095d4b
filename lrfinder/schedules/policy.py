"""Decay policies: pure functions of the optimizer step that return a multiplier of the peak learning rate.

To add a policy, write its decay function and its entry in `POLICIES`, and add its row to docs/policies.md. The ranking,
the printed code, the checks and the texts follow from the entry.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from lrfinder.errors import MOST_STEPS, InputError, is_number, one_of, whole_number

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


@dataclass(frozen=True)
class Parameter:
    """A parameter of a policy.

    Attributes:
        default: also decides the type of every value: a whole number, a non-empty tuple of numbers that do not
            decrease, or a number.
        rule: what every number must be; it completes "must be".
        holds: whether a number of at most 1e100 keeps the rule.
        words: format of a number in a text.
    """

    default: Any
    rule: str
    holds: Callable[[float], bool]
    words: str = "{:g}"

    def check(self, name: str, value: Any) -> None:
        """Raise `InputError` with ``name``, the rule and the value if ``value`` breaks the rule."""
        kind = {int: "a whole number ", tuple: "a tuple of numbers "}.get(type(self.default), "")
        values = value if isinstance(self.default, tuple) else (value,)
        if not isinstance(values, tuple) or not values or not all(map(self._allows, values)):
            raise InputError(f"{name} must be {kind}{self.rule}, got {value!r:.60}")
        if list(values) != sorted(values):
            raise InputError(f"{name} must increase, got {value!r:.60}")

    def _allows(self, number: Any) -> bool:
        known = isinstance(number, int) or (is_number(number) and not isinstance(self.default, int))
        return known and not isinstance(number, bool) and abs(number) <= 1e100 and self.holds(number)

    def describe(self, value: Any) -> str:
        """Return a value in words."""
        if isinstance(value, tuple):
            return " and ".join(map(self.describe, value))
        return self.words.format(value) if value else "zero"


@dataclass(frozen=True)
class Shape:
    """The entry of a policy in the table: everything that lrfinder knows about it.

    Attributes:
        decay: a function that maps ``t``, ``n`` and the parameters by name to the multiplier, in [0, 1]. Its source is
            printed, so it may use only modules, functions and constants of the module in which it is defined. None if
            the multiplier stays at 1 after warmup; training then needs no end.
        parameters: every parameter by name; none may be called ``steps``, ``t`` or ``n``.
        text: what the policy does; a format string over the parameters and ``steps``, the n steps of the decay.
        source: the publication or the library that the policy comes from.
        warms_up: whether linear warmup may precede it.
        follows_metric: whether the rate falls when a metric stalls, as `torch.optim.lr_scheduler.ReduceLROnPlateau`
            does; ``parameters`` are then arguments of that class.
    """

    decay: Callable[..., float] | None
    parameters: Mapping[str, Parameter]
    text: str
    source: str
    warms_up: bool = True
    follows_metric: bool = False

    @property
    def needs_total(self) -> bool:
        """Whether the policy ends, so that the number of steps must be known."""
        return self.decay is not None

    @property
    def ranked(self) -> bool:
        """Whether its final loss can be predicted."""
        return not self.follows_metric


# Each of these takes the default value.
share = partial(Parameter, rule="in (0, 1]", holds=lambda value: 0 < value <= 1, words="{:.0%}")
end_share = partial(Parameter, rule="from 0 to 1", holds=lambda value: 0 <= value <= 1, words="{:.0%}")
factor = partial(Parameter, rule="in (0, 1]", holds=lambda value: 0 < value <= 1)
positive = partial(Parameter, rule="positive", holds=lambda value: value > 0)
ratio = partial(Parameter, rule="at least 1", holds=lambda value: value >= 1)
count = partial(Parameter, rule="at least 1", holds=lambda value: value >= 1, words="{}")
doublings = partial(Parameter, rule="from 1 to 50", holds=lambda value: 1 <= value <= 50, words="{}")


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
    "constant": Shape(None, {}, "constant", "the simplest"),
    "step": Shape(
        step_decay, {"gamma": factor(0.1), "step_size": share(1 / 3)},
        "times {gamma} every {step_size} of {steps} steps", "He et al. 2016, section 3.4 (arXiv 1512.03385)",
    ),
    "multi-step": Shape(
        multi_step, {"gamma": factor(0.1), "milestones": share((0.5, 0.75))},
        "times {gamma} after each of the shares {milestones} of {steps} steps",
        "He et al. 2016, section 4.2 (arXiv 1512.03385)",
    ),
    "exponential": Shape(
        exponential, {"end": share(0.01)},
        "exponential to {end} over {steps} steps", "torch's ExponentialLR",
    ),
    "polynomial": Shape(
        polynomial, {"power": positive(2.0)},
        "to zero as the power {power} of what is left of {steps} steps",
        "Chen et al. 2017, section 4.1 (arXiv 1606.00915)",
    ),
    "cosine": Shape(
        cosine, {"end": end_share(0.0)},
        "cosine to {end} over {steps} steps", "Loshchilov and Hutter 2017, section 3 (arXiv 1608.03983)",
    ),
    "cosine-restarts": Shape(
        cosine_restarts, {"cycles": doublings(3)},
        "cosine to zero {cycles} times in {steps} steps, each twice as long",
        "Loshchilov and Hutter 2017, section 3 (arXiv 1608.03983)",
    ),
    "linear": Shape(
        linear, {"end": end_share(0.0)},
        "linear to {end} over {steps} steps", "Defazio et al. 2023 (arXiv 2310.07831)",
    ),
    "wsd": Shape(
        wsd, {"cooldown": share(0.4), "end": end_share(0.0)},
        "constant, then linear to {end} over the last {cooldown} of {steps} steps",
        "Hägele et al. 2024, section 3 (arXiv 2405.18392); 40%: Schaipp et al. 2025 (arXiv 2501.18965)",
    ),
    "wsd-sqrt": Shape(
        wsd_sqrt, {"cooldown": share(0.2)},
        "constant, then as 1 - sqrt to zero over the last {cooldown} of {steps} steps",
        "Hägele et al. 2024, section 3 (arXiv 2405.18392)",
    ),
    "one-cycle": Shape(
        one_cycle, {"rise": share(0.3), "div_factor": ratio(25.0), "final_div_factor": ratio(1e4)},
        "up over the first {rise} of {steps} steps, then down to zero, as cosines",
        "Smith and Topin 2018 (arXiv 1708.07120), as torch's OneCycleLR has it", warms_up=False,
    ),
    "inverse-sqrt": Shape(
        inverse_sqrt, {"timescale": share(0.1)},
        "as 1 over the square root of the step, in units of {timescale} of {steps} steps",
        "Zhai et al. 2022, section 3.5 (arXiv 2106.04560)",
    ),
    "plateau": Shape(
        None, {"factor": factor(0.1), "patience": count(10)},
        "constant, times {factor} when {patience} epochs have brought nothing",
        "torch's ReduceLROnPlateau", warms_up=False, follows_metric=True,
    ),
}  # fmt: skip
"""Every policy by name."""

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
        total_steps: T, optimizer steps; None for a training without end.
        warmup_steps: W, optimizer steps.
        params: parameters that differ from their defaults; the record then holds all of them. Shares are of ``T - W``.

    Raises:
        InputError: a name is unknown, a value breaks its rule, or a policy that ends has no total.

    Examples:
        >>> [round(Policy("linear", 4)(t), 2) for t in range(5)]
        [1.0, 0.75, 0.5, 0.25, 0.0]
    """

    shapes: ClassVar[Mapping[str, Shape]] = POLICIES
    """The known policies; a subclass may add some. It is not a field, since LambdaLR saves fields in checkpoints."""

    name: str
    total_steps: int | None = None
    warmup_steps: int = 0
    params: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        one_of("policy", self.name, tuple(self.shapes))
        if self.total_steps is not None:
            whole_number("total_steps", self.total_steps, of="optimizer steps", maximum=MOST_STEPS)
        elif self.shape.needs_total:
            raise InputError(f"total_steps must be given for policy {self.name!r}, got None")
        whole_number("warmup_steps", self.warmup_steps, 0, of="optimizer steps")
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
        defaults = {key: parameter.default for key, parameter in self.shape.parameters.items()}
        object.__setattr__(self, "params", {**defaults, **self.params})

    def __call__(self, step: int) -> float:
        """Return the multiplier of step ``step``, in [0, 1]."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        if self.shape.decay is None or self.total_steps is None:
            return 1.0
        n = self.total_steps - self.warmup_steps
        return self.shape.decay(min(step - self.warmup_steps, n), n, **self.params)

    @property
    def shape(self) -> Shape:
        """The entry of this policy in the table."""
        return self.shapes[self.name]

    @property
    def text(self) -> str:
        """What the policy does, in words."""
        steps = None if self.total_steps is None else self.total_steps - self.warmup_steps
        words = {name: self.shape.parameters[name].describe(value) for name, value in self.params.items()}
        decay = self.shape.text.format(steps=steps, **words)
        return f"{self.warmup_steps} steps of warmup, {decay}" if self.warmup_steps else decay

    def scheduler(self, optimizer: Optimizer, mode: str = "min") -> LRScheduler:
        """Return a torch scheduler that moves every param group from its present rate, the peak, along the policy.

        Step the scheduler once per optimizer step ("plateau": once per epoch, with the metric). It resumes from a
        checkpoint by its step count alone.

        Args:
            optimizer: its param groups are at their peak rates.
            mode: "min" or "max", whether a lower or a higher metric is better; only "plateau" uses it.
        """
        from torch.optim.lr_scheduler import ReduceLROnPlateau

        from lrfinder.schedules.policy_lr import PolicyLR

        if self.shape.follows_metric:
            return ReduceLROnPlateau(optimizer, "max" if mode == "max" else "min", **self.params)
        return PolicyLR(optimizer, dataclasses.replace(self))  # a copy: loading a state changes it

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
