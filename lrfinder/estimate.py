"""`Estimate`: what a search would do and cost, found without a step of any optimizer."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

from lrfinder.search import Plan
from lrfinder.settings import Settings
from lrfinder.trainee import Trainee

__all__ = ["Estimate", "estimate"]

_TIMED_STEPS = 300
"""What a search for a given time begins to plan with."""
_STEP = 3.0
"""A training step over a forward pass: forward, and backward at twice its cost. Optimizers are cheap beside it."""
_EVALUATIONS = 12
"""The untrained model, some six short probes, four long ones, and those that say what annealing is worth."""


@dataclass(frozen=True)
class Estimate:
    """What a search would do and cost.

    Attributes:
        method: "probe" or "range".
        horizon: optimizer steps of the training asked about; None where unknown.
        budget_steps: optimizer steps of the whole search; None where a time was given.
        budget_seconds: the time given; None where steps were.
        range_steps: rungs of the range test.
        short: steps of a short probe; 0 in a range test alone.
        long: steps of a long one.
        reserved: steps kept for what annealing and warmup are worth.
        min_lr: lowest rate tried.
        max_lr: highest.
        forward_seconds: measured time of one forward pass over a held-out batch; None for a range test, which has none.
        seconds: estimated time of the search; None where nothing was timed.
        snapshot_bytes: copy of the state, on the device while there is room.
        batch_bytes: batches kept in host memory.
        held_out: batches to judge by.
        caveats: what was seen on the way, a sentence each.
    """

    method: str
    horizon: int | None
    budget_steps: int | None
    budget_seconds: float | None
    range_steps: int
    short: int
    long: int
    reserved: int
    min_lr: float
    max_lr: float
    forward_seconds: float | None
    seconds: float | None
    snapshot_bytes: int
    batch_bytes: int
    held_out: int
    caveats: tuple[str, ...]

    def lines(self) -> list[tuple[str, str]]:
        """Return it as (label, text) pairs."""
        until = "a training of unknown length" if self.horizon is None else f"a training of {self.horizon} steps"
        spent = f"{self.budget_seconds:g} s" if self.budget_steps is None else f"{self.budget_steps} steps"
        rows = [("Plan", f"{spent} for {until}; no step was taken to say so")]
        rows.append(("Range", f"{self.range_steps} steps, from {self.min_lr:g} to {self.max_lr:g}"))
        if self.method == "probe":
            guess = " (more, if the time allows)" if self.budget_steps is None else ""
            rows.append(("Probes", f"about 6 of {self.short} steps and 4 of {self.long}{guess}, {self._judged()}"))
            if self.reserved:
                rows.append(("Decay", f"{self.reserved} steps kept for what annealing and warmup are worth"))
        if self.seconds is None or self.forward_seconds is None:
            rows.append(("Time", "unknown: a range test has no forward passes that could be timed without a step"))
        else:
            guess = (
                "as given"
                if self.budget_steps is None
                else f"guessed from {_time(self.forward_seconds)} per forward pass"
            )
            rows.append(("Time", f"about {_time(self.seconds)}, {guess}"))
        batches = f", {_size(self.batch_bytes)} of batches" if self.batch_bytes else ""
        rows.append(("Memory", f"{_size(self.snapshot_bytes)} for a copy of the state{batches}"))
        return [*rows, *(("Caveat", caveat) for caveat in self.caveats)]

    def _judged(self) -> str:
        return f"each judged on {self.held_out} held-out {'batch' if self.held_out == 1 else 'batches'}"

    def __str__(self) -> str:
        return "\n".join(f"{label:9s} {text}" for label, text in self.lines())

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {**dataclasses.asdict(self), "caveats": list(self.caveats)}


def estimate(trainee: Trainee, settings: Settings) -> Estimate:
    """Say what a search would do and cost: batches are drawn and evaluated, and everything is put back.

    Args:
        trainee: what would be tuned.
        settings: what would be done.

    Raises:
        InputError: nothing can be probed.
        UnsupportedError: the set-up cannot be probed exactly.
    """
    ladder, budget = settings.ladder, settings.budget
    probing = settings.method == "probe"
    plan = Plan.of(budget.steps or _TIMED_STEPS, settings.horizon, ladder.min_lr, ladder.max_lr, settings.anneal)
    if not probing:
        plan = Plan(ladder.steps, ladder.steps, 0, 0, ladder.min_lr, ladder.max_lr)
    evaluation = None
    with trainee.preserved():
        if probing:
            trainee.rewind()
            trainee.keep_batches(max(plan.long, plan.range_steps))
            evaluation = _timed(trainee)
        footprint, caveats = trainee.footprint(), trainee.caveats()
    forward = None if evaluation is None else evaluation / max(footprint.held_out, 1)
    seconds = budget.seconds
    if seconds is None and forward is not None and evaluation is not None:
        seconds = plan.budget * footprint.accumulate * _STEP * forward + _EVALUATIONS * evaluation
    return Estimate(
        method=settings.method,
        horizon=settings.horizon,
        budget_steps=budget.steps,
        budget_seconds=budget.seconds,
        range_steps=plan.range_steps,
        short=plan.short,
        long=plan.long,
        reserved=plan.reserved,
        min_lr=plan.min_lr,
        max_lr=plan.max_lr,
        forward_seconds=forward,
        seconds=seconds,
        snapshot_bytes=footprint.snapshot,
        batch_bytes=footprint.batches,
        held_out=footprint.held_out,
        caveats=caveats,
    )


def _timed(trainee: Trainee) -> float:
    """Return the seconds of an evaluation, the second one: the first is slowed by what is set up only once."""
    for _ in range(2):
        trainee.rewind()
        started = time.perf_counter()
        trainee.evaluate().sum().item()  # waits for the device
    return time.perf_counter() - started


def _time(seconds: float) -> str:
    if seconds < 0.1:
        return f"{seconds * 1000:.2g} ms"
    return (
        f"{seconds:.2g} s"
        if seconds < 90
        else f"{seconds / 60:.2g} min"
        if seconds < 5400
        else f"{seconds / 3600:.2g} h"
    )


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
