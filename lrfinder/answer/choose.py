"""From everything a search measured to a `Suggestion`, or to a refusal."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import platform
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

from lrfinder.answer.annealing import PRIOR, AnnealingEffect
from lrfinder.answer.ranking import rank
from lrfinder.answer.reason import Reason, nothing_learnt
from lrfinder.answer.suggestion import Suggestion
from lrfinder.errors import checked_horizon
from lrfinder.evidence.curve import Curve
from lrfinder.evidence.probe import Evidence, Outcome
from lrfinder.evidence.range_fit import RangeFit, fit_range
from lrfinder.evidence.valley import DRIFT, Drift, ValleyFit, fit_valley
from lrfinder.schedules.policy import Policy

__all__ = ["FAR", "choose", "default_policy", "suggest"]

_WIDEST = math.log2(100)
"""Octaves: where the 90% interval for the best rate of the probes is wider than two decades, it says nothing."""

_LEAST_ORDER = 0.65
"""Least rank correlation of loss and distance from the best rate. Of the benchmark's searches 95% reach it, of sets of
ten probes that differ by noise alone one in six (docs/measured.md)."""

_LIMITED = 0.3
"""Warn about overfitting above this share of the drift."""

FAR = 20.0
"""Warn if the horizon exceeds the longest probe by more than this factor."""

_BELOW_LOWEST = 10**-0.5

_SPREAD = 0.75
"""The rule: half a decade below the lowest place of the fitted curve. Over the tasks of `benchmarks/regret.py` the best
rate lies there on average, with a standard deviation of three quarters of a decade (docs/measured.md). That spread, not
the fit, is what the interval is made of."""

_EVIDENCE = 9.5
"""Log-likelihood ratio of a descent that noise alone hardly reaches (docs/measured.md, "How much evidence")."""

_FAINT = 4.0
"""From here on there may be a descent, but noise alone gives as much now and then."""

_NORMAL_90 = NormalDist().inv_cdf(0.95)  # half width of its central 90% interval, in standard deviations


def suggest(curve: Curve, *, steps: int | None = None) -> Suggestion:
    """Suggest the peak learning rate and the decay from a range test, or refuse with a reason.

    The rate lies half a decade below the lowest place of the fitted curve (or, for gradient descent whose blow-up shows
    its limit, below that limit, if lower). It depends on differences of the loss only: a scaled or shifted loss gives
    the same answer, and scaling the learning rates scales it.

    Args:
        curve: a range test.
        steps: optimizer steps you are going to train (the horizon); None where unknown.

    Raises:
        InputError: ``steps`` is not a positive whole number.

    Examples:
        >>> from lrfinder import Curve, suggest
        >>> suggest(Curve([10.0**k for k in range(-9, 3)], [1.0] * 12)).reason.name
        'FLAT'
    """
    return choose(Evidence.of_range_test(curve), steps=steps)


def choose(
    evidence: Evidence, *, steps: int | None = None, law: Drift = DRIFT, prior: AnnealingEffect = PRIOR
) -> Suggestion:
    """Suggest the peak learning rate for a training of ``steps`` steps, or refuse with a reason.

    A range test alone gives a bracket, see `suggest`. From probes the rate is that of least expected regret at the
    horizon, and the interval holds the best rate with 90% probability. The rate of a policy depends on differences of
    the loss only; which policy it is depends on shares of the loss, which is taken to be zero for a perfect model.

    Args:
        evidence: what was measured.
        steps: optimizer steps of the training; None if unknown: then the answer is for one as long as the probes.
        law: how the best rate moves from the probes to the horizon.
        prior: what is believed of annealing before it is measured.

    Raises:
        InputError: ``steps`` is not a positive whole number.
    """
    horizon = checked_horizon(steps)
    if not evidence.probed:
        return _bracket(evidence, horizon)
    reason = nothing_learnt(evidence)
    landscape = fit_valley(evidence) if reason is None else None
    reason = reason or _no_place(evidence, landscape)
    if reason is not None or landscape is None:
        return _suggestion(evidence, horizon, reason)
    belief = landscape.belief(horizon, law)
    rates = (belief.best(), belief.quantile(0.05), belief.quantile(0.95))
    costs = tuple((factor, landscape.rise(math.log2(factor))) for factor in (0.1, 0.5, 2.0, 10.0))
    caveats = _probe_caveats(landscape, horizon, law, single=evidence.untrained.loss.size == 1)
    if horizon is None:
        return _suggestion(evidence, horizon, None, rates, caveats, cost_of_error=costs)
    ranking = rank(evidence, horizon, rates[0], blow_up=2.0**landscape.blow_up, prior=prior)
    lr, low, high = (rate * 2**ranking.octaves for rate in rates)
    decay = {"policy": ranking.chosen.policy, "alternatives": ranking.alternatives}
    caveats = [*ranking.caveats, *caveats]
    return _suggestion(evidence, horizon, None, (lr, low, high), caveats, cost_of_error=costs, **decay)


def _bracket(evidence: Evidence, horizon: int | None) -> Suggestion:
    """Suggest what a range test alone supports."""
    fit = fit_range(evidence.curve)
    reason = _range_refusal(fit)
    if fit is None or reason is not None:
        return _suggestion(evidence, horizon, reason)
    limit = fit.blow_up.lr_limit if fit.blow_up is not None else math.inf
    lr = min(fit.lr_lowest, limit) * _BELOW_LOWEST
    width = 10 ** (_NORMAL_90 * math.hypot(_SPREAD, min(fit.standard_error("rise"), 1.0)))
    rates = (lr, lr / width, min(lr * width, limit))
    return _suggestion(evidence, horizon, None, rates, _range_caveats(fit, horizon))


def _suggestion(
    evidence: Evidence,
    horizon: int | None,
    reason: Reason | None,
    rates: tuple[float, float, float] | None = None,
    caveats: Sequence[str] = (),
    **decay: Any,
) -> Suggestion:
    """Put a suggestion together; ``rates`` are the best one and the ends of the interval, None if refused."""
    lr, low, high = rates or (None, None, None)
    answer = Suggestion(
        reason=reason,
        lr=lr,
        lr_low=None if low is None or lr is None else min(low, lr),
        lr_high=None if high is None or lr is None else max(high, lr),
        param_group_lrs=() if lr is None else tuple(ratio * lr for ratio in evidence.curve.group_ratios),
        policy=None if lr is None else default_policy(horizon),
        horizon=horizon,
        caveats=(*evidence.curve.caveats, *caveats),
        environment=environment(),
        evidence=evidence,
    )
    return dataclasses.replace(answer, **decay)


def default_policy(steps: int | None) -> Policy:
    """Return the default policy: constant, then linear to zero over the last 40%.

    For a 124M language model over 50,000 steps, each schedule at its own best rate, it ends within 0.01 nats of the
    best one, a constant rate 0.15 above (runs of Schaipp et al. 2025, arXiv 2501.18965); on short trainings it loses
    less progress than a decay from the first step on (docs/measured.md).

    Args:
        steps: optimizer steps of the training; None if unknown, for which only a constant rate can be laid out.
    """
    return Policy("constant") if steps is None else Policy("wsd", steps)


def environment() -> dict[str, Any]:
    """Return the versions that decide a result; no package is imported to learn its version."""
    facts = {"lrfinder": None, "python": platform.python_version(), "platform": platform.platform(terse=True)}
    for package in ("lrfinder", "torch", "lightning", "numpy", "scipy"):
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = None
    return facts


def _no_place(evidence: Evidence, landscape: ValleyFit | None) -> Reason | None:
    if landscape is None:
        return Reason.DIVERGED
    if _at_edge(evidence.rungs):
        return Reason.EDGE
    here = landscape.belief(None)
    wide = math.log2(here.quantile(0.95) / here.quantile(0.05)) > _WIDEST
    return Reason.NOISY if wide or landscape.order < _LEAST_ORDER else None


def _at_edge(rungs: Sequence[Sequence[Outcome]]) -> bool:
    """Whether the best probe, of every length, was the highest or was the lowest learning rate tried."""
    sides: list[set[int]] = []
    for rung in rungs:
        best = min(range(len(rung)), key=lambda i: rung[i].mean)
        if len(rung) > 1:
            sides.append({side for side, place in ((-1, 0), (1, len(rung) - 1)) if place == best})
    return bool(sides) and bool(set.intersection(*sides))


def _probe_caveats(landscape: ValleyFit, horizon: int | None, law: Drift, single: bool) -> list[str]:
    caveats = []
    if single:
        caveats.append("Judged by a single number per probe: how noisy it is, is not known.")
    if horizon is None:
        caveats.append(
            f"The number of training steps is unknown: this is the best rate for about {landscape.steps} steps; longer"
            " training mostly wants a lower one. Give steps."
        )
        return caveats
    if horizon > FAR * landscape.steps:
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


def _range_refusal(fit: RangeFit | None) -> Reason | None:
    if fit is None:
        return Reason.TRUNCATED
    if fit.evidence < _EVIDENCE:
        if fit.evidence >= _FAINT:
            return Reason.NOISY
        return Reason.RISING if fit.evidence_of_rise >= _EVIDENCE or fit.diverged else Reason.FLAT
    return Reason.EDGE if fit.at_edge and not fit.diverged else None


def _range_caveats(fit: RangeFit, steps: int | None) -> list[str]:
    caveats = [
        "A range test gives a bracket: the best rate for a whole training is a factor of 5 off on average, up or down.",
        "The policy is a default, not measured on this model.",
    ]
    if steps is None:
        caveats.append("The number of training steps is unknown, so no decay can be laid out: give steps.")
    elif steps < 2 * fit.points:
        caveats.append(f"Training for {steps} steps is little longer than the range test itself ({fit.points} steps).")
    if fit.lr_diverge is None:
        caveats.append("Training never diverged up to the last learning rate: the upper end is not confirmed.")
    return caveats
