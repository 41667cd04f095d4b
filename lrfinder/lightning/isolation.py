"""A trainer around a probe: what is recorded of it, what is muted, and loaders apart from its own."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

from lrfinder.lightning.internals import internals, is_own, live_data, probe_loader, schedulers_of, validation_loaders
from lrfinder.lightning.muting import MutedCallbacks, do_nothing, logged_metrics, muted_logger, silence
from lrfinder.probing.batches import data_of, loaders_in
from lrfinder.snapshot.snapshot import Snapshot

__all__ = ["Epochs", "mute", "no_profiler", "not_rewound", "side_loaders", "snapshot_of"]


def snapshot_of(trainer: Any, exact: bool) -> Snapshot:
    """Record everything that a step, a hook or a write-back may change.

    Args:
        trainer: inside ``fit``, with its loaders set up.
        exact: whether data that cannot be rewound are refused.

    Raises:
        UnsupportedError: something that a step uses, or the data, cannot be rewound.
    """
    strategy, module = trainer.strategy, trainer.lightning_module
    loaders = [*trainer.fit_loop._combined_loader.flattened, *validation_loaders(trainer)]
    wrapper = [] if strategy.model is module else [strategy.model]
    bar = trainer.progress_bar_callback  # a thread of its own may draw it
    theirs = [callback for callback in trainer.callbacks if callback is not bar and not is_own(callback)]
    snapshot = Snapshot(
        module, trainer.datamodule, trainer.fit_loop, trainer._logger_connector, strategy._optimizers,
        strategy._lightning_optimizers, strategy.lr_scheduler_configs, strategy.precision_plugin,
        data=[state for loader in loaders for state in data_of(loader)],
        lenient=theirs,
        leave=[trainer, strategy, *wrapper, *live_data(trainer), *loaders_in(loaders), *trainer.loggers,
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
        vars(scheduler)["step"] = do_nothing
    silence(trainer.lightning_module, *logged_metrics(trainer))


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
