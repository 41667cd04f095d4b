"""`Probe`: a short training to be run, as data. `Outcome`: what came of it. `Evidence`: all of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrfinder.errors import InputError
from lrfinder.evidence.curve import Curve, Stage
from lrfinder.files import list_reader, number_reader, number_to_json, read_any_number, read_record, whole_reader

if TYPE_CHECKING:
    from lrfinder.evidence.range_fit import RangeFit


COOLDOWN = 0.4
"""Share of a probe, at its end, over which the rate falls to zero: what the policy "wsd" does by default."""

_HUGE = 1e100
"""Squares and differences of larger losses overflow, so that they count as infinite."""


@dataclass(frozen=True)
class Probe:
    """A short training from the starting state, to be run.

    ``lr(t) = lr * min(1, (t + 1) / (warmup + 1), (steps - t) / (anneal * steps))``.

    Attributes:
        lr: peak learning rate of the reference param group.
        steps: n, optimizer steps.
        anneal: share of the steps, the last ones, over which the rate falls linearly to zero; 0 for a constant rate.
        stage: the part of the search that asked for it.
        warmup: steps, the first ones, over which the rate rises linearly.
    """

    lr: float
    steps: int
    anneal: float = COOLDOWN
    stage: Stage = Stage.PROBE
    warmup: int = 0

    def lrs(self) -> NDArray[np.float64]:
        """Return the learning rate of every step: (steps,)."""
        left = np.arange(self.steps, 0, -1.0)
        risen = (np.arange(self.steps) + 1.0) / (self.warmup + 1)
        return np.asarray(self.lr * np.minimum(np.minimum(risen, 1.0), left / max(self.anneal * self.steps, 1.0)))


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a probe, raw.

    Attributes:
        probe: what was run.
        train_loss: (k,) float64, training loss of the steps taken, before each update; k < n where it was given up.
        loss: (m,) float64, what is minimised, on each of the held-out batches, after the last step; empty where
            training was given up.
        seconds: wall time.
    """

    probe: Probe
    train_loss: NDArray[np.float64] = field(repr=False)
    loss: NDArray[np.float64] = field(repr=False)
    seconds: float

    @property
    def diverged(self) -> bool:
        """Whether training blew up, during the probe or by what it led to."""
        return self.loss.size == 0 or not bool(np.all(np.abs(self.loss) < _HUGE))

    @property
    def mean(self) -> float:
        """Mean over the held-out batches; inf where training blew up."""
        return math.inf if self.diverged else float(self.loss.mean())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Outcome) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # holds arrays, like numpy.ndarray itself

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON-ready data."""
        return {
            "lr": self.probe.lr,
            "steps": self.probe.steps,
            "anneal": self.probe.anneal,
            "stage": str(self.probe.stage),
            "warmup": self.probe.warmup,
            "train_loss": [number_to_json(value) for value in self.train_loss.tolist()],
            "loss": [number_to_json(value) for value in self.loss.tolist()],
            "seconds": self.seconds,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Outcome:
        """Rebuild an outcome from `to_dict`."""
        fields = read_record(data, _READERS, {"warmup": 0})
        probe = Probe(*(fields[name] for name in ("lr", "steps", "anneal", "stage", "warmup")))
        if (probe.lr > 0) != (probe.steps > 0) or (probe.steps == 0) != (probe.stage is Stage.UNTRAINED):
            raise InputError(f"a probe must have a positive lr and steps unless it is the untrained model, got {probe}")
        if not probe.warmup <= probe.steps >= len(fields["train_loss"]):
            raise InputError(f"a probe must have at least as many steps as warmup and training losses, got {probe}")
        train_loss, loss = (np.array(fields[name], dtype=np.float64) for name in ("train_loss", "loss"))
        return cls(probe, train_loss, loss, fields["seconds"])


def standard_error(losses: NDArray[np.float64]) -> float | None:
    """Return the standard error of the mean of held-out losses, or of their differences, (m,); None if m is 1."""
    return float(losses.std(ddof=1)) / math.sqrt(losses.size) if losses.size > 1 else None


def without_failures(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return outcomes without the held-out batches whose loss is not finite, all without the same ones.

    A batch is left out if it fails in one of them together with at most a tenth of the batches, or alone of three. An
    outcome with more failures blew up, and so does one whose failures would leave out more than that in all. The
    untrained model comes first, and so do its failures.
    """
    count = max((outcome.loss.size for outcome in outcomes), default=0)
    most = max(count // 10, 1) if count >= 3 else 0
    failed = np.zeros(count, dtype=bool)
    for outcome in outcomes:
        if outcome.loss.size == count:
            also = failed | ~(np.abs(outcome.loss) < _HUGE)
            failed = also if also.sum() <= most else failed
    if not failed.any():
        return list(outcomes)
    return [
        dataclasses.replace(outcome, loss=outcome.loss[~failed]) if outcome.loss.size == count else outcome
        for outcome in outcomes
    ]


def _read_stage(value: object) -> Stage:
    try:
        return Stage(value)
    except ValueError:
        raise InputError(f"must be a part of a search, got {value!r:.60}") from None


_READERS = {
    "lr": number_reader(0.0),
    "steps": whole_reader(),
    "anneal": number_reader(0.0, 1.0),
    "stage": _read_stage,
    "warmup": whole_reader(),
    "train_loss": list_reader(read_any_number),
    "loss": list_reader(read_any_number),
    "seconds": number_reader(0.0),
}


NOT_EVALUATED = Outcome(Probe(0.0, 0, 0.0, Stage.UNTRAINED), np.empty(0), np.empty(0), 0.0)
"""The starting state of a search that judged nothing on held-out batches: a range test alone."""


@dataclass(frozen=True)
class Evidence:
    """All that a search measured, raw.

    Attributes:
        curve: the range test that came first.
        untrained: the starting state, evaluated: an outcome of no steps; `NOT_EVALUATED` for a range test alone.
        outcomes: what the probes came to, in the order they were run.
        range_steps: optimizer steps that the range test took, those past its end included.
        epoch_steps: optimizer steps of one pass over the training data; None if unknown.
        step_examples: examples of one optimizer step; None if unknown.
        comparable: whether what is minimised on held-out batches is the training loss, so that the two compare.
        interrupted: whether Ctrl-C ended the search early.
        known_fit: the fit of the range test, where the search has made it; see `range_fit`.
    """

    curve: Curve
    untrained: Outcome = field(repr=False)
    outcomes: tuple[Outcome, ...] = field(repr=False)
    range_steps: int
    epoch_steps: float | None = None
    step_examples: float | None = None
    comparable: bool = True
    interrupted: bool = False
    known_fit: RangeFit | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of_range_test(cls, curve: Curve) -> Evidence:
        """Return the evidence of a range test alone, whose curve without single failures is all there is."""
        return cls(curve.without_failures(), NOT_EVALUATED, (), int(curve.step[-1]) + 1)

    @classmethod
    def of_probes(
        cls,
        curve: Curve,
        probes: Sequence[Outcome],
        steps: int,
        **more: Any,
    ) -> Evidence:
        """Rebuild evidence from `probes` and `steps`, as a document holds them.

        Args:
            probes: the starting state first, then the probes in the order they were run; empty for a range test alone.
            more: the fields that have a default.

        Raises:
            InputError: the probes do not belong together.
        """
        if len({outcome.loss.size for outcome in probes if not outcome.diverged}) > 1:
            raise InputError("probes must all be judged by the same held-out batches, got lists of different lengths")
        untrained, *trained = probes or (NOT_EVALUATED,)
        if untrained.probe.steps or (probes and not untrained.loss.size):
            raise InputError("probes must begin with the untrained model, of 0 steps and with its held-out loss")
        if not all(outcome.probe.steps for outcome in trained):
            raise InputError("probes must hold the untrained model once, as the first, got it again")
        return cls(curve, untrained, tuple(trained), steps - sum(one.train_loss.size for one in trained), **more)

    @cached_property
    def range_fit(self) -> RangeFit | None:
        """The fit of the range test; None if too few of its points are usable."""
        from lrfinder.evidence.range_fit import fit_range

        return self.known_fit or fit_range(self.curve)

    @property
    def probed(self) -> bool:
        """Whether a probe was run; a range test alone judges nothing on held-out batches."""
        return bool(self.outcomes)

    @property
    def probes(self) -> tuple[Outcome, ...]:
        """The starting state and all that started from it, in the order they were run; empty for a range test alone."""
        return (self.untrained, *self.outcomes) if self.probed else ()

    @property
    def rung(self) -> tuple[Outcome, ...]:
        """The probes that are compared, by learning rate: all of the greatest length; empty without probes."""
        longest = max((outcome.probe.steps for outcome in self.outcomes), default=0)
        rung = (outcome for outcome in self.outcomes if outcome.probe.steps == longest)
        return tuple(sorted(rung, key=lambda outcome: outcome.probe.lr))

    @property
    def steps(self) -> int:
        """Optimizer steps taken in all."""
        return self.range_steps + sum(outcome.train_loss.size for outcome in self.outcomes)

    @property
    def larger_budget(self) -> int:
        """Optimizer steps to spend on a search that tells more: four times as many; 100 at least, to have probes."""
        return max(4 * self.steps // 100 * 100, 100)

    @property
    def seconds(self) -> float | None:
        """Wall time of all of it; None if that of a range test alone is unknown."""
        if not self.probed:
            return self.curve.seconds
        trained = sum(outcome.seconds for outcome in self.outcomes)
        return (self.curve.seconds or 0.0) + self.untrained.seconds + trained
