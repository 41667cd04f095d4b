"""What `lrfinder suggest` tunes, whatever it is made of, and what it is asked to do with it."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lrfinder.settings import Settings

if TYPE_CHECKING:
    from lrfinder.estimate import Estimate
    from lrfinder.journal import Journal
    from lrfinder.suggestion import Suggestion

__all__ = ["Search", "Subject", "noted", "seeded"]


@dataclass(frozen=True)
class Search:
    """What to do, as `lrfinder.LRFinder` and `lrfinder.find_lr` take it.

    Attributes:
        method: "probe" or "range".
        budget: share, steps or time.
        min_lr: lowest rate to try.
        max_lr: highest; None for the method's own.
        steps: optimizer steps of the training asked about; None where ``epochs`` or the subject say.
        epochs: passes over the data instead.
        monitor: metric of `validation_step` to judge by.
        mode: "min" or "max".
        policy: name of one, "auto" or "keep"; None for what fits best.
    """

    method: str
    budget: float | str | None
    min_lr: float
    max_lr: float | None
    steps: int | None = None
    epochs: int | None = None
    monitor: str | None = None
    mode: str = "min"
    policy: str | None = None

    def settings(self, steps: int | None) -> Settings:
        """Return what is to be done for a training of so many steps.

        Raises:
            InputError: something breaks a rule.
        """
        return Settings(self.method, steps, self.budget, self.min_lr, self.max_lr)

    def for_policy(self, suggestion: Suggestion) -> Suggestion:
        """Return the suggestion for the policy that was asked for by name."""
        if self.policy in (None, "auto", "keep") or suggestion.lr is None:
            return suggestion
        return suggestion.with_policy(self.policy)


class Subject(Protocol):
    """Something that was built, to be tuned."""

    @property
    def speaks(self) -> bool:
        """Whether this process is the one to print and write."""

    @property
    def seed(self) -> int | None:
        """What it seeded everything with by itself; None where it did not."""

    def suggest(
        self, search: Search, journal: Callable[[Settings], Journal] | None = None, shown: bool = False
    ) -> Suggestion:
        """Search, and leave the subject as it was; ``shown`` is whether to show how far it is."""

    def estimate(self, search: Search) -> Estimate:
        """Say what `suggest` would do and cost, without a step of its optimizer."""


def noted(suggestion: Suggestion, notes: Iterable[str]) -> Suggestion:
    """Return a copy with more caveats, a sentence each."""
    return dataclasses.replace(suggestion, caveats=(*suggestion.caveats, *notes))


def seeded(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
