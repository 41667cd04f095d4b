"""From everything a search measured to a `Suggestion`, or to a refusal."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lrfinder.annealing import PRIOR, AnnealingEffect
from lrfinder.branches import STAGES
from lrfinder.curve import MIN_POINTS
from lrfinder.environment import environment
from lrfinder.errors import InputError
from lrfinder.landscape import DRIFT, Drift, Landscape, fit_landscape
from lrfinder.probe import Evidence, Outcome
from lrfinder.ranking import Ranking, rank
from lrfinder.reason import Reason
from lrfinder.suggestion import Suggestion, checked_horizon, default_policy
from lrfinder.sweep import blown_up

__all__ = ["choose", "evidence_of"]

_SIGMAS = 3.0
"""A difference of losses counts from so many standard errors on."""

_WIDEST = math.log2(100)
"""Octaves: where the 90% interval for the best rate of the probes is wider than two decades, it says nothing."""

_LEAST_ORDER = 0.65
"""Least rank correlation of loss and distance from the best rate. Of the benchmark's searches 95% reach it, of sets of
ten probes that differ by noise alone one in six (docs/measured.md)."""

_LIMITED = 0.3
"""Share of memorising in the drift from which on it is said."""

_FAR = 20.0
"""A horizon so many times the longest probe is far: said as a caveat."""


def choose(
    evidence: Evidence, *, steps: int | None = None, law: Drift = DRIFT, prior: AnnealingEffect = PRIOR
) -> Suggestion:
    """Suggest the peak learning rate for a training of ``steps`` steps, from probes, or refuse with a reason.

    The rate is that of least expected regret under what the probes say of the best rate at the horizon; the interval
    holds the best rate with 90% probability. Only differences of the loss matter to the rate of a policy; which policy
    it is goes by shares of the loss, which is taken to be zero for a perfect model.

    Args:
        evidence: what was measured.
        steps: optimizer steps of the training; None where unknown: then the answer is for one as long as the probes.
        law: how the best rate moves from the probes to the horizon.
        prior: what is believed of annealing before it is measured.

    Raises:
        InputError: ``steps`` is not a positive whole number.
    """
    horizon = checked_horizon(steps)
    reason = _nothing_learnt(evidence)
    landscape = fit_landscape(evidence) if reason is None else None
    if reason is None:
        reason = _no_place(evidence, landscape)
    lr = low = high = None
    ranking: Ranking | None = None
    caveats = list(evidence.curve.caveats)
    costs: tuple[tuple[float, float], ...] = ()
    if landscape is not None and reason is None:
        belief = landscape.belief(horizon, law)
        lr, low, high = belief.best(), belief.quantile(0.05), belief.quantile(0.95)
        if horizon is not None:
            ranking = rank(evidence, horizon, lr, blow_up=2.0**landscape.blow_up, prior=prior)
            lr, low, high = (rate * 2**ranking.octaves for rate in (lr, low, high))
        low, high = min(low, lr), max(high, lr)
        costs = tuple((factor, landscape.rise(math.log2(factor))) for factor in (0.1, 0.5, 2.0, 10.0))
        caveats += ranking.caveats if ranking is not None else ()
        caveats += _caveats(landscape, horizon, law, single=evidence.untrained.loss.size == 1)
    return Suggestion(
        reason=reason,
        lr=lr,
        lr_low=low,
        lr_high=high,
        param_group_lrs=() if lr is None else tuple(ratio * lr for ratio in evidence.curve.group_ratios),
        policy=ranking.chosen.policy if ranking is not None else None if lr is None else default_policy(horizon),
        method="probe",
        horizon=horizon,
        steps_spent=evidence.steps,
        seconds=evidence.seconds,
        caveats=tuple(caveats),
        curves=(evidence.curve,),
        fit=None if landscape is None else {**landscape.to_dict(), "comparable": evidence.comparable},
        environment=environment(),
        probes=(evidence.untrained, *evidence.outcomes, *evidence.branches),
        alternatives=() if ranking is None else ranking.alternatives,
        cost_of_error=costs,
    )


def evidence_of(suggestion: Suggestion) -> Evidence | None:
    """Return what a suggestion was made from, to choose again; None where it was made without probes.

    Raises:
        InputError: the probes do not belong together.
    """
    if not suggestion.probes:
        return None
    fit = suggestion.fit or {}
    untrained, *outcomes = suggestion.probes
    epoch = fit.get("epoch_steps")
    if epoch is not None and not (isinstance(epoch, (int, float)) and epoch > 0):
        raise InputError(f"epoch_steps must be a positive number or null, got {epoch!r:.60}")
    if len({outcome.loss.size for outcome in suggestion.probes if not outcome.diverged}) > 1:
        raise InputError("probes must all be judged by the same held-out batches, got lists of different lengths")
    return Evidence(
        curve=suggestion.curves[0],
        untrained=untrained,
        outcomes=tuple(outcome for outcome in outcomes if outcome.probe.stage not in STAGES),
        branches=tuple(outcome for outcome in outcomes if outcome.probe.stage in STAGES),
        range_steps=suggestion.steps_spent - sum(outcome.train_loss.size for outcome in outcomes),
        epoch_steps=epoch,
        comparable=bool(fit.get("comparable", True)),
    )


def _nothing_learnt(evidence: Evidence) -> Reason | None:
    untrained, outcomes = evidence.untrained, evidence.outcomes
    if len(outcomes) < 3:
        return Reason.DIVERGED if blown_up(evidence.curve.loss[MIN_POINTS - 1]) else Reason.TRUNCATED
    gains = [] if untrained.diverged else [_gain(o, untrained) for o in outcomes if not o.diverged]
    if not gains:
        return Reason.DIVERGED
    if max(gains) > _SIGMAS:
        return None
    if min(gains) < -_SIGMAS:
        return Reason.RISING
    return Reason.FLAT if len(gains) == len(outcomes) else Reason.NOISY


def _no_place(evidence: Evidence, landscape: Landscape | None) -> Reason | None:
    if landscape is None:
        return Reason.DIVERGED
    if _at_edge(evidence.rungs):
        return Reason.EDGE
    here = landscape.belief(None)
    wide = math.log2(here.quantile(0.95) / here.quantile(0.05)) > _WIDEST
    return Reason.NOISY if wide or landscape.order < _LEAST_ORDER else None


def _gain(outcome: Outcome, untrained: Outcome) -> float:
    """Return by how many standard errors training lowered the loss, paired batch by batch."""
    fall = untrained.loss - outcome.loss
    mean = float(fall.mean())
    rounding = 1e-6 * max(float(np.abs(untrained.loss).max()), 1e-300)
    if abs(mean) <= rounding:
        return 0.0
    error = float(fall.std(ddof=1)) / math.sqrt(fall.size) if fall.size > 1 else 0.0
    return mean / max(error, rounding)


def _at_edge(rungs: Sequence[Sequence[Outcome]]) -> bool:
    """Whether the best probe, of every length, was the highest or was the lowest learning rate tried."""
    sides: list[set[int]] = []
    for rung in rungs:
        best = min(range(len(rung)), key=lambda i: rung[i].mean)
        if len(rung) > 1:
            sides.append({side for side, place in ((-1, 0), (1, len(rung) - 1)) if place == best})
    return bool(sides) and bool(set.intersection(*sides))


def _caveats(landscape: Landscape, horizon: int | None, law: Drift, single: bool) -> list[str]:
    caveats = []
    if single:
        caveats.append("Judged by a single number per probe: how noisy it is, is not known.")
    if horizon is None:
        caveats.append(
            f"The number of training steps is unknown: this is the best rate for about {landscape.steps} steps; longer"
            " training mostly wants a lower one. Give steps."
        )
        return caveats
    if horizon > _FAR * landscape.steps:
        caveats.append(
            f"The longest probes took {landscape.steps} steps, training will take {horizon}: this is extrapolated."
        )
    if landscape.epoch_steps and law.limited(*landscape.signs(horizon)) > _LIMITED:
        passes = horizon / landscape.epoch_steps
        caveats.append(
            f"Over {passes:.0f} passes the model may memorise its data; a lower rate that stops in time then does best."
            " Watch the validation loss."
        )
    return caveats
