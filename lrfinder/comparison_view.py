"""Several suggestions side by side: records first, and a ranking only where the losses can be compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lrfinder.difference import SIGMAS, Difference, alike, standard_error
from lrfinder.errors import InputError
from lrfinder.probe import Outcome
from lrfinder.probes_plot import Rung, rung_view
from lrfinder.suggestion import Suggestion

__all__ = ["Entry", "SideBySide"]


class Entry(NamedTuple):
    """One result.

    Attributes:
        label: what it is called.
        suggestion: the result.
        best: the probe that ended lowest among the longest; None without probes, or where all blew up.
        rung: the longest probes and their fit; None without probes.
        untrained: held-out loss of the starting state; NaN where unknown.
        behind: how much higher its best probe ended than the best of all, paired; None where that cannot be compared.
        behind_error: standard error of that; None where unknown.
        tied: whether that is no detectable difference.
    """

    label: str
    suggestion: Suggestion
    best: Outcome | None
    rung: Rung | None
    untrained: float
    behind: float | None = None
    behind_error: float | None = None
    tied: bool = False

    @property
    def loss_error(self) -> float | None:
        """Standard error of the best probe's loss; None where unknown."""
        return None if self.best is None else standard_error(self.best.loss)


class SideBySide(NamedTuple):
    """Several results.

    Attributes:
        entries: ranked where they are comparable, the lowest loss first; else in the order given.
        comparable: whether the losses can be compared of those that have an answer from probes.
        finding: what the comparison says, in sentences.
        differing: (name, values) of the facts about the environment that differ, a value per entry.
    """

    entries: tuple[Entry, ...]
    comparable: bool
    finding: str
    differing: tuple[tuple[str, tuple[Any, ...]], ...]

    @classmethod
    def of(cls, suggestions: Mapping[str, Suggestion]) -> SideBySide:
        """Compare them.

        Raises:
            InputError: there are none, or the probes of one do not belong together.
        """
        if not suggestions:
            raise InputError("suggestions must hold at least one, got none")
        entries = [_entry(label, suggestion) for label, suggestion in suggestions.items()]
        measured = [entry for entry in entries if entry.best is not None and entry.suggestion.lr is not None]
        obstacles = _obstacles(measured)
        if not obstacles:
            entries = _ranked(entries, measured)
        differing = _differing([entry.suggestion.environment for entry in entries])
        return cls(tuple(entries), not obstacles, _finding(entries, obstacles), differing)


def _entry(label: str, suggestion: Suggestion) -> Entry:
    evidence = suggestion.evidence
    if not evidence.outcomes:
        return Entry(label, suggestion, None, None, math.nan)
    longest = evidence.rungs[-1]
    best = min(longest, key=lambda outcome: outcome.mean)
    rung = rung_view(longest, suggestion.landscape)
    return Entry(label, suggestion, None if best.diverged else best, rung, evidence.untrained.mean)


def _obstacles(measured: Sequence[Entry]) -> list[str]:
    """Return why losses cannot be compared; nothing where they can."""
    if len(measured) < 2:
        return ["fewer than two of them have an answer from probes"]
    horizons = {entry.suggestion.horizon for entry in measured}
    lengths = {entry.rung.steps for entry in measured if entry.rung is not None}
    untrained = [_untrained(entry) for entry in measured]
    found = []
    if len(horizons) > 1:
        known = sorted(horizon for horizon in horizons if horizon is not None)
        unknown = ["unknown"] if None in horizons else []
        found.append(f"they are for trainings of different lengths ({_listed([*map(str, known), *unknown])} steps)")
    if len(lengths) > 1:
        found.append(f"their longest probes differ in length ({_listed(list(map(str, sorted(lengths))))} steps)")
    if not all(alike(one, untrained[0]) for one in untrained):
        means = [f"{entry.untrained:.4g}" for entry in measured]
        found.append(
            f"before training they differ in held-out loss ({_listed(means)} on average): another model, other initial"
            " weights, other held-out data or another scale of the loss"
        )
    return found


def _untrained(entry: Entry) -> Any:
    return next(outcome.loss for outcome in entry.suggestion.probes if not outcome.probe.steps)


def _ranked(entries: Sequence[Entry], measured: Sequence[Entry]) -> list[Entry]:
    ordered = sorted(measured, key=lambda entry: entry.best.mean if entry.best else math.inf)
    first = ordered[0].best
    found = []
    for entry in ordered:
        if entry.best is None or first is None:
            continue
        behind, error, tied = Difference.of(entry.best, first)
        found.append(entry._replace(behind=behind, behind_error=error, tied=tied))
    ranked = {entry.label for entry in found}
    return found + [entry for entry in entries if entry.label not in ranked]


def _finding(entries: Sequence[Entry], obstacles: Sequence[str]) -> str:
    if obstacles:
        return f"Not ranked: {'; '.join(obstacles)}. Read each by itself."
    first, *others = (entry for entry in entries if entry.behind is not None)
    tied = [other.label for other in others if other.tied]
    steps = first.rung.steps if first.rung is not None else 0
    lowest = f"After {steps} steps {first.label} ended lowest"
    if any(other.behind_error is None and not other.tied for other in others):
        return f"{lowest}; how sure that is cannot be told from one held-out value."
    if not tied:
        return f"{lowest}, by more than {SIGMAS:g} standard errors of the difference."
    behind = [other.label for other in others if not other.tied]
    rest = f" {_listed(behind)} ended higher by more than that." if behind else ""
    close = f"(less than {SIGMAS:g} standard errors, or 0.5%)"
    return f"{lowest}, with no detectable difference from {_listed(tied)} {close}.{rest}"


def _differing(environments: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    names = dict.fromkeys(name for environment in environments for name in environment if name != "command")
    rows = ((name, tuple(environment.get(name) for environment in environments)) for name in names)
    return tuple((name, values) for name, values in rows if any(value != values[0] for value in values))


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
