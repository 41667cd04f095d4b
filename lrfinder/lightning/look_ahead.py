"""The learning rates that the schedulers of a trainer will give, looked ahead, and whether training comes to them."""

from __future__ import annotations

import heapq
import itertools
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lrfinder.errors import UnsupportedError
from lrfinder.lightning.internals import (
    batches_per_step,
    epochs_left,
    hook,
    internals,
    live_data,
    steps_left,
    steps_of_epoch,
    steps_to_come,
    steps_to_epoch_end,
    warn,
)
from lrfinder.lightning.isolation import do_nothing, silence
from lrfinder.snapshot.snapshot import Snapshot

_LIMIT = 10_000
"""Maximum number of times that schedulers are stepped ahead, unless a caller asks for more."""

_WATCHED = 5
"""Number of optimizer steps that a `RateWatch` looks at."""

MARGIN = 20
"""Rows beyond the peak that are looked ahead to check a change of the rates."""

_SMALL = 1.07
"""Factor below which a change of the rates is too small to be recognised."""


@dataclass(frozen=True)
class RatesAhead:
    """The rates of every param group, over all optimizers, now and after each time that schedulers will step.

    Attributes:
        rates: one row per point in time, the first of them now; each with the learning rate of every group.
        steps: for each row, the optimizer steps from now until then.
        complete: whether the rows reach the end of training.
        hidden: class names of the schedulers that cannot be stepped alone, whose course is therefore unknown.
        by_metric: whether a scheduler follows a metric; the rates are then those without its changes.
        in_steps: whether ``steps`` are optimizer steps; otherwise they are epochs, of unknown length.
    """

    rates: tuple[tuple[float, ...], ...]
    steps: tuple[float, ...]
    complete: bool
    hidden: tuple[str, ...] = ()
    by_metric: bool = False
    in_steps: bool = True

    @property
    def peaks(self) -> tuple[float, ...]:
        """The highest learning rate of every group."""
        return tuple(max(column) for column in zip(*self.rates, strict=True))

    @property
    def constant(self) -> bool:
        """Whether no scheduler will ever change a rate, so that training is as without schedulers."""
        known = self.complete and not self.hidden and not self.by_metric
        return known and all(row == self.rates[0] for row in self.rates)

    def after(self, steps: float) -> tuple[float, ...]:
        """Return the rates after so many optimizer steps."""
        return self.rates[max(index for index, then in enumerate(self.steps) if then <= steps)]


def rates_ahead(trainer: Any, limit: int = _LIMIT, in_epoch: bool = False) -> RatesAhead:
    """Step the schedulers ahead as the trainer will, read the rates, and put everything back.

    The module's `lr_scheduler_step` is called as in training, with the trainer's step and epoch counters at their
    values of then. A scheduler that follows a metric is taken to stay where it is. There are at most ``limit`` rows
    after the first.
    """
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    configs = list(trainer.lr_scheduler_configs)
    by_metric = any(_follows_a_metric(config) for config in configs)
    rates, steps = [_rates(groups)], [0.0]
    hidden: dict[str, None] = {}
    ended: set[int] = set()
    complete = True
    if not configs:
        return RatesAhead(tuple(rates), tuple(steps), complete)
    calendar, module = _Calendar.of(trainer, in_epoch), trainer.lightning_module
    overridden = internals(trainer, "utilities.model_helpers").is_overridden
    by_module = module.automatic_optimization and overridden("lr_scheduler_step", module)
    try:
        snapshot = snapshot_of_rates(trainer, [*configs, *([module] if by_module else [])])
    except UnsupportedError:  # they draw their rates from a generator, which could not be rewound
        names = dict.fromkeys(type(config.scheduler).__name__ for config in configs)
        return RatesAhead(tuple(rates), tuple(steps), False, tuple(names), by_metric, calendar.in_steps)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, that no optimizer has stepped
            silence(module, do_nothing)
            for then, epoch, config in _times(trainer, configs, calendar):
                if len(rates) > limit:
                    complete = False
                    break
                if id(config) in ended:
                    continue
                try:
                    if by_module:
                        _step(trainer, config, then, epoch)
                    else:
                        config.scheduler.step()
                except ValueError:  # one-cycle refuses to go on past its end
                    ended.add(id(config))
                except Exception:  # it needs an argument, such as the metric
                    ended.add(id(config))
                    hidden[type(config.scheduler).__name__] = None
                if then == steps[-1]:
                    rates[-1] = _rates(groups)
                else:
                    rates.append(_rates(groups))
                    steps.append(then)
    finally:
        snapshot.restore()
    return RatesAhead(tuple(rates), tuple(steps), complete, tuple(hidden), by_metric, calendar.in_steps)


def snapshot_of_rates(trainer: Any, stepped: Sequence[Any] = ()) -> Snapshot:
    """Record what changing rates and stepping schedulers may change: not parameters, nor the state of optimizers.

    Args:
        stepped: what will be stepped ahead.

    Raises:
        UnsupportedError: something that is stepped holds what cannot be rewound.
    """
    module, strategy = trainer.lightning_module, trainer.strategy
    tensors = [*module.parameters(), *module.buffers()]
    states = [optimizer.state for optimizer in trainer.optimizers]
    wrapper = [] if strategy.model is module else [strategy.model]
    roots = (module, trainer.fit_loop, strategy._optimizers, strategy.lr_scheduler_configs)
    parts = {id(part) for part in module.modules()}  # one of them can be a callback too, and is muted with the others
    callbacks = [callback for callback in trainer.callbacks if id(callback) not in parts]
    leave = [trainer, strategy, *wrapper, *live_data(trainer), *callbacks, *trainer.loggers, *tensors, *states]
    return Snapshot(*stepped, lenient=roots, leave=leave, exact_data=False)


def _rates(groups: list[dict[str, Any]]) -> tuple[float, ...]:
    return tuple(float(group.get("lr") or 0.0) for group in groups)


def _follows_a_metric(config: Any) -> bool:
    return bool(config.reduce_on_plateau) or hasattr(config.scheduler, "num_bad_epochs")


def _times(trainer: Any, configs: list[Any], calendar: _Calendar) -> Iterator[tuple[float, int, Any]]:
    """Yield when each scheduler will step, in order: time from now, the epoch, and its configuration."""
    stepping = [config for config in configs if not _follows_a_metric(config)]
    courses = [zip(calendar.times(config), itertools.repeat(number)) for number, config in enumerate(stepping)]
    for (then, epoch), number in heapq.merge(*courses):
        yield then, epoch, stepping[number]


@dataclass(frozen=True)
class _Calendar:
    """When epochs end and steps are taken.

    Where the length of an epoch is unknown, and no scheduler steps within epochs, epochs are counted instead of steps.

    Attributes:
        epoch: the present epoch.
        done: optimizer steps of it that have been taken.
        each: optimizer steps of an epoch.
        last: the last time before which a step is still taken afterwards.
        batches: batches of an epoch.
        per_step: batches of an optimizer step.
        in_steps: whether times are optimizer steps.
    """

    epoch: int
    done: float
    each: float
    last: float
    batches: float
    per_step: int
    in_steps: bool

    @classmethod
    def of(cls, trainer: Any, in_epoch: bool) -> _Calendar:
        each, last = steps_of_epoch(trainer), (steps_to_come(trainer) if in_epoch else steps_left(trainer)) - 1
        within = any(config.interval == "step" for config in trainer.lr_scheduler_configs)
        in_steps = within or math.isfinite(each)
        if not in_steps:
            each, last = 1.0, epochs_left(trainer) - 1
        rest = steps_to_epoch_end(trainer) if in_epoch and in_steps else each
        done = each - rest if math.isfinite(each) else 0
        epoch = trainer.current_epoch + int(rest == 0)
        batches = float(trainer.num_training_batches)
        return cls(epoch, 0 if rest == 0 else done, each, last, batches, batches_per_step(trainer), in_steps)

    def times(self, config: Any) -> Iterator[tuple[float, int]]:
        """Yield the times at which a scheduler steps, each with its epoch."""
        unused = 0.0
        for count in itertools.count():
            if config.interval == "epoch":
                then, epoch = self.each - self.done + count * self.each, self.epoch + count
                due = (epoch + 1) % config.frequency == 0
            else:
                step = self.done + count  # before which that many steps of the present epoch and later ones are taken
                passed = int(step // self.each) if math.isfinite(self.each) else 0
                then, epoch = count + 1.0, self.epoch + passed
                taken = step - passed * self.each + 1 if passed else step + 1
                due = int(min(taken * self.per_step, self.batches)) % config.frequency == 0
            if then > self.last or not math.isfinite(then) or unused > 2 * self.each + 1000:
                return
            unused = 0.0 if due else unused + 1
            if due:
                yield then, epoch


def _step(trainer: Any, config: Any, then: float, epoch: int) -> None:
    """Let the module step one scheduler, with the trainer's counters as they will be at that time."""
    loop = trainer.fit_loop
    progress = loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total
    held = progress.completed, loop.epoch_progress.current.completed, loop.epoch_progress.current.processed
    progress.completed += int(then)
    loop.epoch_progress.current.completed = loop.epoch_progress.current.processed = epoch
    try:
        hook(trainer, "lr_scheduler_step", config.scheduler, None)
    finally:
        progress.completed, loop.epoch_progress.current.completed, loop.epoch_progress.current.processed = held


def follows(trainer: Any, before: RatesAhead, factor: float, in_epoch: bool = False) -> bool:
    """Return whether the rates to come are now multiplied by ``factor``, at the first step and at the peak to come.

    True if schedulers cannot be looked ahead. Rates need not be exact multiples, since schedules may have floors: what
    is asked is that they are nearer to the new than to the old ones.
    """
    if before.hidden or abs(math.log(factor)) < math.log(_SMALL):
        return True
    rows = before.rates
    later = range(1, len(rows))
    columns = list(zip(*rows, strict=True))
    peaks = [max(later, key=column.__getitem__, default=0) for column in columns]
    ahead = rates_ahead(trainer, max(peaks) + MARGIN, in_epoch)
    if ahead.hidden:  # a scheduler that raises at the new rates, which it did not at the old ones
        return False
    after = ahead.rates
    for group, peak in enumerate(peaks):
        highest = max(columns[group])
        at = {peak, *([0] if rows[0][group] > 0.5 * highest else [])}
        for row in at if highest > 0 else ():
            old, new = rows[row][group], after[row][group] if row < len(after) else 0.0
            if old > 0 and (new <= 0 or abs(math.log(new / (old * factor))) > 0.5 * abs(math.log(factor))):
                return False
    return True


@dataclass
class RateWatch:
    """Compares the rates of the first optimizer steps with those that were written, and warns of a difference.

    A callback that has read the rate before it was changed, for one, may set it again.

    Attributes:
        expected: the rates to come, after the write-back.
        old: those before it.
        since: the optimizer step of the trainer at which the rates were written.
        name: the callback that wrote them.
    """

    expected: RatesAhead
    old: RatesAhead
    since: int
    name: str = "LRFinder"

    @classmethod
    def of(cls, trainer: Any, old: RatesAhead, name: str = "LRFinder", in_epoch: bool = False) -> RateWatch:
        """Watch the steps to come, at which the rates are as written now."""
        return cls(rates_ahead(trainer, _WATCHED, in_epoch), old, int(trainer.global_step), name)

    def look(self, trainer: Any, optimizer: Any) -> bool:
        """Compare the rates of a step that is about to be taken; return whether to look at the next step too."""
        step = trainer.global_step - self.since
        if not 0 <= step < (_WATCHED if trainer.lightning_module.automatic_optimization else 1):
            return False
        row = 0
        for other in trainer.optimizers:
            groups = other.param_groups
            if other is optimizer:
                for index, group in enumerate(groups, start=row):
                    if index < len(self.expected.rates[0]) and not self._as_expected(trainer, index, group, step):
                        return False
            row += len(groups)
        return True

    def _as_expected(self, trainer: Any, index: int, group: Any, step: int) -> bool:
        got, expected = float(group["lr"]), self.expected.after(step)[index]
        known = self.expected.in_steps and not self.expected.hidden and not self.expected.by_metric
        if known or step == 0:
            wrong = not math.isclose(got, expected, rel_tol=1e-3, abs_tol=1e-30)
        else:  # only a return to the old rate is recognised
            expected, old = self.expected.rates[0][index], self.old.rates[0][index]
            wrong = math.isclose(got, old, rel_tol=1e-6) and not math.isclose(expected, old, rel_tol=1e-6)
        if wrong:
            warn(
                trainer,
                f"wrote a learning rate with which step {trainer.global_step} should be at {expected:.3g}, but it is at"
                f" {got:.3g}: something else sets the rate too (a callback, a hook, a scheduler). Training follows only"
                " if that starts from the rate that was written: check it, and let it read the optimizer's lr in"
                " on_train_start",
                self.name,
            )
        return not wrong
