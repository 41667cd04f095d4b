"""A trainer around a probe: what is recorded of it, what is muted, and loaders apart from its own.

A step that is probed finds the trainer's callbacks, loggers and metrics as in training, without their effects.
"""

from __future__ import annotations

import copy
import functools
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor

from lrfinder.lightning.internals import internals, is_own, live_data, probe_loader, schedulers_of, validation_loaders
from lrfinder.probing.batches import LoaderState
from lrfinder.snapshot.snapshot import Snapshot


def snapshot_of(trainer: Any, exact: bool) -> Snapshot:
    """Record everything that a step, a hook or a write-back may change.

    Raises:
        UnsupportedError: something that a step uses, or the data, cannot be rewound.
    """
    strategy, module = trainer.strategy, trainer.lightning_module
    loaders = LoaderState.of([*trainer.fit_loop._combined_loader.flattened, *validation_loaders(trainer)])
    wrapper = [] if strategy.model is module else [strategy.model]
    bar = trainer.progress_bar_callback  # a thread of its own may draw it
    theirs = [callback for callback in trainer.callbacks if callback is not bar and not is_own(callback)]
    snapshot = Snapshot(
        module, trainer.datamodule, trainer.fit_loop, trainer._logger_connector, strategy._optimizers,
        strategy._lightning_optimizers, strategy.lr_scheduler_configs, strategy.precision_plugin,
        data=loaders.data, lenient=theirs, lenient_data=loaders.lenient_data,
        leave=[trainer, strategy, *wrapper, *live_data(trainer), *loaders.leave, *trainer.loggers,
               *(callback for callback in trainer.callbacks if callback not in theirs)],
        exact_data=exact,
    )  # fmt: skip
    snapshot.keep_attributes(trainer)
    return snapshot


def not_rewound(trainer: Any, snapshot: Snapshot) -> tuple[str, ...]:
    """Return a caveat that names the data that could not be rewound; empty if all could."""
    loaders = trainer.fit_loop._combined_loader.flattened
    left = {*snapshot.left, *(type(loader).__name__ for loader in loaders if isinstance(loader, Iterator))}
    if not left:
        return ()
    names = ", ".join(sorted(left))
    return (f"The data hold a {names}, which cannot be rewound: training begins where the search left the data.",)


def mute(trainer: Any) -> None:
    """Mute callbacks, loggers, profiler, checkpoints, schedulers and metrics, until a snapshot is restored."""
    trainer.callbacks = MutedCallbacks(trainer.callbacks)
    trainer._loggers = [muted_logger(trainer, logger) for logger in trainer.loggers]
    trainer.profiler = no_profiler(trainer)
    vars(trainer)["save_checkpoint"] = do_nothing
    for scheduler in schedulers_of(trainer):  # under manual optimization, the module steps them itself
        if hasattr(scheduler, "__dict__"):  # else it steps, and a step that changes the rate is refused
            vars(scheduler)["step"] = do_nothing
    silence(trainer.lightning_module, logged_metrics(trainer))


def no_profiler(trainer: Any) -> Any:
    """Return a profiler that sees nothing."""
    return internals(trainer, "profilers.base").PassThroughProfiler()


def side_loaders(trainer: Any, exact: bool) -> Any:
    """Return the training loaders combined as the trainer does it, drawing apart from it."""
    side = copy.copy(trainer.fit_loop._combined_loader)
    side._iterator = None
    side.flattened = [probe_loader(loader, exact) for loader in side.flattened]
    return side


class Epochs:
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


_GETTERS = ("get", "is_", "has_")
"""Beginnings of the names of methods that a muted logger still calls, since they only return something."""


def do_nothing(*args: Any, **kwargs: Any) -> None:
    """Replace, while probing, what must have no effect then."""


class MutedCallbacks(list[Any]):
    """The callbacks of a trainer, for everybody but Lightning's own calls of their hooks, which find none.

    A step can look up a callback by its type or its place, and `Trainer.checkpoint_callback` works.
    """

    def __iter__(self) -> Iterator[Any]:
        caller = str(sys._getframe(1).f_globals.get("__name__", ""))
        return iter(()) if caller.endswith(".trainer.call") else super().__iter__()


def muted_logger(trainer: Any, logger: Any) -> Any:
    """Return a logger of the same class and with the same attributes, whose public methods do nothing.

    Folder, name and version can be read, and its ``experiment`` accepts everything. A logger that cannot be rebuilt
    is replaced by Lightning's `DummyLogger`.
    """
    module, kind = internals(trainer, "loggers.logger"), type(logger)
    try:
        quiet = object.__new__(_muted_class(kind, module.DummyExperiment))  # type: ignore[arg-type]  # it is hashable
        vars(quiet).update(vars(logger))
    except TypeError:  # the class has slots, or cannot be derived from
        return module.DummyLogger()
    return quiet


@functools.cache
def _muted_class(kind: Any, experiment: Any) -> Any:
    def look_up(self: Any, name: str) -> Any:
        value = kind.__getattribute__(self, name)
        effective = isinstance(value, (MethodType, FunctionType)) and not name.startswith(("_", *_GETTERS))
        return do_nothing if effective else value

    held = property(lambda self: experiment())
    return type(
        kind.__name__, (kind,), {"__getattribute__": look_up, "experiment": held, "__module__": kind.__module__}
    )


def silence(module: Any, log: Callable[..., None]) -> None:
    """Let a function receive what any module of the network logs."""

    def log_dict(dictionary: Mapping[str, Any], *args: Any, **options: Any) -> None:
        for name, value in dictionary.items():
            log(name, value, *args, **options)

    for part in module.modules():
        if hasattr(part, "log_dict"):
            vars(part).update(log=log, log_dict=log_dict)


def logged_metrics(trainer: Any) -> Callable[..., None]:
    """Return a stand-in for `log`, which only makes values readable in `Trainer.callback_metrics`.

    No logger, progress bar or average over the epoch receives the values. The snapshot removes them again.
    """
    connector = trainer._logger_connector
    places = (connector._callback_metrics, connector._logged_metrics, connector._progress_bar_metrics)

    def log(name: str, value: Any, *args: Any, **options: Any) -> None:
        number = _as_tensor(value)
        if number is None:
            return
        per_step = options.get("on_step") and options.get("on_epoch")
        for place in places:
            place.update(dict.fromkeys((name, f"{name}_step") if per_step else (name,), number))

    return log


def _as_tensor(value: Any) -> Tensor | None:
    """Return what is logged as a tensor; None for what has no value yet."""
    if hasattr(value, "compute"):  # a metric object: its value on this batch
        value = getattr(value, "_forward_cache", None)
    if isinstance(value, Tensor):
        return value.detach()
    return torch.tensor(float(value)) if isinstance(value, (int, float)) else None
