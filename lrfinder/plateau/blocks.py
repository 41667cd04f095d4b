"""A stream of losses as the means of at most 384 blocks on their device, and the slope of a noisy series of means."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lrfinder.files import number_to_json, read_any_number

BLOCKS = 384
"""Most blocks; when they are full, neighbours are joined."""

GROUP = 16
"""Values that are condensed to one, outliers pulled in, once there are more than `BLOCKS` values."""

_CLIP_OF_GROUP = 5.0
"""Standard deviations, by the median absolute deviation, beyond which a value of a group is pulled in."""


def condensed(values: Tensor) -> Tensor:
    """Return sum and count of the finite values of each group, those far off its median pulled in.

    No value leaves the device. Where half of a group are equal there is no spread to measure by, and none is moved.

    Args:
        values: (..., n).

    Returns:
        (..., 2).
    """
    finite = torch.isfinite(values)
    count = finite.sum(-1, keepdim=True)
    places = torch.cat([(count - 1).clamp(min=0) // 2, (count // 2).clamp(max=values.shape[-1] - 1)], -1)
    middle = _median(values, finite, places)
    reach = _CLIP_OF_GROUP * TO_SD * _median((values - middle).abs(), finite, places)
    pulled = torch.maximum(torch.minimum(values, middle + reach), middle - reach)
    pulled = torch.where(finite, torch.where(reach > 0, pulled, values), 0.0)
    return torch.cat([pulled.sum(-1, keepdim=True), count.to(values.dtype)], -1)


def _median(values: Tensor, known: Tensor, places: Tensor) -> Tensor:
    """Return the median of the values known, which has these two places in their order, (..., 1)."""
    return torch.where(known, values, torch.inf).sort(-1).values.gather(-1, places).mean(-1, keepdim=True)


class Blocks:
    """Means of consecutive values.

    The first 384 values are kept as they are. From then on 16 values at a time are condensed, see `condensed`, and
    blocks of equal length are made of those; their length doubles whenever 384 of them are full.

    Attributes:
        steps: values so far, those that were not finite included.
    """

    @torch.inference_mode(False)  # tensors made in inference mode could not be written to out of it
    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        """Start with nothing; a value has this shape, () for one loss, (r,) for those of r runs side by side."""
        self.steps = 0
        self._shape = shape
        self._groups = 0  # in a block; 0 while values are kept as they are
        self._held = 0  # values at the beginning of `_values` that are in no block yet
        # All values, and later those that are not yet condensed; sum and count of every block.
        self._values = torch.zeros(*shape, BLOCKS, dtype=torch.float64)
        self._table = torch.zeros(*shape, BLOCKS, 2, dtype=torch.float64)

    def add(self, value: Tensor | float) -> None:
        """Take one more value of the shape given, or a number; it is copied, and nothing waits for the device."""
        if isinstance(value, Tensor) and value.device != self._values.device:  # the first, or one after a checkpoint
            self._move(value.device)
        self._values[..., self._held] = value
        self.steps += 1
        self._held += 1
        if self._held == BLOCKS or self.full == BLOCKS:
            self._groups = self._groups or 1
            self._condense()

    def extend(self, values: Tensor) -> None:
        """Take many values of one run, (n,), as `add` does; where no blocks are joined, whole groups together."""
        while len(values):
            groups = min(len(values) // GROUP, BLOCKS * self._groups - self.steps // GROUP - 1)
            if self.steps % GROUP or groups < 1:
                self.add(values[0])
                values = values[1:]
                continue
            self._condense()
            block = (self.steps // GROUP + torch.arange(groups, device=values.device)) // self._groups
            self._table.index_add_(0, block, condensed(values[: groups * GROUP].to(self._table).reshape(groups, GROUP)))
            self.steps += groups * GROUP
            values = values[groups * GROUP :]

    @torch.inference_mode(False)
    def _move(self, device: torch.device) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64  # Apple's devices know no float64
        held = (self._values, self._table)
        if self.steps:
            self._values, self._table = (one.to(device, dtype, non_blocking=True) for one in held)
        else:  # a copy would have to wait for the device, and a rate that changes all the time begins window on window
            self._values, self._table = (torch.zeros(one.shape, dtype=dtype, device=device) for one in held)

    def _condense(self) -> None:
        """Condense the groups held that are complete, many at a time, since each operation on the device costs time."""
        count = self._held // GROUP if self._groups else 0
        if not count:
            return
        done = count * GROUP
        groups = condensed(self._values[..., :done].reshape(*self._shape, count, GROUP)).unbind(-2)
        for number, group in enumerate(groups, start=self.steps // GROUP - count):
            self._table[..., number // self._groups, :] += group
        rest = self._values[..., done : self._held].clone()
        self._held -= done
        self._values.zero_()
        self._values[..., : self._held] = rest
        if self.full == BLOCKS:
            joined = self._table.reshape(*self._shape, BLOCKS // 2, 2, 2).sum(-2)
            self._table.zero_()
            self._table[..., : BLOCKS // 2, :] = joined
            self._groups *= 2

    @property
    def length(self) -> int:
        """Values in a block."""
        return self._groups * GROUP or 1

    @property
    def full(self) -> int:
        """Blocks that are complete."""
        return self.steps // self.length

    def table(self) -> Tensor:
        """Return sum and count of the finite values of every complete block, (..., full, 2), on the device."""
        self._condense()
        if self._groups:
            return self._table[..., : self.full, :]
        values = self._values[..., : self.steps]
        finite = torch.isfinite(values)
        return torch.stack([torch.where(finite, values, torch.zeros_like(values)), finite.to(values.dtype)], -1)

    def finite(self) -> Tensor:
        """Return how many of the values so far were finite, (...,), on the device."""
        self._condense()
        return self._table[..., 1].sum(-1) + torch.isfinite(self._values[..., : self._held]).sum(-1)

    def state_dict(self) -> dict[str, Any]:
        """Return all of it as JSON-ready data; NaN and infinities as text. Reads from the device."""
        self._condense()
        values, table = ([*map(number_to_json, one.flatten().tolist())] for one in (self._values, self._table))
        return {"steps": self.steps, "groups": self._groups, "values": values, "table": table}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave, on the device of the next value."""
        self.steps, self._groups = int(state["steps"]), int(state["groups"])
        self._held = self.steps % GROUP if self._groups else self.steps
        for held, name in ((self._values, "values"), (self._table, "table")):
            numbers = torch.tensor([*map(read_any_number, state[name])], dtype=torch.float64)
            held.copy_(numbers.reshape(held.shape))


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
