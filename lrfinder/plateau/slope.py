"""The slope of a noisy series, with an error that allows for autocorrelation, periods and spikes."""

from __future__ import annotations

import functools
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["TO_SD", "Slope", "slope_of"]

Array = NDArray[np.float64]

_CLIP = 4.0
"""Standard deviations beyond which a value is pulled in; with Gaussian noise that touches one value in 16,000."""

TO_SD = 1 / NormalDist().inv_cdf(0.75)
"""Median absolute deviation to standard deviation, for Gaussian noise."""

_ROUNDING = 1e-9
"""Share of the values below which a difference cannot be told from rounding."""

_MANY, _FEW = 24, 6
"""Frequencies at which the noise of means, and of single values, is measured."""

_LOW = 4
"""The lowest frequencies: up to two periods within the series, which move a slope the most."""

_PEAK = 2.5
"""Ratio of the power at the lowest frequencies to that at the others above which only the lowest count."""

_DOUBT = 2.0
"""Standard errors by which the autocorrelation of single values may be higher than it was measured."""


class Slope(NamedTuple):
    """Straight lines through series, one per leading index.

    Attributes:
        value: (...,) slope per place.
        error: (...,) its standard error; 0 if the series is a line.
        dof: (...,) degrees of freedom, at least 4, of Student's t that ``(value - truth) / error`` follows.
        level: (...,) mean of the series.
        level_error: (...,) its standard error.
    """

    value: Array
    error: Array
    dof: Array
    level: Array
    level_error: Array


def slope_of(stretches: ArrayLike, *, means: bool = False) -> Slope:
    """Fit a line to the last of several stretches by least squares; measure the noise on all of them.

    1. Values more than four standard deviations (by the median absolute deviation) off a resistant line through the
       medians of the outer thirds (Tukey 1977, Exploratory Data Analysis, ch. 5) are pulled in to there.
    2. Each stretch gets a line by least squares.
    3. The variance that counts for a slope is that at low frequencies: the mean of the squared projections on the first
       cosines that are orthogonal to a line, over all stretches (Lazarus, Lewis, Stock & Watson 2018, Journal of
       Business & Economic Statistics 36). Of means of many values, 24 cosines are taken; if the four lowest hold 2.5
       times the power of the others, as with a slow period, only these four. Single values may be correlated over many
       places, so that only 6 are taken, and the variance is at least that of a first-order autoregression, the
       variance of the residuals times (1 + r) / (1 - r). r is their lag-one autocorrelation plus two standard errors,
       corrected for the bias that it has beside a fitted line, (2 + 6r) / n by simulation.

    Args:
        stretches: (..., s, n) finite values at even distances, consecutive stretches of n >= 12 places.
        means: whether each is the mean of many values, so that neighbours are hardly correlated.
    """
    y = np.asarray(stretches, dtype=np.float64)
    n = y.shape[-1]
    x = np.arange(n) - (n - 1) / 2
    y = _pulled_in(y, x)
    value, level = y @ x / (x @ x), y.mean(-1)
    rest = y - level[..., None] - value[..., None] * x
    variance, dof = _noise_of_means(rest) if means else _noise_of_values(rest)
    variance = np.where(variance > (_ROUNDING * np.abs(y).max((-2, -1))) ** 2, variance, 0.0)
    return Slope(value[..., -1], np.sqrt(variance / (x @ x)), dof, level[..., -1], np.sqrt(variance / n))


def _noise_of_means(rest: Array) -> tuple[Array, Array]:
    """Return the variance at low frequencies of residuals, (..., s, n), and its degrees of freedom."""
    s, n = rest.shape[-2:]
    count = min(_MANY, n // 2)
    power = (rest @ _cosines(n, count)) ** 2
    low = power[..., :_LOW].mean((-2, -1))
    peak = low > _PEAK * power[..., _LOW:].mean((-2, -1))
    return np.where(peak, low, power.mean((-2, -1))), np.where(peak, float(_LOW * s), float(count * s))


def _noise_of_values(rest: Array) -> tuple[Array, Array]:
    s, n = rest.shape[-2:]
    variance = (rest**2).sum((-2, -1)) / (s * (n - 2))
    scale = np.where(variance > 0, variance, 1.0)  # residuals that are all zero are not correlated
    r = (rest[..., 1:] * rest[..., :-1]).sum((-2, -1)) / (s * (n - 2) * scale)
    r = r + (2 + 6 * r) / n
    r = np.clip(r + _DOUBT * np.sqrt(np.maximum(1 - r**2, 0.0) / (s * n)), 0.0, 1 - 2 / n)
    inflation = (1 + r) / (1 - r)
    low = ((rest @ _cosines(n, _FEW)) ** 2).mean((-2, -1))
    short = variance * inflation
    dof = np.where(short > low, np.maximum(s * (n / inflation - 2), _LOW), _FEW * s)
    return np.maximum(short, low), dof.astype(np.float64)


@functools.lru_cache(maxsize=64)
def _cosines(n: int, k: int) -> Array:
    """Return the first k cosines on n places, (n, k), orthonormal, and orthogonal to every line."""
    place = np.arange(n)
    waves = [np.cos(np.pi * j * (place + 0.5) / n) for j in range(k + 1)]
    return np.asarray(np.linalg.qr(np.stack([waves[0], place - (n - 1) / 2, *waves[1:]], axis=1))[0][:, 2:])


def _pulled_in(y: Array, x: Array) -> Array:
    third = len(x) // 3 or 1
    rise = np.median(y[..., -third:], axis=-1) - np.median(y[..., :third], axis=-1)
    line = rise[..., None] / (x[-third:].mean() - x[:third].mean()) * x
    rest = y - line
    middle = np.median(rest, axis=-1, keepdims=True)
    reach = _CLIP * TO_SD * np.median(np.abs(rest - middle), axis=-1, keepdims=True)
    rounding = _ROUNDING * np.abs(y).max(-1, keepdims=True)
    reach = np.where(reach > rounding, reach, np.inf)  # if half of them are on one line, there is no spread to measure
    return np.asarray(np.clip(rest, middle - reach, middle + reach) + line)
