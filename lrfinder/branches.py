"""Branches: probes that say what annealing late, and warming up, are worth, and at which length.

A trunk is a probe at a constant rate; a branch leaves it for its last steps and anneals. With common random numbers a
branch that is run from the start again takes the very steps of its trunk, bit for bit, up to where it leaves: that
costs steps, but no second copy of the state, and each result stands for itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lrfinder.curve import Stage
from lrfinder.probe import Outcome, Probe

__all__ = ["ANNEALED", "branch_probes"]

ANNEALED = 0.4
"""Share of a branch, its end, over which the rate falls to zero: what the policy "wsd" does by default."""

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
