"""`Trainee`: what can take training steps at given learning rates and go back to where it was."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from lrfinder.errors import InputError

__all__ = ["OneProcess", "Processes", "Trainee", "all_finite", "trainable"]

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


class Trainee(Protocol):
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

    def evaluates_training_loss(self) -> bool:
        """Whether `evaluate` returns the loss that `step` minimises, so that the two compare."""

    def caveats(self) -> tuple[str, ...]:
        """Say what about the steps taken so far weakens their evidence."""


def all_finite(model: nn.Module) -> bool:
    """Return whether every parameter of the model is finite."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that a step can change.

    Raises:
        InputError: there are none.
    """
    found = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not found:
        raise InputError("model must have a parameter that requires grad, got none: unfreeze what should train")
    return found
