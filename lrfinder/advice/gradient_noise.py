"""The noise of gradients: how large a batch has to be before a larger one stops paying."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lrfinder.errors import InputError, whole_number
from lrfinder.files import number_to_json

MIN_BATCHES = 4
"""Minimum number of batch gradients from which an interval can be estimated."""

NORMAL_90 = NormalDist().inv_cdf(0.95)
"""Standard deviations from the middle of a 90% interval to its ends."""

_SOURCE = "McCandlish et al. 2018, sections 2.2 and 2.3, appendix A.1 (arXiv 1812.06162)"


@dataclass(frozen=True)
class NoiseScale:
    """The simple gradient noise scale, in examples, at one state of a model.

    It is ``tr(C) / |G|**2`` with the gradient G of the whole data and the covariance C of the gradients of single
    examples. It holds for the state at which it was measured, and usually grows while training goes on.

    Attributes:
        value: the estimate, in examples; inf if the batches do not show that G differs from zero.
        low: lower end of the 90% interval, in examples.
        high: upper end; inf if the batches cannot bound it.
        batch_size: examples per batch that it was measured with.
        batches: number of batch gradients.
        source: paper and section.
    """

    value: float
    low: float
    high: float
    batch_size: int
    batches: int
    source: str = _SOURCE

    def steps_factor(self, batch_size: int) -> float:
        """Return the steps that a batch size takes to one loss, over the fewest that any batch size takes.

        That is ``1 + value / batch_size``, if each batch size has its own best rate (section 2.3).
        """
        return 1 + self.value / whole_number("batch_size", batch_size)

    def examples_factor(self, batch_size: int) -> float:
        """Return the examples that a batch size takes to one loss, over the fewest that any takes.

        That is ``1 + batch_size / value``: at the noise scale both factors are 2, so it is called the critical batch
        size (section 2.3).
        """
        return 1 + whole_number("batch_size", batch_size) / self.value

    def __str__(self) -> str:
        high = f"{self.high:,.3g}" if math.isfinite(self.high) else "no upper end"
        return f"{self.value:,.3g} examples (90% interval {self.low:,.3g} to {high})"

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate as JSON-ready data."""
        return {
            "value": number_to_json(self.value),
            "low": number_to_json(self.low),
            "high": number_to_json(self.high),
            "batch_size": self.batch_size,
            "batches": self.batches,
            "source": self.source,
        }


def estimate_noise_scale(squares: ArrayLike, products: ArrayLike, batch_size: int) -> NoiseScale:
    """Estimate the noise scale from the gradients ``g_i`` of n batches of one size B at one state.

    With the mean gradient ``g`` and ``s``, the sum of ``|g_i - g|**2`` over n - 1, ``|g|**2 - s / n`` estimates
    ``|G|**2`` and ``B s`` estimates ``tr(C)``. The interval is that of the delete-one jackknife for the reciprocal,
    which stays finite where the gradient vanishes in the noise.

    Args:
        squares: (n,) the squared norms ``|g_i|**2``.
        products: (n,) the products ``g_i . g`` with the mean gradient of the n batches.
        batch_size: B, examples per batch.

    Raises:
        InputError: fewer than `MIN_BATCHES` batches, unequal shapes, non-finite numbers, or gradients that are equal.

    Examples:
        >>> round(estimate_noise_scale([2, 2, 1, 1], [1, 1, 0.5, 0.5], 10).value, 1)
        20.0
    """
    batch_size = whole_number("batch_size", batch_size)
    square, product = (np.asarray(values, dtype=np.float64) for values in (squares, products))
    count = square.size
    if square.ndim != 1 or square.shape != product.shape or count < MIN_BATCHES:
        raise InputError(
            f"squares and products must be two arrays (n,) of at least {MIN_BATCHES} batches, got shapes"
            f" {square.shape} and {product.shape}"
        )
    if not (np.isfinite(square).all() and np.isfinite(product).all()):
        raise InputError("squares and products must be finite, got NaN or inf: the gradients have blown up")
    total, mean_square = float(square.sum()), float(product.mean())
    whole = _signal_to_noise(total, mean_square, count)
    if not math.isfinite(whole):
        raise InputError("the gradients of the batches must differ, got equal ones: there is no noise to measure")
    others = np.array(
        [
            _signal_to_noise(
                total - own, (count**2 * mean_square - 2 * count * to_mean + own) / (count - 1) ** 2, count - 1
            )
            for own, to_mean in zip(square, product, strict=True)
        ]
    )
    error = math.sqrt((count - 1) / count * float(((others - others.mean()) ** 2).sum()))
    low, high = (_reciprocal(whole + sign * NORMAL_90 * error, batch_size) for sign in (1, -1))
    return NoiseScale(_reciprocal(whole, batch_size), low, high, batch_size, count)


def _signal_to_noise(total: float, mean_square: float, count: int) -> float:
    """Return the estimate of ``|G|**2`` over that of the variance of a batch gradient; inf without noise.

    Args:
        total: sum of the squared norms.
        mean_square: squared norm of the mean gradient.
        count: number of batches.
    """
    variance = (total - count * mean_square) / (count - 1)
    return (mean_square - variance / count) / variance if variance > 1e-12 * mean_square else math.inf


def _reciprocal(signal_to_noise: float, batch_size: int) -> float:
    return batch_size / signal_to_noise if signal_to_noise > 0 else math.inf
