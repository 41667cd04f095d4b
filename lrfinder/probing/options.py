"""`SearchOptions`: what a search is asked to do, checked before anything runs; and the probes that it plans.

Nothing here trains. `next_probes` is a pure function of the outcomes so far, so that any executor can run a search, and
one that was stopped can go on from a record of its outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from lrfinder.errors import InputError, checked_horizon, one_of
from lrfinder.evidence.probe import Outcome, Probe
from lrfinder.evidence.range_test import Ladder
from lrfinder.schedules.policy import POLICIES, Policy

METHODS = ("probe", "range")

MIN_BUDGET = 20
"""Minimum steps of a search: a range test with as many learning rates."""

PolicyRequest = str | Policy | None
"""What to do about the schedule: "keep", "auto", the name of a policy, a policy, or None for what fits best."""

_MAX_LR = {"probe": 100.0, "range": 10.0}

_RANGE_STEPS = 100

_TIMED_STEPS = 300
"""Steps that a search plans with until it has measured how many its time budget buys."""

_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Budget:
    """What a search may spend: a number of optimizer steps, or seconds.

    Attributes:
        steps: optimizer steps; None if seconds are given.
        seconds: wall time, evaluation included; None if steps are given.
    """

    steps: int | None
    seconds: float | None = None

    @classmethod
    def parse(cls, budget: float | str | None, horizon: int | None = None) -> Budget:
        """Read a budget: a share of the horizon (0.05, "5%"), steps (300), or a time ("60s", "5min").

        None stands for 5% of the horizon, but at least 100 steps and at most half of the horizon; for 200 steps if the
        horizon is unknown. A share comes to at least 20 steps; of an unknown horizon it is the default.

        Raises:
            InputError: the budget is none of these, or is too small.
        """
        default = 200 if horizon is None else max(min(max(round(0.05 * horizon), 100), horizon // 2), MIN_BUDGET)
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
            return cls(default if horizon is None else max(round(number * horizon), MIN_BUDGET))
        if number != int(number):
            raise InputError(f"{rule}, got {budget!r}")
        if number < MIN_BUDGET:
            raise InputError(f"budget must come to at least {MIN_BUDGET} steps, got {budget!r}, which is {number:g}")
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


_RANGE_STEPS_BEFORE_PROBES = 40
"""Steps of the range test where probes follow: 100 steps say no better where to look (docs/measured.md)."""

_SHORTEST = 20
"""Minimum steps of a probe: shorter ones judge how training starts, not how it goes on."""

_FEWEST, MOST_PROBES = 2, 5
"""Probes of a plan; a budget for more than five of the shortest makes them longer."""

_WARMUP = 0.2
"""Share of a probe over which the learning rate rises."""

_BELOW, _ABOVE = 1.5, 0.5
"""Octaves from the centre to the first two probes: more below it than above, where probes blow up and say little."""

_APART = 1.1
"""Octaves: probes closer together than this differ by less than their noise."""


@dataclass(frozen=True)
class ProbePlan:
    """How a budget is spent: a range test, then a few probes of one length.

    Attributes:
        budget: optimizer steps in all.
        range_steps: learning rates of the range test, one step each.
        probes: number of probes; 0 where the budget is too small for two that say anything.
        probe_steps: steps of each.
        min_lr: lowest learning rate to try.
        max_lr: highest.
    """

    budget: int
    range_steps: int
    probes: int
    probe_steps: int
    min_lr: float
    max_lr: float

    @classmethod
    def of(cls, budget: int, horizon: int | None, min_lr: float, max_lr: float) -> ProbePlan:
        """Share out a budget of optimizer steps. No probe is longer than the training asked about."""
        shortest = min(_SHORTEST, horizon or _SHORTEST)
        left = budget - _RANGE_STEPS_BEFORE_PROBES
        if left < _FEWEST * shortest:
            return cls(budget, budget, 0, 0, min_lr, max_lr)
        probes = min(left // shortest, MOST_PROBES)
        steps = min(left // probes, horizon or left)
        return cls(budget, _RANGE_STEPS_BEFORE_PROBES, probes, steps, min_lr, max_lr)

    def probe(self, octave: float) -> Probe:
        """Return the probe at a learning rate of ``2**octave``."""
        return Probe(2.0**octave, self.probe_steps, warmup=round(_WARMUP * self.probe_steps))


@dataclass(frozen=True)
class SearchOptions:
    """What a search is asked to do. Every entrance makes one; nothing else carries these arguments to the search.

    Attributes:
        method: "probe", or "range" for a range test alone.
        steps: optimizer steps of the training asked about; None if unknown, or if ``epochs`` or the training say.
        budget: what to spend, as `Budget.parse` reads it; for a range test the number of rungs, 100 by default.
        min_lr: lowest learning rate to try.
        max_lr: highest learning rate to try; None for 100 (probes) or 10 (range test).
        epochs: passes over the data instead of ``steps``.
        monitor: the metric of `validation_step` to judge by; None for the loss.
        mode: "min" or "max", of what the probes are judged by.
        policy: the policy to suggest.
    """

    method: str = "probe"
    steps: int | None = None
    budget: float | str | None = None
    min_lr: float = 1e-7
    max_lr: float | None = None
    epochs: int | None = None
    monitor: str | None = None
    mode: str = "min"
    policy: PolicyRequest = None

    def __post_init__(self) -> None:
        one_of("mode", self.mode, ("min", "max"))
        if self.monitor is not None and self.method != "probe":
            raise InputError(
                f"monitor may be given with method probe only, got monitor = {self.monitor!r}, {self.method!r}"
            )
        one_of("method", self.method, METHODS)
        object.__setattr__(self, "steps", checked_horizon(self.steps))
        _ = self.ladder, self.resolved_budget  # check them now
        if not isinstance(self.policy, Policy) and self.policy not in (None, "auto", "keep", *POLICIES):
            known = ", ".join(POLICIES)
            raise InputError(f"policy must be auto, keep, one of {known}, or a Policy, got {self.policy!r}")

    @property
    def ladder(self) -> Ladder:
        """The learning rates of a range test between the lowest and the highest rate."""
        rungs: Any = _RANGE_STEPS if self.method != "range" or self.budget is None else self.budget
        if isinstance(rungs, bool) or not isinstance(rungs, Integral):
            raise InputError(f"budget of a range test must be a whole number of steps, got {rungs!r}")
        return Ladder(self.min_lr, _MAX_LR[self.method] if self.max_lr is None else self.max_lr, int(rungs))

    @property
    def resolved_budget(self) -> Budget:
        """The budget in steps or in seconds."""
        return Budget(self.ladder.steps) if self.method == "range" else Budget.parse(self.budget, self.steps)

    def plan(self, budget: int) -> ProbePlan:
        """Return how the search would spend this many steps."""
        low, high = self.ladder.min_lr, self.ladder.max_lr
        if self.method == "range":
            return ProbePlan(budget, budget, 0, 0, low, high)
        return ProbePlan.of(budget, self.steps, low, high)

    @property
    def planned_steps(self) -> int:
        """The optimizer steps that the search plans with before anything has been timed."""
        return self.resolved_budget.steps or _TIMED_STEPS

    def journal_header(self) -> dict[str, Any]:
        """Return what identifies the search in a journal, as JSON-ready data: two equal ones measure the same."""
        budget, ladder = self.resolved_budget, self.ladder
        return {
            "method": self.method,
            "steps": self.steps,
            "budget_steps": budget.steps,
            "budget_seconds": budget.seconds,
            "min_lr": ladder.min_lr,
            "max_lr": ladder.max_lr,
        }

    def dry_run(self) -> dict[str, Any]:
        """Return what the search would do, as JSON-ready data."""
        plan, budget = self.plan(self.planned_steps), self.resolved_budget
        return {
            "method": self.method,
            "horizon": self.steps,
            "budget_steps": budget.steps,
            "budget_seconds": budget.seconds,
            "range_steps": plan.range_steps,
            "probes": plan.probes,
            "probe_steps": plan.probe_steps,
            "min_lr": plan.min_lr,
            "max_lr": plan.max_lr,
        }

    def dry_run_lines(self) -> list[tuple[str, str]]:
        """Return what the search would do as (label, text) pairs."""
        plan, seconds = self.plan(self.planned_steps), self.resolved_budget.seconds
        spent = f"{plan.budget:,} steps" if seconds is None else f"{seconds:g} s"
        length = "of unknown length" if self.steps is None else f"of {self.steps:,} steps"
        rows = [
            ("Plan", f"{spent} for a training {length} (dry run: nothing was trained)"),
            ("Range", f"{plan.range_steps} steps, from {plan.min_lr:g} to {plan.max_lr:g}"),
        ]
        if plan.probes:
            more = "" if seconds is None else " (more, if the time allows)"
            rows.append(("Probes", f"{plan.probes} of {plan.probe_steps} steps{more}"))
        return rows


def next_probes(plan: ProbePlan, centre: float, outcomes: Sequence[Outcome]) -> list[Probe]:
    """Return the probes to run next, all of which may run at once; none when the search is over.

    The first two stand below and above ``centre``. As long as the best is at an end, one more follows two
    octaves beyond it; then the gap towards its better neighbour is halved.

    Args:
        plan: the budget.
        centre: log2 of the learning rate to start from.
        outcomes: of all the probes so far.
    """
    low, high = math.log2(plan.min_lr), math.log2(plan.max_lr)
    seen = {math.log2(outcome.probe.lr): outcome.mean for outcome in outcomes}
    wanted = (min(max(octave, low), high) for octave in _octaves(centre, seen))
    new = [octave for octave in dict.fromkeys(wanted) if all(abs(octave - other) > 0.05 for other in seen)]
    return [plan.probe(octave) for octave in new[: plan.probes - len(outcomes)]]


def _octaves(centre: float, seen: dict[float, float]) -> list[float]:
    if not seen:
        return [centre - _BELOW, centre + _ABOVE]
    octaves = sorted(seen)
    best = min(octaves, key=lambda octave: seen[octave])
    if not math.isfinite(seen[best]):
        return [octaves[0] - 3]
    i = octaves.index(best)
    if i == 0:
        return [best - 2]
    if i == len(octaves) - 1:
        return [best + 2]
    neighbours = sorted((octaves[i - 1], octaves[i + 1]), key=lambda octave: seen[octave])
    return [(best + neighbour) / 2 for neighbour in neighbours if abs(best - neighbour) > _APART][:1]
