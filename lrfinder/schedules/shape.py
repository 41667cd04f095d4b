"""`Shape`: the entry of a decay policy in the table. `Parameter`: one of its parameters, with the rule for values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from lrfinder.errors import InputError

__all__ = ["Parameter", "Shape", "count", "end_share", "factor", "positive", "ratio", "share"]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a policy.

    Attributes:
        default: a whole number if every value must be one; a tuple if every value is a non-empty tuple of numbers that
            do not decrease; else a number.
        rule: what every number must be, in words that complete "must be".
        holds: whether a finite number keeps the rule.
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
        if not isinstance(values, tuple) or not values or not all(self._allows(number) for number in values):
            raise InputError(f"{name} must be {kind}{self.rule}, got {value!r}")
        if list(values) != sorted(values):
            raise InputError(f"{name} must increase, got {value!r}")

    def _allows(self, number: Any) -> bool:
        known = isinstance(number, int if isinstance(self.default, int) else (int, float))
        return known and not isinstance(number, bool) and math.isfinite(number) and self.holds(number)

    def describe(self, value: Any) -> str:
        """Return a value in words."""
        if isinstance(value, tuple):
            return " and ".join(map(self.describe, value))
        return self.words.format(value) if value else "zero"


@dataclass(frozen=True)
class Shape:
    """All that is known of one policy.

    Attributes:
        decay: a function that maps ``t``, ``n`` and the parameters by name to the multiplier, in [0, 1]. Its source is
            printed as it stands: it may use modules, other functions, and constants of the module it is written in.
            None if the multiplier stays at 1 after warmup, so that training may have no end.
        parameters: every parameter by name.
        text: what the policy does; a format string over ``steps``, the n steps of the decay, and the parameters, each
            in words. No parameter may be called ``steps``, ``t`` or ``n``.
        source: where the policy is from.
        simplicity: the policy with the highest value is taken among those with no material difference.
        warms_up: whether linear warmup may precede it.
        follows_metric: whether the rate falls when a metric stalls, as `torch.optim.lr_scheduler.ReduceLROnPlateau`
            does; ``parameters`` are then the arguments of that class. Such a policy is no function of the step.
    """

    decay: Callable[..., float] | None
    parameters: Mapping[str, Parameter]
    text: str
    source: str
    simplicity: int
    warms_up: bool = True
    follows_metric: bool = False

    @property
    def needs_total(self) -> bool:
        """Whether the policy ends, so that the number of steps must be known."""
        return self.decay is not None

    @property
    def ranked(self) -> bool:
        """Whether its final loss can be predicted: only that of a function of the step can."""
        return not self.follows_metric

    @property
    def defaults(self) -> dict[str, Any]:
        """Every parameter at its default."""
        return {name: parameter.default for name, parameter in self.parameters.items()}


share = partial(Parameter, rule="in (0, 1]", holds=lambda value: 0 < value <= 1, words="{:.0%}")
"""A share of something, or several: from the default."""

end_share = partial(Parameter, rule="from 0 to 1", holds=lambda value: 0 <= value <= 1, words="{:.0%}")
"""The multiplier at the end of a decay that may reach zero: from the default."""

factor = partial(Parameter, rule="in (0, 1]", holds=lambda value: 0 < value <= 1)
"""What the rate is multiplied by: from the default."""

positive = partial(Parameter, rule="positive", holds=lambda value: value > 0)
"""A positive number: from the default."""

ratio = partial(Parameter, rule="at least 1", holds=lambda value: value >= 1)
"""A ratio of at least 1: from the default."""

count = partial(Parameter, rule="at least 1", holds=lambda value: value >= 1, words="{}")
"""A whole number of at least 1: from the default, itself whole."""
