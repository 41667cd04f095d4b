"""`Difference`: how much higher one probe ended than another, and whether that can be told."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrfinder.probe import Outcome
from lrfinder.ranking import MATERIAL

__all__ = ["SIGMAS", "Difference", "alike", "standard_error"]

SIGMAS = 2.0
"""A difference of fewer standard errors is not told apart."""


class Difference(NamedTuple):
    """How much higher a probe ended.

    Attributes:
        mean: over the held-out batches, in units of the loss.
        error: its standard error, paired where both saw the same batches; None with a single one.
        tied: whether it is no detectable difference: below two standard errors, or 0.5% of the loss.
    """

    mean: float
    error: float | None
    tied: bool

    @classmethod
    def of(cls, one: Outcome, first: Outcome, paired: bool = True) -> Difference:
        """Compare a probe with the one that ended lowest."""
        mean = one.mean - first.mean
        if paired and one.loss.size == first.loss.size:
            error = standard_error(one.loss - first.loss)
        else:
            errors = [standard_error(outcome.loss) for outcome in (one, first)]
            error = None if None in errors else math.hypot(*(error or 0.0 for error in errors))
        small = abs(mean) < MATERIAL * abs(first.mean)
        return cls(mean, error, one is not first and (small or (error is not None and mean < SIGMAS * error)))


def standard_error(values: NDArray[np.float64]) -> float | None:
    """Return that of the mean of held-out losses; None with a single one."""
    return float(np.std(values, ddof=1)) / math.sqrt(values.size) if values.size > 1 else None


def alike(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether losses before any step are those of the same weights on the same batches."""
    return one.size == other.size and np.allclose(one, other, rtol=1e-4, equal_nan=True)
