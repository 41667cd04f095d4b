"""`Comparison`: several suggestions beside each other, ranked only if their held-out losses can be compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lrfinder.answer.choose import FAR
from lrfinder.answer.ranking import MATERIAL
from lrfinder.answer.suggestion import Suggestion
from lrfinder.answer.suggestion_text import interval_of, refusal_of
from lrfinder.errors import InputError
from lrfinder.evidence.probe import Outcome, standard_error
from lrfinder.files import SCHEMA_VERSION, number_to_json

_SIGMAS = 2.0
"""Minimum size of a difference of losses, in standard errors, to count as detectable."""

_SAME_START = 1e-4
"""Maximum relative difference between untrained losses of the same weights on the same batches: rounding alone."""

_TIE = "no detectable difference"

_TERMINAL = ("peak learning rate", "90% interval", "held-out loss", "behind")
"""The rows that a terminal has room for, as the columns of its table."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One result of a comparison.

    Attributes:
        name: what the result is called, such as the name of its optimizer.
        suggestion: the result.
        behind: how much higher its best probe ended than the best probe of the first entry, as the mean over the
            held-out batches, in units of the loss; None if the entry is not ranked.
        behind_error: standard error of ``behind``, paired over the held-out batches; None if there is only one batch.
        tied: whether ``behind`` is below two standard errors or below 0.5% of the loss, so that it counts as none.
    """

    name: str
    suggestion: Suggestion
    behind: float | None = None
    behind_error: float | None = None
    tied: bool = False

    @property
    def probes(self) -> tuple[Outcome, ...]:
        """The probes that are compared, by learning rate; empty for a range test alone."""
        return self.suggestion.evidence.rung

    @property
    def steps(self) -> int | None:
        """Optimizer steps of each probe; None without probes."""
        return self.probes[0].probe.steps if self.probes else None

    @property
    def best(self) -> Outcome | None:
        """The probe with the lowest held-out loss; None without probes, or if all of them diverged."""
        best = min(self.probes, key=lambda outcome: outcome.mean, default=None)
        return None if best is None or best.diverged else best

    @property
    def loss(self) -> float | None:
        """Mean held-out loss of the best probe."""
        return None if self.best is None else self.best.mean

    @property
    def error(self) -> float | None:
        """Standard error of `loss` over the held-out batches; None if there is only one batch."""
        return None if self.best is None else standard_error(self.best.loss)

    @property
    def untrained(self) -> float:
        """Mean held-out loss of the starting state; NaN without probes."""
        evidence = self.suggestion.evidence
        return evidence.untrained.mean if evidence.probed else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document of the suggestion, with ``optimizer`` and ``held_out`` added."""
        numbers = {"loss": self.loss, "error": self.error, "behind": self.behind, "behind_error": self.behind_error}
        held_out: dict[str, Any] = {
            name: None if value is None else number_to_json(value) for name, value in numbers.items()
        }
        held_out["steps"] = None if self.best is None else self.steps
        return {"optimizer": self.name, "held_out": {**held_out, "tied": self.tied}, **self.suggestion.to_dict()}


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Several suggestions, and whether one of them ended lowest.

    The terminal, the JSON document, the page, the Markdown text and the picture all show this record.

    Attributes:
        entries: if ranked, by the held-out loss, the lowest first, and then those without a rank; otherwise in the
            order given. Refusals come last.
        obstacles: why the entries are not ranked, a clause each; empty if they are.
        caveats: what to know before trusting the order, a sentence each.
    """

    entries: tuple[Entry, ...]
    obstacles: tuple[str, ...]
    caveats: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Comparison({', '.join(entry.name for entry in self.entries)}: {self.verdict})"

    @property
    def ranked(self) -> bool:
        """Whether the entries are ranked."""
        return not self.obstacles

    @property
    def first(self) -> Entry:
        """The first entry: the one that ended lowest, if the entries are ranked."""
        return self.entries[0]

    @property
    def verdict(self) -> str:
        """The outcome in words: what ended lowest and how sure that is, or why the entries are not ranked."""
        if self.obstacles:
            return f"Not ranked: {'; '.join(self.obstacles)}."
        first, *others = (entry for entry in self.entries if entry.behind is not None)
        tied, higher = ([entry.name for entry in others if entry.tied is tie] for tie in (True, False))
        of = "" if first.suggestion.horizon is None else f" of {first.suggestion.horizon:,}"
        single = any(entry.behind_error is None for entry in others)
        verdict = f"After {first.steps:,}{of} steps {first.name} ended lowest"
        limit = f"{MATERIAL:.1%}" if single else f"{_SIGMAS:g} standard errors, or {MATERIAL:.1%}"
        if tied:
            verdict += f", with {_TIE} from {_listed(tied)} (less than {limit})"
        if single and higher:
            return f"{verdict}; the uncertainty is unknown, because there is only one held-out value."
        if not tied:
            return f"{verdict}, by more than {_SIGMAS:g} standard errors of the difference."
        return f"{verdict}." + (f" {_listed(higher)} ended higher by more than that." if higher else "")

    @property
    def rows(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The facts side by side: the name of each fact, and a text per entry."""
        lrs = [entry.suggestion.lr for entry in self.entries]
        rows = [
            ("peak learning rate", ["refused" if lr is None else f"{lr:.3g}" for lr in lrs]),
            ("90% interval", [interval_of(entry.suggestion) for entry in self.entries]),
            ("policy", ["" if (one := entry.suggestion.policy) is None else one.text for entry in self.entries]),
            ("for", [_steps_text(entry.suggestion.horizon, "unknown length") for entry in self.entries]),
            ("held-out loss", [_loss_text(entry) for entry in self.entries]),
            *([("behind", [self._behind_text(entry) for entry in self.entries])] if self.ranked else []),
            ("probes", [_steps_text(entry.steps, "none") for entry in self.entries]),
            ("spent", [_steps_text(entry.suggestion.steps_spent) for entry in self.entries]),
        ]
        environments = [entry.suggestion.environment for entry in self.entries]
        for name in dict.fromkeys(name for one in environments for name in one if name != "command"):
            values = [one.get(name) for one in environments]
            if any(value != values[0] for value in values):
                rows.append((name, ["" if value is None else str(value) for value in values]))
        return tuple((name, tuple(texts)) for name, texts in rows)

    def _behind_text(self, entry: Entry) -> str:
        if entry.behind is None or entry is self.first:
            return "" if entry.behind is None else "lowest"
        return _with_error(f"{entry.behind:+.4g}", entry.behind_error) + (f", {_TIE}" if entry.tied else "")

    def lines(self) -> list[tuple[str, str]]:
        """Return what a terminal shows below the table, as (label, text) pairs."""
        refused = [entry for entry in self.entries if entry.suggestion.reason is not None]
        return [
            ("Verdict", self.verdict),
            *(("Refused", f"{entry.name}: {refusal_of(entry.suggestion)}") for entry in refused),
            *(("Caveat", caveat) for caveat in self.caveats),
        ]

    def table(self) -> str:
        """Return the most important of `rows` as aligned text for a terminal, one line per entry."""
        columns = [("optimizer", *(entry.name for entry in self.entries))]
        columns += [(name, *texts) for name, texts in self.rows if name in _TERMINAL]
        widths = [max(map(len, column)) for column in columns]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in zip(*columns, strict=True))

    def __str__(self) -> str:
        return "\n".join([self.table(), *(f"{label:9s} {text}" for label, text in self.lines())])

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON-ready data."""
        return {
            "schema_version": SCHEMA_VERSION,
            "comparison": [entry.to_dict() for entry in self.entries],
            "verdict": self.verdict,
            "caveats": list(self.caveats),
        }


def compare(suggestions: Mapping[str, Suggestion] | Iterable[tuple[str, Suggestion]]) -> Comparison:
    """Compare suggestions by the held-out loss, after training, of the best of their probes.

    They are ranked only if at least two of them have an answer from probes, and these are for trainings of one length,
    with probes of one length, from the same losses on the same held-out batches before training.

    Args:
        suggestions: at least one suggestion, by name.

    Returns:
        The comparison.

    Raises:
        InputError: there are no suggestions, or the probes of one do not belong together.
    """
    pairs = suggestions.items() if isinstance(suggestions, Mapping) else suggestions
    entries = [Entry(name, suggestion) for name, suggestion in pairs]
    if not entries:
        raise InputError("suggestions to compare must be at least one, got none")
    measured = [entry for entry in entries if entry.best is not None and entry.suggestion.lr is not None]
    obstacles = _find_obstacles(measured)
    rest = [entry for entry in entries if obstacles or entry not in measured]
    ranked = [] if obstacles else _rank(measured)
    rest.sort(key=lambda entry: entry.suggestion.lr is None)
    return Comparison((*ranked, *rest), tuple(obstacles), tuple(_caveats(ranked)))


def _find_obstacles(measured: Sequence[Entry]) -> list[str]:
    """Return why the losses of these entries cannot be compared, a clause each; empty if they can."""
    if len(measured) < 2:
        return ["fewer than two of them have an answer from probes"]
    horizons = {entry.suggestion.horizon for entry in measured}
    lengths = {entry.steps for entry in measured}
    obstacles = []
    if len(horizons) > 1:
        obstacles.append(f"they are for trainings of different lengths ({_listed_numbers(horizons)} steps)")
    if len(lengths) > 1:
        obstacles.append(f"their probes differ in length ({_listed_numbers(lengths)} steps)")
    if not all(_same_start(entry, measured[0]) for entry in measured):
        means = _listed([f"{entry.untrained:.4g}" for entry in measured])
        obstacles.append(
            f"before training they differ in held-out loss ({means} on average), so the model, its initial weights, the"
            " held-out data or the scale of the loss is not the same"
        )
    return obstacles


def _same_start(one: Entry, other: Entry) -> bool:
    """Return whether the losses before any step are those of the same weights on the same held-out batches."""
    if one.best is None or other.best is None:
        return False
    losses, others = (entry.suggestion.evidence.untrained.loss for entry in (one, other))
    same_batches = losses.size == others.size and one.best.loss.size == other.best.loss.size
    return same_batches and np.allclose(losses, others, rtol=_SAME_START, equal_nan=True)


def _rank(measured: Sequence[Entry]) -> list[Entry]:
    """Return the entries by the loss of their best probes, the lowest first, with their differences from it."""
    probes = [(entry, entry.best) for entry in measured if entry.best is not None]
    probes.sort(key=lambda pair: pair[1].mean)
    lowest = probes[0][1]
    ranked = []
    for entry, best in probes:
        behind, error = best.mean - lowest.mean, standard_error(best.loss - lowest.loss)
        small = behind < MATERIAL * abs(lowest.mean) or (error is not None and behind < _SIGMAS * error)
        ranked.append(replace(entry, behind=behind, behind_error=error, tied=small and best is not lowest))
    return ranked


def _caveats(ranked: Sequence[Entry]) -> list[str]:
    if not ranked:
        return []
    caveats = []
    steps, horizon = ranked[0].steps, ranked[0].suggestion.horizon
    if steps is not None and horizon is not None and horizon > FAR * steps:
        caveats.append(
            f"The probes took {steps:,} steps, but training will take {horizon:,}: a result that is slow at"
            " first may end lower. Search with a larger budget to look further ahead."
        )
    caveats.append(
        "Standard errors, in brackets, are those of the held-out batches, for one seed and the best of few probes:"
        " other weights or batches may reverse a small difference, and so may a longer training."
    )
    return caveats


def _steps_text(steps: int | None, unknown: str = "") -> str:
    return unknown if steps is None else f"{steps:,} steps"


def _loss_text(entry: Entry) -> str:
    if entry.loss is None:
        return "all diverged" if entry.probes else "not measured"
    return _with_error(f"{entry.loss:.4g}", entry.error)


def _with_error(number: str, error: float | None) -> str:
    return number if error is None else f"{number} ({error:.2g})"


def _listed_numbers(numbers: Iterable[int | None]) -> str:
    known = sorted(number for number in numbers if number is not None)
    return _listed([*(f"{number:,}" for number in known), *(["unknown"] if None in set(numbers) else [])])


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
