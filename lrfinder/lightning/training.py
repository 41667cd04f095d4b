"""A Lightning Trainer, inside `fit`, as a trainee that can be probed without leaving a trace.

The probe loop calls Lightning's own optimization over extra iterators of the training data, so that precision,
clipping, accumulation and the module's hooks act as in training, and everything reachable is put back in place.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lrfinder.errors import InputError, UnsupportedError
from lrfinder.lightning.evaluation import Judge
from lrfinder.lightning.internals import (
    batches_per_step,
    check_supported,
    has_started,
    hook,
    on_device,
    schedulers_of,
    unwrapped,
)
from lrfinder.lightning.isolation import Epochs, mute, no_profiler, not_rewound, side_loaders, snapshot_of
from lrfinder.lightning.look_ahead import rates_ahead
from lrfinder.lightning.processes import TrainerProcesses
from lrfinder.probing.batch_cache import ProbeBatches
from lrfinder.probing.batches import endless, examples_per_step
from lrfinder.probing.runner import all_finite
from lrfinder.schedules.optimizer_lr import configured_lrs, own_lrs, reference_lr, set_lrs
from lrfinder.snapshot.snapshot import Snapshot, interrupts_deferred

_CLOCKS = ("_train_start_time", "_last_val_time")
"""Time-based validation counts from these; probing must not count."""

_LIMIT_OF_COURSE = 200_000
"""Maximum number of steps of a scheduler whose whole course is looked ahead."""

_MAX_SKIPPED = 100
"""Steps in a row for which `training_step` may return None."""


class LightningTraining:
    """The module a Trainer is about to train, or to train on, as a `lrfinder.probing.runner.Training`.

    Under DDP every process probes on its own shard, through a wrapper of its own, and all take the same decisions:
    losses are averaged over the processes before anyone looks at them.

    Args:
        trainer: inside ``fit``, at `on_train_start`: loaders, optimizers and a restored checkpoint are in place; or at
            the `on_train_epoch_start` of a later epoch.
        named: the learning rates that the module names, in order of preference.
        monitor: the metric of `validation_step` to judge by; None for the loss of `training_step`.
        mode: "min" or "max", of that metric.
        exact: whether data that cannot be rewound are refused; otherwise training begins where the search left them.
    """

    def __init__(
        self,
        trainer: Any,
        named: Sequence[float] = (),
        monitor: str | None = None,
        mode: str = "min",
        exact: bool = True,
    ) -> None:
        check_supported(trainer, exact)
        self.trainer, self.module = trainer, trainer.lightning_module
        self.processes = TrainerProcesses(trainer)
        self._begun_at = int(trainer.global_step)
        self.fresh = not has_started(trainer)
        self._exact = exact
        self._judge = Judge(trainer, monitor, mode, exact)
        self._batches: Iterator[Any] = iter(())
        self._batch_idx, self._accumulate, self._accumulating = 0, 1, False
        self._arguments: tuple[str, ...] = ()
        self._kept = ProbeBatches.none()
        self._more: tuple[str, ...] = ()
        configured = self.configured()
        self._configured = reference_lr(configured, [*named, *own_lrs(trainer.optimizers)])
        self._lrs, self._reference = configured, self._configured
        if not self.fresh:
            self._look_ahead()
        if not self._reference > 0:
            raise InputError(
                f"lr must be > 0 at some step to come, got {self._reference:g} from step {self._begun_at} on:"
                " the schedule has ended"
            )

    def configured(self) -> tuple[float, ...]:
        """Return the rate that the person configured for every group, over all optimizers."""
        return tuple(configured_lrs(self.trainer.optimizers, schedulers_of(self.trainer)))

    def follow_peaks(self, peaks: Sequence[float]) -> None:
        """Take the highest rates that the schedulers give for those that are searched, not the configured ones."""
        reference = peaks[self.configured().index(self._configured)]
        if reference > 0:
            self._lrs, self._reference = tuple(peaks), reference

    def lrs(self) -> tuple[float, ...]:
        """Return the highest rate to come of every group, over all optimizers: at first, the configured one."""
        return self._lrs

    def reference(self) -> float:
        """Return the rate the module names, else the optimizers' own, else the first."""
        return self._reference

    def as_configured(self, lr: float) -> tuple[float, float]:
        """Return the configured value that makes ``lr`` the highest reference rate to come, and the present one."""
        scaled = self._reference != self._configured
        return (lr / self._reference * self._configured if scaled else lr), self._configured

    def set_lrs(self, lrs: Sequence[float]) -> None:
        """Set the rate of every group, over all optimizers."""
        set_lrs(self._groups(), lrs)

    def caveats(self) -> tuple[str, ...]:
        """Say so where every step sees one batch, where training is under way, and what there was to judge by."""
        single = self.trainer.num_training_batches == 1
        one = ("Every step saw the same batch: the curve shows how fast that batch is learnt.",) if single else ()
        text = "of training: the rules of the search were measured on untrained models only."
        late = () if self.fresh else (f"Searched at step {self._begun_at} {text}",)
        return (*one, *late, *self._more, *self._judge.caveats, *self._kept.caveats)

    def step(self) -> Tensor:
        """Take one optimizer step, over as many batches as the trainer accumulates; return their mean loss."""
        self.processes.stop_if_terminated()
        expected = [group["lr"] for group in self._groups()]
        for _ in range(_MAX_SKIPPED if self.module.automatic_optimization else 1):
            if losses := self._losses_of_step():
                break
        else:
            raise UnsupportedError(
                "training_step must return the loss (a scalar tensor, or a dict with 'loss'), got none:"
                " with manual optimization too, since the range test has nothing else to record"
            )
        for group, lr in zip(self._groups(), expected, strict=False):  # the next step notices more or fewer
            if not isinstance(group["lr"], Tensor) and group["lr"] != lr:
                raise UnsupportedError(
                    "the module must leave the learning rate alone while it is searched (optimizer_step, training_step"
                    f" and hooks), got {group['lr']:g} where {lr:g} was set: move warmup and decay into an lr_scheduler"
                )
        # Lightning divides each loss by the number of batches accumulated: their sum is the mean, if none is missing.
        return torch.stack(losses).sum() * (self._accumulate / len(losses))

    def keep_batches(self, steps: int) -> bool:
        """Keep batches of the training data, and of the validation data where there are any that can be judged by."""
        monitor, validation = self._judge.monitor, self._judge.validation()
        if monitor is not None and validation is None:
            raise InputError(
                f"monitor must be a metric that validation_step logs, got {monitor!r} in a fit without validation"
            )
        error = self._keep(steps, validation)
        if validation is not None and not self.processes.all(error is None):
            reason = "in another process" if error is None else f"({str(error)[:80]})"
            self._more += (f"training_step could not take a validation batch {reason}: not judged by those.",)
            error = self._keep(steps, None)
        self._judge.in_train_mode = not self.processes.all(not self._judge.in_train_mode)
        with self.processes.together():
            if error is not None:
                returned = isinstance(error, InputError)
                what = "returned no loss" if returned else f"raised {type(error).__name__}"
                raise UnsupportedError(
                    f"training_step {what} for a held-out batch in eval mode, and has none for it in train mode either:"
                    f" pass monitor=, or method='range' ({str(error)[:80]})"
                ) from error
        for replay in (self._kept.training, self._kept.held_out):
            replay.shorten(self.processes.least(len(replay)))
        self._batches = self._kept.training
        return self.processes.all(self._kept.apart)

    def rewind(self) -> None:
        """Put everything back as it was and open the epoch again, at the first batch kept."""
        with interrupts_deferred():
            self._restore()
            self._isolate()
            self._kept.training.rewind()
        self._start()

    def evaluate(self) -> Tensor:
        """Return the loss of `training_step`, or the monitored metric, of each held-out batch of all processes."""
        with unwrapped(self.trainer.strategy):
            values = self._judge.evaluate(self._kept)
        return self.processes.gathered(values)

    def finite(self) -> bool:
        """Whether every parameter is finite."""
        return all_finite(self.module)

    def make_room(self) -> bool:
        """Move the snapshot to host memory, if it was on a device."""
        return self._snapshot.to_host()

    def epoch_steps(self) -> float | None:
        """Return the optimizer steps of an epoch; None for data without length."""
        batches = self.trainer.num_training_batches
        return batches / self._accumulate if math.isfinite(batches) else None

    def step_examples(self) -> int | None:
        """Return the examples of an optimizer step, over all processes; None for a loader that does not tell."""
        batches = batches_per_step(self.trainer) * int(self.trainer.world_size)
        return examples_per_step(self.trainer.train_dataloader, batches)

    def evaluates_training_loss(self) -> bool:
        """Whether the loss of `training_step` is what is minimised."""
        return self._judge.monitor is None

    @contextmanager
    def preserved(self) -> Iterator[None]:
        """Isolate the module, run the hooks that open an epoch, and put everything back in the end."""
        trainer, started = self.trainer, time.monotonic()
        snapshot = self._snapshot = self.snapshot()
        self._more += not_rewound(trainer, snapshot)
        try:
            with self.processes.second_wrapper():
                self._isolate()
                self._batches = endless(
                    side_loaders(trainer, self._exact), least=1 if trainer.num_training_batches == 1 else 2
                )
                # Opening an epoch draws a seed, which the run, its first epoch open already, will not draw again:
                # rewound, a probe sees the batches and the dropout that training will see (unless its first batches
                # are fetched, by workers or for data without length).
                snapshot.rewind_random()
                with torch.enable_grad():
                    self._start()
                    yield
        finally:
            with interrupts_deferred():
                self._batches = iter(())  # ends the workers before the random state goes back
                self._kept = ProbeBatches.none()
                self._restore()
                del self._snapshot
                for clock in _CLOCKS:
                    if isinstance(then := getattr(trainer, clock, None), float):
                        setattr(trainer, clock, then + time.monotonic() - started)

    @contextmanager
    def undone(self, keep: bool = False) -> Iterator[Snapshot]:
        """Put everything back in the end, or if ``keep`` after an error only; the profiler sees nothing meanwhile."""
        profiler, self.trainer.profiler = self.trainer.profiler, no_profiler(self.trainer)
        snapshot = self.snapshot()
        done = False
        try:
            yield snapshot
            done = True
        finally:
            with interrupts_deferred():
                if not (keep and done):
                    snapshot.restore()
                self.trainer.profiler = profiler

    def snapshot(self) -> Snapshot:
        """Record everything that a step, a hook or a write-back may change."""
        return snapshot_of(self.trainer, self._exact)

    def _restore(self) -> None:
        self._judge.restore()
        self._snapshot.restore()  # last, for the random state that the whole began with

    def _start(self) -> None:
        torch.set_grad_enabled(True)
        if self.fresh:
            hook(self.trainer, "on_train_start")
            self.trainer.strategy.on_train_start()
        hook(self.trainer, "on_train_epoch_start")

    def _isolate(self) -> None:
        """Mute what surrounds the module, until the snapshot is restored."""
        trainer, loop = self.trainer, self.trainer.fit_loop
        self._accumulate = trainer.accumulate_grad_batches = batches_per_step(trainer)
        mute(trainer)
        self._batch_idx = 0
        # Lightning steps early at the end of an epoch; a probe has no epochs.
        vars(loop)["_should_accumulate"] = lambda: self._accumulating

    def _keep(self, steps: int, validation: Iterable[Any] | None) -> Exception | None:
        """Keep batches; return what goes wrong when `training_step` is given those held out, if it is to judge."""
        batches = self.trainer.num_training_batches
        epoch = int(batches) if math.isfinite(batches) else None
        with self.processes.together():
            side = Epochs(side_loaders(self.trainer, self._exact), epoch)
            self._kept = ProbeBatches.of(side, steps * self._accumulate, validation, epoch=epoch)
        if self._judge.monitor is not None:
            return None
        with unwrapped(self.trainer.strategy):
            return self._judge.trial(self._kept)

    def _losses_of_step(self) -> list[Tensor]:
        """Train on the batches of one optimizer step; return the losses there were: None skips a batch."""
        losses: list[Tensor] = []
        for micro in range(1, self._accumulate + 1):
            self._accumulating = micro < self._accumulate
            batch, _, dataloader_idx = next(self._batches)
            loss = (self._train_on(batch, dataloader_idx) or {}).get("loss")
            if isinstance(loss, Tensor) and loss.numel() == 1:
                losses.append(loss.detach().reshape(()))
        return losses

    def _train_on(self, batch: Any, dataloader_idx: int) -> Any:
        trainer, loop = self.trainer, self.trainer.fit_loop.epoch_loop
        batch = on_device(trainer, batch, dataloader_idx)
        if hook(trainer, "on_train_batch_start", batch, self._batch_idx) == -1:
            self._batch_idx = 0  # the module ends the epoch here: go on as at the start of the next
            if hook(trainer, "on_train_batch_start", batch, 0) == -1:
                raise UnsupportedError("on_train_batch_start must not return -1 for the first batch of an epoch")
        batch_idx, self._batch_idx = self._batch_idx, self._batch_idx + 1
        trainer.strategy.on_train_batch_start(batch, batch_idx)
        if not self._arguments:  # Lightning inspects the signature of training_step at every step
            self._arguments = tuple(loop._build_kwargs(OrderedDict(), batch, batch_idx))
        arguments = OrderedDict(zip(self._arguments, (batch, batch_idx), strict=False))
        if self.module.automatic_optimization:
            outputs = loop.automatic_optimization.run(trainer.optimizers[0], batch_idx, arguments)
        else:
            outputs = loop.manual_optimization.run(arguments)
        hook(trainer, "on_train_batch_end", outputs, batch, batch_idx)
        return outputs

    def rates_to_come(self) -> list[float] | None:
        """Return the rates that the only scheduler will give the reference group; None where unknown."""
        configs = self.trainer.lr_scheduler_configs
        if len(configs) != 1 or not self.module.automatic_optimization:  # by hand, who knows when it steps
            return None
        ahead = rates_ahead(self.trainer, _LIMIT_OF_COURSE)
        rates = [row[self.configured().index(self._configured)] for row in ahead.rates]
        known = ahead.complete and not ahead.hidden and min(rates) >= 0 and max(rates) > 0
        return rates if known else None

    def _look_ahead(self) -> None:
        ahead = rates_ahead(self.trainer)
        self._lrs = ahead.peaks
        self._reference = self._lrs[self.configured().index(self._configured)]
        if ahead.hidden:
            self._more = (
                f"{', '.join(ahead.hidden)} could not be looked ahead: the schedule goes on from the suggestion as from"
                " the present rate.",
            )

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.trainer.optimizers for group in optimizer.param_groups]
