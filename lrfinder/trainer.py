"""A Lightning Trainer, inside `fit`, as a trainee that can be probed without leaving a trace.

The probe loop calls Lightning's own optimization over extra iterators of the training data, so that precision,
clipping, accumulation and the module's hooks act as in training, and everything reachable is put back in place.
Lightning's internals are named here and nowhere else; `tests/test_trainer.py` pins them.
"""

from __future__ import annotations

import copy
import importlib
import itertools
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from lrfinder.batches import data_of, endless, loaders_in, side_loader
from lrfinder.errors import InputError, UnsupportedError
from lrfinder.evaluation import scalar, settle
from lrfinder.kept import HELD_OUT, KeptBatches, spread
from lrfinder.state import Snapshot, interrupts_deferred
from lrfinder.trainee import all_finite, trainable
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
    """The module a Trainer is about to train, as a `lrfinder.trainee.Trainee`.

    Args:
        trainer: inside ``fit``, at `on_train_start`: loaders, optimizers and a restored checkpoint are in place.
        named: the learning rates that the module names, in order of preference.
        monitor: the metric of `validation_step` to judge by; None for the loss of `training_step`.
        mode: "min" or "max", of that metric.
    """

    def __init__(
        self, trainer: Any, named: Sequence[float] = (), monitor: str | None = None, mode: str = "min"
    ) -> None:
        check_supported(trainer)
        self._named = named
        self.trainer, self.module = trainer, trainer.lightning_module
        self._call = internals(trainer, "trainer.call")
        self._batches: Iterator[Any] = iter(())
        self._taken = 0
        self._accumulate = 1
        self._accumulating = False
        self._monitor, self._sign = monitor, 1 if mode == "min" else -1
        self._kept = KeptBatches.none()
        self._more: tuple[str, ...] = ()
        self._validation_state: Snapshot | None = None

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
        """Say so where every step sees one batch, and what there was to judge by."""
        single = self.trainer.num_training_batches == 1
        one = ("Every step saw the same batch: the curve shows how fast that batch is learnt.",) if single else ()
        return (*one, *self._more, *self._kept.caveats)

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

    def keep_batches(self, steps: int) -> bool:
        """Keep batches of the training data, and of the validation data where there are any."""
        trainer, count = self.trainer, steps * self._accumulate
        epoch = int(trainer.num_training_batches) if math.isfinite(trainer.num_training_batches) else None
        validation = self._validation()
        if self._monitor is not None and validation is None:
            raise InputError(
                f"monitor must be a metric that validation_step logs, got {self._monitor!r} in a fit without validation"
            )
        self._kept = KeptBatches.of(_Epochs(self._side(), epoch), count, validation, epoch=epoch)
        if self._monitor is None and (error := self._trial()) is not None:
            if validation is not None:
                self._kept = KeptBatches.of(_Epochs(self._side(), epoch), count, epoch=epoch)
                text = f"training_step could not take a validation batch ({str(error)[:80]}): not judged by those."
                self._more, error = (text,), self._trial()
            if error is not None:
                raise UnsupportedError(
                    "training_step must return a loss for every held-out batch in eval mode too, to be judged by it:"
                    f" give monitor=, or method='range' ({type(error).__name__}: {str(error)[:80]})"
                )
        self._batches = self._kept.training
        return self._kept.apart

    def rewind(self) -> None:
        """Put everything back as it was and open the epoch again, at the first batch kept."""
        with interrupts_deferred():
            self._restore()
            self._isolate()
            self._kept.training.rewind()
        self._start()

    def evaluate(self) -> Tensor:
        """Return the loss of `training_step`, or the monitored metric, of each held-out batch."""
        automatic = self.module.automatic_optimization
        settle(self.module, self._loss_of if automatic else self._validate, self._kept.training)
        with torch.no_grad():
            if self._monitor is not None:
                return self._sign * self._monitored(self._monitor)
            return torch.stack([scalar(self._loss_of(item), "training_step") for item in self._kept.held_out])

    def finite(self) -> bool:
        """Whether every parameter is finite."""
        return all_finite(self.module)

    def epoch_steps(self) -> float | None:
        """Return the optimizer steps of an epoch; None for data without length."""
        batches = self.trainer.num_training_batches
        return batches / self._accumulate if math.isfinite(batches) else None

    def evaluates_training_loss(self) -> bool:
        """Whether the loss of `training_step` is what is minimised."""
        return self._monitor is None

    @contextmanager
    def preserved(self) -> Iterator[None]:
        """Isolate the module, run the hooks that open an epoch, and put everything back in the end."""
        trainer, started = self.trainer, time.monotonic()
        loop, strategy = trainer.fit_loop, trainer.strategy
        loaders = [*loop._combined_loader.flattened, *_validation_loaders(trainer)]
        snapshot = self._snapshot = Snapshot(
            self.module, trainer.datamodule, loop, trainer._logger_connector, strategy._optimizers,
            strategy._lightning_optimizers, strategy.lr_scheduler_configs, strategy.model, strategy.precision_plugin,
            data=[state for loader in loaders for state in data_of(loader)],
            leave=[trainer, strategy, *_live_data(loop), *loaders_in(loaders), *trainer.callbacks, *trainer.loggers],
        )  # fmt: skip
        for name in _ISOLATED:
            snapshot.keep(trainer, name)
        try:
            self._isolate()
            self._batches = endless(self._side(), least=1 if trainer.num_training_batches == 1 else 2)
            # Opening an epoch draws a seed, which the run, its own epoch open already, will not draw again: rewound, a
            # probe sees the batches and the dropout that training will see (unless its first batches are fetched,
            # by workers or for data without length).
            snapshot.rewind_random()
            with torch.enable_grad():
                self._start()
                yield
        finally:
            with interrupts_deferred():
                self._batches = iter(())  # ends the workers before the random state goes back
                self._kept = KeptBatches.none()
                self._restore()
                del self._snapshot
                self._validation_state = None
                for clock in _CLOCKS:
                    if isinstance(then := getattr(trainer, clock, None), float):
                        setattr(trainer, clock, then + time.monotonic() - started)

    def _restore(self) -> None:
        if self._validation_state is not None:
            self._validation_state.restore()
        self._snapshot.restore()  # last, for the random state that the whole began with

    def _start(self) -> None:
        torch.set_grad_enabled(True)
        self._hook("on_train_start")
        self.trainer.strategy.on_train_start()
        self._hook("on_train_epoch_start")

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
        self._silence(_do_nothing, _do_nothing)
        self._taken = 0
        # Lightning steps early at the end of an epoch; a probe has no epochs.
        vars(loop)["_should_accumulate"] = lambda: self._accumulating

    def _silence(self, log: Callable[..., None], log_dict: Callable[..., None]) -> None:
        """Let these take what any module of the network logs."""
        for module in self.module.modules():
            if hasattr(module, "log_dict"):
                vars(module).update(log=log, log_dict=log_dict)

    def _side(self) -> Any:
        """Return the training loaders combined as the trainer does it, drawing apart from it."""
        side = copy.copy(self.trainer.fit_loop._combined_loader)
        side._iterator = None
        side.flattened = [side_loader(loader) for loader in side.flattened]
        return side

    def _validation(self) -> _ValidationBatches | None:
        """Return the validation batches; None where the fit has none."""
        trainer = self.trainer
        if not trainer.enable_validation:
            return None
        val_loop: Any = trainer.fit_loop.epoch_loop.val_loop
        if val_loop._combined_loader is None:  # without a sanity check, the first validation would do this
            val_loop.setup_data()
            new = _validation_loaders(trainer)  # the snapshot does not know them
            data = [state for loader in new for state in data_of(loader)]
            self._validation_state = Snapshot(data=data, leave=[*_live_data(trainer.fit_loop), *loaders_in(new)])
        loaders = [side_loader(loader, "val_loader") for loader in _validation_loaders(trainer)]
        index = (self._monitor or "").partition("/dataloader_idx_")[2]
        if index and not (index.isdigit() and int(index) < len(loaders)):
            raise InputError(f"monitor must name one of {len(loaders)} validation loaders, got {self._monitor!r}")
        chosen = [int(index)] if index else range(len(loaders))
        batches = _ValidationBatches(loaders, val_loop.max_batches, chosen)
        return batches if len(batches) else None

    def _trial(self) -> Exception | None:
        """Return what goes wrong when `training_step` is given the held-out batches; None if nothing does."""
        self.module.eval()
        try:
            with torch.no_grad():
                for item in self._kept.held_out:
                    scalar(self._loss_of(item), "training_step")
        except Exception as error:  # whatever the module does with data it was not made for
            return error
        return None

    def _loss_of(self, item: tuple[Any, int, int]) -> Any:
        """Return the loss of `training_step` on a batch, under no_grad and without an update."""
        batch, batch_idx, dataloader_idx = item
        batch = self._on_device(batch, dataloader_idx)
        arguments = self.trainer.fit_loop.epoch_loop._build_kwargs(OrderedDict(), batch, batch_idx)
        outputs = self._call._call_strategy_hook(self.trainer, "training_step", *arguments.values())
        return outputs["loss"] if isinstance(outputs, Mapping) else outputs

    def _validate(self, item: tuple[Any, int, int]) -> None:
        """Run `validation_step` and the hooks around it on a batch."""
        batch, batch_idx, dataloader_idx = item
        batch = self._on_device(batch, dataloader_idx)
        several = len(self.trainer.fit_loop.epoch_loop.val_loop._combined_loader.flattened) > 1
        takes = internals(self.trainer, "utilities.signature_utils").is_param_in_hook_signature
        indexed = takes(self.module.validation_step, "batch_idx", min_args=2)
        arguments = [batch, *([batch_idx] if indexed else []), *([dataloader_idx] if several else [])]
        self._hook("on_validation_batch_start", batch, batch_idx, dataloader_idx)
        outputs = self._call._call_strategy_hook(self.trainer, "validation_step", *arguments)
        self._hook("on_validation_batch_end", outputs, batch, batch_idx, dataloader_idx)

    def _monitored(self, monitor: str) -> Tensor:
        """Run the user's validation; return the metric of each batch, or the one value of all: (m,)."""
        name = monitor.partition("/dataloader_idx_")[0]
        names = (monitor, name, name.removesuffix("_epoch"))  # Lightning forks what is logged per step and per epoch
        found: list[Any] = []
        others: dict[str, None] = {}

        def log(name: str, value: Any, *args: Any, **kwargs: Any) -> None:
            if name in names:
                found.append(value)
            others[name] = None

        def log_dict(dictionary: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
            for key, value in dictionary.items():
                log(key, value)

        self._silence(log, log_dict)
        self._hook("on_validation_start")
        self._hook("on_validation_epoch_start")
        for item in self._kept.held_out:
            self._validate(item)
        batchwise = [value for value in found if not hasattr(value, "compute")]
        if not batchwise:
            self._hook("on_validation_epoch_end")
        if not found:
            known = f", which logs {', '.join(others)}" if others else ", which logs nothing"
            raise InputError(f"monitor must be a metric that validation logs, got {monitor!r}{known}")
        values = batchwise or [found[-1].compute() if hasattr(found[-1], "compute") else found[-1]]
        return torch.stack([scalar(value, monitor) for value in values])

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
        batch = self._on_device(batch, dataloader_idx)
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

    def _on_device(self, batch: Any, dataloader_idx: int) -> Any:
        batch = self.trainer.precision_plugin.convert_input(batch)
        batch = self.module._on_before_batch_transfer(batch, dataloader_idx=dataloader_idx)
        return self._call._call_strategy_hook(self.trainer, "batch_to_device", batch, dataloader_idx=dataloader_idx)

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


class _Epochs:
    """A combined loader whose epochs end where the trainer's do (`limit_train_batches`)."""

    def __init__(self, combined: Any, most: int | None) -> None:
        self._combined, self._most = combined, most

    def __iter__(self) -> Iterator[Any]:
        epoch = iter(self._combined)
        for _ in itertools.count() if self._most is None else range(self._most):
            try:
                yield next(epoch)
            except StopIteration:
                return


class _ValidationBatches:
    """Validation batches of one loader after the other, spread over each: (batch, batch_idx, dataloader_idx)."""

    def __init__(self, loaders: Sequence[Any], most: Sequence[float], chosen: Sequence[int]) -> None:
        self._parts = [(index, loaders[index], most[index]) for index in chosen if most[index] > 0]

    def __len__(self) -> int:
        return min(HELD_OUT, len(self._parts) * self._share) if self._parts else 0

    @property
    def _share(self) -> int:
        return max(HELD_OUT // len(self._parts), 1)

    def __iter__(self) -> Iterator[tuple[Any, int, int]]:
        for dataloader_idx, loader, most in self._parts:
            for batch_idx, batch in enumerate(spread(loader, self._share, most)):
                yield batch, batch_idx, dataloader_idx


def _validation_loaders(trainer: Any) -> list[Any]:
    combined: Any = trainer.fit_loop.epoch_loop.val_loop._combined_loader
    return [] if combined is None else combined.flattened


def _live_data(loop: Any) -> Iterable[object]:
    """What draws the run's own batches: never touched by a probe, and full of queues and processes."""
    for part in (loop, loop.epoch_loop.val_loop):
        for name in ("_combined_loader", "_data_fetcher", "_data_source"):
            if (held := getattr(part, name, None)) is not None:
                yield held


def _do_nothing(*args: Any, **kwargs: Any) -> None:
    """Stand in, while probing, for what must not happen then."""
