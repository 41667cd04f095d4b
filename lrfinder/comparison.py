"""`Comparison`: suggestions for several optimizers, ranked by what their longest probes came to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfinder.choice import FAR
from lrfinder.curve import SCHEMA_VERSION, number_to_json
from lrfinder.difference import Difference, alike, standard_error
from lrfinder.errors import InputError
from lrfinder.probe import Outcome
from lrfinder.suggestion import Suggestion

__all__ = ["Comparison", "Entry", "compare"]


@dataclass(frozen=True, eq=False)
class Entry:
    """An optimizer among others.

    Attributes:
        name: of the optimizer, as it was asked for.
        suggestion: what was found with it.
        best: the probe that ended lowest, of the longest that anneal from the first step; None where all blew up.
        behind: how much higher that ended than the first one's, mean over the held-out batches; None where unknown.
        behind_error: standard error of that, over the batches, paired where both saw the same; None where unknown.
        tied: whether that is no detectable difference: below two standard errors, or 0.5% of the loss.
    """

    name: str
    suggestion: Suggestion
    best: Outcome | None
    behind: float | None
    behind_error: float | None
    tied: bool

    @property
    def loss(self) -> float | None:
        """Held-out loss of the best probe."""
        return None if self.best is None else self.best.mean

    @property
    def error(self) -> float | None:
        """Standard error of `loss` over the held-out batches; None with a single one."""
        return None if self.best is None else standard_error(self.best.loss)

    def to_dict(self) -> dict[str, Any]:
        """Return it as the suggestion's JSON document, with ``optimizer`` and ``held_out`` added."""
        numbers = {"loss": self.loss, "error": self.error, "behind": self.behind, "behind_error": self.behind_error}
        held_out: dict[str, Any] = {
            name: None if value is None else number_to_json(value) for name, value in numbers.items()
        }
        held_out["steps"] = None if self.best is None else self.best.probe.steps
        return {"optimizer": self.name, "held_out": {**held_out, "tied": self.tied}, **self.suggestion.to_dict()}


@dataclass(frozen=True, eq=False)
class Comparison:
    """Suggestions for several optimizers, each tuned with the same budget from the same state on the same batches.

    Attributes:
        entries: the one that ended lowest first, in the order given where that cannot be told; what was refused last.
        caveats: what to know before trusting the order, a sentence each.
    """

    entries: tuple[Entry, ...]
    caveats: tuple[str, ...]

    @property
    def best(self) -> Entry:
        """The first entry."""
        return self.entries[0]

    @property
    def verdict(self) -> str:
        """The outcome in one sentence."""
        if self.best.suggestion.lr is None:
            return "Every search was refused."
        if self.best.best is None:
            return "Nothing was measured that could be compared: range tests say nothing of the loss after training."
        if self.best.behind is None:
            return "Nothing was measured that could be compared: the longest probes differ in length."
        steps, horizon = self.best.best.probe.steps, self.best.suggestion.horizon
        after = f"after {steps} steps" + ("" if horizon is None else f" of {horizon}")
        others = self.entries[1:]
        if ties := [one.name for one in others if one.tied]:
            return f"{self.best.name} ended lowest {after}: no detectable difference from {', '.join(ties)}."
        if any(one.behind is not None and one.behind_error is None for one in others):
            return f"{self.best.name} ended lowest {after}; how sure that is cannot be told from one held-out value."
        return f"{self.best.name} ended lowest {after}."

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table, its head first."""
        table: list[tuple[str, ...]] = [("optimizer", "peak LR", "interval (90%)", "held-out loss", "behind", "")]
        for one in self.entries:
            found = one.suggestion
            refused = found.lr is None or found.lr_low is None or found.lr_high is None
            interval = "" if refused else f"{found.lr_low:.2g} to {found.lr_high:.2g}"
            behind = (
                ""
                if one.behind is None
                else "lowest"
                if one is self.best
                else _with_error(one.behind, one.behind_error, "+")
            )
            note = "refused" if refused else "no detectable difference" if one.tied else ""
            rate = "-" if found.lr is None else f"{found.lr:.3g}"
            table.append((one.name, rate, interval, _with_error(one.loss, one.error), behind, note))
        return table

    def lines(self) -> list[tuple[str, str]]:
        """Return what goes below the table, as (label, text) pairs."""
        refused = [(one.name, one.suggestion.reason) for one in self.entries]
        return [
            ("Verdict", self.verdict),
            *(("Refused", f"{name}: {reason.value}") for name, reason in refused if reason is not None),
            *(("Caveat", caveat) for caveat in self.caveats),
        ]

    def table(self) -> str:
        """Return `rows` in columns."""
        rows = self.rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)

    def __str__(self) -> str:
        return "\n".join([self.table(), *(f"{label:9s} {text}" for label, text in self.lines())])

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            "schema_version": SCHEMA_VERSION,
            "comparison": [entry.to_dict() for entry in self.entries],
            "verdict": self.verdict,
            "caveats": list(self.caveats),
        }


def compare(found: Sequence[tuple[str, Suggestion]]) -> Comparison:
    """Rank suggestions for optimizers by the held-out loss of the longest annealed probes.

    Args:
        found: (name, suggestion) of each, at least one; all from the same state, data, horizon and budget.

    Raises:
        InputError: there are none.
    """
    if not found:
        raise InputError("suggestions to compare must be at least one, got none")
    measured = [(name, suggestion, _longest(suggestion)) for name, suggestion in found]
    # What was refused has no place in the order, and hinders none.
    lengths = {best.probe.steps for _, suggestion, best in measured if best is not None and suggestion.lr is not None}
    comparable = len(lengths) == 1
    measured.sort(key=lambda one: (one[1].lr is None, one[2].mean if comparable and one[2] is not None else math.inf))
    first = measured[0][2]
    paired = _same_start([suggestion for _, suggestion in found])
    entries = []
    for name, suggestion, best in measured:
        behind, error, tied = None, None, False
        if comparable and best is not None and first is not None and suggestion.lr is not None:
            behind, error, tied = Difference.of(best, first, paired)
        entries.append(Entry(name, suggestion, best, behind, error, tied))
    return Comparison(tuple(entries), tuple(_caveats(entries, paired)))


def _longest(suggestion: Suggestion) -> Outcome | None:
    """Return the lowest of the longest probes that annealed from the first step on."""
    annealed = suggestion.evidence.outcomes
    most = max((one.probe.steps for one in annealed), default=0)
    finite = [one for one in annealed if one.probe.steps == most and not one.diverged]
    return min(finite, key=lambda one: one.mean, default=None)


def _same_start(suggestions: Sequence[Suggestion]) -> bool:
    """Whether all saw the same losses before any step: those of the same weights on the same batches."""
    first, *others = [_before_any_step(suggestion) for suggestion in suggestions]
    return all(alike(one, first) for one in others)


def _before_any_step(suggestion: Suggestion) -> NDArray[np.float64]:
    untrained = [one.loss for one in suggestion.probes if not one.probe.steps]
    return np.concatenate([suggestion.curves[0].loss[:1], *untrained])


def _caveats(entries: Sequence[Entry], paired: bool) -> list[str]:
    caveats = []
    if not paired:
        caveats.append(
            "The optimizers did not start from the same weights on the same batches: the seed does not decide"
            " all that is built. Differences are not paired."
        )
    answered = [entry for entry in entries if entry.suggestion.lr is not None]
    lengths = {entry.best.probe.steps for entry in answered if entry.best is not None}
    if len(lengths) > 1:
        return [*caveats, f"The longest probes took from {min(lengths)} to {max(lengths)} steps: no order is implied."]
    horizon = entries[0].suggestion.horizon
    if lengths and horizon is not None and horizon > FAR * max(lengths):
        caveats.append(
            f"The longest probes took {max(lengths)} steps, training will take {horizon}: an optimizer that is slow at"
            " first may end lower. Give a larger --budget to look further."
        )
    if lengths:
        caveats.append(
            "Standard errors, in brackets, are those of the held-out batches, for one seed and the best of few probes:"
            " other weights or batches may reverse a small difference, and so may a longer training."
        )
    return caveats


def _with_error(value: float | None, error: float | None, sign: str = "") -> str:
    if value is None:
        return "-"
    number = f"{value:+.4g}" if sign else f"{value:.4g}"
    return number if error is None else f"{number} ({error:.2g})"
