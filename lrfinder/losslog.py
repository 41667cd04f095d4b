"""`LossLog`: learning rate and loss of a whole training, as it was logged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrfinder.errors import InputError

__all__ = ["MAX_STEPS", "LossLog", "end_of_warmup"]

MAX_STEPS = 3_000_000
"""Longest training: the learning rates of a dozen schedules are held step by step, 24 MB each."""

_LARGE_GAP = 0.1
"""Share of the log; a learning rate that changed unseen for longer is a guess."""

_LARGEST_LOSS = 1e30
"""Nothing that was trained; its square would soon overflow."""


@dataclass(frozen=True, eq=False)
class LossLog:
    """What one training logged. Row ``i`` was written after ``step[i]`` optimizer steps.

    Attributes:
        name: the file, say.
        step: (n,) int64, strictly increasing, from 0 to `MAX_STEPS`.
        lr: (n,) float64, finite, >= 0, not all 0: the learning rate of that step.
        loss: (n,) float64, NaN where none was logged; one beyond 1e30 is left out, with a caveat.
        caveats: what was amiss with the log, in sentences.

    Raises:
        InputError: a field breaks the rule stated with it, or there are fewer than two rows.
    """

    name: str
    step: NDArray[np.int64]
    lr: NDArray[np.float64]
    loss: NDArray[np.float64]
    caveats: tuple[str, ...] = ()

    def __init__(
        self, name: str, step: ArrayLike, lr: ArrayLike, loss: ArrayLike | None = None, caveats: Sequence[str] = ()
    ) -> None:
        steps, lrs = np.array(step, dtype=np.float64), np.array(lr, dtype=np.float64)
        losses = np.full(steps.shape, np.nan) if loss is None else np.array(loss, dtype=np.float64)
        _check(name, steps, lrs, losses)
        lost = np.abs(losses) > _LARGEST_LOSS
        losses[lost] = np.nan
        found = [f"{lost.sum()} losses beyond {_LARGEST_LOSS:g} were left out."] if lost.any() else []
        for field, value in (
            ("name", name),
            ("step", steps.astype(np.int64)),
            ("lr", lrs),
            ("loss", losses),
            ("caveats", (*caveats, *found, *_gaps(steps, lrs))),
        ):
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
            object.__setattr__(self, field, value)

    def __len__(self) -> int:
        return int(self.step.size)

    def __repr__(self) -> str:
        return f"LossLog({self.name}: {len(self)} rows, {int(self.has_loss.sum())} losses, {self.last_step} steps)"

    @property
    def has_loss(self) -> NDArray[np.bool_]:
        """(n,) whether a loss was logged."""
        return np.isfinite(self.loss)

    @property
    def last_step(self) -> int:
        """The last step logged."""
        return int(self.step[-1])

    @property
    def peak_lr(self) -> float:
        """The highest learning rate logged."""
        return float(self.lr.max())

    def every_lr(self) -> NDArray[np.float64]:
        """Return the learning rate of every step, (last_step + 1,).

        Linear between rows. Before the first row it is linear from 0 at step 0: most logs begin where warmup ends.
        """
        first = int(self.step[0])
        lr = np.interp(np.arange(self.last_step + 1), self.step, self.lr)
        lr[:first] = self.lr[0] * np.arange(first) / max(first, 1)
        return lr

    @cached_property  # asked often, of up to three million steps
    def warmup_steps(self) -> int:
        """Steps until the learning rate first stood at its peak; see `end_of_warmup`."""
        return end_of_warmup(self.every_lr())


def end_of_warmup(lr: NDArray[np.float64]) -> int:
    """Return the step where the first rise ends: where ``lr`` reaches the highest value it has before it first falls.

    A rise in stairs, as of a warmup by epochs, is one rise.

    Args:
        lr: (n,) learning rate of every step.
    """
    falls = np.flatnonzero(np.diff(lr) < 0)
    rise = lr[: falls[0] + 1] if falls.size else lr
    return int(np.argmax(rise >= rise[-1] * (1 - 1e-9)))  # interpolation may err in the last digit


def _check(name: str, step: NDArray[np.float64], lr: NDArray[np.float64], loss: NDArray[np.float64]) -> None:
    if step.ndim != 1 or lr.shape != step.shape or loss.shape != step.shape:
        raise InputError(
            f"{name}: step, lr and loss must be lists of one length, got shapes {step.shape}, {lr.shape}, {loss.shape}"
        )
    if step.size < 2:
        raise InputError(f"{name}: a log needs at least 2 rows, got {step.size}")
    for bad, rule, values in (
        (~((step >= 0) & (step == np.floor(step))), "step must be a whole number of at least 0", step),
        (step > MAX_STEPS, f"step must be at most {MAX_STEPS}", step),
        (~((lr >= 0) & (lr < 1e100)), "lr must be finite and at least 0", lr),
    ):
        if bad.any():
            raise InputError(f"{name}: every {rule}, got {values[np.argmax(bad)]:g} in row {np.argmax(bad) + 1}")
    falls = np.flatnonzero(np.diff(step) <= 0)
    if falls.size:
        i = int(falls[0])
        raise InputError(f"{name}: step must be strictly increasing, got {step[i + 1]:g} after {step[i]:g}")
    if not lr.max() > 1e-100:
        raise InputError(f"{name}: some lr must be above 0, got only {lr.max():g}")


def _gaps(step: NDArray[np.float64], lr: NDArray[np.float64]) -> list[str]:
    width = np.diff(step)
    unseen = np.where(np.diff(lr) != 0, width, 0)
    i = int(np.argmax(unseen))
    if unseen[i] <= _LARGE_GAP * step[-1] or step.size < 3:
        return []
    return [
        f"Between steps {step[i]:.0f} and {step[i + 1]:.0f} the learning rate changed unseen; it is taken as a line."
    ]
