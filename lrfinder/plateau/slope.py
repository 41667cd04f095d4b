"""The slope of a noisy series, with an error that owns up to autocorrelation and does not mind spikes."""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["TO_SD", "Slope", "slope_of"]

Array = NDArray[np.float64]

_CLIP = 4.0
"""Standard deviations beyond which a value is pulled in; of Gaussian noise that touches one value in 16,000."""

TO_SD = 1 / NormalDist().inv_cdf(0.75)
"""Median absolute deviation to standard deviation, of Gaussian noise."""

_DOUBT = 2.0
"""Standard errors by which the autocorrelation may be higher than it was measured."""

_ROUNDING = 1e-9
"""Share of the values below which nothing is told from rounding."""

_BATCHES = (4, 8)
"""Lengths of the batches whose means show correlation beyond the first lag."""


class Slope(NamedTuple):
    """Straight lines through series, one per leading index.

    Attributes:
        value: (...,) slope per place.
        error: (...,) its standard error; 0 where the series is a line.
        dof: (...,) degrees of freedom, at least 1, of Student's t that ``(value - truth) / error`` follows.
        level: (...,) mean of the series.
        level_error: (...,) its standard error.
    """

    value: Array
    error: Array
    dof: Array
    level: Array
    level_error: Array


def slope_of(series: ArrayLike) -> Slope:
    """Fit a line to each series by least squares, outliers pulled in, and say how far off it may be.

    1. A resistant line through the medians of the outer thirds (Tukey 1977, Exploratory Data Analysis, ch. 5). Values
       more than four standard deviations off it, by the median absolute deviation, are pulled in to there.
    2. Least squares.
    3. The variance of the residuals is inflated for their autocorrelation, by the larger of (1 + r) / (1 - r), as for a
       first-order autoregression, and of what the variance of batch means says (Schmeiser 1982, Operations Research
       30). r is the lag-one autocorrelation plus two of its standard errors, corrected for the bias that it has beside
       a fitted line, measured to be (2 + 6r) / n (docs/plateau.md; (1 + 3r) / n beside a mean, Marriott & Pope 1954,
       Biometrika 41). The degrees of freedom shrink by the same factor.

    Args:
        series: (..., n) finite values at even distances, n >= 4.
    """
    y = np.asarray(series, dtype=np.float64)
    n = y.shape[-1]
    x = np.arange(n) - (n - 1) / 2
    y = _pulled_in(y, x)
    level, value = y.mean(-1), (y @ x) / (x @ x)
    rest = y - level[..., None] - value[..., None] * x
    variance = (rest**2).sum(-1) / (n - 2)
    inflation = _inflation(rest, variance)
    variance = variance * inflation
    return Slope(
        value,
        np.sqrt(variance / (x @ x)),
        np.maximum(n / inflation - 2, 1.0),
        level,
        np.sqrt(variance / n),
    )


def _pulled_in(y: Array, x: Array) -> Array:
    third = len(x) // 3 or 1
    rise = np.median(y[..., -third:], axis=-1) - np.median(y[..., :third], axis=-1)
    line = rise[..., None] / (x[-third:].mean() - x[:third].mean()) * x
    rest = y - line
    middle = np.median(rest, axis=-1, keepdims=True)
    reach = _CLIP * TO_SD * np.median(np.abs(rest - middle), axis=-1, keepdims=True)
    rounding = _ROUNDING * np.abs(y).max(-1, keepdims=True)
    reach = np.where(reach > rounding, reach, np.inf)  # half of them on one line: nothing to measure the others by
    return np.asarray(np.clip(rest, middle - reach, middle + reach) + line)


def _inflation(rest: Array, variance: Array) -> Array:
    n = rest.shape[-1]
    scale = np.where(variance > 0, variance, 1.0)  # residuals that are all zero are not correlated
    r = (rest[..., 1:] * rest[..., :-1]).sum(-1) / ((n - 2) * scale)
    r = r + (2 + 6 * r) / n
    r = np.clip(r + _DOUBT * np.sqrt(np.maximum(1 - r**2, 0.0) / n), 0.0, 1 - 2 / n)
    inflation = (1 + r) / (1 - r)
    for length in _BATCHES:
        count = n // length
        if count >= 4:
            means = rest[..., n % length :].reshape(*rest.shape[:-1], count, length).mean(-1)
            inflation = np.maximum(inflation, length * (means**2).sum(-1) / ((count - 2) * scale))
    return np.asarray(np.where(variance > 0, inflation, 1.0))
