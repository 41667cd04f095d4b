"""Run a whole search on a `Training`: range test, probes, evaluation; and leave the trainee as it was."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from lrfinder.errors import InputError
from lrfinder.evidence.curve import MIN_POINTS, Curve, tell_failures
from lrfinder.evidence.probe import NOT_EVALUATED, Evidence, Outcome, Probe, without_failures
from lrfinder.evidence.range_fit import RangeFit, expected_place, fit_range
from lrfinder.evidence.range_test import Ladder, blown_up
from lrfinder.files import SCHEMA_VERSION, is_device, json_object, read_record, read_string
from lrfinder.probing.options import MIN_BUDGET, MOST_PROBES, ProbePlan, SearchOptions, next_probes
from lrfinder.probing.runner import (
    READ_EVERY,
    BlewUpError,
    Clock,
    Progress,
    Training,
    climb,
    evaluate,
    run_probe,
    run_range_test,
)
from lrfinder.schedules.optimizer_lr import scaled_lrs

_NO_CHANGE = 1e-9
"""Share of the lowest learning rate of a search at which a few steps leave a model as it is."""

Value = TypeVar("Value")

Result = TypeVar("Result", Curve, Outcome)


def search(
    trainee: Training,
    options: SearchOptions,
    progress: Progress | None = None,
    journal: Journal | None = None,
    clock: Clock = time.perf_counter,
) -> Evidence:
    """Search, leave the trainee as it was, and return what was measured; `lrfinder.answer.choose` draws the conclusion.

    A budget too small for probes goes into the range test. Ctrl-C ends the search with what has been measured so far,
    and a caveat, if two probes are done; before that it passes through. Either way everything is put back.

    Args:
        options: what to do; the method "range" runs a range test alone.
        journal: where to record results, and to take those of an earlier, killed search from; a range test alone is
            not recorded.

    Raises:
        InputError: nothing can be probed, or the journal is of another search.
    """
    if options.method == "range":
        curve = run_range_test(trainee, options.ladder, progress, clock)
        evidence = Evidence.of_range_test(curve)
        return dataclasses.replace(evidence, epoch_steps=trainee.epoch_steps(), step_examples=trainee.step_examples())
    running = _Search(trainee, options, progress, journal, clock)
    interrupted = False
    with trainee.preserved():
        try:
            running.run()
        except KeyboardInterrupt:
            if len(running.outcomes) < 2:
                raise
            interrupted = True
        return running.evidence(interrupted)


@dataclass
class _Search:
    """The state of one search, while it runs."""

    trainee: Training
    options: SearchOptions
    progress: Progress | None
    journal: Journal | None
    clock: Clock
    outcomes: list[Outcome] = field(default_factory=list)
    fit: RangeFit | None = None
    done: int = 0
    ratios: Sequence[float] = ()

    def __post_init__(self) -> None:
        self.budget, self.planned = self.options.resolved_budget, self.options.planned_steps
        self.untrained, self.started = NOT_EVALUATED, self.clock()

    def run(self) -> None:
        trainee = self.trainee
        plan = self.options.plan(self.planned)
        ladder = Ladder(plan.min_lr, plan.max_lr, plan.range_steps)
        self.ratios = scaled_lrs(trainee.lrs(), 1.0, trainee.reference())
        if not plan.probes and self.budget.seconds is None:
            self._climb(ladder)
            return
        kept = max(plan.probe_steps, plan.range_steps)
        apart = self._with_room_for(lambda: trainee.keep_batches(kept))
        self.untrained = self._recorded("untrained", Outcome, lambda: evaluate(trainee, self.clock))
        if (untrained := without_failures([self.untrained])[0]).diverged:
            raise InputError(
                f"the untrained loss must be finite on the held-out batches, got {untrained.loss.tolist()[:3]}:"
                " check data and loss"
            )
        self._climb(ladder)
        if self.budget.seconds is not None:
            plan = self._timed(self.budget.seconds)
            if apart and plan.probe_steps > kept:
                self._with_room_for(lambda: trainee.keep_batches(plan.probe_steps))  # the same batches first
        if not apart or blown_up(self.curve.loss[MIN_POINTS - 1]):
            return
        self.fit = fit_range(self.curve)
        centre, limit = expected_place(self.curve, self.fit), self._hopeless()
        while probes := next_probes(plan, centre, without_failures([self.untrained, *self.outcomes])[1:]):
            for probe in probes:
                if self._late(probe):
                    return
                self.outcomes.append(self._probed(probe, limit))

    def evidence(self, interrupted: bool) -> Evidence:
        caveats = list(self.trainee.caveats())
        untrained, *outcomes = without_failures([self.untrained, *self.outcomes])
        if left_out := self.untrained.loss.size - untrained.loss.size:
            caveats.append(tell_failures(left_out, self.untrained.loss.size, "held-out"))
        if interrupted:
            caveats.append(
                f"The search was interrupted after {len(self.outcomes)} probes: this is the best answer so far."
            )
        return Evidence(
            dataclasses.replace(self.recorded_curve, caveats=tuple(caveats)).without_failures(),
            untrained if outcomes else NOT_EVALUATED,
            tuple(outcomes),
            self.range_steps,
            self.trainee.epoch_steps(),
            self.trainee.step_examples(),
            self.trainee.evaluates_training_loss(),
            interrupted,
            self.fit,
        )

    def _climb(self, ladder: Ladder) -> None:
        curve = self._recorded("range test", Curve, lambda: self._climbed(ladder))
        self.range_steps = min((len(curve) // READ_EVERY + 1) * READ_EVERY, ladder.steps)  # read in tens
        self.recorded_curve, self.curve = curve, curve.without_failures()

    def _climbed(self, ladder: Ladder) -> Curve:
        """Run the range test; where it blew up at once, return what there was, NaN up to the least of a curve."""
        try:
            return climb(self.trainee, ladder, lambda *_: self._tick(), self.clock)
        except BlewUpError as error:
            if len(error.losses) == 1:  # no learning rate had a part in it
                raise
            self._check_data(ladder, error.losses)
            losses = [*error.losses, *[math.nan] * MIN_POINTS][:MIN_POINTS]
            return Curve(ladder.lrs()[:MIN_POINTS], losses, group_ratios=self.ratios)

    def _check_data(self, ladder: Ladder, losses: list[float]) -> None:
        """Raise an error if the loss fails at the last of these steps at a rate too low to change the model, too."""
        self.trainee.rewind()
        lowest = ladder.min_lr * _NO_CHANGE
        try:
            climb(self.trainee, Ladder(lowest, 2 * lowest, MIN_POINTS), clock=self.clock)
        except BlewUpError as error:
            if len(error.losses) == len(losses):
                raise BlewUpError(
                    losses,
                    f"loss must be finite on every batch, got {losses[-1]:g} on batch {len(losses)}, with a learning"
                    f" rate of {lowest:g} as well: check the data of that batch, and the loss",
                ) from None

    def _probed(self, probe: Probe, limit: float) -> Outcome:
        outcome = self._recorded(
            "probe", Outcome, lambda: run_probe(self.trainee, probe, self.ratios, limit, self._tick, self.clock)
        )
        if outcome.probe != probe:
            raise InputError(f"journal has the probe {outcome.probe} where {probe} comes: remove the file")
        return outcome

    def _recorded(self, kind: str, record: type[Result], measure: Callable[[], Result]) -> Result:
        measured = functools.partial(self._with_room_for, measure)
        return measured() if self.journal is None else self.journal.result(kind, record, measured)

    def _with_room_for(self, measure: Callable[[], Value]) -> Value:
        """Measure from the starting state; where memory runs out, once more with nothing of ours on the device."""
        self.trainee.rewind()
        try:
            return measure()
        except torch.OutOfMemoryError:
            if not self.trainee.processes.alone or not self.trainee.make_room():
                raise
        self.trainee.rewind()
        return measure()

    def _timed(self, seconds: float) -> ProbePlan:
        """Plan anew, now that the cost of a step is known: by what is recorded, so that a resumed plan is the same."""
        left = seconds - (self.curve.seconds or 0.0) - (1 + MOST_PROBES) * self.untrained.seconds
        steps = max(int(left / self._step_seconds()), 0) + self.range_steps
        self.planned = self.trainee.processes.first(max(steps, MIN_BUDGET))
        return self.options.plan(self.planned)

    def _step_seconds(self) -> float:
        return max(self.curve.seconds or 0.0, 1e-6) / len(self.curve)

    def _late(self, probe: Probe) -> bool:
        """Whether the probe would end after the time that may be spent, in this run."""
        if self.budget.seconds is None:
            return False
        cost = probe.steps * self._step_seconds() + self.untrained.seconds
        late = self.clock() - self.started + cost > self.budget.seconds
        return self.trainee.processes.first(late)

    def _hopeless(self) -> float:
        """Return a loss from which no probe comes back: ten times all that was ever gained above the first."""
        finite = self.curve.loss[np.isfinite(self.curve.loss)]
        first = float(finite[:3].mean())
        return first + 10 * max(first - float(finite.min()), 3 * float(finite[:10].std()))

    def _tick(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, max(self.planned, self.done))


class Journal:
    """Results in the order they came: those on file are given back, new ones appended at once.

    Args:
        path: the file, created where it is missing. A last line that was not finished is dropped.
        settings: what makes two searches the same one; must equal those on file.

    Raises:
        InputError: the file is no journal, or of another search, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        header = {"schema_version": SCHEMA_VERSION, "kind": "journal", "settings": json.loads(json.dumps(settings))}
        try:
            if is_device(self.path):
                raise InputError(f"journal must be a file that can be read again, got {path}")
            text = self.path.read_bytes() if self.path.exists() else b""
            whole = text[: text.rfind(b"\n") + 1]
            if not whole and not json.dumps(header).encode().startswith(text):  # no journal killed in its first line
                raise InputError(f"journal must be one that lrfinder wrote, got {path}: give another path")
            self._check(whole, header)
            self._left = [self._record(line, number) for number, line in enumerate(whole.splitlines()[1:], start=2)]
            with self.path.open("r+b" if text else "wb") as file:
                file.truncate(len(whole))
        except InputError:
            raise
        except OSError as error:
            raise InputError(f"journal must be a file that can be written, got {path}: {error.strerror}") from None
        self.resumed = len(self._left)
        if not whole:
            self._append(header)

    def result(self, kind: str, record: type[Result], measure: Callable[[], Result]) -> Result:
        """Return the next result: that on file, else ``measure()``, appended; ``kind`` must be what comes next."""
        if not self._left:
            value = measure()
            self._append({"kind": kind, "result": value.to_dict()})
            return value
        line = self._left.pop(0)
        if line["kind"] != kind:
            raise InputError(f"journal {self.path} has {line['kind']!r:.60} where {kind!r} comes: remove the file")
        try:
            return record.from_dict(line["result"])
        except (InputError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"journal must be one that lrfinder wrote, got {self.path}, where {kind!r} is malformed: {error}"
            ) from None

    def _record(self, line: bytes, number: int) -> Mapping[str, Any]:
        name = f"journal {self.path}, line {number}"
        try:
            return read_record(json_object(line.decode(), name), {"kind": read_string, "result": lambda value: value})
        except ValueError as error:  # an InputError is one, too
            raise InputError(
                f"journal must be one that lrfinder wrote, got {self.path}, which has a damaged line: {error}"
            ) from None

    def _check(self, text: bytes, header: Mapping[str, Any]) -> None:
        if not text:
            return
        try:
            found = json_object(text.splitlines()[0].decode(), f"journal {self.path}")
        except ValueError:  # an InputError is one, too
            found = {}
        if found.get("kind") != "journal" or not isinstance(found.get("settings"), dict):
            raise InputError(f"journal must be one that lrfinder wrote, got {self.path}: give another path")
        if found.get("schema_version") != SCHEMA_VERSION:
            raise InputError(f"journal {self.path}: schema_version must be {SCHEMA_VERSION}")
        old, new = found["settings"], header["settings"]
        for name in [*new, *(name for name in old if name not in new)]:
            if old.get(name) != new.get(name):
                raise InputError(
                    f"journal {self.path} belongs to a search with {name} = {old.get(name)!r:.60}, got {name} ="
                    f" {new.get(name)!r}: give the same, or remove the file"
                )

    def _append(self, record: Mapping[str, Any]) -> None:
        line = json.dumps(record, allow_nan=False) + "\n"
        try:
            with self.path.open("ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(
                f"journal {self.path} cannot be written: {error.strerror}. The results in it are kept: run the search"
                " again with the same journal once it can be"
            ) from None
