"""The convex bound: what a schedule of learning rates is worth by theory, and its best peak."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrfinder.errors import InputError

__all__ = ["Bound"]


@dataclass(frozen=True)
class Bound:
    """``distance / lr + noise * lr`` bounds the expected loss above the lowest, for peak rate ``lr``.

    In units in which the start is at distance D = 1 from the optimum and gradients have norm G = 1.

    Attributes:
        distance: ``1 / (2 sum(eta))``: how far a start that is wrong is felt; longer and higher schedules have less.
        noise: what noise in the gradients costs; late annealing lowers it.
    """

    distance: float
    noise: float

    @property
    def lr(self) -> float:
        """The best peak rate, in units of D/G."""
        return math.sqrt(self.distance / self.noise)

    @property
    def value(self) -> float:
        """The bound at the best peak rate, in units of D G."""
        return 2 * math.sqrt(self.distance * self.noise)

    @classmethod
    def of(cls, multipliers: ArrayLike) -> Bound:
        """Return the bound of a schedule ``eta`` (T,) >= 0, some of it positive, last iterate of SGD.

        ``distance = 1 / (2 S)`` and ``noise = Q / (2 S) + 1/2 sum_{k<T} (eta_k / S_{k+1}) (Q_k / S_k)``, where
        ``S_k`` and ``Q_k`` are the sums of ``eta_t`` and ``eta_t**2`` from ``k`` to the end, ``S`` and ``Q`` of all.

        Raises:
            InputError: a multiplier is negative or not finite, or none is positive.

        Source: Schaipp et al. 2025, theorem 3.1 (arXiv 2501.18965).
        """
        eta: NDArray[np.float64] = np.asarray(multipliers, dtype=np.float64)
        if eta.ndim != 1 or not np.all(np.isfinite(eta)) or np.any(eta < 0) or not np.any(eta > 0):
            raise InputError("multipliers must be finite, at least 0, and some of them positive")
        eta = eta[: int(np.flatnonzero(eta)[-1]) + 1]  # at rate zero nothing happens
        rest, squares = np.cumsum(eta[::-1])[::-1], np.cumsum(eta[::-1] ** 2)[::-1]
        late = float(np.sum(eta[:-1] / rest[1:] * squares[:-1] / rest[:-1]))
        return cls(float(1 / (2 * rest[0])), float(squares[0] / (2 * rest[0]) + late / 2))
