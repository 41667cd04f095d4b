"""The training for which schedules are compared, and the schedule for which a fitted law predicts the lowest loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrfinder.errors import InputError
from lrfinder.logs.log import MAX_STEPS, TrainingLog, end_of_warmup
from lrfinder.logs.loss_law import Exposure, LossLaw, law_and_gradient
from lrfinder.schedules.policy import POLICIES, UNWARMED, Policy

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
    """Return what schedules have in common; what is None is taken from the logs, see `forecast`."""
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


_KNOTS = 11
"""Maximum number of knots, evenly spaced. No fall is then shorter than a tenth of the training: the law would let the
rate fall at once and at the very end, which no log supports."""


def best_decay(law: LossLaw, lr: Array, warmup_steps: int, end_lr: float, starts: Sequence[Array]) -> Array:
    """Minimise the predicted final loss over decays from the peak that never rise, with SciPy's L-BFGS-B.

    The falls between knots are a softmax of the unknowns, the last of which is the share that never falls. So the rate
    starts at the peak, never rises and stays at or above ``end_lr``. Between the knots it falls along lines of at least
    a tenth of the training. The law does not know that a rate can be too high, so the peak is given and not sought.

    Args:
        law: fitted to falls.
        lr: (T + 1,) a schedule with the warmup and peak wanted; the part after warmup is replaced.
        warmup_steps: W, below T.
        end_lr: lowest rate allowed, at most the peak.
        starts: (T + 1,) schedules with this warmup, the best first; the search starts from the first three.

    Returns:
        (T + 1,) rates, whose predicted loss is at most that of any of ``starts`` that keeps the rules.
    """
    last, peak = lr.size - 1, float(lr[warmup_steps])
    knots = np.unique(np.round(np.linspace(warmup_steps, last, min(_KNOTS, last - warmup_steps + 1))))
    steps = np.arange(warmup_steps, last + 1)
    warmup, before = lr[:warmup_steps], float(lr[:warmup_steps].sum())

    def lines(heights: Array) -> Array:
        return np.concatenate([warmup, np.interp(steps, knots, heights)])

    falling = [start for start in starts if not (np.diff(start[warmup_steps:]) > 1e-12 * start.max()).any()]
    found = [start for start in falling if start[-1] >= end_lr * (1 - 1e-9)]
    nearby = [np.interp(knots, np.arange(last + 1), start) for start in starts[:3]]
    if peak > end_lr:
        found += [
            lines(_descended(lambda h: _loss_after_lines(law, knots, h, before), heights, peak, end_lr))
            for heights in nearby
        ]
    return min(found, key=lambda one: float(law(one, np.array([last])).loss[0]))


def _descended(objective: Callable[[Array], float], heights: Array, peak: float, floor: float) -> Array:
    """Return (k,) rates at the knots, from ``peak`` down to ``floor`` at the lowest, that minimise the objective."""
    from scipy.optimize import minimize
    from scipy.special import softmax

    def unfolded(x: Array) -> Array:
        return np.maximum(peak - (peak - floor) * np.concatenate([[0.0], np.cumsum(softmax(x)[:-1])]), floor)

    falling = np.minimum.accumulate(np.clip(heights, floor, peak))
    shares = np.maximum(-np.diff(falling) / (peak - floor), 1e-6)
    x = np.log(np.concatenate([shares, [max(1 - float(shares.sum()), 1e-6)]]))
    return unfolded(minimize(lambda x: objective(unfolded(x)), x, method="L-BFGS-B", options={"maxiter": 300}).x)


def _loss_after_lines(law: LossLaw, knots: Array, heights: Array, before: float) -> float:
    """Return the final loss after (k,) rates that never rise at (k,) steps, the last of them T, and lines between them.

    Each piece between knots counts as one fall at its middle, where S_k is exact; ``before`` is the sum of the rates
    before the first knot, at the end of warmup.
    """
    h, width = heights / law.lr_unit, np.diff(knots) / law.sum_unit
    middle = (h[:-1] + h[1:]) / 2
    pieces = width * middle
    since = np.append(np.cumsum(pieces[::-1])[::-1][1:], 0.0) + width * (h[:-1] + 3 * h[1:]) / 8
    travelled = before / law.lr_unit / law.sum_unit + pieces.sum(keepdims=True)
    falls = Exposure(travelled, -np.diff(h), middle, np.maximum(travelled - since, 1e-12), since[None])
    return law.loss_unit * float(law_and_gradient(law.parameters, falls)[0][0])
