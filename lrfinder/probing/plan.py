"""Which probes to run: a plan within a budget, and the next probe given what came of those before.

Nothing here trains. `next_probes` is a pure function of the outcomes so far, so that any executor can run a search, and
one that was stopped can go on from a record of its outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lrfinder.evidence.probe import Outcome, Probe

_RANGE_STEPS = 40
"""Steps of the range test where probes follow: 100 steps say no better where to look (docs/measured.md)."""

_SHORTEST = 20
"""Minimum steps of a probe: shorter ones judge how training starts, not how it goes on."""

_FEWEST, MOST_PROBES = 2, 5
"""Probes of a plan; a budget for more than five of the shortest makes them longer."""

_WARMUP = 0.2
"""Share of a probe over which the learning rate rises."""

_BELOW, _ABOVE = 1.5, 0.5
"""Octaves from the centre to the first two probes: more below it than above, where probes blow up and say little."""

_APART = 1.1
"""Octaves: probes closer together than this differ by less than their noise."""


@dataclass(frozen=True)
class ProbePlan:
    """How a budget is spent: a range test, then a few probes of one length.

    Attributes:
        budget: optimizer steps in all.
        range_steps: learning rates of the range test, one step each.
        probes: number of probes; 0 where the budget is too small for two that say anything.
        probe_steps: steps of each.
        min_lr: lowest learning rate to try.
        max_lr: highest.
    """

    budget: int
    range_steps: int
    probes: int
    probe_steps: int
    min_lr: float
    max_lr: float

    @classmethod
    def of(cls, budget: int, horizon: int | None, min_lr: float, max_lr: float) -> ProbePlan:
        """Share out a budget of optimizer steps. No probe is longer than the training asked about."""
        shortest = min(_SHORTEST, horizon or _SHORTEST)
        left = budget - _RANGE_STEPS
        if left < _FEWEST * shortest:
            return cls(budget, budget, 0, 0, min_lr, max_lr)
        probes = min(left // shortest, MOST_PROBES)
        steps = min(left // probes, horizon or left)
        return cls(budget, _RANGE_STEPS, probes, steps, min_lr, max_lr)

    def probe(self, octave: float) -> Probe:
        """Return the probe at a learning rate of ``2**octave``."""
        return Probe(2.0**octave, self.probe_steps, warmup=round(_WARMUP * self.probe_steps))


def next_probes(plan: ProbePlan, centre: float, outcomes: Sequence[Outcome]) -> list[Probe]:
    """Return the probes to run next, all of which may run at once; none when the search is over.

    The first two stand below and above ``centre``. As long as the best is at an end, one more follows two
    octaves beyond it; then the gap towards its better neighbour is halved.

    Args:
        plan: the budget.
        centre: log2 of the learning rate to start from.
        outcomes: of all the probes so far.
    """
    low, high = math.log2(plan.min_lr), math.log2(plan.max_lr)
    seen = {math.log2(outcome.probe.lr): outcome.mean for outcome in outcomes}
    wanted = (min(max(octave, low), high) for octave in _octaves(centre, seen))
    new = [octave for octave in dict.fromkeys(wanted) if all(abs(octave - other) > 0.05 for other in seen)]
    return [plan.probe(octave) for octave in new[: plan.probes - len(outcomes)]]


def _octaves(centre: float, seen: dict[float, float]) -> list[float]:
    if not seen:
        return [centre - _BELOW, centre + _ABOVE]
    octaves = sorted(seen)
    best = min(octaves, key=lambda octave: seen[octave])
    if not math.isfinite(seen[best]):
        return [octaves[0] - 3]
    i = octaves.index(best)
    if i == 0:
        return [best - 2]
    if i == len(octaves) - 1:
        return [best + 2]
    neighbours = sorted((octaves[i - 1], octaves[i + 1]), key=lambda octave: seen[octave])
    return [(best + neighbour) / 2 for neighbour in neighbours if abs(best - neighbour) > _APART][:1]
