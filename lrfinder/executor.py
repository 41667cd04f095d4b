"""Running range tests and probes on any `Trainee`, with the losses left on the device."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from lrfinder.curve import MIN_POINTS, Curve, Stage
from lrfinder.errors import InputError
from lrfinder.probe import Outcome, Probe
from lrfinder.sweep import Ladder, blown_up, last_step
from lrfinder.trainee import Trainee
from lrfinder.writeback import scaled_lrs

__all__ = ["READ_EVERY", "BlewUpError", "Clock", "Progress", "climb", "evaluate", "run_probe", "run_range_test"]

READ_EVERY = 10
"""Steps between two looks at the losses: each look waits for the device. What ran past the end is discarded."""

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


def evaluate(trainee: Trainee, clock: Clock = time.perf_counter) -> Outcome:
    """Evaluate the state the trainee is in, as the outcome of no steps at all."""
    started = clock()
    loss = trainee.evaluate().double().cpu().numpy()
    return Outcome(Probe(0.0, 0, 0.0, Stage.UNTRAINED), np.empty(0), loss, clock() - started)


def run_probe(
    trainee: Trainee,
    probe: Probe,
    ratios: Sequence[float],
    limit: float = math.inf,
    tick: Callable[[], None] | None = None,
    clock: Clock = time.perf_counter,
) -> Outcome:
    """Run one probe from the state the trainee was rewound to, after `Trainee.keep_batches`.

    Args:
        trainee: what trains.
        probe: what to run.
        ratios: each param group's learning rate over the probe's.
        limit: a training loss that will not come back: the probe is given up when the median of its last five losses
            is above it, or one is not finite. Looked at every ten steps.
        tick: called after every step.
        clock: measures the seconds.
    """
    started = clock()
    rates = ([ratio * lr for ratio in ratios] for lr in probe.lrs().tolist())
    losses, failed = _train(
        trainee,
        rates,
        ended=lambda losses: _gone(losses, limit),
        excused=lambda losses: _gone(losses, limit) or not trainee.finite(),
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
    """Whether training blew up among the last losses read."""
    recent = losses[-READ_EVERY:]
    return any(blown_up(loss) for loss in recent) or (len(losses) >= 5 and float(np.median(losses[-5:])) > limit)


def run_range_test(
    trainee: Trainee, ladder: Ladder, progress: Progress | None = None, clock: Clock = time.perf_counter
) -> Curve:
    """Climb the ladder, one optimizer step per rung, and leave the trainee as it was: `climb` within `preserved`.

    Returns:
        The raw curve, up to the rung where it ended.

    Raises:
        InputError: no positive learning rate, or the loss blew up within the first ten steps.
    """
    with trainee.preserved():
        return climb(trainee, ladder, progress, clock)


def climb(
    trainee: Trainee, ladder: Ladder, progress: Progress | None = None, clock: Clock = time.perf_counter
) -> Curve:
    """Climb the ladder from where the trainee is, one optimizer step per rung.

    The groups at the reference rate take the ladder's learning rates; the others keep their ratio to it. Losses stay
    on the device and are read every ten steps; the climb ends by `lrfinder.sweep.last_step`, at the same rung however
    often they are read. An error that the user's step raises *because* training had blown up before (an assertion
    on finite values, say) ends the climb too; any other error passes through.

    Returns:
        The raw curve, up to the rung where it ended.

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
        excused=lambda losses: last_step(losses)[1],
        tick=None if progress is None else lambda: progress(next(done), ladder.steps),
    )
    seconds = clock() - started
    keep, _ = last_step(losses)
    if keep < MIN_POINTS:
        raise BlewUpError(
            losses[:keep],
            f"loss must stay finite for the first {MIN_POINTS} steps, got {losses[keep - 1]:g} at step {keep} with"
            f" lr = {ladder.lrs()[keep - 1]:g}: lower min_lr, or check data and loss",
        )
    return Curve(ladder.lrs()[:keep], losses[:keep], seconds=seconds, group_ratios=ratios, caveats=trainee.caveats())


def _left_for_good(losses: Sequence[float]) -> bool:
    """Whether a climb is over: what is to be kept of it has been read."""
    keep, diverged = last_step(losses)
    return diverged and keep < len(losses)  # else the last rungs to keep may be still to come


def _train(
    trainee: Trainee,
    rates: Iterable[Sequence[float]],
    ended: Callable[[list[float]], bool],
    excused: Callable[[list[float]], bool],
    tick: Callable[[], None] | None,
) -> tuple[list[float], bool]:
    """Take one step per set of rates, reading the losses every ten; return them, and whether the user's step raised.

    Args:
        trainee: what trains.
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
        if number % READ_EVERY == 0:
            losses += _read(trainee, unread)
            unread.clear()
            if ended(losses):
                return losses, False
        if tick is not None:
            tick()
    return losses + _read(trainee, unread), False


def _read(trainee: Trainee, unread: list[Tensor]) -> list[float]:
    return trainee.processes.mean(torch.stack(unread)).tolist() if unread else []
