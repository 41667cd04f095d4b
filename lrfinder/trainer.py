"""A Lightning Trainer, inside `fit`, as a trainee that can be probed without leaving a trace.

The probe loop calls Lightning's own optimization over extra iterators of the training data, so that precision,
clipping, accumulation and the module's hooks act as in training, and everything reachable is put back in place.
Lightning's internals are named here and nowhere else; `tests/test_trainer.py` pins them.
"""

from __future__ import annotations

import copy
import importlib
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from lrfinder.batches import data_of, endless, loaders_in, side_loader
from lrfinder.errors import InputError, UnsupportedError
from lrfinder.state import Snapshot, interrupts_deferred
from lrfinder.trainee import trainable
from lrfinder.writeback import configured_lrs, own_lrs, reference_lr, set_lr

__all__ = ["TrainerTrainee", "check_supported", "configure_again", "internals"]

_ISOLATED = ("callbacks", "_loggers", "profiler", "should_stop", "accumulate_grad_batches")
_CLOCKS = ("_train_start_time", "_last_val_time")
"""Time-based validation counts from these; probing must not count."""

_MAX_SKIPPED = 100
"""Batches in a row for which `training_step` may return None (Lightning's way to skip a batch)."""


def internals(trainer: Any, name: str) -> ModuleType:
    """Import Lightning's module ``name`` from the package of the trainer, `lightning` or `pytorch_lightning`."""
    for kind in type(trainer).__mro__:
        for root in ("lightning.pytorch", "pytorch_lightning"):
            if kind.__module__.startswith(root + "."):
                return importlib.import_module(f"{root}.{name}")
    raise UnsupportedError(f"trainer must be a Trainer of lightning or pytorch_lightning, got {type(trainer).__name__}")


def check_supported(trainer: Any) -> None:
    """Refuse, before anything is touched, what cannot be probed exactly.

    Raises:
        UnsupportedError: with what was found and what to do.
        InputError: no optimizer with a learning rate, or no parameter that requires grad.
    """
    module, strategy = trainer.lightning_module, type(trainer.strategy).__name__
    if trainer.world_size > 1 or strategy != "SingleDeviceStrategy":
        raise UnsupportedError(
            f"LRFinder probes on one device, got strategy {strategy} with {trainer.world_size} processes:"
            " find the learning rate in a run with devices=1, then train with all"
        )
    fetcher = type(trainer.fit_loop._data_fetcher).__name__
    if fetcher == "_DataLoaderIterDataFetcher":
        raise UnsupportedError("training_step(dataloader_iter) draws its own batches, which cannot be replayed")
    loaders = trainer.fit_loop._combined_loader.flattened
    for loader in loaders:
        side_loader(loader)
    trainable(module)
    if any(type(optimizer).__name__ == "_MockOptimizer" for optimizer in trainer.optimizers):
        raise InputError("configure_optimizers must return an optimizer, got None")


class TrainerTrainee:
    """The module a Trainer is about to train, as a `lrfinder.probe.Trainee`.

    Args:
        trainer: inside ``fit``, at `on_train_start`: loaders, optimizers and a restored checkpoint are in place.
        named: the learning rates that the module names, in order of preference.
    """

    def __init__(self, trainer: Any, named: Sequence[float] = ()) -> None:
        check_supported(trainer)
        self._named = named
        self.trainer, self.module = trainer, trainer.lightning_module
        self._call = internals(trainer, "trainer.call")
        self._batches: Iterator[Any] = iter(())
        self._taken = 0
        self._accumulate = 1
        self._accumulating = False

    def lrs(self) -> tuple[float, ...]:
        """Return the configured rate of every group, over all optimizers."""
        return tuple(configured_lrs(self.trainer.optimizers, self.schedulers()))

    def schedulers(self) -> list[Any]:
        """Return the schedulers that drive the optimizers."""
        return [config.scheduler for config in self.trainer.lr_scheduler_configs]

    def reference(self) -> float:
        """Return the rate the module names, else the optimizers' own, else the first."""
        return reference_lr(self.lrs(), [*self._named, *own_lrs(self.trainer.optimizers)])

    def set_lrs(self, lrs: Sequence[float]) -> None:
        """Set the rate of every group, over all optimizers."""
        for group, lr in zip(self._groups(), lrs, strict=True):
            set_lr(group, lr)

    def caveats(self) -> tuple[str, ...]:
        """Say so where every step sees one batch."""
        if self.trainer.num_training_batches == 1:
            return ("Every step saw the same batch: the curve shows how fast that batch is learnt.",)
        return ()

    def step(self) -> Tensor:
        """Take one optimizer step, over as many batches as the trainer accumulates; return their mean loss."""
        expected = [group["lr"] for group in self._groups()]
        losses: list[Tensor] = []
        for micro in range(1, self._accumulate + 1):
            self._accumulating = micro < self._accumulate
            losses.append(self._batch_step())
        for group, lr in zip(self._groups(), expected, strict=True):
            if not isinstance(group["lr"], Tensor) and group["lr"] != lr:
                raise UnsupportedError(
                    "the module must leave the learning rate alone while it is searched (optimizer_step, training_step"
                    f" and hooks), got {group['lr']:g} where {lr:g} was set: move warmup and decay into an lr_scheduler"
                )
        # Lightning divides each loss by the number of batches accumulated: their sum is the mean.
        return torch.stack(losses).sum() if len(losses) > 1 else losses[0]

    @contextmanager
    def preserved(self) -> Iterator[None]:
        """Isolate the module, run the hooks that open an epoch, and put everything back in the end."""
        trainer, started = self.trainer, time.monotonic()
        loop, strategy = trainer.fit_loop, trainer.strategy
        loaders = loop._combined_loader.flattened
        snapshot = Snapshot(
            self.module, trainer.datamodule, loop, trainer._logger_connector, strategy._optimizers,
            strategy._lightning_optimizers, strategy.lr_scheduler_configs, strategy.model, strategy.precision_plugin,
            data=[state for loader in loaders for state in data_of(loader)],
            leave=[trainer, strategy, *_live_data(loop), *loaders_in(loaders), *trainer.callbacks, *trainer.loggers],
        )  # fmt: skip
        for name in _ISOLATED:
            snapshot.keep(trainer, name)
        try:
            self._isolate()
            # Opening an epoch draws a seed, which the run, its own epoch open already, will not draw again: rewound, a
            # probe sees the batches and the dropout that training will see (unless its first batches are fetched,
            # by workers or for data without length).
            snapshot.rewind_random()
            with torch.enable_grad():
                self._hook("on_train_start")
                strategy.on_train_start()
                self._hook("on_train_epoch_start")
                yield
        finally:
            with interrupts_deferred():
                self._batches = iter(())  # ends the workers before the random state goes back
                snapshot.restore()
                for clock in _CLOCKS:
                    if isinstance(then := getattr(trainer, clock, None), float):
                        setattr(trainer, clock, then + time.monotonic() - started)

    def _isolate(self) -> None:
        """Cut the module off from callbacks, loggers, profiler and metrics, until the snapshot is restored."""
        trainer, loop = self.trainer, self.trainer.fit_loop
        self._accumulate = 1 if not self.module.automatic_optimization else trainer.accumulate_grad_batches
        for callback in trainer.callbacks:  # GradientAccumulationScheduler acts after our hook
            if self.module.automatic_optimization and hasattr(callback, "get_accumulate_grad_batches"):
                self._accumulate = callback.get_accumulate_grad_batches(trainer.current_epoch)
        trainer.accumulate_grad_batches = self._accumulate
        dummy = internals(trainer, "loggers.logger").DummyLogger
        trainer.callbacks, trainer._loggers = [], [dummy() for _ in trainer.loggers]
        trainer.profiler = internals(trainer, "profilers.base").PassThroughProfiler()
        for scheduler in self.schedulers():  # under manual optimization, the module steps them itself
            vars(scheduler)["step"] = _do_nothing
        for module in self.module.modules():
            if hasattr(module, "log_dict"):
                vars(module).update(log=_do_nothing, log_dict=_do_nothing)
        self._taken = 0
        # Lightning steps early at the end of an epoch; a probe has no epochs.
        vars(loop)["_should_accumulate"] = lambda: self._accumulating
        side = copy.copy(loop._combined_loader)
        side._iterator = None
        side.flattened = [side_loader(loader) for loader in side.flattened]
        self._batches = endless(side, least=1 if trainer.num_training_batches == 1 else 2)

    def _batch_step(self) -> Tensor:
        for _ in range(_MAX_SKIPPED):
            batch, _, dataloader_idx = next(self._batches)
            outputs = self._train_on(batch, dataloader_idx)
            loss = outputs.get("loss") if isinstance(outputs, dict) else None
            if isinstance(loss, Tensor) and loss.numel() == 1:
                return loss.detach().reshape(())
            if not self.module.automatic_optimization:
                break
        raise UnsupportedError(
            "training_step must return the loss (a scalar tensor, or a dict with 'loss'), got none:"
            " with manual optimization too, since the range test has nothing else to record"
        )

    def _train_on(self, batch: Any, dataloader_idx: int) -> Any:
        trainer, loop = self.trainer, self.trainer.fit_loop.epoch_loop
        batch_idx, self._taken = self._taken, self._taken + 1
        batch = trainer.precision_plugin.convert_input(batch)
        batch = self.module._on_before_batch_transfer(batch, dataloader_idx=dataloader_idx)
        batch = self._call._call_strategy_hook(trainer, "batch_to_device", batch, dataloader_idx=dataloader_idx)
        if self._hook("on_train_batch_start", batch, batch_idx) == -1:
            raise UnsupportedError("on_train_batch_start must not return -1 (skip the epoch) in a range test")
        trainer.strategy.on_train_batch_start(batch, batch_idx)
        arguments = loop._build_kwargs(OrderedDict(), batch, batch_idx)
        if self.module.automatic_optimization:
            outputs = loop.automatic_optimization.run(trainer.optimizers[0], batch_idx, arguments)
        else:
            outputs = loop.manual_optimization.run(arguments)
        self._hook("on_train_batch_end", outputs, batch, batch_idx)
        return outputs

    def _hook(self, name: str, *args: Any) -> Any:
        return self._call._call_lightning_module_hook(self.trainer, name, *args)

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.trainer.optimizers for group in optimizer.param_groups]


def configure_again(trainer: Any) -> tuple[list[Any], list[Any]]:
    """Run the module's `configure_optimizers` once more; return its ``(optimizers, schedulers)``, used by nobody."""
    call, core = internals(trainer, "trainer.call"), internals(trainer, "core.optimizer")
    configured = call._call_lightning_module_hook(trainer, "configure_optimizers")
    optimizers, schedulers, _ = core._configure_optimizers(configured)
    return optimizers, [entry["scheduler"] if isinstance(entry, dict) else entry for entry in schedulers]


def _live_data(loop: Any) -> Iterable[object]:
    """What draws the run's own batches: never touched by a probe, and full of queues and processes."""
    for part in (loop, loop.epoch_loop.val_loop):
        for name in ("_combined_loader", "_data_fetcher", "_data_source"):
            if (held := getattr(part, name, None)) is not None:
                yield held


def _do_nothing(*args: Any, **kwargs: Any) -> None:
    """Stand in, while probing, for what must not happen then."""
