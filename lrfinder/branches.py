"""Branches: probes that say what annealing late, and warming up, are worth, and at which length.

A trunk is a probe at a constant rate; a branch leaves it for its last steps and anneals. With common random numbers a
branch that is run from the start again takes the very steps of its trunk, bit for bit, up to where it leaves: that
costs steps, but no second copy of the state, and each result stands for itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrfinder.curve import Stage
from lrfinder.probe import Evidence, Outcome, Probe

__all__ = ["ANNEALED", "Annealed", "Warmed", "annealed", "branch_probes", "warmed"]

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


@dataclass(frozen=True)
class Annealed:
    """What annealing did to a training of ``steps`` steps, as shares of the loss at a constant rate.

    Attributes:
        steps: n.
        late: rise of the loss by annealing over the last 40%; negative where it helps.
        late_error: its standard error, paired over the held-out batches.
        throughout: the same, by annealing from the first step on, at its own best rate; None where not measured.
        throughout_error: its standard error.
    """

    steps: int
    late: float
    late_error: float
    throughout: float | None
    throughout_error: float


def annealed(evidence: Evidence) -> tuple[Annealed, ...]:
    """Return what trunks and branches say, the shortest first; those that blew up say nothing."""
    found = []
    for trunk in sorted((o for o in evidence.branches if o.probe.stage == Stage.TRUNK), key=lambda o: o.probe.steps):
        steps = trunk.probe.steps
        branch = next((o for o in evidence.branches if (o.probe.stage, o.probe.steps) == (Stage.BRANCH, steps)), None)
        if branch is None or trunk.diverged or branch.diverged:
            continue
        rung = [o for o in evidence.outcomes if o.probe.steps == steps and not o.diverged and o.probe.anneal == 1]
        linear = min(rung, key=lambda o: o.mean, default=None)
        throughout = (None, 0.0) if linear is None else _rise(linear, trunk)
        found.append(Annealed(steps, *_rise(branch, trunk), *throughout))
    return tuple(found)


@dataclass(frozen=True)
class Warmed:
    """What warmup did to the longest probes.

    Attributes:
        rise: of the loss, as a share of that of the best probe without; negative where warmup helps.
        error: its standard error, paired over the held-out batches.
        octaves: how far above the best rate it was tried.
        steps: of warmup.
    """

    rise: float
    error: float
    octaves: float
    steps: int


def warmed(evidence: Evidence) -> Warmed | None:
    """Return what the probe with warmup says; None where there was none, or it blew up."""
    probe = next((o for o in evidence.branches if o.probe.stage == Stage.WARMUP and not o.diverged), None)
    rung = [o for o in evidence.outcomes if probe is not None and o.probe.steps == probe.probe.steps]
    best = min(rung, key=lambda o: o.mean, default=None)
    if probe is None or best is None or best.diverged:
        return None
    return Warmed(*_rise(probe, best), math.log2(probe.probe.lr / best.probe.lr), probe.probe.warmup)


def _rise(outcome: Outcome, base: Outcome) -> tuple[float, float]:
    """Return the relative rise of the mean loss over a base, and its standard error, paired batch by batch."""
    difference = outcome.loss - base.loss
    error = float(difference.std(ddof=1)) / math.sqrt(difference.size) if difference.size > 1 else 0.0
    unit = max(abs(base.mean), abs(outcome.mean), 1e-300)
    return float(np.mean(difference)) / unit, error / unit
