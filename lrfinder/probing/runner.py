"""Running range tests and probes on any `Training`, with the losses left on the device."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lrfinder.errors import InputError
from lrfinder.evidence.curve import MIN_POINTS, Curve, Stage
from lrfinder.evidence.probe import Outcome, Probe
from lrfinder.evidence.range_test import Ladder, blown_up, last_step
from lrfinder.schedules.optimizer_lr import scaled_lrs

READ_EVERY = 10
"""Steps between two looks at the losses: each look waits for the device. What ran past the end is discarded."""

_FAILURES = 3
"""Number of losses in a row that must be not finite for training to have blown up; fewer may be bad batches."""

Clock = Callable[[], float]
"""Returns seconds since any fixed moment; tests pass one of their own."""

Progress = Callable[[int, int], None]
"""Called after each step with (steps done, steps planned)."""


class BlewUpError(InputError):
    """The loss of a range test blew up before there were points enough for a curve.

    Attributes:
        losses: those there were.
    """

    def __init__(self, losses: list[float], text: str) -> None:
        super().__init__(text)
        self.losses = losses


def evaluate(trainee: Training, clock: Clock = time.perf_counter) -> Outcome:
    """Evaluate the state the trainee is in, as the outcome of no steps at all."""
    started = clock()
    loss = trainee.evaluate().double().cpu().numpy()
    return Outcome(Probe(0.0, 0, 0.0, Stage.UNTRAINED), np.empty(0), loss, clock() - started)


def run_probe(
    trainee: Training,
    probe: Probe,
    ratios: Sequence[float],
    limit: float = math.inf,
    tick: Callable[[], None] | None = None,
    clock: Clock = time.perf_counter,
) -> Outcome:
    """Run one probe from the state the trainee was rewound to, after `Training.keep_batches`.

    Args:
        ratios: each param group's learning rate over the probe's.
        limit: a training loss that will not come back: the probe is given up when the median of its last five losses,
            of which those that are not finite count as infinite, is above it or infinite. Looked at every ten steps.
        tick: called after every step.
        clock: measures the seconds.
    """
    started = clock()
    rates = ([ratio * lr for ratio in ratios] for lr in probe.lrs().tolist())
    losses, failed = _train(
        trainee,
        rates,
        ended=lambda losses: _gone(losses, limit),
        excused=lambda losses: any(map(blown_up, losses[-READ_EVERY:])) or not trainee.finite(),
        tick=tick,
    )
    kept = np.empty(0)
    if not failed and not _gone(losses, limit):
        try:
            kept = trainee.evaluate().double().cpu().numpy()
        except Exception:
            if not trainee.processes.alone or trainee.finite():
                raise
    return Outcome(probe, np.array(losses, dtype=np.float64), kept, clock() - started)


def _gone(losses: Sequence[float], limit: float) -> bool:
    """Whether training blew up: by the last five losses read, since a single one may fail for other reasons."""
    recent = [math.inf if blown_up(loss) else loss for loss in losses[-5:]]
    median = float(np.median(recent)) if len(recent) == 5 else 0.0
    return median > limit or math.isinf(median)


def run_range_test(
    trainee: Training, ladder: Ladder, progress: Progress | None = None, clock: Clock = time.perf_counter
) -> Curve:
    """Climb the ladder, and leave the trainee as it was: `climb` within `preserved`."""
    with trainee.preserved():
        return climb(trainee, ladder, progress, clock)


def climb(
    trainee: Training, ladder: Ladder, progress: Progress | None = None, clock: Clock = time.perf_counter
) -> Curve:
    """Climb the ladder from where the trainee is, one optimizer step per rung; return the raw curve up to its end.

    The groups at the reference rate take the ladder's learning rates; the others keep their ratio to it. Losses stay
    on the device and are read every ten steps; the climb ends by `range_test.last_step`, at the same rung however
    often they are read. One or two losses in a row that are not finite do not end it if a finite one follows. An error
    that the user's step raises *because* training had blown up before (an assertion on finite values, say) ends the
    climb too; any other error passes through.

    Raises:
        InputError: no positive learning rate, or the loss blew up within the first ten steps.
    """
    ratios = scaled_lrs(trainee.lrs(), 1.0, trainee.reference())
    started = clock()
    done = itertools.count(1)
    losses, _ = _train(
        trainee,
        ([ratio * lr for ratio in ratios] for lr in ladder.lrs().tolist()),
        ended=_left_for_good,
        excused=lambda losses: _last_rung(losses)[1] or not trainee.finite(),
        tick=None if progress is None else lambda: progress(next(done), ladder.steps),
    )
    seconds = clock() - started
    keep, _ = _last_rung(losses)
    if keep < MIN_POINTS:
        rate = ", before any update: " if keep == 1 else f" with lr = {ladder.lrs()[keep - 1]:g}: lower min_lr, or "
        raise BlewUpError(
            losses[:keep],
            f"loss must stay finite for the first {MIN_POINTS} steps, got {losses[keep - 1]:g} at step {keep}{rate}"
            "check data and loss",
        )
    return Curve(ladder.lrs()[:keep], losses[:keep], seconds=seconds, group_ratios=ratios, caveats=trainee.caveats())


def _left_for_good(losses: Sequence[float]) -> bool:
    """Whether a climb is over: what is to be kept of it has been read."""
    failed = len(list(itertools.takewhile(blown_up, reversed(losses))))
    known = losses[: len(losses) - failed] if failed < _FAILURES else losses  # training may go on after the last ones
    keep, diverged = _last_rung(known)
    return diverged and keep < len(known)  # else the last rungs to keep may be still to come


def _last_rung(losses: Sequence[float]) -> tuple[int, bool]:
    """Return `last_step`, of losses without those that are not finite although training went on."""
    kept: list[int] = []
    place = 0
    for failed, run in itertools.groupby(losses, key=blown_up):
        end = place + len(list(run))
        if not failed or end - place >= _FAILURES or end == len(losses):
            kept += range(place, end)
        place = end
    keep, diverged = last_step([losses[i] for i in kept])
    return (kept[keep - 1] + 1 if keep else 0), diverged


def _train(
    trainee: Training,
    rates: Iterable[Sequence[float]],
    ended: Callable[[list[float]], bool],
    excused: Callable[[list[float]], bool],
    tick: Callable[[], None] | None,
) -> tuple[list[float], bool]:
    """Take one step per set of rates, reading the losses every ten; return them, and whether the user's step raised.

    Args:
        rates: the learning rates of all param groups, for each step.
        ended: whether to stop, given the losses read so far.
        excused: whether an error of the step only says that training had blown up before; any other passes through.
        tick: called after every step but one that ended it.
    """
    losses: list[float] = []
    unread: list[Tensor] = []
    for number, lrs in enumerate(rates, start=1):
        trainee.set_lrs(lrs)
        try:
            unread.append(trainee.step())
        except Exception:
            if not trainee.processes.alone:
                raise  # the others wait for this one, in the middle of their step: there is no going on together
            losses += _read(trainee, unread)
            if excused(losses):
                return losses, True
            raise
        if number % READ_EVERY == 0 or (losses and blown_up(losses[-1])):  # the next ones say what that one means
            losses += _read(trainee, unread)
            unread.clear()
            if ended(losses):
                return losses, False
        if tick is not None:
            tick()
    return losses + _read(trainee, unread), False


def _read(trainee: Training, unread: list[Tensor]) -> list[float]:
    return trainee.processes.mean(torch.stack(unread)).tolist() if unread else []


Value = TypeVar("Value")


class Processes(Protocol):
    """The processes that train one model together. Each probes; all have to take the same decisions."""

    @property
    def alone(self) -> bool:
        """Whether there is only this one."""

    def mean(self, losses: Tensor) -> Tensor:
        """Return the mean of each loss over the processes."""

    def first(self, value: Value) -> Value:
        """Return the value of the first process."""


class OneProcess:
    """A process that trains by itself."""

    alone = True

    def mean(self, losses: Tensor) -> Tensor:
        """Return the losses."""
        return losses

    def first(self, value: Value) -> Value:
        """Return the value."""
        return value


class Training(Protocol):
    """A model in training that can be probed: the only thing that differs between plain torch and Lightning."""

    @property
    def processes(self) -> Processes:
        """Those that train it. `evaluate` returns what all of them saw; `step`, what this one saw."""

    def lrs(self) -> tuple[float, ...]:
        """Return the highest learning rate to come of every param group, over all optimizers: at first, what is set."""

    def reference(self) -> float:
        """Return the one of `lrs` that is searched and quoted, while the other groups keep their ratio to it."""

    def set_lrs(self, lrs: Sequence[float]) -> None:
        """Set the learning rate of every param group, in the order of `lrs`."""

    def preserved(self) -> AbstractContextManager[None]:
        """Snapshot everything a step may change on entry and put it back, bit for bit, on every way out."""

    def keep_batches(self, steps: int) -> bool:
        """Keep the batches of so many steps, and held-out ones, in memory. Called within `preserved`, after `rewind`.

        From then on steps take these batches, again from the first after the last. Returns whether there are held-out
        batches apart from those trained on.
        """

    def rewind(self) -> None:
        """Go back to the starting state, random numbers included, and to the first batch kept."""

    def step(self) -> Tensor:
        """Take one optimizer step on the next batch; return the loss before the update, 0-d, detached."""

    def evaluate(self) -> Tensor:
        """Return what is to be minimised on each of the held-out batches, (m,), detached. Only `rewind` may follow."""

    def finite(self) -> bool:
        """Whether every parameter is finite: an error of the user's code counts as divergence where one is not."""

    def make_room(self) -> bool:
        """Free the memory of the device that probing needs and training does not; return whether there was any."""

    def epoch_steps(self) -> float | None:
        """Return the optimizer steps of one pass over the training data, None where unknown."""

    def step_examples(self) -> int | None:
        """Return the examples of one optimizer step, over all processes; None where the data do not tell."""

    def evaluates_training_loss(self) -> bool:
        """Whether `evaluate` returns the loss that `step` minimises, so that the two compare."""

    def caveats(self) -> tuple[str, ...]:
        """Say what about the steps taken so far weakens their evidence."""


def all_finite(model: nn.Module) -> bool:
    """Return whether every parameter of the model is finite; sparse ones are not looked at."""
    dense = (parameter for parameter in model.parameters() if parameter.layout is torch.strided)
    return all(bool(torch.isfinite(parameter).all()) for parameter in dense)


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that a step can change; there must be some."""
    found = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not found:
        raise InputError("model must have a parameter that requires grad, got none: unfreeze what should train")
    if any(parameter.is_meta for parameter in found):
        raise InputError(
            "model must hold its parameters in memory, got one on the meta device: call model.to_empty first"
        )
    return found
