"""The trainer as a step sees it while it is probed: the same callbacks, loggers and metrics, without their effects."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor

from lrfinder.lightning.internals import internals

__all__ = ["MutedCallbacks", "do_nothing", "logged_metrics", "muted_logger", "silence"]

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


def silence(module: Any, log: Callable[..., None], log_dict: Callable[..., None]) -> None:
    """Let these functions receive what any module of the network logs."""
    for part in module.modules():
        if hasattr(part, "log_dict"):
            vars(part).update(log=log, log_dict=log_dict)


def logged_metrics(trainer: Any) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return stand-ins for `log` and `log_dict`, which only make values readable in `Trainer.callback_metrics`.

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

    def log_dict(dictionary: Mapping[str, Any], *args: Any, **options: Any) -> None:
        for name, value in dictionary.items():
            log(name, value, *args, **options)

    return log, log_dict


def _as_tensor(value: Any) -> Tensor | None:
    """Return what is logged as a tensor; None for what has no value yet."""
    if hasattr(value, "compute"):  # a metric object: its value on this batch
        value = getattr(value, "_forward_cache", None)
    if isinstance(value, Tensor):
        return value.detach()
    return torch.tensor(float(value)) if isinstance(value, (int, float)) else None
