"""`DryRun`: what a search would do, without running any of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lrfinder.probing.options import SearchOptions
from lrfinder.probing.plan import ProbePlan

__all__ = ["DryRun"]


@dataclass(frozen=True)
class DryRun:
    """What a search would do.

    Attributes:
        options: what the search is asked to do, with the length of the training.
        plan: how it would share out its budget; of a range test alone, the rungs.
    """

    options: SearchOptions
    plan: ProbePlan

    @classmethod
    def of(cls, options: SearchOptions) -> DryRun:
        """Plan a search with these options."""
        ladder, steps = options.ladder, options.planned_steps
        if options.method == "range":
            return cls(options, ProbePlan(steps, ladder.steps, 0, 0, ladder.min_lr, ladder.max_lr))
        return cls(options, options.plan(steps))

    def lines(self) -> list[tuple[str, str]]:
        """Return the plan as (label, text) pairs."""
        plan, seconds = self.plan, self.options.resolved_budget.seconds
        spent = f"{plan.budget:,} steps" if seconds is None else f"{seconds:g} s"
        length = "of unknown length" if self.options.steps is None else f"of {self.options.steps:,} steps"
        rows = [
            ("Plan", f"{spent} for a training {length} (dry run: nothing was trained)"),
            ("Range", f"{plan.range_steps} steps, from {plan.min_lr:g} to {plan.max_lr:g}"),
        ]
        if plan.probes:
            more = "" if seconds is None else " (more, if the time allows)"
            rows.append(("Probes", f"{plan.probes} of {plan.probe_steps} steps{more}"))
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-ready data."""
        plan, budget = self.plan, self.options.resolved_budget
        return {
            "method": self.options.method,
            "horizon": self.options.steps,
            "budget_steps": budget.steps,
            "budget_seconds": budget.seconds,
            "range_steps": plan.range_steps,
            "probes": plan.probes,
            "probe_steps": plan.probe_steps,
            "min_lr": plan.min_lr,
            "max_lr": plan.max_lr,
        }
