"""The effect of annealing at the horizon: two numbers, from a prior and from what trunks and branches measured.

The final loss with schedule ``s``, at its own best peak rate, over that with a constant rate, at its own, is

    log(L_s / L_constant) = -noise_removed * r_s + progress_lost * o_s

``r_s`` is the share of the noise that the schedule removes by the convex bound, 0 for a constant rate and 1 for linear
to zero; ``o_s = -log2(mean multiplier)`` the octaves of progress it gives up (`lrfinder.theory.Features`). Over the
benchmark's tasks and twelve schedules these two numbers explain four fifths of the squares (`benchmarks/policies.py`,
docs/measured.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrfinder.evidence.curve import Stage
from lrfinder.evidence.probe import ANNEALED, Evidence, Outcome
from lrfinder.schedules.policy import Policy
from lrfinder.schedules.theory import Features, features

__all__ = [
    "PRIOR",
    "AnnealingEffect",
    "AnnealingMeasurement",
    "WarmupMeasurement",
    "estimate_effect",
    "measure_annealing",
    "measure_warmup",
]

Array = NDArray[np.float64]

_LEVEL_ERROR = 0.03
"""Standard deviation of a measured rise, because the rates of the probes are not quite the best ones."""

_DISTRUST = 0.5
"""Share by which a measured rise is doubted: large rises, at losses near zero, are mostly chance."""

_WANDER = 0.05
"""Standard deviation by which either number changes per square root of a doubling of the steps."""

_MISFIT = (0.005, 0.3)
"""Standard deviation of the law: a constant, and a share of the predicted rise."""


@dataclass(frozen=True)
class AnnealingMeasurement:
    """What annealing did to a training of ``steps`` steps, as shares of the loss at a constant rate.

    Attributes:
        steps: n.
        late: rise of the loss by annealing over the last 40%; negative if annealing helps.
        late_error: its standard error, paired over the held-out batches.
        throughout: the same, by annealing from the first step on, at its own best rate; None if it was not measured.
        throughout_error: its standard error.
    """

    steps: int
    late: float
    late_error: float
    throughout: float | None
    throughout_error: float


def measure_annealing(evidence: Evidence) -> tuple[AnnealingMeasurement, ...]:
    """Return what pairs of a trunk and a branch measured, the shortest first, without pairs of which one blew up."""
    measured = []
    for trunk in sorted((o for o in evidence.branches if o.probe.stage == Stage.TRUNK), key=lambda o: o.probe.steps):
        steps = trunk.probe.steps
        branch = next((o for o in evidence.branches if (o.probe.stage, o.probe.steps) == (Stage.BRANCH, steps)), None)
        if branch is None or trunk.diverged or branch.diverged:
            continue
        rung = [o for o in evidence.outcomes if o.probe.steps == steps and not o.diverged and o.probe.anneal == 1]
        linear = min(rung, key=lambda o: o.mean, default=None)
        throughout = (None, 0.0) if linear is None else _rise(linear, trunk)
        measured.append(AnnealingMeasurement(steps, *_rise(branch, trunk), *throughout))
    return tuple(measured)


@dataclass(frozen=True)
class WarmupMeasurement:
    """What warmup did to the longest probes.

    Attributes:
        rise: of the loss, as a share of that of the best probe without warmup; negative if warmup helps.
        error: its standard error, paired over the held-out batches.
        octaves: from the best rate without warmup up to the rate at which warmup was tried.
        steps: of warmup.
    """

    rise: float
    error: float
    octaves: float
    steps: int


def measure_warmup(evidence: Evidence) -> WarmupMeasurement | None:
    """Return what the probe with warmup measured; None if there was none, or if it blew up."""
    probe = next((o for o in evidence.branches if o.probe.stage == Stage.WARMUP and not o.diverged), None)
    rung = [o for o in evidence.outcomes if probe is not None and o.probe.steps == probe.probe.steps]
    best = min(rung, key=lambda o: o.mean, default=None)
    if probe is None or best is None or best.diverged:
        return None
    octaves = math.log2(probe.probe.lr / best.probe.lr)
    return WarmupMeasurement(*_rise(probe, best), octaves, probe.probe.warmup)


def _rise(outcome: Outcome, base: Outcome) -> tuple[float, float]:
    """Return the relative rise of the mean loss over a base, and its standard error, paired batch by batch."""
    difference = outcome.loss - base.loss
    error = float(difference.std(ddof=1)) / math.sqrt(difference.size) if difference.size > 1 else 0.0
    unit = max(abs(base.mean), abs(outcome.mean), 1e-300)
    return float(np.mean(difference)) / unit, error / unit


@dataclass(frozen=True, eq=False)
class AnnealingEffect:
    """A normal belief about the two numbers of the law.

    Attributes:
        noise_removed: mean fall of the log loss if a schedule removes all the noise that linear decay removes.
        progress_lost: mean rise of the log loss per octave of progress that a schedule gives up.
        covariance: (2, 2), of the two numbers in this order.
        measured: share of the certainty that comes from branches, from 0 for the prior alone to 1.
    """

    noise_removed: float
    progress_lost: float
    covariance: Array
    measured: float = 0.0

    def predict_rise(self, of: Features) -> tuple[float, float]:
        """Return the predicted log of the loss over that at a constant rate, and its standard deviation."""
        row = _row(of)
        value = float(row @ np.array([self.noise_removed, self.progress_lost]))
        misfit = (_MISFIT[0] + _MISFIT[1] * abs(value)) if np.any(row) else 0.0
        return value, math.sqrt(float(row @ self.covariance @ row) + misfit**2)


PRIOR = AnnealingEffect(0.056, 0.038, np.array([[0.0077, 0.0004], [0.0004, 0.0030]]))
"""Mean and covariance over the benchmark's cells, rounded."""


def estimate_effect(
    horizon: int, measured: Sequence[AnnealingMeasurement], prior: AnnealingEffect = PRIOR
) -> AnnealingEffect:
    """Return the effect of annealing after ``horizon`` steps.

    A measured rise ``y`` has the variance ``error**2 + 0.03**2 + (y / 2)**2``. What was measured then wanders by a
    standard deviation of 0.05 per square root of a doubling of the steps, from the shortest branch to the longest and
    on to the horizon. The result is the most likely pair of numbers that are not negative, after that and the prior.

    Args:
        horizon: T, optimizer steps.
        measured: what branches measured, the shortest first.
        prior: the belief without them.
    """
    from scipy.optimize import nnls

    precision, information, steps = np.zeros((2, 2)), np.zeros(2), 1
    for measurement in measured:
        precision, information = _wander(precision, information, steps, measurement.steps)
        steps = measurement.steps
        rises = [(measurement.late, measurement.late_error, Policy("wsd", steps, params={"cooldown": ANNEALED}))]
        if measurement.throughout is not None:
            rises.append((measurement.throughout, measurement.throughout_error, Policy("linear", steps)))
        for rise, error, policy in rises:
            row = _row(features(policy, steps))
            variance = error**2 + _LEVEL_ERROR**2 + (_DISTRUST * rise) ** 2
            precision = precision + np.outer(row, row) / variance
            information = information + row * rise / variance
    precision, information = _wander(precision, information, steps, horizon)
    believed, mean = np.linalg.inv(prior.covariance), np.array([prior.noise_removed, prior.progress_lost])
    covariance = np.asarray(np.linalg.inv(believed + precision), dtype=np.float64)
    # Neither number can be negative: less progress does not help, annealing does not add noise.
    root = np.linalg.cholesky(believed + precision).T
    (removed, lost), _ = nnls(root, root @ covariance @ (believed @ mean + information))
    return AnnealingEffect(float(removed), float(lost), covariance, float(np.trace(covariance @ precision)) / 2)


def _row(of: Features) -> Array:
    """Return the coefficients (2,) of the two numbers in the law."""
    return np.array([-of.noise_removed, of.progress_lost])


def _wander(precision: Array, information: Array, before: int, after: int) -> tuple[Array, Array]:
    """Return precision and precision times mean once both numbers have wandered from one length to another."""
    if not precision.any() or after <= before:
        return precision, information
    # (P^-1 + q I)^-1 = (I + q P)^-1 P, which needs no inverse of a P that is known in one direction only.
    shrink = np.linalg.inv(np.eye(2) + _WANDER**2 * math.log2(after / before) * precision)
    return shrink @ precision, shrink @ information
