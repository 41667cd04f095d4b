"""Writing a learning rate where training will read it, and proving that training will follow it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from lrfinder.errors import InputError, UnsupportedError
from lrfinder.lightning.internals import configure_again, say, schedulers_of
from lrfinder.lightning.isolation import do_nothing
from lrfinder.lightning.look_ahead import MARGIN, RatesAhead, RateWatch, follows, rates_ahead, snapshot_of_rates
from lrfinder.lightning.module_lr import Path, number_at, put_numbers, settable
from lrfinder.lightning.training import LightningTraining
from lrfinder.schedules import configuration
from lrfinder.schedules.optimizer_lr import apply_lr, configured_lrs, reference_lr, scaled_lrs
from lrfinder.snapshot.snapshot import Snapshot

Own = tuple[configuration.Path, ...]
"""Where schedulers keep values of their own that were scaled."""

_REHEARSED = 2.0
"""Factor by which the rates are multiplied in a rehearsal, which is then put back."""

_MAX_COMPARED = 100
"""Maximum number of numbers of a table that are compared."""

_LOOKED_AT = 50
"""Number of times that schedulers are stepped ahead to see whether a lower rate lasts."""

_MAX_TRIALS = 40
"""Maximum number of combinations of a scheduler's own values that are tried."""


class WriteBack:
    """Writes a learning rate into a Lightning training.

    What the schedulers will give is looked up before and after. Preferred: set the module's numbers, configure the
    optimizers once more at the old and at the new rate, and copy what differs: just what setting the rate by hand
    gives. Otherwise, scale what is in units of the learning rate, see `scale_rates`.

    Args:
        before: the rates to come, as they are.
        scheduled: whether the present schedulers will go on driving the optimizers.

    Attributes:
        numbers: where the module keeps its learning rate, those places that can be set.
        own: where the schedulers keep values of their own that have to be scaled, once known.
        by_peak: whether the number that the person named is the peak of the schedule, and not the rate at its start.
    """

    def __init__(
        self, trainee: LightningTraining, numbers: Sequence[Path], before: RatesAhead, scheduled: bool
    ) -> None:
        self._trainee, self._trainer, self._module = trainee, trainee.trainer, trainee.module
        self.numbers, self.before = list(numbers), before
        self._scheduled = scheduled and bool(self._trainer.lr_scheduler_configs)
        self.own: Own = ()
        self.by_peak = self._named = False

    def rehearse(self, attribute: str | None = None) -> None:
        """Write another rate and put everything back, to learn how to write and whether training will follow.

        Where schedulers take the rate from values of their own, or ``attribute`` is their peak, the highest rate that
        they give becomes the reference of the training. ``attribute`` is where the person says that the module keeps
        its rate.
        """
        trainee, self._named = self._trainee, attribute is not None
        with trainee.undone():
            possible = settable(self._module, self.numbers, _REHEARSED)
        if self._named and not possible:
            raise InputError(f"attribute must name a number that can be set, got {attribute!r}, which is read-only")
        self.numbers = possible
        with trainee.undone() as snapshot:
            self._write(snapshot, trainee.reference() * _REHEARSED)
        if (self.own or self.by_peak) and trainee.fresh:
            trainee.follow_peaks(self.before.peaks)

    def __call__(self, snapshot: Snapshot, lr: float) -> tuple[float, ...]:
        """Write ``lr``, the reference rate to come; return the new peak of every group. The caller undoes a failure."""
        trainee = self._trainee
        self._write(snapshot, lr)
        if trainee.fresh and not (self.own or self.by_peak):
            return trainee.configured()
        return scaled_lrs(trainee.lrs(), lr, trainee.reference())

    def _write(self, snapshot: Snapshot, lr: float) -> None:
        trainee, factor = self._trainee, lr / self._trainee.reference()
        peak, reference = trainee.as_configured(lr)

        def holds() -> bool:
            return not self._scheduled or follows(self._trainer, self.before, factor)

        numbers = self._scaled_numbers(lr if self.by_peak else peak, peak / reference)

        def set_numbers() -> None:
            put_numbers(self._module, numbers)

        expected = scaled_lrs(trainee.configured(), peak, reference)
        if self.numbers and trainee.fresh and not self.own:
            self._configure(snapshot, set_numbers)
            if _all_close(trainee.configured(), expected) and holds():
                return
            if self._named and self._peaks_follow(factor):
                self.by_peak = True
                return
            snapshot.restore()
        self.own = scale_rates(self._trainer, snapshot, peak, reference, holds, self.own, set_numbers)

    def _peaks_follow(self, factor: float) -> bool:
        """Whether the highest rate that the schedulers will give every group is multiplied by a factor."""
        if not self._scheduled or self.before.hidden:
            return False
        return _all_close(rates_ahead(self._trainer).peaks, [peak * factor for peak in self.before.peaks])

    def _configure(self, snapshot: Snapshot, set_numbers: Callable[[], None]) -> None:
        """Copy into the live objects what differs if the module configures its optimizers at the new rate."""
        trainer, module = self._trainer, self._module
        try:
            old, kept = configure_again(trainer), _plain_numbers(module)
            snapshot.restore()
            set_numbers()
            new, derived = configure_again(trainer), _plain_numbers(module)
        except Exception as error:
            snapshot.restore()
            say(trainer, f"configure_optimizers cannot run twice ({error}); scaling the optimizers instead")
            return
        snapshot.restore()
        set_numbers()
        live = (trainer.optimizers, schedulers_of(trainer))
        if [*map(len, old)] == [*map(len, new)] == [*map(len, live)]:
            # What the module has derived from its rate in `configure_optimizers` goes with it.
            changed = {name: value for name, value in derived.items() if kept.get(name, value) != value}
            vars(module).update({name: value for name, value in changed.items() if name in vars(module)})
            set_numbers()
            configuration.adopt_differences(live, old, new)

    def _scaled_numbers(self, peak: float, factor: float) -> dict[Path, float]:
        """Return what the numbers that stand for the rate become; one that is not the rate itself is scaled along."""

        def scaled(value: float) -> float:
            return peak if math.isclose(value * factor, peak, rel_tol=1e-9) else value * factor

        held = {path: number_at(self._module, path) for path in self.numbers}
        return {path: scaled(value) for path, value in held.items() if value is not None}


@dataclass(frozen=True)
class AppliedRates:
    """A change of the rates that a fit which goes on has to repeat, since it configures its optimizers anew.

    Attributes:
        before: the configured learning rate of every param group before the first change.
        after: the same after the last change.
        own: what schedulers keep of their own and was scaled: path, first numbers, factor.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]
    own: tuple[tuple[configuration.Path, tuple[float, ...], float], ...] = ()

    @classmethod
    @contextmanager
    def recorded(cls, trainer: Any, previous: AppliedRates | None) -> Iterator[list[AppliedRates]]:
        """Record the change that the block makes; the list that is yielded holds the record afterwards."""
        schedulers = schedulers_of(trainer)
        before = tuple(configured_lrs(trainer.optimizers, schedulers))
        values = {path: _values(schedulers, path) for path in configuration.own_values(schedulers)}
        record: list[AppliedRates] = []
        yield record
        if schedulers_of(trainer) != schedulers:
            return
        known = {path: (first, factor) for path, first, factor in (() if previous is None else previous.own)}
        for path, old in values.items():
            if (new := _values(schedulers, path)) != old:
                first, factor = known.get(path, (old, 1.0))
                known[path] = (first, factor * max(new) / max(old))
        own = tuple((path, first, factor) for path, (first, factor) in known.items())
        after = tuple(configured_lrs(trainer.optimizers, schedulers))
        record.append(cls(before if previous is None else previous.before, after, own))

    def again(self, trainer: Any) -> None:
        """Repeat the change on optimizers and schedulers that are as before it; leave any others."""
        schedulers = schedulers_of(trainer)
        pairs = [(old, new) for old, new in zip(self.before, self.after, strict=True) if old > 0]
        if pairs and _all_close(configured_lrs(trainer.optimizers, schedulers), self.before):
            old, new = pairs[0]
            _apply(trainer, new, old)
        for path, first, factor in self.own:
            with suppress(LookupError, AttributeError, TypeError):  # the schedulers are others now
                if _all_close(_values(schedulers, path), first):
                    exact = dict(zip(self.before, self.after, strict=True))
                    configuration.scale_values(schedulers, path, factor, exact)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        own = [[list(path), list(first), factor] for path, first, factor in self.own]
        return {"before": list(self.before), "after": list(self.after), "own": own}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AppliedRates:
        """Rebuild it from `to_dict`."""
        own = tuple((tuple(path), tuple(first), factor) for path, first, factor in data["own"])
        return cls(tuple(data["before"]), tuple(data["after"]), own)


def _values(schedulers: Sequence[Any], path: configuration.Path) -> tuple[float, ...]:
    """Return the first of the numbers at a path: enough to recognise them."""
    return tuple(configuration.values_at(schedulers, path)[:_MAX_COMPARED])


def scale_rates(
    trainer: Any,
    snapshot: Snapshot,
    lr: float,
    reference: float,
    holds: Callable[[], bool],
    own: Own = (),
    also: Callable[[], None] = do_nothing,
    in_epoch: bool = False,
) -> Own:
    """Scale everything in units of the learning rate in live optimizers and schedulers, until it has an effect.

    First what torch's own schedulers and all optimizers keep. If the schedulers to come would undo that, also values of
    their own: first those that stand in their schedule, then each, each pair, and all.

    Args:
        lr: the new configured learning rate, in place of ``reference``.
        holds: whether training would now follow the new rates.
        own: the schedulers' own values that are known to be needed.
        also: what else to set, each time.

    Returns:
        The schedulers' own values that were scaled too.

    Raises:
        UnsupportedError: training would not follow; the snapshot has been restored.
    """
    schedulers = schedulers_of(trainer)
    course = {rate for row in rates_ahead(trainer, MARGIN, in_epoch).rates for rate in row} | {reference}
    for paths in (own,) if own else _combinations(schedulers, course):
        exact = _apply(trainer, lr, reference)
        for path in paths:
            configuration.scale_values(schedulers, path, lr / reference, exact)
        also()
        if holds():
            return tuple(paths)
        snapshot.restore()
    names = " and ".join(type(scheduler).__name__ for scheduler in schedulers)
    raise UnsupportedError(
        f"the learning rate cannot be changed here: {names} takes it from where it cannot be reached, so that training"
        " would go on at the old rate: let it start from the optimizer's lr, or from a number of the module that"
        " attribute= names"
    )


def _apply(trainer: Any, lr: float, reference: float) -> dict[float, float]:
    """Scale what optimizers and torch's schedulers keep; return the exact new rates by the old ones."""
    schedulers = schedulers_of(trainer)
    before = configured_lrs(trainer.optimizers, schedulers)
    for optimizer in trainer.optimizers:
        old = optimizer.defaults.get("lr")
        if old is not None:
            new = scaled_lrs([float(old)], lr, reference)[0]
            vars(optimizer).update(configuration.rebuilt_differences(optimizer, float(old), new))
    after = apply_lr(trainer.optimizers, lr, schedulers, reference)
    return dict(zip(before, after, strict=True))


def _combinations(schedulers: Sequence[Any], course: set[float]) -> Iterator[Own]:
    """Yield which of the schedulers' own values to scale, the likeliest first, at most `_MAX_TRIALS`."""
    yield ()
    values = list(configuration.own_values(schedulers))
    in_course = {
        path: any(math.isclose(*pair, rel_tol=1e-9) for pair in itertools.product(_values(schedulers, path), course))
        for path in values
    }
    rates = tuple(path for path in values if in_course[path])
    tried: dict[Own, None] = {(): None}
    for paths in (rates, *((path,) for path in values), *itertools.combinations(values, 2), tuple(values)):
        if paths not in tried and len(tried) < _MAX_TRIALS:
            tried[paths] = None
            yield paths


def lower_rates(trainer: Any, factor: float, applied: AppliedRates | None) -> tuple[AppliedRates | None, RateWatch]:
    """Multiply all learning rates, and what schedulers make of them, by a factor below 1, within an epoch.

    Returns:
        What has been changed by now, for a fit that goes on, and what watches the next steps.

    Raises:
        UnsupportedError: the schedulers would undo it; nothing has been changed.
    """
    before = rates_ahead(trainer, _LOOKED_AT, in_epoch=True)
    reference = reference_lr(configured_lrs(trainer.optimizers, schedulers_of(trainer)))
    snapshot = snapshot_of_rates(trainer)

    def holds() -> bool:
        return follows(trainer, before, factor, in_epoch=True)

    with AppliedRates.recorded(trainer, applied) as record:
        scale_rates(trainer, snapshot, reference * factor, reference, holds, in_epoch=True)
    return record[0], RateWatch.of(trainer, before, "PlateauDetector", in_epoch=True)


def _plain_numbers(module: Any) -> dict[str, Any]:
    """Return the plain numbers among a module's attributes."""
    return {name: value for name, value in vars(module).items() if type(value) in (int, float)}


def _all_close(got: Sequence[float], expected: Sequence[float]) -> bool:
    return len(got) == len(expected) and all(
        math.isclose(a, b, rel_tol=1e-6) for a, b in zip(got, expected, strict=True)
    )
