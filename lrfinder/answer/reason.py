"""`Reason`: why there is no suggestion."""

from __future__ import annotations

import math
from enum import Enum

import numpy as np

from lrfinder.evidence.probe import Evidence, Outcome, standard_error
from lrfinder.evidence.range_fit import CLEAR, FAINT

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

    @classmethod
    def of_text(cls, text: str) -> Reason | None:
        """Return the reason whose first sentence begins the text, since what to do may be worded anew; None if none."""
        return next((reason for reason in cls if text.startswith(reason.why)), None)

    FLAT = (
        "The loss did not change with the learning rate by more than its noise.",
        "Give more steps to spend (budget=80 or more has probes), larger batches or a higher max_lr, and check that"
        " the optimizer holds the parameters that the loss depends on.",
    )
    RISING = (
        "The loss rose without having fallen first.",
        "Give more steps to spend (budget=80 or more has probes) or lower min_lr, and check the sign of the loss; a"
        " model that is trained already may have nothing left to gain.",
    )
    DIVERGED = (
        "Training blew up at every learning rate tried.",
        "Lower min_lr, check that the untrained loss is finite, and scale the inputs.",
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
