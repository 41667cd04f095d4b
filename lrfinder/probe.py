"""`Probe`: a short training to be run, as data. `Outcome`: what came of it. `Evidence`: all of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfinder.curve import Curve, number_from_json, number_to_json

__all__ = ["Outcome", "Probe"]


@dataclass(frozen=True)
class Probe:
    """A short training from the starting state, to be run.

    ``lr(t) = lr * min(1, (t + 1) / (warmup + 1), (steps - t) / (anneal * steps))``.

    Attributes:
        lr: peak learning rate of the reference param group.
        steps: n, optimizer steps.
        anneal: share of the steps, the last ones, over which the rate falls linearly to zero; 0 for a constant rate.
        stage: which part of the search asked for it.
        warmup: steps, the first ones, over which the rate rises linearly.
    """

    lr: float
    steps: int
    anneal: float = 1.0
    stage: str = "probe"
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
    train_loss: NDArray[np.float64]
    loss: NDArray[np.float64]
    seconds: float

    @property
    def diverged(self) -> bool:
        """Whether training blew up, during the probe or by what it led to."""
        return self.loss.size == 0 or not bool(np.all(np.isfinite(self.loss)))

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
            "stage": self.probe.stage,
            "warmup": self.probe.warmup,
            "train_loss": [number_to_json(value) for value in self.train_loss.tolist()],
            "loss": [number_to_json(value) for value in self.loss.tolist()],
            "seconds": self.seconds,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Outcome:
        """Rebuild an outcome from `to_dict`; KeyError, TypeError or ValueError where a field is missing or wrong."""
        numbers = float(data["lr"]), int(data["steps"]), float(data["anneal"])
        probe = Probe(*numbers, str(data["stage"]), int(data.get("warmup", 0)))
        if (
            not (probe.lr < 1e100 and 0 <= probe.anneal <= 1)
            or not 0 <= probe.warmup <= probe.steps
            or (probe.lr <= 0) != (probe.steps == 0)
        ):
            raise ValueError(f"a probe needs a positive lr and steps, and anneal from 0 to 1, got {probe}")
        losses = ([number_from_json(value) for value in data[name]] for name in ("train_loss", "loss"))
        train_loss, loss = (np.array(values, dtype=np.float64) for values in losses)
        return cls(probe, train_loss, loss, float(data["seconds"]))


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that a search measured, raw.

    Attributes:
        curve: the range test that came first.
        untrained: the starting state, evaluated: an outcome of no steps.
        outcomes: of the probes, in the order they were run.
        range_steps: optimizer steps that the range test took, those past its end included.
        epoch_steps: optimizer steps of one pass over the training data; None where unknown.
        comparable: whether what is minimised on held-out batches is the training loss, so that the two compare.
        branches: outcomes of the probes that say what annealing and warmup are worth, in the order they were run.
    """

    curve: Curve
    untrained: Outcome
    outcomes: tuple[Outcome, ...]
    range_steps: int
    epoch_steps: float | None = None
    comparable: bool = True
    branches: tuple[Outcome, ...] = ()

    @property
    def rungs(self) -> tuple[tuple[Outcome, ...], ...]:
        """The outcomes of each length, the shortest first, by learning rate."""
        ordered = sorted(self.outcomes, key=lambda o: (o.probe.steps, o.probe.lr))
        return tuple(tuple(rung) for _, rung in itertools.groupby(ordered, key=lambda o: o.probe.steps))

    @property
    def steps(self) -> int:
        """Optimizer steps taken in all."""
        return self.range_steps + sum(outcome.train_loss.size for outcome in (*self.outcomes, *self.branches))

    @property
    def seconds(self) -> float:
        """Wall time of all of it."""
        return (
            (self.curve.seconds or 0.0)
            + self.untrained.seconds
            + sum(outcome.seconds for outcome in (*self.outcomes, *self.branches))
        )
