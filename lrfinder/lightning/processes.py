"""The processes of a Lightning run that train one model together: what they average, agree on and fail by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from lrfinder.errors import LRFinderError
from lrfinder.lightning.internals import internals
from lrfinder.probing.runner import BlewUpError

Value = TypeVar("Value")

_SHARED = "raised_in_every_process"
"""Name of the attribute that marks an error which all processes raise together."""


class TrainerProcesses:
    """The processes of a trainer, as `runner.Processes`; all of it goes through the trainer's strategy.

    Every method but `alone` and `stop_if_terminated` has to be called in every process, in the same order.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    @property
    def alone(self) -> bool:
        """Whether no other process trains the same model."""
        return bool(self._trainer.world_size == 1)

    def mean(self, losses: Tensor) -> Tensor:
        """Return the mean of each loss over the processes; end them all where one was told to terminate."""
        if self.alone:
            return losses
        told = torch.tensor([float(self._trainer.received_sigterm)], dtype=torch.float64, device=losses.device)
        means: Tensor = self._trainer.strategy.reduce(torch.cat([losses.double(), told]))
        if means[-1] > 0:
            self._terminate()
        return means[:-1]

    def first(self, value: Value) -> Value:
        """Return the value of the first process."""
        first: Value = self._trainer.strategy.broadcast(value)
        return first

    def all(self, condition: bool) -> bool:
        """Whether the condition holds in every process."""
        return bool(self._trainer.strategy.reduce_boolean_decision(condition))

    def least(self, count: int) -> int:
        """Return the smallest of the counts."""
        strategy = self._trainer.strategy
        return int(strategy.reduce(torch.tensor(count, device=strategy.root_device), reduce_op="min"))

    def gathered(self, values: Tensor) -> Tensor:
        """Return the values of all processes, one after the other, (m,) each; of single values, (), the mean, (1,)."""
        strategy = self._trainer.strategy
        gathered: Tensor = strategy.all_gather(values) if values.dim() else strategy.reduce(values)
        return gathered.reshape(-1)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raise in every process what is raised in one of them within the block; nothing in it may wait for others."""
        error: Exception | None = None
        try:
            yield
        except Exception as raised:
            error = raised
        if not self.all(error is None):
            error = error or LRFinderError("probing failed in another process: see its traceback")
            vars(error)[_SHARED] = True
            raise error

    def share(self, error: Exception) -> bool:
        """Whether every process has raised an error at this place, so that all may go on without waiting for others."""
        return self.alone or isinstance(error, BlewUpError) or hasattr(error, _SHARED)

    @contextmanager
    def second_wrapper(self) -> Iterator[None]:
        """Probe through a DDP wrapper apart from the run's, whose first step settles in which order it sums gradients.

        Costs the memory of another set of gradients, until it is left.
        """
        strategy = self._trainer.strategy
        wrapper = strategy.model
        if wrapper is strategy.lightning_module:
            yield
            return
        try:
            strategy.model = strategy._setup_model(strategy.lightning_module)
            strategy._register_ddp_hooks()
            yield
        finally:
            strategy.model = wrapper

    def stop_if_terminated(self) -> None:
        """Leave as Lightning does after SIGTERM, which it only notes at first; several processes leave in `mean`."""
        if self.alone and self._trainer.received_sigterm:
            self._terminate()

    def _terminate(self) -> None:
        raise internals(self._trainer, "utilities.exceptions").SIGTERMException
