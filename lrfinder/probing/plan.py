"""Which probes to run: a plan within a budget, and the next probes given what came of those before.

Nothing here trains. `next_probes` is a pure function of the outcomes so far, so that any executor can run a search, and
one that was stopped can go on from a record of its outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lrfinder.evidence.curve import MIN_POINTS, Curve, Stage
from lrfinder.evidence.probe import ANNEALED, Outcome, Probe
from lrfinder.evidence.range_fit import fit_range

__all__ = ["ProbePlan", "bracket_centre", "branch_probes", "next_probes"]

_BELOW = 0.5
"""Octaves from the best rate of the probes, which anneal from the first step on, down to the rate of trunks: between
the best rates of a branch and of a constant rate (0.4 and 0.8 below, on average over the benchmark's tasks)."""

_WARMED = 0.2
"""Share of a probe that warms up."""

_ABOVE = 0.5
"""Octaves above the best rate at which it does: where warmup pays, it mostly lets the rate be higher."""


def branch_probes(outcomes: Sequence[Outcome], left: int, max_lr: float = math.inf) -> list[Probe]:
    """Return the probes that follow the search, the most telling first, as far as ``left`` optimizer steps go.

    Trunk, branch and warmup as long as the longest probes; then trunk and branch as long as the shortest.

    Args:
        outcomes: of the search.
        left: steps that may be spent.
        max_lr: highest learning rate to try.
    """
    lengths = sorted({outcome.probe.steps for outcome in outcomes if not outcome.diverged}, reverse=True)
    wanted: list[list[Probe]] = []
    for steps in dict.fromkeys((*lengths[:1], *lengths[-1:])):
        rung = [outcome for outcome in outcomes if outcome.probe.steps == steps]
        best = min(rung, key=lambda outcome: outcome.mean).probe.lr
        low, high = best * 2**-_BELOW, best * 2**_ABOVE
        if steps >= 5:
            wanted.append([Probe(low, steps, 0.0, Stage.TRUNK), Probe(low, steps, ANNEALED, Stage.BRANCH)])
        if steps == lengths[0] and steps >= 10 and high <= max_lr:
            wanted.append([Probe(high, steps, 1.0, Stage.WARMUP, round(_WARMED * steps))])
    probes: list[Probe] = []
    for together in wanted:
        cost = sum(probe.steps for probe in together)
        if cost <= left:
            probes += together
            left -= cost
    return probes


_RANGE_SHARE = 0.15

_LONGER = 4.5
"""Length of the long probes over that of the short ones."""

_RESERVED = 0.22
"""Share of a small budget for branches: a trunk and a branch as long as the long probes. Of 0, 0.15, 0.22 and 0.3 it
lost least on the benchmark's tasks, not by much. Without a horizon there are none."""

_AMPLE = 500
"""Steps of a budget from which on some are kept for a probe with warmup, and trunk and branch as long as short ones."""

_MOST_SHORT = 9

_SEEN_DRIFT = -0.35
"""Octaves by which the best rate falls per doubling of the steps, on average over the benchmark's tasks."""


@dataclass(frozen=True)
class ProbePlan:
    """How a budget is spent: a range test, then about six short probes and four long ones.

    Attributes:
        budget: optimizer steps in all.
        range_steps: rungs of the range test.
        short: steps of a short probe.
        long: steps of a long one.
        min_lr: lowest learning rate to try.
        max_lr: highest.
        anneal: share of a probe over which the rate falls to zero.
        reserved: steps kept for what comes after, see `lrfinder.branches`.
    """

    budget: int
    range_steps: int
    short: int
    long: int
    min_lr: float
    max_lr: float
    anneal: float = 1.0
    reserved: int = 0

    @classmethod
    def of(cls, budget: int, horizon: int | None, min_lr: float, max_lr: float, anneal: float = 1.0) -> ProbePlan:
        """Share out a budget of optimizer steps. No probe is longer than the training asked about."""
        range_steps = max(MIN_POINTS, min(100, round(_RANGE_SHARE * budget)))
        units, reserved = 6 + 4 * _LONGER, 0
        if horizon is not None and budget < _AMPLE:
            reserved = round(_RESERVED * budget)
        elif horizon is not None:
            branches = 3 * _LONGER + 2
            reserved = math.ceil((budget - range_steps) * branches / (units + branches))
        short = max((budget - range_steps - reserved) / units, 3.0)
        long = max(min(round(_LONGER * short), horizon or budget), 1)
        short_steps = max(min(round(short), long // 2), 1)
        return cls(budget, range_steps, short_steps, long, min_lr, max_lr, anneal, reserved)


def bracket_centre(curve: Curve, plan: ProbePlan) -> float:
    """Return where the short probes begin to look, given the range test.

    Over the tasks of the benchmark the best rate of short probes lay 0.7 octaves below the lowest place of the fitted
    curve, or, where the curve shows no descent, six octaves below its end.
    """
    fit = fit_range(curve)
    clear = fit is not None and fit.evidence > 4.0
    centre = fit.lr_lowest * 2**-0.66 if fit is not None and clear else float(curve.lr[-1]) * 2**-5.5
    return min(max(centre, plan.min_lr), plan.max_lr)


def next_probes(plan: ProbePlan, centre: float, outcomes: Sequence[Outcome], spent: int) -> list[Probe]:
    """Return the probes to run next, all of which may run at once; none when the search is over.

    Short probes go up or down until the best of them has one on either side, an octave away. Long ones then look where
    the best rate should have drifted to, and close in on it.

    Args:
        plan: the budget.
        centre: where the range test puts the best rate.
        outcomes: of all the probes so far.
        spent: optimizer steps so far, those of the range test included.
    """
    short = {math.log2(o.probe.lr): o.mean for o in outcomes if o.probe.stage == Stage.SHORT}
    long = {math.log2(o.probe.lr): o.mean for o in outcomes if o.probe.stage == Stage.LONG}
    if not long:
        octaves = _short_octaves(plan, math.log2(centre), short)
        if probes := _affordable(plan, octaves, short, plan.short, Stage.SHORT, spent):
            return probes
    if not any(map(math.isfinite, short.values())):
        return []
    seen = {**short, **long} if plan.long == plan.short else long  # one length, where training takes a step or two
    return _affordable(plan, _long_octaves(plan, short, long), seen, plan.long, Stage.LONG, spent)


def _short_octaves(plan: ProbePlan, centre: float, seen: dict[float, float]) -> list[float]:
    if not seen:
        return [centre - 2, centre, centre + 2]
    if len(seen) >= _MOST_SHORT:
        return []
    octaves = sorted(seen)
    best = min(octaves, key=lambda x: seen[x])
    if not math.isfinite(seen[best]):
        return [octaves[0] - 3, octaves[0] - 6]
    stride = 2 if len(seen) < 5 else 4
    if best == octaves[0] and best > math.log2(plan.min_lr) + 0.1:
        return [best - stride]
    if best == octaves[-1] and best < math.log2(plan.max_lr) - 0.1:
        return [best + stride]
    return [x for x in (best - 1, best + 1) if all(abs(x - y) > 0.5 for y in octaves)]


def _long_octaves(plan: ProbePlan, short: dict[float, float], seen: dict[float, float]) -> list[float]:
    if not seen:
        guess = _lowest(short) + _SEEN_DRIFT * math.log2(plan.long / plan.short)
        return [guess - 0.5, guess + 0.5]
    octaves = sorted(seen)
    best = octaves.index(min(octaves, key=lambda x: seen[x]))
    if best == 0:
        return [octaves[0] - 1]
    if best == len(octaves) - 1:
        return [octaves[-1] + 1]
    if len(octaves) > 4:
        return []
    left, right = octaves[best - 1], octaves[best + 1]
    wide = left if octaves[best] - left >= right - octaves[best] else right
    return [(wide + octaves[best]) / 2]


def _affordable(
    plan: ProbePlan, octaves: Sequence[float], seen: dict[float, float], steps: int, stage: Stage, spent: int
) -> list[Probe]:
    low, high = math.log2(plan.min_lr), math.log2(plan.max_lr)
    inside = dict.fromkeys(min(max(x, low), high) for x in octaves)
    new = [x for x in inside if all(abs(x - y) > 0.05 for y in seen)]
    return [
        Probe(2.0**x, steps, plan.anneal, stage) for x in new[: max(plan.budget - plan.reserved - spent, 0) // steps]
    ]


def _lowest(points: dict[float, float]) -> float:
    """Return the lowest place of the parabola through the best point and its neighbours."""
    octaves = sorted(points)
    i = octaves.index(min(octaves, key=lambda x: points[x]))
    if i in (0, len(octaves) - 1):
        return octaves[i]
    (x0, x1, x2), (y0, y1, y2) = octaves[i - 1 : i + 2], (points[x] for x in octaves[i - 1 : i + 2])
    if not (math.isfinite(y0) and math.isfinite(y2)):
        return x1 - 0.25
    fall, climb = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    if climb <= fall:
        return x1
    lowest = (x0 + x1) / 2 - fall * (x2 - x0) / 2 / (climb - fall)
    return min(max(lowest, (x0 + x1) / 2), (x1 + x2) / 2)
