"""From everything a search measured to a `Suggestion`, or to a refusal."""

from __future__ import annotations

import functools
import importlib.metadata
import math
import platform
from typing import Any

import numpy as np

from lrfinder.answer.ranking import rank, warmup_steps
from lrfinder.answer.suggestion import Suggestion
from lrfinder.answer.suggestion_text import Reason
from lrfinder.errors import checked_horizon
from lrfinder.evidence.curve import Curve
from lrfinder.evidence.probe import Evidence, Outcome, standard_error
from lrfinder.evidence.range_fit import CLEAR, FAINT, RangeFit
from lrfinder.evidence.range_test import blown_up, last_step
from lrfinder.evidence.valley import ValleyFit, fit_valley, memorises
from lrfinder.schedules.policy import Policy

FAR = 20.0
"""Warn if the horizon exceeds the probes by more than this factor."""

_SIGMAS = 3.0
"""Minimum size of a loss difference, in standard errors, to count as real."""

_WEAK = 100.0
"""Ratio of the ends of an interval from which on the answer says how to narrow it."""


def suggest(curve: Curve, *, steps: int | None = None) -> Suggestion:
    """Suggest the peak learning rate and the decay from a range test, or refuse with a reason.

    The rate follows from the lowest place of the curve and from where training left for good (see
    `lrfinder.evidence.range_fit.expected_place`). It depends on differences of the loss only: a scaled or shifted loss
    gives the same answer, and scaling the learning rates scales it.

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


def choose(evidence: Evidence, *, steps: int | None = None) -> Suggestion:
    """Suggest the peak learning rate for a training of ``steps`` steps, or refuse with a reason.

    The rate is that of least expected regret, and the interval holds the best rate with 90% probability. Both depend on
    differences of the loss only. The policy does not depend on the measurements: it is constant, then linear to zero
    over the last 40%, after a short warmup, because no search of a few percent of a training tells policies apart.

    Args:
        steps: optimizer steps of the training; None if unknown: then the answer is for one as long as the probes.

    Raises:
        InputError: ``steps`` is not a positive whole number.
    """
    horizon = checked_horizon(steps)
    reason = refusal(evidence)
    caveats = (*evidence.curve.caveats, *_sudden_failure(evidence.curve))
    answer = functools.partial(Suggestion, reason, horizon=horizon, environment=environment(), evidence=evidence)
    if reason is not None:
        return answer(lr=None, lr_low=None, lr_high=None, param_group_lrs=(), policy=None, caveats=caveats)
    valley = fit_valley(evidence)
    belief = valley.belief(horizon)
    fit = evidence.range_fit
    limit = fit.blow_up.lr_limit if fit is not None and fit.blow_up is not None and not evidence.probed else math.inf
    lr, low, high = (min(rate, limit) for rate in (belief.best(), belief.quantile(0.05), belief.quantile(0.95)))
    costs: tuple[tuple[float, float], ...] = ()
    if valley.sharpness is not None:
        costs = tuple((factor, valley.rise(math.log2(factor))) for factor in (0.1, 0.5, 2.0, 10.0))
    policy = default_policy(horizon)
    return answer(
        lr=lr,
        lr_low=min(low, lr),
        lr_high=max(high, lr),
        param_group_lrs=tuple(ratio * lr for ratio in evidence.curve.group_ratios),
        policy=policy,
        caveats=(*caveats, *_caveats(evidence, fit, valley, horizon, high / low)),
        cost_of_error=costs,
        alternatives=() if horizon is None else rank(policy, horizon, lr),
    )


def refusal(evidence: Evidence) -> Reason | None:
    """Return why these measurements have no answer; None if they have one, however weak.

    Probes that lowered what they are judged by have an answer, and so has a range test that shows a descent of the same
    loss. Without either training did nothing, did harm at every learning rate, or blew up at every one.
    """
    fit = evidence.range_fit
    if fit is None:
        return Reason.DIVERGED  # within the first ten steps
    descends = fit.evidence >= (CLEAR if evidence.probed else FAINT)
    if not evidence.probed:
        if descends:
            return None
        return Reason.RISING if fit.evidence_of_rise >= CLEAR or fit.diverged else Reason.FLAT
    untrained = evidence.untrained
    gains = [_gain(outcome, untrained) for outcome in evidence.outcomes if not outcome.diverged]
    if (descends and evidence.comparable) or max(gains, default=-math.inf) > _SIGMAS:
        return None
    if not gains:
        return Reason.DIVERGED
    return Reason.RISING if min(gains) < -_SIGMAS else Reason.FLAT


def _gain(outcome: Outcome, untrained: Outcome) -> float:
    """Return by how many standard errors training lowered the loss, paired batch by batch."""
    fall = untrained.loss - outcome.loss
    mean = float(fall.mean())
    rounding = 1e-6 * max(float(np.abs(untrained.loss).max()), 1e-300)
    if abs(mean) <= rounding:
        return 0.0
    return mean / max(standard_error(fall) or 0.0, rounding)


def default_policy(steps: int | None) -> Policy:
    """Return the default policy: a short warmup, constant, then linear to zero over the last 40%.

    For a 124M language model over 50,000 steps, each schedule at its own best rate, it ends within 0.01 nats of the
    best one, a constant rate 0.15 above (runs of Schaipp et al. 2025, arXiv 2501.18965); on our tasks no ranking from
    a search did better (docs/measured.md).

    Args:
        steps: optimizer steps of the training; None if unknown, for which only a constant rate can be laid out.
    """
    return Policy("constant") if steps is None else Policy("wsd", steps, warmup_steps(steps))


def environment() -> dict[str, Any]:
    """Return the versions that decide a result; no package is imported to learn its version."""
    facts = {"lrfinder": None, "python": platform.python_version(), "platform": platform.platform(terse=True)}
    return facts | {package: _version(package) for package in ("lrfinder", "torch", "lightning", "numpy", "scipy")}


@functools.cache  # reading the metadata of a package takes milliseconds
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _sudden_failure(curve: Curve) -> list[str]:
    """Return a caveat if a range test ended at a loss that is not finite, and the one before stood out from no other.

    It stands out if it lies above all others by more than their whole range: then training was blowing up.
    """
    end = last_step(curve.loss)[0] - 1
    before = curve.loss[:end]
    if not blown_up(curve.loss[end]) or (end > 1 and before[-1] > before[:-1].max() + np.ptp(before[:-1])):
        return []
    return [
        f"The loss of the range test was not finite at step {curve.step[end] + 1}, and the one before was not unusually"
        " high: either that batch is not finite at any learning rate (check the data), or training blew up within"
        " one step."
    ]


def _caveats(
    evidence: Evidence, fit: RangeFit | None, valley: ValleyFit, horizon: int | None, ratio: float
) -> list[str]:
    caveats = []
    if not evidence.probed:
        caveats.append("A range test alone gives a bracket: nothing was judged on held-out batches.")
    elif evidence.untrained.loss.size == 1:
        caveats.append("Each probe was judged by a single number, so its noise is unknown.")
    if ratio > _WEAK:
        caveats.append(
            f"The measurements separate the learning rates little: budget={evidence.larger_budget} would narrow the"
            " interval."
        )
    if not evidence.probed and fit is not None and (not fit.diverged or fit.evidence < CLEAR):
        caveats.append(
            "The loss was still falling at the last learning rate of the range test: raise max_lr."
            if fit.at_edge
            else "The range test shows its descent or its blow-up only faintly."
        )
    if horizon is None:
        caveats.append(
            f"The number of training steps is unknown: this is the best rate for about {valley.steps:,} steps, and no"
            " decay can be laid out. Give steps."
        )
    elif evidence.probed and horizon > FAR * valley.steps:
        caveats.append(f"The probes took {valley.steps:,} steps, training will take {horizon:,}: this is extrapolated.")
    if memorises(horizon, evidence.epoch_steps):
        passes = (horizon or 0) / (evidence.epoch_steps or 1.0)
        caveats.append(
            f"Over {passes:,.0f} passes the model may memorise its data: keep the checkpoint of the lowest validation"
            " loss, train for fewer passes, or raise the weight decay. The rate is chosen for the loss at the end."
        )
    return caveats
