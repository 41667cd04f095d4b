"""Which decay, at which peak, after how much warmup: every policy ranked by the final loss it is predicted to give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lrfinder.alternatives import Alternative
from lrfinder.branches import Annealed, Warmed, annealed, warmed
from lrfinder.probe import Evidence
from lrfinder.schedules import POLICIES, RANKED, UNWARMED, Policy
from lrfinder.worth import PRIOR, Features, Worth, features, worth_at

__all__ = ["MATERIAL", "Ranking", "rank"]

MATERIAL = 0.005
"""A difference of the final loss by less than this share decides nothing."""
_SIGMAS = 2.0
_WARMUP_SHARE = 0.1
_MOST_WARMUP = 2_000
"""Steps: twice over the memory 1 / (1 - beta2) of Adam's second moment, Ma and Yarats 2021 (arXiv 1910.04209)."""
_NORMAL_90 = 1.645

_SIMPLEST_FIRST = (
    *("constant", "linear", "cosine", "wsd", "wsd-sqrt", "polynomial", "exponential", "inverse-sqrt", "multi-step"),
    *("step", "cosine-restarts", "one-cycle", "plateau"),
)


@dataclass(frozen=True)
class Ranking:
    """The policies for one training.

    Attributes:
        alternatives: all of them, the one predicted to end lowest first; those not predicted last.
        chosen: the one to take: the simplest of those that no material difference separates from the first.
        octaves: from the best peak rate of "linear" without warmup to that of the chosen one.
        caveats: what to know of it, a sentence each.
    """

    alternatives: tuple[Alternative, ...]
    chosen: Alternative
    octaves: float
    caveats: tuple[str, ...]


def rank(evidence: Evidence, horizon: int, lr: float, *, blow_up: float = math.inf, prior: Worth = PRIOR) -> Ranking:
    """Rank every policy for a training of ``horizon`` steps.

    Args:
        evidence: of the search, with the branches there were steps for.
        horizon: T, optimizer steps.
        lr: best peak rate of linear decay after T steps.
        blow_up: lowest rate above the best at which a probe blew up.
        prior: what is believed of annealing before anything is measured.
    """
    positive = all(outcome.mean > 0 for outcome in (evidence.untrained, *evidence.outcomes, *evidence.branches))
    measured, warming = annealed(evidence) if positive else (), warmed(evidence)
    worth = worth_at(horizon, measured, prior)
    pays = warming is not None and warming.rise < -max(_SIGMAS * warming.error, MATERIAL)
    some = min(round(_WARMUP_SHARE * horizon), _MOST_WARMUP)
    higher = warming.octaves if warming is not None and pays else 0.0
    found: list[tuple[float, float, Alternative]] = []
    for name in POLICIES:
        plain = features(Policy(name, horizon), horizon)
        warms = name not in UNWARMED and (pays or lr * 2**plain.lr >= blow_up)
        policy = Policy(name, horizon, some if warms else 0)
        of = features(policy, horizon) if policy.warmup_steps else plain
        octaves = plain.lr + (higher if policy.warmup_steps else 0.0)
        mean, deviation = worth.rise(of)
        gain, low, high = (
            1 - math.exp(mean + z * deviation) if name in RANKED else None for z in (0.0, _NORMAL_90, -_NORMAL_90)
        )
        unwarmed = lr * 2**plain.lr if policy.warmup_steps else None
        one = Alternative(policy, lr * 2**octaves, gain, low, high, _reason(name, of), unwarmed)
        found.append((mean, octaves, one))
    found.sort(key=lambda one: (one[2].gain is None, one[0]))
    near = [one for one in found if one[2].gain is not None and one[0] < found[0][0] + MATERIAL]
    _, octaves, simplest = min(near, key=lambda one: _SIMPLEST_FIRST.index(one[2].policy.name))
    why = "Predicted to end lowest."
    if others := [one[2].policy.name for one in near if one[2] is not simplest]:
        why = f"No detectable difference from {', '.join(others)} (less than {MATERIAL:.1%}): the simplest of them."
    chosen = replace(simplest, reason=" ".join((why, _warmup_reason(evidence, simplest, warming, pays))))
    ordered = tuple(chosen if one[2] is simplest else one[2] for one in found)
    return Ranking(ordered, chosen, octaves, (_basis(worth, measured, horizon, positive),))


def _reason(name: str, of: Features) -> str:
    if name not in RANKED:
        return "Not predicted: when it drops depends on losses to come. It needs no horizon."
    if name == "constant":
        return "What the others are compared with: no progress given up, no noise removed."
    kept, removed = 2**-of.octaves, max(of.relief, 0.0)
    return f"Keeps {kept:.0%} of the peak rate on average; by the convex bound it removes {removed:.0%} of the noise."


def _warmup_reason(evidence: Evidence, chosen: Alternative, warming: Warmed | None, pays: bool) -> str:
    lr = chosen.lr
    if warming is not None and pays:
        return f"Warmup: with it a probe ended {-warming.rise:.1%} lower."
    if chosen.policy.warmup_steps:
        return "Warmup: the untrained model does not survive the peak."
    untrained = evidence.untrained.mean
    survived = max((o.probe.lr for o in evidence.outcomes if o.mean < untrained), default=lr)
    tried = "" if warming is None else f", and a probe with it ended {abs(warming.rise):.1%} {_side(warming.rise)}"
    return f"No warmup: the untrained model survived {survived:.2g}, {_times(survived / lr)} times the peak{tried}."


def _times(ratio: float) -> str:
    return f"{ratio:.2g}" if ratio < 10 else f"{ratio:.0f}"


def _side(rise: float) -> str:
    return "lower, within its noise" if rise < 0 else "higher"


def _basis(worth: Worth, measured: Sequence[Annealed], horizon: int, positive: bool) -> str:
    if not measured:
        why = "the budget left no steps for it" if positive else "shares of what is not positive say nothing"
        return f"What annealing is worth was not measured on this model, {why}: the policy is what does best elsewhere."
    longest = measured[-1]
    error = f"standard error {longest.late_error:.1%}" if longest.late_error > 0 else "error unknown"
    return (
        f"Annealing over the last 40% changed the loss by {longest.late:+.1%} ({error}) after {longest.steps} steps;"
        f" what it is worth after {horizon} is extrapolated: {worth.measured:.0%} from branches, the rest from other"
        " tasks."
    )
