"""Running a range test on anything that can take a training step at a given learning rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn

from lrfinder.curve import MIN_POINTS, Curve
from lrfinder.errors import InputError
from lrfinder.sweep import Ladder, last_step
from lrfinder.writeback import scaled_lrs

__all__ = ["Progress", "Trainee", "run_range_test", "trainable"]

READ_EVERY = 10
"""Steps between two looks at the losses: each look waits for the device. What ran past the end is discarded."""

Progress = Callable[[int, int], None]
"""Called after each step with (steps done, steps planned)."""


class Trainee(Protocol):
    """A model in training that can be probed: the only thing that differs between plain torch and Lightning."""

    def lrs(self) -> tuple[float, ...]:
        """Return the configured learning rate of every param group, over all optimizers."""

    def reference(self) -> float:
        """Return the one of `lrs` that is searched and quoted, while the other groups keep their ratio to it."""

    def set_lrs(self, lrs: Sequence[float]) -> None:
        """Set the learning rate of every param group, in the order of `lrs`."""

    def step(self) -> Tensor:
        """Take one optimizer step on the next batch; return the loss before the update, 0-d, detached."""

    def caveats(self) -> tuple[str, ...]:
        """Say what about the steps taken so far weakens their evidence."""

    def preserved(self) -> AbstractContextManager[None]:
        """Snapshot everything a step may change on entry and put it back, bit for bit, on every way out."""


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that a step can change.

    Raises:
        InputError: there are none.
    """
    found = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not found:
        raise InputError("model must have a parameter that requires grad, got none: unfreeze what should train")
    return found


def run_range_test(trainee: Trainee, ladder: Ladder, progress: Progress | None = None) -> Curve:
    """Climb the ladder, one optimizer step per rung, and leave the trainee as it was.

    The groups at the reference rate take the ladder's learning rates; the others keep their ratio to it. Losses stay
    on the device and are read every ten steps; the climb ends by `lrfinder.sweep.last_step`, at the same rung however
    often they are read. An error that the user's step raises *because* training had blown up before (an assertion
    on finite values, say) ends the climb too; any other error passes through, after the state is back.

    Returns:
        The raw curve, up to the rung where it ended.

    Raises:
        InputError: no positive learning rate, or the loss blew up within the first ten steps.
    """
    with trainee.preserved():
        ratios = scaled_lrs(trainee.lrs(), 1.0, trainee.reference())
        started = time.perf_counter()
        losses = _climb(trainee, ladder, ratios, progress)
        seconds = time.perf_counter() - started
        caveats = trainee.caveats()
    keep, _ = last_step(losses)
    if keep < MIN_POINTS:
        raise InputError(
            f"loss must stay finite for the first {MIN_POINTS} steps, got {losses[keep - 1]:g} at step {keep} with"
            f" lr = {ladder.lrs()[keep - 1]:g}: lower min_lr, or check data and loss"
        )
    return Curve(ladder.lrs()[:keep], losses[:keep], seconds=seconds, group_ratios=ratios, caveats=caveats)


def _climb(trainee: Trainee, ladder: Ladder, ratios: Sequence[float], progress: Progress | None) -> list[float]:
    losses: list[float] = []
    unread: list[Tensor] = []
    for rung, lr in enumerate(ladder.lrs().tolist(), start=1):
        trainee.set_lrs([ratio * lr for ratio in ratios])
        try:
            unread.append(trainee.step())
        except Exception:
            losses += _read(unread)
            if last_step(losses)[1]:
                return losses
            raise
        if rung % READ_EVERY == 0 or rung == ladder.steps:
            losses += _read(unread)
            unread.clear()
            keep, diverged = last_step(losses)
            if diverged and keep < len(losses):  # else the last rungs to keep may be still to come
                return losses
        if progress is not None:
            progress(rung, ladder.steps)
    return losses


def _read(unread: list[Tensor]) -> list[float]:
    return torch.stack(unread).tolist() if unread else []
