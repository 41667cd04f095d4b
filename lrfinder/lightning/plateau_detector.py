"""`PlateauDetector`: the Lightning callback that watches a run for plateaus, and acts on them as asked."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lrfinder.errors import InputError, LRFinderError, one_of
from lrfinder.lightning.internals import Callback, say, schedulers_of, steps_to_come, warn
from lrfinder.lightning.look_ahead import RateWatch
from lrfinder.lightning.schedule import InstalledSchedule, anneal_rates, check_annealing, install, replaces_text
from lrfinder.lightning.write_back import AppliedRates, lower_rates
from lrfinder.plateau.detector import Detector
from lrfinder.plateau.gain_test import LEAST_STEPS, Plateau

_LEAST_OF_LOSSES = 768
"""Minimum number of training losses in a window: three times a period of 250 steps."""

_LATEST = 0.3
"""Share of the training after which annealing begins at the latest, by default (docs/plateau.md)."""


_say, _warn = functools.partial(say, name="PlateauDetector"), functools.partial(warn, name="PlateauDetector")


class PlateauDetector(Callback):
    """Watch the training loss, or a logged metric, and act when there is evidence of a plateau.

    The loss of every optimizer step (the mean over accumulated batches) goes to a `lrfinder.Detector`, which keeps it
    on its device. What counts as a plateau, and what is guaranteed, is said there. An event is told, goes to the
    loggers (``plateau/gain``, ``plateau/gain_high``, ``plateau/delta``, ``plateau/p_value``, ``plateau/level``) and is
    counted in the progress bar (``plateaus``).

    With several processes losses are averaged when they are looked at, and all decide alike.

    Args:
        on_plateau: "advise" does nothing more; "decay" lowers the learning rate; "stop" ends the training; a function
            is called with trainer, module and `Plateau`.
        factor: of "decay", in (0, 1): multiplies every learning rate, and what schedulers make of it, at every plateau
            until that gains less than the tolerance.
            By default the rates are annealed, linearly to zero over the remaining steps, in place of any scheduler.
        latest: share of the training, in (0, 1), after which the rates are annealed even without a plateau; None to
            leave them. By default ("auto") it is 0.3 for "decay" without ``factor``: the end of the training is known
            then, and not to anneal at all is what costs most.
        monitor: watch this logged metric; by default the loss that `training_step` returns. A metric that is logged
            per step is watched per step, any other when its epoch or validation ends.
        mode: "min" or "max", of that metric.
        on_failure: "warn" if training goes on, with one warning, when what was asked for cannot be done there: plateaus
            are then only reported; "raise" if that ends the fit.
        delta: see `lrfinder.Detector`, as are the others.
        alpha: highest rate of false alarms in the run.
        min_steps: fewest values since the learning rate last changed; by default 768 losses, or 24 values of a
            metric that comes once in an epoch.
        ahead: steps to come that are spoken of, epochs for a metric that comes once in each.

    Attributes:
        detector: the `lrfinder.Detector`.

    Raises:
        InputError: an argument breaks a rule; with ``on_failure="raise"``, what was asked for cannot be done in a fit.
        UnsupportedError: with ``on_failure="raise"``, schedulers of the module would undo a lower learning rate.
    """

    def __init__(
        self,
        on_plateau: str | Callable[[Any, Any, Plateau], object] = "advise",
        *,
        factor: float | None = None,
        latest: float | str | None = "auto",
        monitor: str | None = None,
        mode: str = "min",
        on_failure: str = "warn",
        delta: float | None = None,
        alpha: float = 0.05,
        min_steps: int | None = None,
        ahead: int | None = None,
    ) -> None:
        if on_plateau not in ("advise", "decay", "stop") and not callable(on_plateau):
            raise InputError(f"on_plateau must be advise, decay, stop or a function, got on_plateau = {on_plateau!r}")
        if factor is not None and (not isinstance(factor, (int, float)) or not 0 < factor < 1):
            raise InputError(f"factor must be in (0, 1), or None to anneal to zero, got factor = {factor!r}")
        if factor is not None and on_plateau != "decay":
            raise InputError(
                f"factor is for on_plateau decay, got factor = {factor!r} with on_plateau = {on_plateau!r}"
            )
        anneals = on_plateau == "decay" and factor is None
        if latest == "auto":
            latest = _LATEST if anneals else None
        if latest is not None and not (isinstance(latest, float) and 0 < latest < 1):
            raise InputError(
                f'latest must be a share of the training in (0, 1), "auto" or None, got latest = {latest!r}'
            )
        if latest is not None and not anneals:
            raise InputError(f"latest is for on_plateau decay without factor, got latest = {latest!r}")
        if mode != "min" and monitor is None:
            raise InputError(f"mode must be min without monitor, for a loss, got mode = {mode!r}")
        self.on_plateau, self.factor, self.monitor = on_plateau, factor, monitor
        self.latest: float | None = latest
        self._asked: dict[str, Any] = {"delta": delta, "alpha": alpha, "ahead": ahead, "mode": mode}
        self._min_steps = min_steps
        one_of("on_failure", on_failure, ("warn", "raise"))
        self.on_failure = on_failure
        self._forget()

    def _forget(self) -> None:
        least = _LEAST_OF_LOSSES if self._min_steps is None else self._min_steps
        self.detector = Detector(**self._asked, min_steps=least)
        self._installed: InstalledSchedule | None = None
        self._applied: AppliedRates | None = None
        self._watch: RateWatch | None = None
        self._failed = False
        self._sum = torch.zeros(())  # of the losses since the last optimizer step
        self._batches = 0
        self._rates: list[Any] = []
        self._told = False
        self._missed = 0  # ends of epochs at which the metric was not there
        self._step = 0
        self._per_step: bool | None = None  # whether the metric is logged per step; None before the first
        self._last: Any = None

    @property
    def state_key(self) -> str:
        """Under which a checkpoint keeps its state: one may watch the loss and another a metric."""
        return self._generate_state_key(monitor=self.monitor, mode=self._asked["mode"])

    @property
    def events(self) -> tuple[Plateau, ...]:
        """Every plateau found."""
        return self.detector.events

    def update(self, loss: Tensor | float, lr: Any = None) -> Plateau | None:
        """Take a loss by hand, as `lrfinder.Detector.update` does, in a loop without a trainer."""
        return self.detector.update(loss, lr)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Begin anew, unless the fit goes on."""
        if stage == "fit" and trainer.global_step == 0:  # a checkpoint is read later
            self._forget()

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Forget the fit before; what the checkpoint holds of ours is read next."""
        if trainer.state.fn == "fit":
            self._forget()

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Put back the rates of a fit that goes on, before Lightning restores its state from the checkpoint."""
        if self._installed is not None:
            install(trainer, self._installed, trainer.global_step)
        elif self._applied is not None:
            self._applied.again(trainer)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Complain now of what could not be done at the end of a long run."""
        if self.on_plateau == "decay" and self.factor is None:
            with self._failing_as_asked(trainer):
                check_annealing(trainer)
        if self._installed is not None and trainer.global_step >= self._installed.end:
            _warn(trainer, "trains on at a learning rate of zero: the annealing has ended")
        if trainer.world_size > 1:  # NCCL takes nothing from the host, where a metric may be kept
            strategy = trainer.strategy
            self.detector.average = lambda tensor: strategy.reduce(tensor.to(strategy.root_device))
        self._step = trainer.global_step

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Let one process alone look from now on: the others would not answer."""
        self.detector.average = None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Note the rates of the step: schedulers change them before it ends."""
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        self._rates = [group["lr"] for group in groups if group.get("lr") is not None]

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Take the loss of the step."""
        known = len(self.events)
        self._take_step(trainer, pl_module, outputs)
        if self.latest is not None and self._installed is None and not self._failed:
            whole = trainer.global_step + steps_to_come(trainer)
            if trainer.global_step >= self.latest * whole:
                _say(trainer, f"no plateau in {trainer.global_step} of {whole:g} steps")
                with self._failing_as_asked(trainer):
                    self._anneal(trainer)
        if len(self.events) > (0 if batch_idx == 0 else known):  # what is logged lasts for an epoch
            count = float(len(self.events))
            pl_module.log("plateaus", count, prog_bar=True, logger=False, on_step=True, on_epoch=False, batch_size=1)

    def _take_step(self, trainer: Any, pl_module: Any, outputs: Any) -> None:
        if self.monitor is not None:
            self._take_logged(trainer, pl_module)
            return
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            if not self._told and not pl_module.automatic_optimization:
                self._told = True
                _warn(
                    trainer, "sees no plateaus: training_step returns no single loss. Give PlateauDetector(monitor=...)"
                )
            return
        loss = loss.detach()
        if loss.dtype in (torch.float16, torch.bfloat16):  # many do not add up in it
            loss = loss.float()
        self._sum, self._batches = self._sum + loss if self._batches else loss, self._batches + 1
        if (step := trainer.global_step) == self._step:
            return
        self._step = step
        # Lightning divides the losses it hands on by the batches that it accumulates, also where the last are fewer.
        parts = trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1
        mean = self._sum if parts == self._batches else self._sum * (parts / self._batches)
        self._batches = 0
        self._take(trainer, pl_module, mean)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Read a metric that validation logs, where that does not come once in an epoch."""
        if not trainer.sanity_checking and trainer.state.fn == "fit" and not _once_in_an_epoch(trainer):
            self._take_of_epoch(trainer, pl_module, "validations")

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Read a metric of the epoch."""
        self._take_of_epoch(trainer, pl_module, "epochs")

    def _take_logged(self, trainer: Any, module: Any) -> None:
        """Take the metric where it is logged per step, which the first step tells."""
        if self._per_step is False:
            return
        value = trainer.callback_metrics.get(self.monitor)
        if self._per_step is None:
            self._per_step = value is not None
            if not self._per_step:
                self.detector.min_steps = LEAST_STEPS if self._min_steps is None else self._min_steps
        if value is not None and self._is_new(value):
            self._take(trainer, module, value)

    def _is_new(self, value: Tensor) -> bool:
        """Whether it was logged since the last time: if not, the one before stands there, in the same memory."""
        known, self._last = self._last, value
        return known is None or value.data_ptr() != known.data_ptr()

    def _take_of_epoch(self, trainer: Any, module: Any, unit: str) -> None:
        if self.monitor is None or self._per_step:
            return
        value = trainer.callback_metrics.get(self.monitor)
        if value is not None:
            if self._is_new(value):
                self.detector.unit = unit
                self._take(trainer, module, value)
        elif _all_is_logged(trainer, unit):
            self._missed += 1
            if self._missed != 2:  # what the module logs in on_train_epoch_end is there an epoch later
                return
            names = ", ".join(sorted(trainer.callback_metrics)) or "none"
            _warn(
                trainer, f"sees no plateaus: monitor must name a metric that is logged ({names}), got {self.monitor!r}"
            )

    def _take(self, trainer: Any, module: Any, value: Tensor) -> None:
        event = self.detector.update(value, self._rates)
        if event is None or self._installed is not None:
            return
        _say(trainer, str(event))
        _log(trainer, event)
        if callable(self.on_plateau):
            self.on_plateau(trainer, module, event)
        elif self.on_plateau == "stop":
            trainer.should_stop = True
        elif self.on_plateau == "decay" and not self._failed:
            with self._failing_as_asked(trainer):
                self._decay(trainer)

    @contextmanager
    def _failing_as_asked(self, trainer: Any) -> Iterator[None]:
        """Turn an error into a warning, if it was asked for; plateaus are only reported from then on."""
        try:
            yield
        except LRFinderError as error:
            if self.on_failure == "raise":
                raise
            self._failed = True
            _warn(trainer, f"reports plateaus and leaves the learning rate alone: {error}")

    def _decay(self, trainer: Any) -> None:
        if self.factor is None:
            self._anneal(trainer)
            return
        if len(self.events) > 1 and self.detector.gained(*self.events[-2:]) < self.events[-1].delta:
            _say(trainer, "left the learning rate as it is: the last time that it was lowered gained too little")
            return
        self._applied, self._watch = lower_rates(trainer, self.factor, self._applied)
        self.detector.restart()
        _say(trainer, f"multiplied the learning rate by {self.factor:g}")

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Check, in the first steps after the rate was lowered, that training is at it."""
        self._watch = self._watch if self._watch is not None and self._watch.look(trainer, optimizer) else None

    def _anneal(self, trainer: Any) -> None:
        replaced = replaces_text(schedulers_of(trainer))
        self._installed = anneal_rates(trainer)
        if self._installed is not None:
            left = self._installed.policy.total_steps
            _say(trainer, f"anneals the learning rate to zero over the remaining {left} steps{replaced}")

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as JSON-ready data."""
        installed = None if self._installed is None else self._installed.to_dict()
        applied = None if self._applied is None else self._applied.to_dict()
        state = {"detector": self.detector.state_dict(), "installed": installed, "applied": applied}
        settled = {name: getattr(self.detector, name) for name in ("unit", "min_steps")}
        return {**state, **settled, "per_step": self._per_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.detector.load_state_dict(state_dict["detector"])
        self.detector.unit = state_dict["unit"]
        if self._min_steps is None:
            self.detector.min_steps = state_dict["min_steps"]
        self._per_step, installed = state_dict["per_step"], state_dict["installed"]
        self._installed = None if installed is None else InstalledSchedule.from_dict(installed)
        applied = state_dict.get("applied")
        self._applied = None if applied is None else AppliedRates.from_dict(applied)


def _once_in_an_epoch(trainer: Any) -> bool:
    """Whether a metric of validation is there when a training epoch ends."""
    return not trainer.enable_validation or (trainer.val_check_interval == 1.0 and trainer.check_val_every_n_epoch == 1)


def _all_is_logged(trainer: Any, unit: str) -> bool:
    """Whether every metric has had its time, now that the first epoch or validation ends."""
    every = trainer.check_val_every_n_epoch
    if trainer.enable_validation and every is None:  # validation minds no epochs, of which there may be one, endless
        return unit == "validations"
    return unit == "epochs" and (not trainer.enable_validation or (trainer.current_epoch + 1) % every == 0)


def _log(trainer: Any, event: Plateau) -> None:
    names = ("gain", "gain_high", "delta", "p_value", "level")
    for logger in trainer.loggers:
        try:
            logger.log_metrics({f"plateau/{name}": getattr(event, name) for name in names}, step=trainer.global_step)
        except Exception as error:  # no reason to lose the run
            _say(trainer, f"{type(logger).__name__} did not take the plateau: {error}")
