"""The training for which schedules are compared: its length, peak, warmup and lowest rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrfinder.errors import InputError
from lrfinder.logs.log import MAX_STEPS, TrainingLog, end_of_warmup
from lrfinder.schedules.policy import POLICIES, UNWARMED, Policy

__all__ = ["Scenario", "lowest_lr", "make_scenario"]

Array = NDArray[np.float64]

_NODES = 50_000
"""Maximum number of steps at which a policy is evaluated; between them its rate is a line, which blurs jumps."""

_FAR = 4.0
"""Maximum factor between a given peak and those logged: the law does not know that a rate can be too high, and for
larger factors it predicts impossible losses."""


@dataclass(frozen=True)
class Scenario:
    """The training for which schedules are compared.

    Attributes:
        total: T, steps.
        peak_lr: highest learning rate.
        warmup: W, steps, below T.
        end_lr: minimum learning rate of every decay, from 0 to ``peak_lr``.
        caveats: where it leaves what was logged, in sentences.
    """

    total: int
    peak_lr: float
    warmup: int
    end_lr: float
    caveats: tuple[str, ...] = ()

    def warmup_of(self, name: str) -> int:
        """Return the number of warmup steps of a policy."""
        return 0 if name in UNWARMED else self.warmup

    def every_lr(self, name: str) -> Array:
        """Return the learning rate of every step, (T + 1,), of a policy that ends at ``end_lr``."""
        ends = "end" in POLICIES[name].parameters and (name != "exponential" or self.end_lr > 0)
        params = {"end": self.end_lr / self.peak_lr} if ends else {}
        policy = Policy(name, self.total, self.warmup_of(name), params)
        nodes = np.linspace(0, self.total, min(_NODES, self.total) + 1).round().astype(np.int64)
        nodes = np.sort(np.append(nodes, policy.warmup_steps))
        nodes = nodes[np.diff(nodes, prepend=-1) > 0]  # np.unique takes a hundred times as long
        multiplier = [policy(step) for step in nodes.tolist()]
        lr = self.peak_lr * np.interp(np.arange(self.total + 1), nodes, multiplier)
        falling = end_of_warmup(lr)
        lr[falling:] = np.maximum(lr[falling:], self.end_lr)
        return lr


def make_scenario(
    runs: Sequence[TrainingLog],
    steps: int | None,
    peak_lr: float | None,
    warmup_steps: int | None,
    end_lr: float | None,
) -> Scenario:
    """Return what schedules have in common; what is None is taken from the logs, see `forecast`.

    Raises:
        InputError: an argument breaks a rule.
    """
    total = max(run.last_step for run in runs) if steps is None else steps
    if not 1 <= total <= MAX_STEPS:
        raise InputError(f"steps must be from 1 to {MAX_STEPS}, got steps = {total}")
    low, high = min(run.peak_lr for run in runs), max(run.peak_lr for run in runs)
    peak = high if peak_lr is None else peak_lr
    if not 0 < peak < math.inf:
        raise InputError(f"peak_lr must be positive and finite, got peak_lr = {peak:g}")
    if not low / _FAR <= peak <= high * _FAR:
        raise InputError(
            f"peak_lr must be within a factor of {_FAR:g} of the peaks logged ({low:.3g} to {high:.3g}),"
            f" got peak_lr = {peak:g}"
        )
    # A log that begins at its peak hides where warmup ended: the shortest is the closest.
    warmup = min(run.warmup_steps for run in runs) if warmup_steps is None else warmup_steps
    if not 0 <= warmup < total:
        source = " (as in the logs)" if warmup_steps is None else ""
        raise InputError(
            f"warmup_steps must be at least 0 and below steps, got warmup_steps = {warmup}{source}, steps = {total}"
        )
    end = min(min(map(lowest_lr, runs)), peak) if end_lr is None else end_lr
    if not 0 <= end <= peak:
        raise InputError(f"end_lr must be from 0 to peak_lr, got end_lr = {end:g}, peak_lr = {peak:g}")
    caveats, longest = [], max(run.last_step for run in runs)
    if not low / 1.1 < peak < high * 1.1:
        logged = f"{low:.3g} to {high:.3g}" if low < high else f"{low:.3g}"
        caveats.append(
            f"No log has the peak {peak:.3g} (the logs have {logged}): the law does not know that a rate can be too"
            " high, and predicts a lower loss for every higher peak."
        )
    if total > 1.5 * longest:
        caveats.append(f"{total} steps are {total / longest:.1f} times the longest log: an extrapolation.")
    return Scenario(total, peak, warmup, end, tuple(caveats))


def lowest_lr(log: TrainingLog) -> float:
    """Return the lowest learning rate logged after warmup."""
    return float(log.every_lr()[log.warmup_steps :].min())
