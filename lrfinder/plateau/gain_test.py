"""What counts as a plateau: a test that the loss has too little left to gain, and the record of one found."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from lrfinder.plateau.blocks import TO_SD, Slope, slope_of

Array = NDArray[np.float64]

LEAST_STEPS = 24
"""Fewest values that a test can be made on."""

_WINDOWS = (24, 28, 34, 40, 48, 57, 68, 81, 96, 114, 136, 162, 192, 228, 272)
"""Blocks looked back on: short ones see a plateau soon where there is little noise, long ones where there is much."""

_PER_DOUBLING = 16
"""Looks while the number of steps doubles."""

_FIRST = 5
"""Looks are made from 2**5 steps on."""

_FAMILY, _FAMILY_OF_VALUES = 16.0, 12.0
"""Tests that share the rate of false alarms, per doubling of the steps, of means and of single values. They were found
by simulation (docs/plateau.md)."""

_STILL = 0.5
"""Share of neighbours that are equal to the last digit from which on values are taken to be rounded."""

_MOVES = 9
"""Latest differences, the largest of which tells the step of rounding: early ones may be many steps at once."""

_MOST_MISSING = 0.1
"""Share of a window's blocks that may hold no finite value."""

_SHARE_OF_GAIN = 0.01
"""Share of what the last half of the steps gained; annealing saves 0.2 to 5% of the gain (docs/plateau.md)."""

_MIN_SHARE_OF_NOISE, _MAX_SHARE_OF_NOISE = 0.2, 0.86
"""Shares of the standard deviation of a loss; annealing saves 0.17 to 0.86 of it (quartiles), 0.38 in the median."""

_FEW_VALUES = 24.0
"""The latter times the root of the number of values, if these are few: less could not be seen among them."""

_MAX_SHARE_OF_GAIN = 0.05
"""Share of the whole gain up to which the noise sets the tolerance: the upper quartile of what annealing saves."""

_MIN_SHARE_OF_GAIN = 1e-5
"""Share of the whole gain below which a gain is not worth waiting for in any case."""

_STEPS_OF_ROUNDING = 3.0
"""Steps of a rounded loss below which a gain cannot be seen."""

_RESOLUTION = 1e-7
"""Of a number in float32: smaller gains cannot be seen."""


class Record(NamedTuple):
    """Losses as means of blocks of equal length.

    Attributes:
        mean: (..., n) mean loss of each block, NaN where it has no finite value.
        length: steps of a block.
    """

    mean: Array
    length: int


class GainTest(NamedTuple):
    """What the coming steps are expected to gain, from the window with the lowest upper limit.

    Attributes:
        gain: (...,) expected fall of the loss over the coming steps; negative where it rises.
        high: (...,) what it stays below, at the level of confidence of a single test.
        p_value: (...,) chance of so small a gain if in truth it were the tolerance, times the number of
            tests that share the rate.
        blocks: (...,) int64, length of the window, in blocks; 0 where none could be tested.
        level: (...,) mean loss in the window.
        level_error: (...,) its standard error.
    """

    gain: Array
    high: Array
    p_value: Array
    blocks: NDArray[np.int64]
    level: Array
    level_error: Array


def next_look(step: int) -> int:
    """Return the first step after ``step`` at which to look: they are spaced geometrically, 16 to a doubling."""
    place = max(math.floor(_PER_DOUBLING * (math.log2(max(step, 1)) - _FIRST)) - 1, 0)
    while (look := math.floor(2 ** (_FIRST + place / _PER_DOUBLING))) <= step:
        place += 1
    return look


def run_gain_test(
    record: Record, step: int, ahead: float, delta: ArrayLike, alpha: float, shortest: int = LEAST_STEPS
) -> GainTest:
    """Return what the ``ahead`` coming steps are expected to gain if the loss goes on as in the blocks before.

    The slope of every window of 24 to 272 blocks up to now, times the coming steps, is tested against ``delta`` by
    Student's t, with the noise of the last half of the record, each at ``alpha / (16 log2(step))``, or 12 in place of
    16 for single values. If progress slows down, as it does at a constant rate, the slope behind bounds the slope
    ahead, so that what is shown for the one holds for the other.

    Args:
        record: since the learning rate last changed.
        step: number of steps since the start of training, at least 2.
        delta: (...,) gain to test against, in units of the loss.
        shortest: minimum number of steps in a window, unless all windows that fit are shorter.
    """
    shape, total = record.mean.shape[:-1], record.mean.shape[-1]
    unknown = np.full(shape, np.nan)
    best = GainTest(unknown, unknown, np.ones(shape), np.zeros(shape, dtype=np.int64), unknown, unknown)
    family = (_FAMILY_OF_VALUES if record.length == 1 else _FAMILY) * math.log2(step)
    allowed = np.asarray(delta, dtype=np.float64)
    fitting = [blocks for blocks in _WINDOWS if blocks <= total]
    for blocks in [blocks for blocks in fitting if blocks * record.length >= shortest] or fitting[-1:]:
        count = max(total // 2 // blocks, 1)
        series, usable = _filled(record.mean[..., total - count * blocks :])
        series = series.reshape(*shape, count, blocks)
        hidden = _rounding(record, series[..., -1, :]) / blocks
        slope = slope_of(series, means=record.length > 1)
        one = _tested(slope, hidden, ahead / record.length, allowed, alpha, family, blocks)
        better = usable & ~(one.high >= best.high)  # NaN if nothing was tested yet
        best = GainTest(*(np.where(better, new, old) for new, old in zip(one, best, strict=True)))
    return best


def _tested(
    slope: Slope, hidden: Array, ahead: float, delta: Array, alpha: float, family: float, blocks: int
) -> GainTest:
    gain, error = -slope.value * ahead, slope.error * ahead
    most = gain + hidden * ahead
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.where(most == delta, 0.0, (most - delta) / error)
    p_value = np.where((error == 0) & (most <= delta), 0.0, stdtr(slope.dof, distance))
    high = most + error * stdtrit(slope.dof, 1 - alpha / family)
    many = np.full(gain.shape, blocks, dtype=np.int64)
    return GainTest(gain, high, np.minimum(family * p_value, 1.0), many, slope.level, slope.level_error)


def _rounding(record: Record, series: Array) -> Array:
    """Return the steps, (...,), in which the values of a window move that stand still from block to block otherwise.

    A loss written with few digits is a staircase: on a stair there is no noise to tell how much of a slope is hidden.
    It is at most one step within the window. 0 where most neighbours differ, or all that is known is one number.
    """
    steps = np.zeros(series.shape[:-1])
    still = (np.diff(series) == 0).mean(-1) > _STILL
    for i in np.ndindex(*steps.shape):
        if still[i]:
            moves = np.abs(np.diff(record.mean[i]))
            moves = moves[moves > 0][-_MOVES:]
            # A step that falls into a block shows as two.
            steps[i] = moves.max() * (1 if record.length == 1 else 2) if moves.size else 0.0
    return steps


def _filled(mean: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Return the series with what is missing drawn in as lines, and which series lack so little that this is fair."""
    missing = ~np.isfinite(mean)
    if not missing.any():
        return mean, np.ones(mean.shape[:-1], dtype=np.bool_)
    usable = missing.mean(-1) <= _MOST_MISSING
    filled = np.where(missing, 0.0, mean)
    place = np.arange(mean.shape[-1])
    for i in np.ndindex(*mean.shape[:-1]):
        if not missing[i].all():
            filled[i] = np.interp(place, place[~missing[i]], mean[i][~missing[i]])
    return filled, usable


def judge_progress(
    run: Record,
    window: Record,
    start: ArrayLike,
    step: int,
    ahead: float,
    delta: float | None,
    alpha: float,
    shortest: int = LEAST_STEPS,
) -> tuple[GainTest, Array]:
    """Return the result of `run_gain_test` and the tolerance that it was tested against, (...,).

    ``run``, of at least 24 blocks, began with the training at the loss ``start``, ``window`` when the learning rate
    last changed; ``delta`` is the tolerance, None for `tolerance`.
    """
    allowed = tolerance(run, window, start) if delta is None else np.full(run.mean.shape[:-1], float(delta))
    return run_gain_test(window, step, ahead, allowed, alpha, shortest), allowed


def tolerance(run: Record, window: Record, start: ArrayLike) -> Array:
    """Return the gain that is not worth waiting for, about what annealing the learning rate saves at once.

    The larger of 1% of what the last half of the steps gained, and of a share of the noise, the standard deviation of a
    loss, measured by how much neighbouring blocks differ, so that the trend is not in it. The share is 0.86, or
    ``24 / sqrt(n)`` for n values if these are few, as long as that is at most 5% of what was gained since the start;
    beyond, it is lowered to as little as 0.2. A loss that is high at the start only because of the initialisation thus
    does not raise the tolerance. Where annealing saves anything in the benchmark's tasks, it saves 0.2 to 5% of the
    gain and 0.17 to 0.86 of the noise (quartiles, docs/plateau.md).

    Args:
        run: since its start, n >= 24.
        window: since the learning rate last changed, n >= 24.
        start: (...,) loss of the first steps.
    """
    early, late = _filled(run.mean)[0], _filled(window.mean)[0]
    total = late.shape[-1]
    late = late[..., -max(total // 2, LEAST_STEPS) :]
    noise = TO_SD / math.sqrt(2) * np.median(np.abs(np.diff(late)), axis=-1) * math.sqrt(window.length)
    half, part = early.shape[-1] // 2, max(early.shape[-1] // 8, 1)
    now = np.median(late[..., -max(total // 8, 3) :], axis=-1)
    recent = np.median(early[..., half - part : half], axis=-1) - now
    gained = np.maximum(np.asarray(start, dtype=np.float64) - now, 0.0)
    share = max(_MAX_SHARE_OF_NOISE, _FEW_VALUES / math.sqrt(total * window.length))
    allowed = np.maximum(_MIN_SHARE_OF_NOISE * noise, np.minimum(share * noise, _MAX_SHARE_OF_GAIN * gained))
    unseen = np.maximum(_STEPS_OF_ROUNDING * _rounding(window, late), _RESOLUTION * np.abs(now))
    floor = np.maximum(unseen, _MIN_SHARE_OF_GAIN * gained)
    return np.asarray(np.maximum(np.maximum(_SHARE_OF_GAIN * recent, allowed), floor))


@dataclass(frozen=True, repr=False)
class Plateau:
    """Evidence that a run has too little left to gain at its learning rate.

    Attributes:
        step: step at which it was found.
        since: step at which the window behind it begins.
        ahead: steps to come that it speaks of.
        gain: expected fall of the loss over them; negative where the loss rises.
        gain_high: what the fall stays below; never above ``delta``.
        delta: tolerance, in units of the loss.
        p_value: chance of so small a gain if in truth it were ``delta``, over all tests of the run; at most alpha.
        level: mean loss of the window.
        level_error: its standard error, autocorrelation counted in.
        skipped: values so far that were not finite; none of them counts.
        lrs: learning rate of every param group, as far as known.
        unit: what was counted: "steps", or "epochs" of a metric that comes once in each.
    """

    step: int
    since: int
    ahead: int
    gain: float
    gain_high: float
    delta: float
    p_value: float
    level: float
    level_error: float
    skipped: int = 0
    lrs: tuple[float, ...] = ()
    unit: str = "steps"

    def __repr__(self) -> str:
        return f"Plateau(step={self.step}, gain={self.gain:.2g}, delta={self.delta:.2g}, p_value={self.p_value:.1g})"

    def __str__(self) -> str:
        rate = f" at learning rate {self.lrs[0]:.3g}" if self.lrs else ""
        skipped = f"; {self.skipped} values were not finite" if self.skipped else ""
        return (
            f"plateau after {self.step} {self.unit}: {self.ahead} more{rate} are expected to improve on"
            f" {self.level:.4g} by {self.gain:.2g}, by {self.gain_high:.2g} at most; the tolerance is {self.delta:.2g}"
            f" (p = {self.p_value:.1g}, from {self.since} on){skipped}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {**dataclasses.asdict(self), "lrs": list(self.lrs)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plateau:
        """Rebuild it from `to_dict`."""
        return cls(**{**data, "lrs": tuple(data["lrs"])})
