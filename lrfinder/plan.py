"""`Plan`: what every schedule of a forecast has in common, taken from the logs where it is not given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrfinder.errors import InputError
from lrfinder.losslog import MAX_STEPS, LossLog, end_of_warmup
from lrfinder.policy import POLICIES, UNWARMED, Policy

__all__ = ["Plan", "lowest_lr", "plan_for"]

Array = NDArray[np.float64]

_NODES = 50_000
"""Steps at which a policy is asked; in longer trainings its rate is a line between them, which blurs jumps."""

_FAR = 1e4
"""A peak that many times higher or lower than those logged is a slip of the pen."""


@dataclass(frozen=True)
class Plan:
    """What every schedule has in common.

    Attributes:
        total: T, steps.
        peak_lr: highest learning rate.
        warmup: W, steps, below T.
        end_lr: no decay goes below it; from 0 to ``peak_lr``.
    """

    total: int
    peak_lr: float
    warmup: int
    end_lr: float

    def warmup_of(self, name: str) -> int:
        """Return the steps of warmup of a schedule."""
        return 0 if name in UNWARMED else self.warmup

    def every_lr(self, name: str) -> Array:
        """Return the learning rate of every step, (T + 1,), of a policy that ends at ``end_lr``."""
        ends = "end" in POLICIES[name].defaults and (name != "exponential" or self.end_lr > 0)
        params = {"end": self.end_lr / self.peak_lr} if ends else {}
        policy = Policy(name, self.total, self.warmup_of(name), params)
        nodes = np.unique(np.linspace(0, self.total, min(_NODES, self.total) + 1).round().astype(np.int64))
        nodes = np.union1d(nodes, [policy.warmup_steps])
        multiplier = [policy(step) for step in nodes.tolist()]
        lr = self.peak_lr * np.interp(np.arange(self.total + 1), nodes, multiplier)
        falling = end_of_warmup(lr)
        lr[falling:] = np.maximum(lr[falling:], self.end_lr)
        return lr

    def caveats(self, runs: Sequence[LossLog]) -> list[str]:
        """Say where the plan leaves what was logged."""
        caveats = []
        low, high = min(run.peak_lr for run in runs), max(run.peak_lr for run in runs)
        if not low / 1.1 < self.peak_lr < high * 1.1:
            logged = f"{low:.3g} to {high:.3g}" if low < high else f"{low:.3g}"
            caveats.append(
                f"The peak {self.peak_lr:.3g} was not logged ({logged} was): the law cannot tell a rate that is too"
                " high, to it a higher peak is always better."
            )
        longest = max(run.last_step for run in runs)
        if self.total > 1.5 * longest:
            caveats.append(
                f"{self.total} steps are {self.total / longest:.1f} times the longest log: an extrapolation."
            )
        return caveats


def plan_for(
    runs: Sequence[LossLog], steps: int | None, peak_lr: float | None, warmup_steps: int | None, end_lr: float | None
) -> Plan:
    """Take what is None from the logs.

    Raises:
        InputError: a value breaks the rule stated with `Plan`.
    """
    total = max(run.last_step for run in runs) if steps is None else steps
    if not 1 <= total <= MAX_STEPS:
        raise InputError(f"steps must be from 1 to {MAX_STEPS}, got steps = {total}")
    peak = max(run.peak_lr for run in runs) if peak_lr is None else peak_lr
    if not 0 < peak < math.inf:
        raise InputError(f"peak_lr must be positive and finite, got peak_lr = {peak:g}")
    low, high = min(run.peak_lr for run in runs), max(run.peak_lr for run in runs)
    if not low / _FAR <= peak <= high * _FAR:
        raise InputError(
            f"peak_lr must be within a factor of {_FAR:g} of the peaks logged ({low:.3g} to {high:.3g}),"
            f" got peak_lr = {peak:g}"
        )
    # A log that begins at its peak hides where warmup ended: the shortest is the closest.
    warmup = min(run.warmup_steps for run in runs) if warmup_steps is None else warmup_steps
    if not 0 <= warmup < total:
        where = " (as in the logs)" if warmup_steps is None else ""
        raise InputError(
            f"warmup_steps must be at least 0 and below steps, got warmup_steps = {warmup}{where}, steps = {total}"
        )
    end = min(lowest_lr(runs), peak) if end_lr is None else end_lr
    if not 0 <= end <= peak:
        raise InputError(f"end_lr must be from 0 to peak_lr, got end_lr = {end:g}, peak_lr = {peak:g}")
    return Plan(total, peak, warmup, end)


def lowest_lr(runs: Sequence[LossLog]) -> float:
    """Return the lowest learning rate logged after warmup."""
    return min(float(run.every_lr()[run.warmup_steps :].min()) for run in runs)
