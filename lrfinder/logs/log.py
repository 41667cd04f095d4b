"""`TrainingLog`: one metric of one training as it was logged, with its learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrfinder.errors import InputError

MAX_STEPS = 3_000_000
"""Maximum length of a training to forecast: the rates of a dozen schedules are held step by step, 24 MB each."""

_LARGEST_LOSS = 1e30
"""Maximum size of a loss that a law can be fitted to: no training gives more, and its square would soon overflow."""

_LARGE_GAP = 0.1
"""Maximum share of a log over which the rate may change between two rows without a caveat."""

Array = NDArray[np.float64]

Steps = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TrainingLog:
    """One metric of one training, the loss as a rule, and the learning rate behind it.

    Metric and rate are kept as they were logged, at steps of their own: Lightning writes them to different rows. A row
    was written after that many optimizer steps.

    Args:
        name: usually the path of the file.
        step: (n,) whole numbers of at least 0, strictly increasing, n >= 1.
        value: (n,) the metric; NaN throughout if None, for a training of which only the rates are known.
        lr: (m,) learning rates, finite and >= 0; a single number if the rate never changed; None if it is not known.
        lr_step: (m,) steps of the learning rates, like ``step``; by default ``step`` itself.
        column: what the metric is called in the file.
        caveats: what is wrong with the log, in sentences.
        read_as: the format of the file, and which column was taken as what; empty for a log from memory.

    Attributes:
        step: (n,) int64.
        value: (n,) float64; a value that is not finite counts as skipped.
        lr_step: (m,) int64; empty if the rate is not known.
        lr: (m,) float64; None if the rate is not known.

    Raises:
        InputError: an argument breaks the rule stated with it.
    """

    name: str
    column: str
    step: Steps
    value: Array
    lr_step: Steps
    lr: Array | None
    caveats: tuple[str, ...]
    read_as: str

    def __init__(
        self,
        name: str,
        step: ArrayLike,
        value: ArrayLike | None = None,
        lr: ArrayLike | None = None,
        *,
        lr_step: ArrayLike | None = None,
        column: str = "loss",
        caveats: Sequence[str] = (),
        read_as: str = "",
    ) -> None:
        rows = np.array(step)
        values = np.full(rows.shape, np.nan) if value is None else np.array(value, dtype=np.float64)
        rate_rows = np.array(step if lr_step is None else lr_step)
        lrs = None if lr is None else np.array(lr, dtype=np.float64)
        if lrs is None:
            rate_rows = np.empty(0)
        elif lrs.ndim == 0:
            lrs = np.full(rate_rows.shape, lrs)
        _check(name, rows, column, values)
        if lrs is not None:
            _check(name, rate_rows, "lr", lrs)
            _require(name, (lrs >= 0) & (lrs < 1e100), "lr must be finite and at least 0", lrs, rate_rows)
        fields = {
            "name": name,
            "column": column,
            "step": rows.astype(np.int64),
            "value": values,
            "lr_step": rate_rows.astype(np.int64),
            "lr": lrs,
            "caveats": tuple(caveats),
            "read_as": read_as,
        }
        for field, given in fields.items():
            if isinstance(given, np.ndarray):
                given.setflags(write=False)
            object.__setattr__(self, field, given)

    def __len__(self) -> int:
        return int(self.step.size)

    def __repr__(self) -> str:
        return f"TrainingLog({self.name}: {self.column}, {len(self)} rows, steps {self.step[0]} to {self.step[-1]})"

    @property
    def skipped(self) -> int:
        """Number of values that are not finite."""
        return int((~np.isfinite(self.value)).sum())

    @property
    def has_loss(self) -> NDArray[np.bool_]:
        """(n,) whether the value is a loss that a law can be fitted to: finite, and not beyond 1e30."""
        return np.abs(self.value) <= _LARGEST_LOSS

    @property
    def last_step(self) -> int:
        """The last step of which anything was logged."""
        return int(max(self.step[-1], *self.lr_step[-1:]))

    @property
    def peak_lr(self) -> float:
        """The highest learning rate logged."""
        return float(self.require_lr().max())

    def held_lr(self) -> Array | None:
        """Return the rate last logged at each row of the metric, (n,), or the first one before it; None if unknown."""
        if self.lr is None:
            return None
        return self.lr[np.maximum(np.searchsorted(self.lr_step, self.step, "right") - 1, 0)]

    def require_lr(self) -> Array:
        """Return the (m,) learning rates logged, if they can be followed step by step.

        Raises:
            InputError: no learning rate or only 0 was logged, the log has a single row, or is longer than `MAX_STEPS`.
        """
        if self.lr is None:
            raise InputError(
                f"{self.name}: needs learning rates, got none: log them with the loss (in Lightning by"
                " LearningRateMonitor), or name their column with --lr-column"
            )
        if len(_union(self.step, self.lr_step)) < 2:
            raise InputError(f"{self.name}: needs at least 2 rows, got 1")
        if self.last_step > MAX_STEPS:
            raise InputError(f"{self.name}: every step must be at most {MAX_STEPS}, got {self.last_step}")
        if not self.lr.max() > 1e-100:
            raise InputError(f"{self.name}: some lr must be above 0, got only {self.lr.max():g}")
        return self.lr

    def every_lr(self) -> Array:
        """Return the learning rate of every step, (last_step + 1,).

        The rate is linear between rows and constant after the last one. Before the first row it is linear from 0 at
        step 0, because most logs begin where warmup ends.

        Raises:
            InputError: see `require_lr`.
        """
        logged, first = self.require_lr(), int(self.lr_step[0])
        lr = np.interp(np.arange(self.last_step + 1), self.lr_step, logged)
        lr[:first] = logged[0] * np.arange(first) / max(first, 1)
        return lr

    @cached_property  # asked often, of up to three million steps
    def warmup_steps(self) -> int:
        """Number of steps until the learning rate first reaches its peak, see `end_of_warmup`."""
        return end_of_warmup(self.every_lr())

    def step_caveats(self) -> list[str]:
        """Return the caveats, and what has to be left out or assumed to follow loss and rate step by step.

        Raises:
            InputError: see `require_lr`.
        """
        unseen = np.where(np.diff(self.require_lr()) != 0, np.diff(self.lr_step), 0)
        caveats, skipped = list(self.caveats), self.skipped
        if 0 < skipped < len(self):
            caveats.append(f"{skipped} of {len(self)} losses are not finite and were left out.")
        if large := len(self) - skipped - int(self.has_loss.sum()):
            caveats.append(f"{large} losses beyond {_LARGEST_LOSS:g} were left out.")
        if self.step[-1] > self.lr_step[-1]:
            caveats.append(
                f"The last learning rate was logged at step {self.lr_step[-1]}; it is assumed to stay until the last"
                " loss."
            )
        if unseen.size and unseen.max() > _LARGE_GAP * self.last_step and _union(self.step, self.lr_step).size > 2:
            i = int(unseen.argmax())
            caveats.append(
                f"The learning rate changed between steps {self.lr_step[i]} and {self.lr_step[i + 1]} and was not"
                " logged in between; the change is assumed to be linear."
            )
        return caveats


def end_of_warmup(lr: Array) -> int:
    """Return the step at which the first rise ends: ``lr`` then reaches the maximum of what precedes its first fall.

    A rise in stairs, as of a warmup by epochs, is one rise. ``lr`` is that of every step, (n,).
    """
    falls = np.flatnonzero(np.diff(lr) < 0)
    rise = lr[: falls[0] + 1] if falls.size else lr
    return int(np.argmax(rise >= rise[-1] * (1 - 1e-9)))  # interpolation may err in the last digit


def _check(name: str, step: Array, what: str, value: Array) -> None:
    if step.ndim != 1 or value.shape != step.shape:
        raise InputError(f"{name}: step and {what} must be lists of one length, got shapes {step.shape}, {value.shape}")
    if not step.size:
        raise InputError(f"{name}: a log needs at least one row, got none")
    _require(name, (step >= 0) & (step == np.floor(step)), "step must be a whole number of at least 0", step)
    falls = np.flatnonzero(np.diff(step) <= 0)
    if falls.size:
        i = int(falls[0])
        raise InputError(f"{name}: step must be strictly increasing, got {int(step[i + 1])} after {int(step[i])}")


def _union(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return all steps of two increasing lists, increasing; `numpy.union1d` takes a hundred times as long."""
    if np.array_equal(one, other):
        return one
    both = np.sort(np.concatenate([one, other]))
    return np.asarray(both[np.diff(both, prepend=-1) > 0], dtype=np.int64)


def _require(name: str, holds: NDArray[np.bool_], rule: str, value: Array, step: Array | None = None) -> None:
    if not holds.all():
        i = int(np.argmin(holds))
        place = f"in row {i + 1}" if step is None else f"at step {int(step[i])}"
        raise InputError(f"{name}: every {rule}, got {value[i]:g} {place}")
