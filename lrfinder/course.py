"""`Course`: a policy over the steps of a training, its learning rate and what `lrfinder.annealing` says of its loss.

That law speaks of final losses. At a step ``t`` before the end it is read as it stands, of the training up to there:

    log(L_s(t) / L_constant(T)) = -relief * r_s(t) + cost * o_s(t)

with ``r_s(t)`` from the convex bound of the first ``t`` steps, at the peak that is best for all of them, and ``o_s(t)``
the octaves of progress still missing. At ``t = T`` it is what was predicted; before, it is theory (docs/report.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lrfinder.policy import RANKED, Policy
from lrfinder.ranking import Alternative
from lrfinder.theory import ConvexBound, features

if TYPE_CHECKING:
    from lrfinder.suggestion import Suggestion

__all__ = ["Course", "courses"]

Array = NDArray[np.float64]

_MOST_STEPS = 2_000
"""Of a longer training so many steps are looked at: enough for a line."""
_POINTS = 40
"""Lengths at which the loss is worked out."""
_FROM = 0.5
"""Share of the training from which on the loss is shown. On the digits the law is up to 14% below the losses measured
at half of the training, within 6% over the last third; at a tenth it is off by a factor of two (docs/report.md)."""


@dataclass(frozen=True, eq=False)
class Course:
    """What one policy does, and what is predicted of it.

    Attributes:
        alternative: the policy, its own best peak, its predicted gain.
        taken: whether it is the one suggested.
        step: (n,) optimizer steps, increasing, the last one the end of training.
        lr: (n,) learning rate there.
        loss_step: (m,) steps at which the loss is predicted; empty where it cannot be.
        loss: (m,) predicted loss there over the final loss of a constant rate.
    """

    alternative: Alternative
    taken: bool
    step: Array
    lr: Array
    loss_step: Array
    loss: Array


def courses(suggestion: Suggestion, most: int = 6) -> tuple[Course, ...]:
    """Return the courses of the policies that matter: the one suggested, a constant rate, and the best others.

    Args:
        suggestion: with or without alternatives; without a horizon, or a policy that ends, there are no courses.
        most: how many, at most.
    """
    horizon, policy, lr = suggestion.horizon, suggestion.policy, suggestion.lr
    if horizon is None or policy is None or lr is None:
        return ()
    law = _law(suggestion.alternatives, horizon)
    chosen = suggestion.chosen or Alternative(policy, lr, None, None, None, "")
    ranked = [one for one in suggestion.alternatives if one.policy.name in RANKED and one is not chosen]
    constant = [one for one in ranked if one.policy.name == "constant"]
    others = [one for one in ranked if one not in constant][: max(most - 1 - len(constant), 0)]
    shown = [chosen, *(one for one in ranked if one in constant or one in others)]
    return tuple(_course(one, one is chosen, horizon, law) for one in shown)


def lrs(policy: Policy, peak: float, horizon: int) -> tuple[Array, Array]:
    """Return steps (n,), at most 201, and the learning rate of each; the last is the state after the last step."""
    total = policy.total_steps or horizon
    step = np.unique(np.round(np.linspace(0, total, min(total, 200) + 1)).astype(int))
    return step.astype(np.float64), np.array([peak * policy(int(at)) for at in step])


def _course(one: Alternative, taken: bool, horizon: int, law: tuple[float, float] | None) -> Course:
    step, lr = lrs(one.policy, one.lr, horizon)
    at, loss = (np.empty(0), np.empty(0)) if law is None or one.gain is None else _losses(one.policy, horizon, *law)
    return Course(one, taken, step, lr, at, loss)


def _law(alternatives: Sequence[Alternative], horizon: int) -> tuple[float, float] | None:
    """Return (relief, cost) as the predicted gains have them: two numbers, so that any two policies give them away."""
    ranked = [one for one in alternatives if one.gain is not None and one.gain < 1]
    rows = [features(one.policy, horizon) for one in ranked]
    columns = np.array([(-row.noise_removed, row.progress_lost) for row in rows]).reshape(-1, 2)
    if np.linalg.matrix_rank(columns) < 2:
        return None
    relief, cost = np.linalg.lstsq(columns, np.array([math.log1p(-(one.gain or 0.0)) for one in ranked]), rcond=None)[0]
    return float(relief), float(cost)


def _losses(policy: Policy, horizon: int, relief: float, cost: float) -> tuple[Array, Array]:
    total = policy.total_steps or horizon
    count = min(total, _MOST_STEPS)
    eta = np.array([policy(round(k * total / count)) for k in range(count)])
    flat = ConvexBound.of(np.ones(count)).value
    spread = flat - ConvexBound.of(1 - np.arange(count) / count).value
    peak = ConvexBound.of(eta).lr
    lengths = np.unique(np.round(np.linspace(max(_FROM * count, 1), count, _POINTS)).astype(int))
    found = []
    for length in lengths:
        bound = ConvexBound.of(eta[:length])
        removed = (flat - bound.distance / peak - bound.noise * peak) / spread if spread > 0 else 0.0
        missing = -math.log2(float(eta[:length].sum()) / count)
        found.append(math.exp(-relief * removed + cost * missing))
    return lengths * (total / count), np.array(found)
