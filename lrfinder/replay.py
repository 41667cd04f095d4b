"""`Replay`: a `Detector` for a log, which takes many rows at once and says where it stands at the end."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lrfinder.blocks import BLOCKS, GROUP, Blocks, condensed
from lrfinder.detector import _SAME_LR, Detector
from lrfinder.plateau import LEAST_STEPS, Plateau, verdict

__all__ = ["Replay"]

Array = NDArray[np.float64]


class Replay(Detector):
    """A `Detector` whose `extend` comes to what `update` comes to value by value, at a tenth of the time or less.

    Attributes:
        lr_changes: rows seen when the learning rate changed.
        longest: rows of the longest window.
    """

    lr_changes: tuple[int, ...] = ()
    longest = 0

    def extend(self, values: Array, lr: Array | None = None) -> None:
        """Take the values of more rows.

        Args:
            values: (n,).
            lr: (n,) learning rates.
        """
        losses = torch.from_numpy(np.array(values, dtype=np.float64))
        place = 0
        while place < len(losses):
            before = self._lrs
            self.update(float(losses[place]), None if lr is None else float(lr[place]))
            if before and self._lrs != before:
                self.lr_changes = (*self.lr_changes, self.steps - 1)
            place += 1
            # `update` looks, begins a new window, and notes the start; the rows between such can be taken together.
            end = place if self._start is None else min(place + self._next - 1 - self.steps, len(losses))
            if lr is not None and place < end:
                end = place + _first_change(lr[place:end], self._lrs[0])
            signed = -losses[place:end] if self.mode == "max" else losses[place:end]
            for blocks in (self._run, self._window)[: 1 if self._window is self._run else 2]:
                _add_all(blocks, signed)
            place = end
            self.longest = max(self.longest, self.window_steps)

    def look(self) -> Plateau | None:
        """Look now, as `update` does now and then; a plateau found is an event."""
        return self._look() if self.steps and self.window_steps >= self.min_steps else None

    def ending(self) -> Plateau | None:
        """Return the test of the rows so far in the form of a plateau, whether it is one or not; None without one."""
        if self.window_steps < self.min_steps or self.blocks < LEAST_STEPS:
            return None
        run, window, start, finite = self._read()
        ahead = self.ahead or max(self.steps // 2, 1)
        seen, delta = verdict(run, window, start, ahead, self.delta, self.alpha)
        if not seen.blocks:
            return None
        return Plateau(
            step=self.steps,
            since=self._since + window.length * (window.mean.size - int(seen.blocks)),
            ahead=ahead,
            gain=float(seen.gain),
            gain_high=float(seen.high),
            delta=float(delta),
            p_value=float(seen.p_value),
            level=float(-seen.level if self.mode == "max" else seen.level),
            level_error=float(seen.level_error),
            skipped=round(self.steps - finite),
            lrs=self._lrs,
        )

    @property
    def blocks(self) -> int:
        """Blocks that a test can be made on: those of the window, or of the run where they are fewer."""
        return min(self._run.full, self._window.full)

    @property
    def on_plateau(self) -> bool:
        """Whether the last plateau found still lasts."""
        return self._within


def _first_change(lr: Array, now: float) -> int:
    """Return the first place where the learning rate differs by more than what counts as the same."""
    changed = np.abs(lr - now) > _SAME_LR * abs(now)
    return int(np.argmax(changed)) if changed.any() else len(lr)


def _add_all(blocks: Blocks, values: Tensor) -> None:
    """Do what `Blocks.add` does value by value; whole groups are condensed together where no block is joined."""
    while len(values):
        groups = min(len(values) // GROUP, BLOCKS * blocks._groups - blocks.steps // GROUP - 1)
        if blocks.steps % GROUP or groups < 1:
            blocks.add(float(values[0]))
            values = values[1:]
            continue
        block = (blocks.steps // GROUP + torch.arange(groups)) // blocks._groups
        blocks._table.index_add_(0, block, condensed(values[: groups * GROUP].reshape(groups, GROUP)))
        blocks.steps += groups * GROUP
        values = values[groups * GROUP :]
