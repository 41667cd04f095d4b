"""`LRFinder`: the Lightning callback. Tunes before the first step, writes back, and leaves the run alone."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lrfinder.curve import Curve
from lrfinder.errors import InputError, LRFinderError
from lrfinder.finder import find
from lrfinder.horizon import begun, steps_left
from lrfinder.internals import check_supported, configure_again, internals
from lrfinder.module_lr import held_numbers, names_of_lr, numbers, put_numbers, scale_numbers
from lrfinder.progress import progress_bar
from lrfinder.settings import Settings
from lrfinder.suggestion import Suggestion
from lrfinder.trainer import TrainerTrainee
from lrfinder.writeback import apply_lr, configured_lrs, copy_configuration, scaled_lrs

if TYPE_CHECKING or not {"lightning.pytorch", "pytorch_lightning"} & set(sys.modules):
    from lightning.pytorch import Callback
else:  # a Callback of every copy of Lightning in use; loading the other copy would cost seconds
    _copies = [sys.modules[name] for name in ("lightning.pytorch", "pytorch_lightning") if name in sys.modules]
    Callback = type("Callback", tuple(copy.Callback for copy in _copies), {})

__all__ = ["LRFinder"]


class LRFinder(Callback):
    """Find the learning rate at the start of `Trainer.fit` and train on with it.

    A range test and probes run on the training data; then everything is put back bit for bit, the suggested learning
    rate is written into the optimizers' param groups (their ratios stay), into the schedulers that drive them and into
    the module's ``lr`` or ``learning_rate`` (attribute and ``hparams``), and training starts as if that rate had been
    set by hand. When the losses do not support a suggestion, every learning rate stays and a warning says why.

    It runs once, and again before the epochs of ``at_epochs``: not in ``fast_dev_run``, and not when a fit resumes from
    a checkpoint or continues an earlier fit, whose learning rate stands. In the middle of training the rate found is
    the highest that the schedule will still reach: schedulers are scaled so that they get there. With DDP every process
    probes, and all write back the same rate.

    Args:
        method: "probe" for the rate that trains best for as long as the trainer will train, or "range" for a range test
            alone, a bracket. Modules with manual optimization and no ``monitor`` get the range test.
        budget: what to spend, see `lrfinder.find_lr`; shares are of the trainer's steps.
        min_lr: lowest learning rate to try, of the param groups at the module's or the optimizer's own ``lr`` (of the
            first group where none is).
        max_lr: highest; by default 100, of a range test 10.
        monitor: judge by this metric of `validation_step`; by default by the loss of `training_step` on validation
            batches, or on held-out training batches in a fit without validation.
        mode: "min" or "max", of that metric.
        attribute: name of the module attribute or hyperparameter that `configure_optimizers` reads the learning
            rate from, where it is neither ``lr`` nor ``learning_rate``.
        at_epochs: before which epochs to search, 0 being the start of training.
        progress: show a progress bar while testing, where the trainer shows one.

    Attributes:
        suggestion: the latest `Suggestion`, None before the test.
        suggestions: the suggestion of every epoch of ``at_epochs`` so far. Saved in checkpoints.
        curve: the raw curve of the latest test, None before it.

    Raises:
        InputError: an argument breaks a rule.
        UnsupportedError: at the start of the fit, the set-up cannot be probed exactly; nothing has been touched.
    """

    def __init__(
        self,
        method: str = "probe",
        *,
        budget: float | str | None = None,
        min_lr: float = 1e-7,
        max_lr: float | None = None,
        monitor: str | None = None,
        mode: str = "min",
        attribute: str | None = None,
        at_epochs: Iterable[int] = (0,),
        progress: bool = True,
    ) -> None:
        if mode not in ("min", "max"):
            raise InputError(f"mode must be min or max, got {mode!r}")
        if monitor is not None and method != "probe":
            raise InputError(f"monitor may be given with method probe only, got monitor = {monitor!r}, {method!r}")
        self._asked: dict[str, Any] = {"method": method, "budget": budget, "min_lr": min_lr, "max_lr": max_lr}
        Settings(**self._asked, steps=10**9)  # complain now, not at the start of a fit
        self.monitor, self.mode = monitor, mode
        self.attribute = attribute
        self.at_epochs = _checked_epochs(at_epochs)
        self.progress = progress
        self.suggestions: dict[int, Suggestion] = {}
        self._written: dict[str, list[float | None]] = {}  # the module's own numbers, after the write-back

    @property
    def suggestion(self) -> Suggestion | None:
        """The latest suggestion."""
        return next(reversed(self.suggestions.values()), None)

    @property
    def curve(self) -> Curve | None:
        """The raw curve of the latest range test."""
        return self.suggestion.curves[0] if self.suggestion and self.suggestion.curves else None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Move to the front, so that the callbacks behind see the run as if the rate had been set by hand."""
        if stage != "fit":
            return
        if not begun(trainer):  # no fit that goes on; a checkpoint is read later
            self.suggestions, self._written = {}, {}
        if trainer.callbacks[0] is not self:  # rebind: Lightning is iterating over the present list
            trainer.callbacks = [self, *(callback for callback in trainer.callbacks if callback is not self)]

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Tune when everything is in place and no step has been taken."""
        if trainer.fast_dev_run:
            _say(trainer, "skipped, fast_dev_run is on")
            return
        if begun(trainer):
            _say(trainer, f"skipped, training continues from step {trainer.global_step} at its learning rate")
            for name, values in self._written.items():  # the module of a resumed fit is new, with its old numbers
                put_numbers(pl_module, name, values)
            return
        if 0 in self.at_epochs:
            self._tune(trainer, pl_module)
        else:
            check_supported(trainer)  # now, not hours later

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Tune again before a later epoch. What cannot be searched then is no reason to end a run."""
        epoch = trainer.current_epoch
        if epoch == 0 or epoch not in self.at_epochs or epoch in self.suggestions or trainer.fast_dev_run:
            return
        try:
            self._tune(trainer, pl_module)
        except LRFinderError as error:
            _warn(trainer, f"skipped the search before epoch {epoch}: {error}")

    def _tune(self, trainer: Any, module: Any) -> None:
        names = names_of_lr(module, self.attribute)
        named = [value for name in names for value in numbers(module, name)]
        trainee = TrainerTrainee(trainer, named, self.monitor, self.mode)
        # A number that no group is at (beside one that a group is at) is something else of the same name.
        names = [name for name in names if set(numbers(module, name)) & set(trainee.configured())] or names
        shown = self.progress and trainer.progress_bar_callback is not None and trainer.is_global_zero
        with progress_bar(shown) as bar:
            suggestion = find(trainee, self._settings(trainer), bar)
        if suggestion.interrupted:  # the person wants to stop: the answer so far is kept, the rate is not touched
            self.suggestions[trainer.current_epoch] = suggestion
            raise KeyboardInterrupt
        suggestion = trainee.processes.first(suggestion)  # they differ in seconds
        if suggestion.lr is not None:
            suggestion = suggestion.with_group_lrs(_write_back(trainer, trainee, suggestion.lr, names))
            self._written = {name: held_numbers(module, name) for name in names}
            _say(trainer, suggestion.headline())
        else:
            _warn(trainer, f"left the learning rate as it was: {suggestion.headline()}")
        self.suggestions[trainer.current_epoch] = suggestion
        _log_hyperparameters(trainer, suggestion, names)

    def _settings(self, trainer: Any) -> Settings:
        asked, steps = dict(self._asked), steps_left(trainer)
        horizon = int(steps) if math.isfinite(steps) and steps >= 1 else None
        if not trainer.lightning_module.automatic_optimization and self.monitor is None and asked["method"] == "probe":
            _say(trainer, "manual optimization without monitor: a range test only")
            asked.update(method="range", budget=None)
        return Settings(**asked, steps=horizon)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: the suggestions as JSON-ready data."""
        suggestions = {str(epoch): suggestion.to_dict() for epoch, suggestion in self.suggestions.items()}
        return {"suggestions": suggestions, "written": self._written} if suggestions else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the suggestions back from a checkpoint."""
        if "suggestions" in state_dict:
            suggestions = state_dict["suggestions"].items()
            self.suggestions = {int(epoch): Suggestion.from_dict(data) for epoch, data in suggestions}
            self._written = dict(state_dict["written"])


def _checked_epochs(epochs: Any) -> frozenset[int]:
    rule = "at_epochs must be epochs, counted from 0"
    if isinstance(epochs, (str, bytes)) or not isinstance(epochs, Iterable):
        raise InputError(f"{rule}, got {epochs!r}")
    checked = list(epochs)
    for epoch in checked:
        if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 0:
            raise InputError(f"{rule}, got {epoch!r}")
    if not checked:
        raise InputError(f"{rule}, got none")
    return frozenset(checked)


def _say(trainer: Any, text: str) -> None:
    """Tell the person, where Lightning's own remarks appear."""
    internals(trainer, "utilities.rank_zero").rank_zero_info(f"LRFinder: {text}")


def _warn(trainer: Any, text: str) -> None:
    internals(trainer, "utilities.rank_zero").rank_zero_warn(f"LRFinder {text}")


def _write_back(trainer: Any, trainee: TrainerTrainee, lr: float, names: Sequence[str]) -> tuple[float, ...]:
    """Put ``lr`` where training will read it; return the new peak learning rate of every param group.

    Preferred: set the module's attribute, let `configure_optimizers` build a second set of optimizers and schedulers
    (inside a snapshot, so that nothing else it does stays), and copy their settings: just what setting it by hand
    gives. Where the module has no such attribute, its optimizers do not follow it, or training is under way, scale
    what there is.
    """
    peak, reference = trainee.as_configured(lr)
    configured, factor, schedulers = trainee.configured(), peak / reference, trainee.schedulers()
    fresh = None
    if names and trainee.fresh:
        with trainee.undone():
            scale_numbers(trainee.module, names, peak, factor)
            try:
                fresh = configure_again(trainer)
            except Exception as error:
                _say(trainer, f"configure_optimizers cannot run twice ({error}); scaling the optimizers instead")
    scale_numbers(trainee.module, names, peak, factor)
    expected = scaled_lrs(configured, peak, reference)
    if fresh is not None and len(fresh[1]) == len(schedulers) and _follows(configured_lrs(*fresh), expected):
        copy_configuration(trainer.optimizers, schedulers, *fresh)
        return trainee.configured()
    apply_lr(trainer.optimizers, peak, schedulers, reference)
    return scaled_lrs(trainee.lrs(), lr, trainee.reference())


def _follows(got: Sequence[float], expected: Sequence[float]) -> bool:
    return len(got) == len(expected) and all(
        math.isclose(a, b, rel_tol=1e-6) for a, b in zip(got, expected, strict=True)
    )


def _log_hyperparameters(trainer: Any, suggestion: Suggestion, names: Sequence[str]) -> None:
    """Tell the loggers: the suggestion, and the hyperparameters again with the new rate (Lightning logged the old)."""
    values: dict[str, Any] = {}
    module, datamodule = trainer.lightning_module, trainer.datamodule
    if suggestion.lr is not None and module._log_hyperparams:
        values.update(module.hparams_initial)
        values.update({name: module.hparams[name] for name in names if name in values})
        if datamodule is not None and datamodule._log_hyperparams:
            values.update(datamodule.hparams_initial)
        values.pop("_class_path", None)  # LightningCLI's own
    values.update({f"lrfinder/{key}": value for key, value in suggestion.summary().items()})
    for logger in trainer.loggers:
        try:
            logger.log_hyperparams(values)
            logger.save()
        except Exception as error:  # MLflow, for one, forbids to change a value; no reason to lose the run
            _say(trainer, f"{type(logger).__name__} did not take the suggestion: {error}")
