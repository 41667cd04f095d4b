"""`Replay`: a `Detector` for a log, which also notes what became of the learning rate and how it all ends."""

from __future__ import annotations

from typing import Any

from lrfinder.detector import Detector
from lrfinder.plateau import Plateau

__all__ = ["Replay"]


class Replay(Detector):
    """A `Detector` that remembers more than a live run may.

    Attributes:
        lr_changes: rows seen when the learning rate changed.
    """

    lr_changes: tuple[int, ...] = ()
    _longest = 0

    def _follow(self, lr: Any, looking: bool) -> None:
        before = self._lrs
        super()._follow(lr, looking)
        if before and self._lrs != before:
            self.lr_changes = (*self.lr_changes, self.steps)

    def restart(self) -> None:
        """Begin a new window."""
        self._longest = self.longest
        super().restart()

    def look(self) -> Plateau | None:
        """Look now, as `update` does now and then; a plateau found is an event."""
        return self._look() if self.window_steps >= self.min_steps else None

    def ending(self) -> Plateau | None:
        """Return the `outlook` of a window long enough to be looked at."""
        return self.outlook() if self.window_steps >= self.min_steps else None

    @property
    def longest(self) -> int:
        """Rows of the longest window."""
        return max(self._longest, self.window_steps)

    @property
    def on_plateau(self) -> bool:
        """Whether the last plateau found still lasts."""
        return self._within
