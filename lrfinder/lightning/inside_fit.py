"""Searches with a Lightning Trainer that does not train: `fit` is left before its first step."""

from __future__ import annotations

import contextlib
import logging
import signal
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from lrfinder.answer.suggestion import Suggestion
from lrfinder.errors import InputError, UnsupportedError
from lrfinder.lightning.internals import Callback, has_started, internals
from lrfinder.lightning.lr_finder import LRFinder
from lrfinder.probing.batches import LoaderState
from lrfinder.snapshot.snapshot import Snapshot

Answer = TypeVar("Answer")


def lr_find(
    trainer: Any,
    model: Any,
    train_dataloaders: Any = None,
    val_dataloaders: Any = None,
    datamodule: Any = None,
    *,
    update_attr: bool = True,
    **options: Any,
) -> Suggestion:
    """Find the learning rate with a Lightning Trainer, without training: in place of Lightning's `Tuner.lr_find`.

    The search is the one that `LRFinder` makes at the start of `Trainer.fit`. Trainer, module, data and random state
    are as before afterwards, except for the learning rate of the module. The policy is only suggested: put
    ``suggestion.scheduler(optimizer)`` into `configure_optimizers`, or train with `LRFinder`, which installs it.

    Args:
        trainer: the Trainer that will train, before its first fit.
        model: the LightningModule.
        train_dataloaders: the training data, as `Trainer.fit` takes them.
        val_dataloaders: the validation data.
        datamodule: a LightningDataModule in their place.
        update_attr: whether to write the rate into ``lr`` or ``learning_rate`` of the module, as Lightning's does.
        options: as `LRFinder` takes them: ``method``, ``budget``, ``monitor``, ``attribute``, ``policy`` and others.

    Returns:
        The `Suggestion`, or a refused one, with which the module keeps its rate.

    Raises:
        InputError: an option breaks a rule, there is no first step, or the trainer has trained already.
        UnsupportedError: the training cannot be probed exactly.
    """
    if has_started(trainer):
        raise InputError(f"trainer must not have trained yet, got one at step {trainer.global_step}")
    finder = LRFinder(on_failure="raise", **options)
    data, lenient_data, leave = LoaderState.of(one for one in (train_dataloaders, val_dataloaders) if one is not None)
    before = Snapshot(model, data=[*data, datamodule], lenient_data=lenient_data, leave=leave, exact_data=False)
    try:
        with quiet():
            ask_within(
                trainer, model, finder.on_train_start,
                train_dataloaders=train_dataloaders, val_dataloaders=val_dataloaders, datamodule=datamodule,
            )  # fmt: skip
    finally:
        before.restore()
    if finder.suggestion is None:
        raise InputError(f"at_epochs must hold 0 for a search before training, got {sorted(finder.at_epochs)}")
    if update_attr:
        finder.write_numbers(model)
    return finder.suggestion


def ask_within(trainer: Any, module: Any, question: Callable[[Any, Any], Answer], **data: Any) -> Answer:
    """Start a fit, put a question to ``(trainer, module)`` where the first step would be taken, and leave `fit`.

    The trainer's callbacks are set up, see nothing else, and are as before afterwards.

    Raises:
        InputError: the fit never gets to its first step.
        UnsupportedError: it trains in processes that it starts itself, which cannot answer.
    """
    asking = _Asking(question, internals(trainer, "utilities.exceptions")._TunerExitException)
    if trainer.fast_dev_run:
        raise InputError("fast_dev_run must be off to search, got on")
    launcher = internals(trainer, "strategies.launchers.multiprocessing")._MultiProcessingLauncher
    if isinstance(trainer.strategy.launcher, launcher):
        raise UnsupportedError(f"a search needs strategy='ddp', got {type(trainer.strategy).__name__} that spawns")
    callbacks, sanity, on_ctrl_c = trainer.callbacks, trainer.num_sanity_val_steps, signal.getsignal(signal.SIGINT)
    summary = internals(trainer, "callbacks").ModelSummary  # prints to stdout if rich is installed
    others = [callback for callback in callbacks if not isinstance(callback, summary)]
    trainer.callbacks, trainer.num_sanity_val_steps = [asking, *others], 0
    try:
        trainer.fit(module, **{name: value for name, value in data.items() if value is not None})
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, on_ctrl_c)  # Lightning makes an exit of Ctrl-C, and ignores it from then on
        raise KeyboardInterrupt from None
    finally:
        trainer.callbacks, trainer.num_sanity_val_steps = callbacks, sanity
    if asking.error is not None:
        raise asking.error
    if asking.answers:
        return asking.answers[0]  # type: ignore[no-any-return]  # the question is what says
    raise InputError("training must have a first step, got none: check max_steps, max_epochs, limits and data")


class _Asking(Callback):
    """Asks, and ends the fit as Lightning's own tuners do, and no other callback sees a start, an error or an end."""

    def __init__(self, question: Callable[[Any, Any], Any], leave: type[Exception]) -> None:
        self.question, self.leave = question, leave
        self.answers: list[Any] = []
        self.error: BaseException | None = None

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Come before all others; no LRFinder searches besides."""
        others = (one for one in trainer.callbacks if one is not self and not isinstance(one, LRFinder))
        trainer.callbacks = [self, *others]

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Run the question, then leave `fit`."""
        try:
            self.answers.append(self.question(trainer, pl_module))
        except BaseException as error:
            self.error = error
        raise self.leave


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep back Lightning's remarks on hardware, workers and log intervals: nothing is being trained."""
    logs = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning")]
    levels = [log.level for log in logs]
    with warnings.catch_warnings():
        for text in _REMARKS:
            warnings.filterwarnings("ignore", text)
        for log in logs:
            log.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for log, level in zip(logs, levels, strict=True):
                log.setLevel(level)


_REMARKS = (
    "The '.*' does not have many workers",
    "The number of training batches",
    "You defined a `validation_step` but have no `val_dataloader`",
    "`max_epochs` was not set",
    "GPU available but not used",
    ".*isinstance.treespec, LeafSpec.",
)
