"""What is used of a Lightning Trainer beyond its public interface.

The rooms' other modules use further private names of Lightning; `tests/lightning/test_training.py` pins them all.
"""

from __future__ import annotations

import functools
import importlib
import math
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lrfinder.errors import InputError, UnsupportedError
from lrfinder.probing.batches import side_loader
from lrfinder.probing.runner import trainable

if TYPE_CHECKING or not {"lightning.pytorch", "pytorch_lightning"} & set(sys.modules):
    from lightning.pytorch import Callback as Callback
else:  # loading the other copy would cost seconds
    _copies = [sys.modules[name] for name in ("lightning.pytorch", "pytorch_lightning") if name in sys.modules]
    Callback = type("Callback", tuple(copy.Callback for copy in _copies), {})


def is_own(callback: Any) -> bool:
    """Whether a callback is of this package: it holds the search itself, which no snapshot may rewind."""
    return any(base.__module__.startswith("lrfinder.") for base in type(callback).__mro__)


def has_started(trainer: Any) -> bool:
    """Whether training is under way: by an earlier fit, or by the one a checkpoint is of."""
    return bool(trainer.global_step > 0 or trainer.current_epoch > 0)


def batches_per_step(trainer: Any) -> int:
    """Return the batches of an optimizer step in the present epoch. By hand, every batch is taken for a step."""
    if not trainer.lightning_module.automatic_optimization:
        return 1
    for callback in trainer.callbacks:  # a GradientAccumulationScheduler acts after us
        if hasattr(callback, "get_accumulate_grad_batches"):
            return int(callback.get_accumulate_grad_batches(trainer.current_epoch))
    return int(trainer.accumulate_grad_batches)


def steps_left(trainer: Any) -> float:
    """Return the optimizer steps to come, from the start of an epoch; infinite where training has no end."""
    left = _epochs_asked(trainer) * steps_of_epoch(trainer)
    if trainer.max_steps != -1:
        by_hand = not trainer.lightning_module.automatic_optimization  # then the steps of all optimizers count
        left = min(left, (trainer.max_steps - trainer.global_step) / (len(trainer.optimizers) if by_hand else 1))
    return left


def steps_to_come(trainer: Any) -> float:
    """Return the optimizer steps to come, from anywhere in an epoch, with one optimizer that Lightning steps.

    Infinite where training has no end, or none that is known.
    """
    steps = math.inf
    if trainer.max_epochs not in (None, -1) and math.isfinite(trainer.num_training_batches):
        steps = steps_to_epoch_end(trainer) + (_epochs_asked(trainer) - 1) * steps_of_epoch(trainer)
    return steps if trainer.max_steps == -1 else min(steps, trainer.max_steps - trainer.global_step)


def steps_from_start(trainer: Any) -> float:
    """Return the optimizer steps to come at `on_train_start`, also of a fit that goes on in the middle of an epoch."""
    begun_batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready  # at an epoch's end, of the epoch before
    return steps_to_come(trainer) if 0 < begun_batches < trainer.num_training_batches else steps_left(trainer)


def steps_to_epoch_end(trainer: Any) -> float:
    """Return the optimizer steps that the present epoch still has; infinite for data without length."""
    begun_batches: int = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    if begun_batches >= trainer.num_training_batches:
        return 0
    return steps_of_epoch(trainer) - begun_batches // batches_per_step(trainer)


def horizon(trainer: Any) -> int | None:
    """Return `steps_left` where there are any and it is known how many."""
    steps = steps_left(trainer)
    return int(steps) if math.isfinite(steps) and steps >= 1 else None


def epochs_left(trainer: Any) -> float:
    """Return the epochs to come, begun ones included; infinite where training has no end, or none that is known."""
    epochs, steps, each = _epochs_asked(trainer), steps_left(trainer), steps_of_epoch(trainer)
    return min(epochs, math.ceil(steps / each)) if steps < math.inf and each < math.inf else epochs


def _epochs_asked(trainer: Any) -> float:
    """Return the epochs to come by `max_epochs` alone."""
    most = trainer.max_epochs
    return math.inf if most in (None, -1) else float(most - trainer.current_epoch)


def steps_of_epoch(trainer: Any) -> float:
    """Return the optimizer steps of an epoch; infinite for data without length."""
    batches = trainer.num_training_batches / batches_per_step(trainer)
    return math.ceil(batches) if math.isfinite(batches) else math.inf


_ROOTS = ("lightning.pytorch", "pytorch_lightning")

_STRATEGIES = ("SingleDeviceStrategy", "DDPStrategy", "ModelParallelStrategy")
"""Those under which a probe was shown to leave no trace."""


def internals(trainer: Any, name: str) -> ModuleType:
    """Import Lightning's module ``name`` from the package of the trainer, `lightning` or `pytorch_lightning`."""
    return _internals(type(trainer), name)  # type: ignore[arg-type]  # a class is hashable


@functools.cache  # looked up several times per step
def _internals(kind: type, name: str) -> ModuleType:
    root = _root(kind)
    if root is None:
        raise UnsupportedError(f"trainer must be a Trainer of lightning or pytorch_lightning, got {kind.__name__}")
    return importlib.import_module(f"{root}.{name}")


def is_lightning(thing: object, kind: str = "LightningModule") -> bool:
    """Return whether it is a LightningModule, or another ``kind``, of either package; neither is loaded."""
    return _root(thing, kind) is not None


def package_of(module: Any) -> Any:
    """Return the package that a LightningModule, or its class, is of; it has ``Trainer`` and all other classes."""
    return importlib.import_module(_root(module, "LightningModule") or _ROOTS[0])


def _root(thing: object, kind: str | None = None) -> str | None:
    """Return the name of the package that an instance or a class is of, None if it is of no package of Lightning."""
    for base in (thing if isinstance(thing, type) else type(thing)).__mro__:
        for root in _ROOTS:
            if kind in (None, base.__name__) and base.__module__.startswith(root + "."):
                return root
    return None


def say(trainer: Any, text: str, name: str = "LRFinder") -> None:
    """Tell the person, where Lightning's own remarks appear."""
    internals(trainer, "utilities.rank_zero").rank_zero_info(f"{name}: {text}")


def warn(trainer: Any, text: str, name: str = "LRFinder") -> None:
    """Warn the person, in one process only."""
    internals(trainer, "utilities.rank_zero").rank_zero_warn(f"{name} {text}")


def schedulers_of(trainer: Any) -> list[Any]:
    """Return the schedulers that drive the optimizers of a trainer."""
    return [config.scheduler for config in trainer.lr_scheduler_configs]


def check_supported(trainer: Any, exact: bool = True) -> None:
    """Refuse, before anything is touched, what cannot be probed exactly in this ``fit``."""
    _check_strategy(trainer.strategy)
    fetcher = type(trainer.fit_loop._data_fetcher).__name__
    if fetcher == "_DataLoaderIterDataFetcher":
        raise UnsupportedError("training_step(dataloader_iter) draws its own batches, which cannot be replayed")
    for loader in trainer.fit_loop._combined_loader.flattened:
        probe_loader(loader, exact)
    trainable(trainer.lightning_module)
    if any(type(optimizer).__name__ == "_MockOptimizer" for optimizer in trainer.optimizers):
        raise InputError("configure_optimizers must return an optimizer, got None")


def probe_loader(loader: Any, exact: bool, name: str = "loader") -> Any:
    """Return `side_loader` of a loader; without ``exact``, one that can be iterated only once is returned itself."""
    return loader if not exact and isinstance(loader, Iterator) else side_loader(loader, name)


def _check_strategy(strategy: Any) -> None:
    name = type(strategy).__name__
    if name not in _STRATEGIES:
        raise UnsupportedError(
            "LRFinder probes on a single device, with strategy='ddp' or with ModelParallelStrategy (FSDP2), got"
            f" {name}: find the learning rate in a run of one of those kinds, then train with it"
        )
    for held in ("_ddp_comm_state", "_model_averager"):  # error feedback, local SGD: state outside the model
        if getattr(strategy, held, None) is not None:
            raise UnsupportedError(
                f"strategy must be plain DDP to be probed, got one with {held.lstrip('_')}, which keeps its own"
                " state: find the learning rate without it"
            )


def hook(trainer: Any, name: str, *args: Any) -> Any:
    """Call a hook of the module as the trainer does."""
    return internals(trainer, "trainer.call")._call_lightning_module_hook(trainer, name, *args)


def strategy_hook(trainer: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    """Call a method of the strategy, which calls that of the module, as the trainer does."""
    return internals(trainer, "trainer.call")._call_strategy_hook(trainer, name, *args, **kwargs)


def on_device(trainer: Any, batch: Any, dataloader_idx: int) -> Any:
    """Convert and move a batch as the trainer does, with the module's transfer hooks."""
    batch = trainer.precision_plugin.convert_input(batch)
    batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=dataloader_idx)
    return strategy_hook(trainer, "batch_to_device", batch, dataloader_idx=dataloader_idx)


@contextmanager
def unwrapped(strategy: Any) -> Iterator[None]:
    """Let steps call the module itself, not its wrapper, which would talk to the other processes."""
    wrapper = strategy.model
    if wrapper is strategy.lightning_module:
        yield
        return
    strategy.model = strategy.lightning_module
    try:
        yield
    finally:
        strategy.model = wrapper


def validation_loaders(trainer: Any) -> list[Any]:
    """Return the validation loaders that are set up."""
    combined: Any = trainer.fit_loop.epoch_loop.val_loop._combined_loader
    return [] if combined is None else combined.flattened


def live_data(trainer: Any) -> Iterable[object]:
    """What draws the run's own batches: never touched by a probe, and full of queues and processes."""
    loop = trainer.fit_loop
    for part in (loop, loop.epoch_loop.val_loop):
        for name in ("_combined_loader", "_data_fetcher", "_data_source"):
            if (held := getattr(part, name, None)) is not None:
                yield held


def configure_again(trainer: Any) -> tuple[list[Any], list[Any]]:
    """Run the module's `configure_optimizers` once more; return its ``(optimizers, schedulers)``, used by nobody."""
    return optimizers_in(trainer.lightning_module, hook(trainer, "configure_optimizers"))


def optimizers_in(module: Any, configured: Any) -> tuple[list[Any], list[Any]]:
    """Return the optimizers and the schedulers in what `configure_optimizers` of a module has returned."""
    if configured is None:
        return [], []
    core = importlib.import_module(f"{package_of(module).__name__}.core.optimizer")
    optimizers, schedulers, _ = core._configure_optimizers(configured)
    return optimizers, [entry["scheduler"] if isinstance(entry, dict) else entry for entry in schedulers]
