"""A `Suggestion` in words: one line, the lines of an answer, and what `repr` shows. The record imports this module."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["headline_of", "lines_of", "repr_of"]


def headline_of(suggestion: Any) -> str:
    """Return the answer in one line."""
    if suggestion.reason is not None:
        return f"refused. {suggestion.reason.value}"
    low, high = suggestion.interval
    return f"learning rate {suggestion.lr:.3g}, 90% interval {low:.2g} to {high:.2g}"


def repr_of(suggestion: Any) -> str:
    """Return the answer as Python shows a record, in one line."""
    if suggestion.lr is None:
        return f"Suggestion({headline_of(suggestion)})"
    low, high = suggestion.interval
    policy = "" if suggestion.policy is None else f", policy={suggestion.policy.name!r}"
    sure = f"interval=({low:.2g}, {high:.2g}), confidence={suggestion.confidence!r}"
    return f"Suggestion(lr={suggestion.lr:.3g}, {sure}{policy}, horizon={suggestion.horizon})"


def lines_of(suggestion: Any) -> list[tuple[str, str]]:
    """Return the answer as (label, text) pairs: what every rendering of it shows."""
    rows = []
    if suggestion.lr is None:
        rows.append(("Refused", suggestion.reason.value if suggestion.reason else ""))
    else:
        low, high = suggestion.interval
        rows.append(("Peak LR", f"{suggestion.lr:.3g}"))
        rows.append(("Interval", f"{low:.2g} to {high:.2g} (90%), {suggestion.confidence}"))
        if len(suggestion.param_group_lrs) > 1:
            rows.append(("Groups", ", ".join(f"{lr:.3g}" for lr in suggestion.param_group_lrs)))
    if suggestion.policy is not None:
        rows.append(("Policy", suggestion.policy.text))
    spent = f"{suggestion.steps_spent} steps"
    if suggestion.cost_of_error:
        costs = (f"{factor:g} x LR: {_cost(loss)}" for factor, loss in suggestion.cost_of_error)
        rows.append(("Loss at", ", ".join(costs)))
    rows.append(("Spent", spent if suggestion.seconds is None else f"{spent}, {suggestion.seconds:.1f} s"))
    rows.extend(("Caveat", caveat) for caveat in suggestion.caveats)
    return rows


def _cost(loss: float) -> str:
    return f"{loss:+.2g}" if math.isfinite(loss) else "blows up"
