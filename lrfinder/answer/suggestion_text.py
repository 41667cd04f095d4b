"""The words of an answer: why there is none (`Reason`), and how a `Suggestion`, which imports this module, reads."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any

_FOR_PROBES = "budget=80 or more has probes"
"""How much to spend after a search without probes; `remedy_of` gives a figure to one that had some."""


class Reason(Enum):
    """Why there is no suggestion, and what to do about it.

    Attributes:
        why: what the measurement showed, one sentence.
        remedy: what to do, one sentence.
        value: both joined: the text shown, and the text in JSON.
    """

    why: str
    remedy: str

    def __new__(cls, why: str, remedy: str) -> Reason:
        """Make a member whose value is its whole text."""
        member = object.__new__(cls)
        member._value_, member.why, member.remedy = f"{why} {remedy}", why, remedy
        return member

    @classmethod
    def of_text(cls, text: str) -> Reason | None:
        """Return the reason whose first sentence begins the text, since what to do may be worded anew; None if none."""
        return next((reason for reason in cls if text.startswith(reason.why)), None)

    FLAT = (
        "The loss did not change with the learning rate by more than its noise.",
        f"Give more steps to spend ({_FOR_PROBES}), larger batches or a higher max_lr, and check that"
        " the optimizer holds the parameters that the loss depends on.",
    )
    RISING = (
        "The loss rose without having fallen first.",
        f"Give more steps to spend ({_FOR_PROBES}) or lower min_lr, and check the sign of the loss; a"
        " model that is trained already may have nothing left to gain.",
    )
    DIVERGED = (
        "Training blew up at every learning rate tried.",
        "Lower min_lr, check that the untrained loss is finite, and scale the inputs.",
    )


def headline_of(suggestion: Any) -> str:
    """Return the answer in one line."""
    if suggestion.reason is not None:
        return f"refused. {refusal_of(suggestion)}"
    return f"learning rate {suggestion.lr:.3g}, 90% interval {interval_of(suggestion)}"


def refusal_of(suggestion: Any) -> str:
    """Return why a refused suggestion has no answer, and what to do about it."""
    return f"{suggestion.reason.why} {remedy_of(suggestion)}"


def remedy_of(suggestion: Any) -> str:
    """Return what to do about a refusal, with the budget of a search that tells more; empty if there is an answer."""
    if suggestion.reason is None:
        return ""
    evidence = suggestion.evidence
    larger = f"such as budget={evidence.larger_budget}" if evidence.probed else _FOR_PROBES
    return str(suggestion.reason.remedy.replace(_FOR_PROBES, larger))


def interval_of(suggestion: Any) -> str:
    """Return the 90% interval; empty if refused."""
    return "" if suggestion.lr is None else "{:.2g} to {:.2g}".format(*suggestion.interval)


def doubt_of(suggestion: Any) -> str:
    """Return how far off the rate may be, for a suggestion that was not refused."""
    low, high = suggestion.interval
    lower, higher = suggestion.lr / low, high / suggestion.lr
    return f"the best rate may be {lower:.2g} times lower or {higher:.2g} times higher"


def log_line_of(suggestion: Any, schedule: str) -> str:
    """Return the answer as a callback logs it, with what became of the schedule; not of a refusal."""
    more = "details: print(finder.suggestion.details())"
    return (
        f"{headline_of(suggestion)}; {schedule}. How sure: {_how_sure(suggestion)}. Spent {_spent(suggestion)}; {more}"
    )


def repr_of(suggestion: Any) -> str:
    """Return the answer as Python shows a record, in one line."""
    if suggestion.lr is None:
        return f"Suggestion({headline_of(suggestion)})"
    low, high = suggestion.interval
    policy = "" if suggestion.policy is None else f", policy={suggestion.policy.name!r}"
    sure = f"interval=({low:.2g}, {high:.2g}), confidence={suggestion.confidence!r}"
    return f"Suggestion(lr={suggestion.lr:.3g}, {sure}{policy}, horizon={suggestion.horizon})"


def lines_of(suggestion: Any, verbose: bool = False) -> list[tuple[str, str]]:
    """Return the answer as (label, text) pairs; if verbose, with what being off costs, what was run and each caveat."""
    rows = []
    if suggestion.lr is None:
        rows.append(("Refused", refusal_of(suggestion)))
    else:
        rows.append(("Peak LR", f"{suggestion.lr:.3g}"))
        if len(set(suggestion.param_group_lrs)) > 1:
            rows.append(("Groups", ", ".join(f"{lr:.3g}" for lr in suggestion.param_group_lrs)))
        rows.append(("Interval", f"{interval_of(suggestion)} holds the best rate with 90% probability"))
    if suggestion.policy is not None:
        rows.append(("Policy", suggestion.policy.text))
    if suggestion.lr is not None:
        rows.append(("How sure", _how_sure(suggestion)))
    rows.append(("Spent", _spent(suggestion)))
    if verbose:
        rows.extend(_details(suggestion))
        rows.extend(("Caveat", caveat) for caveat in suggestion.caveats)
    elif suggestion.caveats:
        count = "1 caveat" if len(suggestion.caveats) == 1 else f"{len(suggestion.caveats)} caveats"
        rows.append(("Read too", f"{count}, in the report and with details()"))
    return rows


def _how_sure(suggestion: Any) -> str:
    return f"{suggestion.confidence}: {doubt_of(suggestion)}"


def _spent(suggestion: Any) -> str:
    spent = f"{suggestion.steps_spent:,} optimizer steps"
    if suggestion.horizon is not None:
        spent += f" for a training of {suggestion.horizon:,}"
    return spent if suggestion.seconds is None else f"{spent}, {suggestion.seconds:.1f} s"


_TIMES = {0.1: "a tenth of the rate", 0.5: "half the rate", 2.0: "twice the rate", 10.0: "ten times the rate"}


def _details(suggestion: Any) -> list[tuple[str, str]]:
    evidence, rows = suggestion.evidence, []
    if suggestion.cost_of_error:
        costs = [(loss, _TIMES.get(factor, f"{factor:g} times the rate")) for factor, loss in suggestion.cost_of_error]
        texts = [f"{loss:.2g} higher at {at}" if math.isfinite(loss) else f"blows up at {at}" for loss, at in costs]
        rows.append(("Loss", f"{', '.join(texts)}: held-out loss of the probes against their best"))
    run = f"a range test of {evidence.range_steps} steps"
    if evidence.outcomes:
        run += f", {len(evidence.outcomes)} probes of {evidence.rung[0].probe.steps} steps"
    rows.append(("Ran", run))
    return rows
