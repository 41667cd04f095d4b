"""`Reason`: why there is no suggestion."""

from __future__ import annotations

import math
from enum import Enum

import numpy as np

from lrfinder.evidence.curve import MIN_POINTS
from lrfinder.evidence.probe import Evidence, Outcome
from lrfinder.evidence.range_test import blown_up

__all__ = ["Reason", "nothing_learnt"]

_SIGMAS = 3.0
"""Minimum size of a loss difference, in standard errors, to count as real."""


class Reason(Enum):
    """Why there is no suggestion, and what to do about it.

    Attributes:
        why: what the measurement showed, one sentence.
        remedy: what to do, one sentence.
        value: both joined: the text shown, and the text in JSON.
    """

    why: str
    remedy: str

    def __new__(cls, why: str, remedy: str) -> Reason:
        """Make a member whose value is its whole text."""
        member = object.__new__(cls)
        member._value_, member.why, member.remedy = f"{why} {remedy}", why, remedy
        return member

    FLAT = (
        "The loss did not change with the learning rate by more than its noise.",
        "Raise max_lr, take more steps or larger batches, and check that the optimizer holds the parameters that the"
        " loss depends on.",
    )
    RISING = (
        "The loss rose without having fallen first.",
        "Lower min_lr or take more steps, and check the sign of the loss; a model that is trained already may have"
        " nothing left to gain.",
    )
    NOISY = (
        "The noise from batch to batch hides which learning rate is better.",
        "Take more steps (a larger budget), larger batches, or more of them to judge by.",
    )
    EDGE = (
        "The loss was still falling at the edge of the learning rates tried.",
        "Raise max_lr (or lower min_lr, where the best rate was the lowest), or give more steps to spend.",
    )
    TRUNCATED = (
        "There was too little to judge by.",
        "Give more batches (a smaller batch size, a validation loader) or more steps to spend, and check that the first"
        " loss is finite, or lower min_lr.",
    )
    DIVERGED = (
        "Training blew up at every learning rate tried.",
        "Lower min_lr, check that the untrained loss is finite, and scale the inputs.",
    )


def nothing_learnt(evidence: Evidence) -> Reason | None:
    """Return why no fit of the probes could mean anything, before any is made; None if training lowered the loss."""
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


def _gain(outcome: Outcome, untrained: Outcome) -> float:
    """Return by how many standard errors training lowered the loss, paired batch by batch."""
    fall = untrained.loss - outcome.loss
    mean = float(fall.mean())
    rounding = 1e-6 * max(float(np.abs(untrained.loss).max()), 1e-300)
    if abs(mean) <= rounding:
        return 0.0
    error = float(fall.std(ddof=1)) / math.sqrt(fall.size) if fall.size > 1 else 0.0
    return mean / max(error, rounding)
