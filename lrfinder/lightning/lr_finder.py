"""`LRFinder`: the Lightning callback. Tunes before the first step, writes back, and leaves the run alone."""

from __future__ import annotations

import copy
import dataclasses
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from lrfinder.answer.suggestion import Suggestion
from lrfinder.answer.suggestion_text import log_line_of
from lrfinder.errors import InputError, LRFinderError, one_of
from lrfinder.evidence.curve import Curve
from lrfinder.lightning.fit_search import FitSearch, log_suggestion
from lrfinder.lightning.internals import Callback, check_supported, has_started, horizon, say, schedulers_of, warn
from lrfinder.lightning.look_ahead import RateWatch
from lrfinder.lightning.module_lr import number_at, put_numbers
from lrfinder.lightning.plateau_detector import PlateauDetector
from lrfinder.lightning.processes import TrainerProcesses
from lrfinder.lightning.schedule import (
    InstalledSchedule,
    begin_anew,
    check_installed,
    check_plateau_metric,
    describe_schedule_change,
    install,
    resolve_policy,
    warn_of_rate_zero,
)
from lrfinder.lightning.write_back import AppliedRates
from lrfinder.probing.options import PolicyRequest, SearchOptions
from lrfinder.probing.progress import progress_bar
from lrfinder.schedules.policy import Policy
from lrfinder.snapshot.snapshot import interrupts_deferred


class LRFinder(Callback):
    """Find the learning rate at the start of `Trainer.fit` and train on with it.

    A range test and probes run on the training data; then everything is put back bit for bit, the suggested learning
    rate is written into the optimizers' param groups (their ratios stay), into the schedulers that drive them and into
    the module's ``lr`` or ``learning_rate`` (attribute and ``hparams``), and training starts as if that rate had been
    set by hand. When the losses do not support a suggestion, or when the training cannot be probed at all, every
    learning rate stays, one warning says why, and training goes on.

    Where the module configures no scheduler, the suggested policy is installed as one, stepped with the optimizer; see
    ``policy``. It is in every checkpoint, and a fit that resumes with an `LRFinder` follows it on, exactly.

    It runs once, and again before the epochs of ``at_epochs``: not in ``fast_dev_run``, and not when a fit resumes from
    a checkpoint or continues an earlier fit, whose learning rate stands. In the middle of training the rate found is
    the highest that the schedule will still reach: schedulers, ours too, are scaled so that they get there. With
    several processes (DDP, FSDP2) each of them probes, and all write back the same rate.

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
            rate from, if it is neither ``lr`` nor ``learning_rate``; with dots for a nested one, as in "optim.lr".
        policy: "keep" scales the schedulers of the module and installs none; "auto" installs the suggested policy over
            the steps of the training; the name of one (`lrfinder.POLICIES`), or a `Policy` with steps and
            parameters of its own, installs that, at the peak that is best for it. All but "keep" replace the module's
            schedulers. By default "keep" if the module configures any that will change the rate, else "auto". "plateau"
            follows ``monitor``.
        at_epochs: before which epochs to search, 0 being the start of training.
        plateau: watch the run for plateaus too: a `PlateauDetector`, True for one that advises, or its ``on_plateau``.
            Without a ``policy`` and a scheduler of the module, one that decays is given a constant rate to decay.
        progress: show a progress bar while testing, where the trainer shows one.
        on_failure: "warn" if training goes on, with one warning and everything as it was, when it cannot be probed;
            "raise" if that ends the fit. With several processes, an error in one of them alone ends the fit.
        exact: False to search also if the training data cannot be rewound. Training then begins where the search left
            the data, which a caveat of the suggestion says.

    Attributes:
        suggestion: the latest `Suggestion`, of this callback or of a copy of it, None before the test.
        suggestions: the suggestion of every epoch of ``at_epochs`` so far. Saved in checkpoints.
        curve: the raw curve of the latest test, None before it.
        failure: why the latest search could not be made, None if it was made.

    Raises:
        InputError: an argument breaks a rule.
        UnsupportedError: with ``on_failure="raise"``, the training cannot be probed exactly; nothing has been changed.
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
        policy: PolicyRequest = None,
        at_epochs: Iterable[int] = (0,),
        plateau: PlateauDetector | str | bool | None = None,
        progress: bool = True,
        on_failure: str = "warn",
        exact: bool = True,
    ) -> None:
        one_of("on_failure", on_failure, ("warn", "raise"))
        self.options = SearchOptions(method, None, budget, min_lr, max_lr, monitor=monitor, mode=mode, policy=policy)
        check_plateau_metric(policy, monitor)
        self.attribute = attribute
        self.at_epochs = _checked_epochs(at_epochs)
        self.plateau = _checked_plateau(plateau)
        self.progress, self.on_failure, self.exact = progress, on_failure, exact
        self._family: dict[str, Any] = {}  # the latest results of this callback and of its copies
        self._forget()

    def _forget(self) -> None:
        self._family.clear()
        self.failure: str | None = None
        self.suggestions: dict[int, Suggestion] = {}
        self._written: dict[str, float] = {}  # the module's own numbers, after the write-back
        self._applied: AppliedRates | None = None
        self._installed: InstalledSchedule | None = None
        self._watch: RateWatch | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> LRFinder:
        """Return a copy that shares its latest results with this callback: libraries train with copies of theirs."""
        twin = object.__new__(type(self))
        memo[id(self)] = twin
        vars(twin).update({name: copy.deepcopy(value, memo) for name, value in vars(self).items() if name != "_family"})
        twin._family = self._family
        return twin

    @property
    def suggestion(self) -> Suggestion | None:
        """The latest suggestion."""
        own = next(reversed(self.suggestions.values()), None)
        return own or next(reversed(self._family.get("suggestions", {}).values()), None)

    @property
    def curve(self) -> Curve | None:
        """The raw curve of the latest range test."""
        return self.suggestion.curves[0] if self.suggestion and self.suggestion.curves else None

    def plot(self, ax: Any = None) -> Any:
        """Draw the latest suggestion, see `Suggestion.plot`.

        Raises:
            InputError: there is none yet.
        """
        if self.suggestion is None:
            raise InputError("there must have been a search to plot, got none: call trainer.fit first")
        return self.suggestion.plot(ax)

    def write_numbers(self, module: Any) -> None:
        """Set the learning rate that was written last in another copy of the module."""
        _put_numbers(module, self._written)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Move to the front, so that the callbacks behind see the run as if the rate had been set by hand."""
        if stage != "fit":
            return
        if not has_started(trainer):  # no fit that goes on; a checkpoint is read later
            self._forget()
        ours = [self] if self.plateau is None else [self, self.plateau]
        if trainer.callbacks[: len(ours)] != ours:  # rebind: Lightning is iterating over the present list
            known = self.plateau in trainer.callbacks
            trainer.callbacks = [*ours, *(callback for callback in trainer.callbacks if callback not in ours)]
            if self.plateau is not None and not known:
                self.plateau.setup(trainer, pl_module, stage)

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Forget the fit before, and set the module's numbers before it configures its optimizers by them.

        What else the checkpoint holds of ours is read next.
        """
        if trainer.state.fn == "fit":
            self._forget()
            _put_numbers(pl_module, checkpoint.get("callbacks", {}).get(self.state_key, {}).get("written", {}))

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Put back the rates and the schedule of a fit that goes on; what Lightning restores itself comes next."""
        if has_started(trainer) and not self.suggestions and self._family:
            vars(self).update(self._family)  # the fit before was made with a copy
        if self._installed is not None:
            install(trainer, self._installed, trainer.global_step)
        elif self._applied is not None:
            self._applied.again(trainer)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Tune when everything is in place and no step has been taken."""
        if trainer.fast_dev_run:
            say(trainer, "skipped, fast_dev_run is on")
            return
        if has_started(trainer):
            if self._installed is not None and trainer.global_step >= self._installed.end:
                self._installed = begin_anew(trainer, self._installed)
            step, schedule = trainer.global_step, self._installed
            following = "" if schedule is None else f", on its {schedule.policy.name} schedule: {schedule.policy.text}"
            say(trainer, f"skipped, training continues from step {step} at its learning rate{following}")
            if schedule is not None:
                warn_of_rate_zero(trainer, schedule, "train until then; the fit after that begins the schedule anew")
            self.write_numbers(pl_module)  # the module of a resumed fit is new
            return
        with self._failing_as_asked(trainer, "before training"):
            if 0 in self.at_epochs:
                self._tune(trainer, pl_module)
            else:
                check_supported(trainer, self.exact)  # now, not hours later
                resolve_policy(self.options.policy, trainer, horizon(trainer))

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Tune again before a later epoch."""
        epoch = trainer.current_epoch
        if epoch == 0 or epoch not in self.at_epochs or epoch in self.suggestions or trainer.fast_dev_run:
            return
        with self._failing_as_asked(trainer, f"before epoch {epoch}"):
            self._tune(trainer, pl_module)

    @contextmanager
    def _failing_as_asked(self, trainer: Any, when: str) -> Iterator[None]:
        """Turn an error of the search into a warning, if it was asked for and every process sees the error."""
        self.failure = None
        try:
            yield
        except Exception as error:
            if self.on_failure == "raise" or not TrainerProcesses(trainer).share(error):
                raise
            # The error itself would keep the frames of the search in memory, and with them its tensors.
            ours = isinstance(error, LRFinderError)
            self.failure = str(error) if ours else "".join(traceback.format_exception_only(error)).strip()
            warn(
                trainer,
                f"skipped the search {when}: {self.failure}. Everything is as it was, and training goes on;"
                " on_failure='raise' ends the fit instead",
            )

    def _tune(self, trainer: Any, module: Any) -> None:
        options, plateau = self.options, self.plateau
        decays = options.policy is None and plateau is not None and plateau.on_plateau == "decay"
        if self._installed is not None or decays:
            options = dataclasses.replace(options, policy="keep")
        with TrainerProcesses(trainer).together():
            search = FitSearch.prepare(trainer, module, options, self.attribute, self.exact, rehearse=True)
        shown = self.progress and trainer.progress_bar_callback is not None and trainer.is_global_zero
        with progress_bar(shown) as bar:
            suggestion, policy = search.suggest(bar)
        if suggestion.interrupted:  # the person wants to stop: the answer so far is kept, the rate is not touched
            self.suggestions[trainer.current_epoch] = suggestion
            raise KeyboardInterrupt
        if suggestion.lr is not None:
            own = schedulers_of(trainer)
            schedule = describe_schedule_change(suggestion, search.resolved, policy, own, self._installed)
            suggestion = self._write(search, suggestion, policy)
            say(trainer, log_line_of(suggestion, schedule))
        else:
            warn(trainer, f"left the learning rate as it was: {suggestion.headline()}")
        self.suggestions[trainer.current_epoch] = suggestion
        shared = ("suggestions", "_written", "_applied", "_installed")
        self._family.update({name: getattr(self, name) for name in shared})
        log_suggestion(trainer, suggestion, search.writer.numbers)

    def _write(self, search: FitSearch, suggestion: Suggestion, policy: Policy | None) -> Suggestion:
        """Write the rate and the schedule into the training; leave everything as it is after an error."""
        trainee, trainer, installed = search.trainee, search.trainee.trainer, self._installed
        assert suggestion.lr is not None
        old = search.writer.before
        with (
            interrupts_deferred(),
            trainee.undone(keep=True) as snapshot,
            AppliedRates.recorded(trainer, self._applied) as record,
        ):
            suggestion = suggestion.with_group_lrs(search.writer(snapshot, suggestion.lr))
            if policy is not None:
                follows = (self.options.monitor, self.options.mode) if policy.name == "plateau" else ()
                installed = InstalledSchedule(policy, suggestion.param_group_lrs, trainer.global_step, *follows)
                install(trainer, installed, trainer.global_step)
                check_installed(trainer, installed)
            elif installed is not None:  # it has been scaled with the rates
                installed = dataclasses.replace(installed, peaks=trainee.configured())
            self._watch = RateWatch.of(trainer, old)
        self._installed, self._applied = installed, record[0] if record else None
        numbers = {path: number_at(trainee.module, path) for path in search.writer.numbers}
        self._written = {".".join(path): number for path, number in numbers.items() if number is not None}
        return suggestion

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Check, in the first steps, that training is at the rate that was written."""
        if self._watch is not None and not self._watch.look(trainer, optimizer):
            self._watch = None

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: the suggestions and the schedule installed, as JSON-ready data."""
        suggestions = {str(epoch): suggestion.to_dict() for epoch, suggestion in self.suggestions.items()}
        installed = None if self._installed is None else self._installed.to_dict()
        applied = None if self._applied is None else self._applied.to_dict()
        state = {"suggestions": suggestions, "written": self._written, "applied": applied, "installed": installed}
        return state if suggestions else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the suggestions and the schedule back from a checkpoint."""
        if "suggestions" in state_dict:
            suggestions = state_dict["suggestions"].items()
            self.suggestions = {int(epoch): Suggestion.from_dict(data) for epoch, data in suggestions}
            self._written = dict(state_dict["written"])
            applied = state_dict.get("applied")
            self._applied = None if applied is None else AppliedRates.from_dict(applied)
            installed = state_dict.get("installed")  # version 0.1.0 installed nothing
            self._installed = None if installed is None else InstalledSchedule.from_dict(installed)


def _checked_plateau(plateau: Any) -> PlateauDetector | None:
    if plateau is None or plateau is False:
        return None
    if isinstance(plateau, PlateauDetector):
        return plateau
    if plateau is True or isinstance(plateau, str) or callable(plateau):
        return PlateauDetector("advise" if plateau is True else plateau)
    raise InputError(f"plateau must be True, an on_plateau or a PlateauDetector, got plateau = {plateau!r}")


def _checked_epochs(epochs: Any) -> frozenset[int]:
    checked = [] if isinstance(epochs, (str, bytes)) or not isinstance(epochs, Iterable) else list(epochs)
    wrong = [epoch for epoch in checked if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 0]
    if wrong or not checked:
        raise InputError(f"at_epochs must be epochs, counted from 0, got {wrong[0] if wrong else epochs!r}")
    return frozenset(checked)


def _put_numbers(module: Any, numbers: dict[str, float]) -> None:
    """Set the module's numbers, by their dotted names."""
    put_numbers(module, {tuple(name.split(".")): value for name, value in numbers.items()})
