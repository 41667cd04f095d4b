"""Where the best learning rate lies after so many steps, and how it moves with their number: a fit of the probes.

Near its lowest place the loss after ``n`` steps is a lopsided parabola in ``x = log2(lr)``:

    loss_n(x) = level_n + sharpness_n * f(x - m - p * log2(n / N))
    f(d) = g / (1 + g / 9),  g = d**2 for d < 0, 1.2 d**2 for d > 0

with one place ``m`` (at the longest probes, of ``N`` steps), one drift ``p`` (octaves per doubling of the steps), and a
level and a sharpness of its own for every length. ``f`` saturates, for far below the best rate nothing is learnt.
``m`` and ``p`` are read off a grid, level and sharpness solved for at each of its points. The law of the drift from the
probes to the horizon was measured on whole trainings (`benchmarks/regret.py`, docs/measured.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfinder.evidence.probe import Evidence, Outcome

__all__ = ["DRIFT", "Drift", "LRPosterior", "ValleyFit", "fit_valley", "paired_errors", "valley_shape"]

Array = NDArray[np.float64]

_RIGHT = 1.2
"""Sharpness above the best rate over that below."""

_SATURATION = 9.0

_STEP = 0.1
"""Grid spacing, octaves and octaves per doubling."""

_LAW_ERROR = 0.3
"""Share of its rise by which the parabola misses the loss at a point: so far points count little."""

_FLOOR = 0.2
"""Least standard deviation of a probe's loss, in units of the rise one step from the best."""

_FREEDOM = 4.0
"""Degrees of freedom of the residuals' Student t distribution."""

_TEMPER = 0.6
"""Exponent of the likelihood: probes of one length share their batches, so that they are not independent."""

_PRIOR_DRIFT, _PRIOR_SPREAD = -0.35, 0.5

_DECADE = math.log2(10)

_BLOWN_UP = -8.0
"""Log-likelihood of a best rate where a probe already blew up."""


@dataclass(frozen=True)
class Drift:
    """How far the best rate moves per doubling of the steps, from the probes to the horizon, in octaves.

    ``(1 - w) * (transient + carried * p) - w``, with ``p`` the drift between the probes. ``w`` in [0, 1] is how far
    training is limited by memorising: then what counts is ``lr * steps``, the time until held-out loss turns, and the
    best rate halves with every doubling. ``w = min(1, memorised * v + stalled * s)``: ``v`` is the share of the
    improvement that training batches gained over held-out ones, at most 0.1, times the doublings of passes over the
    data up to the horizon; ``s`` in [0, 1] the sign that longer probes gained nothing on held-out batches.

    Attributes:
        transient: constant part.
        carried: share of the drift seen between probes that goes on.
        memorised: weight of ``v``.
        stalled: weight of ``s``.
        spread: standard deviation of the drift about this law.
        place: standard deviation of the place, octaves, whatever the horizon.
    """

    transient: float = -0.1
    carried: float = 0.5
    memorised: float = 1.4
    stalled: float = 1.1
    spread: float = 0.25
    place: float = 0.3

    def limited(self, memorised: float, stalled: float) -> float:
        """Return ``w``, given ``v`` and ``s``."""
        return min(1.0, max(0.0, self.memorised * memorised + self.stalled * stalled))

    def slope(self, drift: Array, memorised: float, stalled: float) -> Array:
        """Return octaves per doubling, given ``p`` (k,), ``v`` and ``s``."""
        limited = self.limited(memorised, stalled)
        return (1 - limited) * (self.transient + self.carried * drift) - limited


DRIFT = Drift()
"""As `benchmarks/regret.py` fits it to all its tasks, rounded; docs/measured.md says what leaving tasks out does."""


@dataclass(frozen=True, eq=False)
class LRPosterior:
    """A distribution of log2 of the best learning rate: ``weights`` (k,) on the equally spaced ``octaves`` (k,)."""

    octaves: Array
    weights: Array

    def quantile(self, share: float) -> float:
        """Return the learning rate below which the best one lies with this probability."""
        return float(2 ** np.interp(share, np.cumsum(self.weights), self.octaves))

    def best(self) -> float:
        """Return the learning rate of least expected regret.

        Regret of being ``d`` octaves off is ``d**2`` below, ``1.2 d**2 + 0.05 d**4`` above, where the loss ends in a
        cliff, and at most 30 on either side.
        """
        off = self.octaves[:, None] - self.octaves[None]
        regret = np.minimum(np.where(off > 0, _RIGHT * off**2 + 0.05 * off**4, off**2), 30.0)
        expected = regret @ self.weights
        i = int(np.argmin(expected))
        if not 0 < i < expected.size - 1:
            return float(2 ** self.octaves[i])
        before, at, after = expected[i - 1 : i + 2]  # between grid points, by the parabola through three of them
        bend = before - 2 * at + after
        return float(2 ** (self.octaves[i] + (0.5 * _STEP * (before - after) / bend if bend > 0 else 0.0)))


@dataclass(frozen=True, eq=False)
class ValleyFit:
    """The fit of the probes.

    Attributes:
        place: (k,) candidate places m, octaves.
        drift: (k,) candidate drifts p, octaves per doubling.
        weights: (k,) their probabilities.
        steps: N, steps of the longest probes that say where the best rate lies.
        sharpness: of the loss of those probes about its lowest place, in its units per octave squared.
        ceiling: rise of their loss from the best to the untrained model.
        blow_up: log2 of the lowest learning rate above the best at which a probe of any length blew up; inf for none.
        order: rank correlation of the probes' losses with their distance from the best rate: 1 for a clean valley.
        memorised: share of the improvement that training batches gained over held-out ones, from 0 to 0.1.
        stalled: from 0 to 1, 1 where the longest probes gained nothing over the shortest on held-out batches.
        epoch_steps: optimizer steps per pass over the data; None where unknown.
    """

    place: Array
    drift: Array
    weights: Array
    steps: int
    sharpness: float
    ceiling: float
    blow_up: float
    order: float
    memorised: float
    stalled: float
    epoch_steps: float | None

    def belief(self, horizon: int | None = None, law: Drift = DRIFT) -> LRPosterior:
        """Return where the best rate lies after ``horizon`` steps; after as many as the longest probes where None."""
        doublings = max(math.log2(horizon / self.steps), 0.0) if horizon is not None else 0.0
        memorised, stalled = self.signs(horizon)
        centre = self.place + doublings * law.slope(self.drift, memorised, stalled)
        width = math.hypot(law.place, law.spread * doublings)
        low, high = centre.min() - 5 * width, centre.max() + 5 * width
        octaves = np.arange(math.floor(low / _STEP), math.ceil(high / _STEP) + 1) * _STEP
        counts = np.bincount(np.rint((centre - octaves[0]) / _STEP).astype(int), self.weights, octaves.size)
        reach = math.ceil(5 * width / _STEP)
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * _STEP / width) ** 2)
        spread = np.convolve(counts, kernel)[reach : reach + octaves.size]
        return LRPosterior(octaves, spread / spread.sum())

    def valley(self, rung: Sequence[Outcome]) -> tuple[float, float, float] | None:
        """Return centre (octaves), level and sharpness of probes of one length; None with too few, or no valley."""
        centre = float(self.weights @ self.place)
        centre += float(self.weights @ self.drift) * math.log2(rung[0].probe.steps / self.steps)
        near = [o for o in rung if not o.diverged and abs(_octave(o) - centre) <= 2 * _DECADE]
        if len(near) < 2:
            return None
        level, sharpness = _level_and_sharpness(near, centre)
        return (centre, level, sharpness) if sharpness > 0 else None

    def signs(self, horizon: int | None) -> tuple[float, float]:
        """Return ``v`` and ``s`` of the law of the drift; none within two passes over the data."""
        passes = math.log2(max(horizon / self.epoch_steps, 1.0)) if horizon and self.epoch_steps else 0.0
        return self.memorised * passes, self.stalled if passes > 1 else 0.0

    def rise(self, octaves: float) -> float:
        """Return how much higher the loss of the longest probes lies so far from its lowest place; inf: blown up."""
        if float(self.weights @ self.place) + octaves >= self.blow_up:
            return math.inf
        return min(self.sharpness * float(valley_shape(np.array(octaves))), self.ceiling)

    def to_dict(self) -> dict[str, Any]:
        """Return the fit as JSON-ready data."""
        mean, drift = float(self.weights @ self.place), float(self.weights @ self.drift)
        return {
            "shape": "level_n + sharpness * f(x - place - drift*log2(n/steps)), x = log2(lr)",
            "steps": self.steps,
            "place": mean,
            "place_error": math.sqrt(max(float(self.weights @ (self.place - mean) ** 2), 0.0)),
            "drift": drift,
            "drift_error": math.sqrt(max(float(self.weights @ (self.drift - drift) ** 2), 0.0)),
            "sharpness": self.sharpness,
            "blow_up": self.blow_up if math.isfinite(self.blow_up) else None,
            "order": self.order,
            "memorised": self.memorised,
            "stalled": self.stalled,
            "epoch_steps": self.epoch_steps,
        }


def fit_valley(evidence: Evidence) -> ValleyFit | None:
    """Fit the probes; None where no length has two probes that stayed within the untrained loss plus what was gained.

    Shifting the loss, or scaling it, changes nothing; scaling the learning rates shifts the place.
    """
    rungs = evidence.rungs
    means = [outcome.mean for outcome in evidence.outcomes]
    best, untrained = min(means, default=math.inf), evidence.untrained.mean
    if not math.isfinite(best):
        return None
    limit = untrained + max(untrained - best, 0.0) if math.isfinite(untrained) else math.inf
    kept = [[o for o in rung if o.mean < limit or o.mean == best] for rung in rungs]
    used = [rung for rung in kept if len(rung) > 1]
    if not used:
        return None
    reference = math.log2(used[-1][0].probe.steps)
    xs = np.array([_octave(o) for rung in used for o in rung])
    places = np.arange(math.floor((xs.min() - 3) / _STEP), math.ceil((xs.max() + 3) / _STEP) + 1) * _STEP
    drifts = np.arange(-16, 7) * 0.1
    place, drift = (grid.ravel() for grid in np.meshgrid(places, drifts, indexing="ij"))
    log_weight = -0.5 * ((drift - _PRIOR_DRIFT) / _PRIOR_SPREAD) ** 2
    sharpness = np.zeros_like(place)
    blow_ups = [math.inf]
    for rung, all_of_it in zip(kept, rungs, strict=True):
        if not rung:
            continue
        shift = math.log2(rung[0].probe.steps) - reference
        lowest = _octave(min(rung, key=lambda o: o.mean))
        gone = [_octave(o) for o in all_of_it if o not in rung and _octave(o) > lowest]
        if gone:
            log_weight = log_weight + np.where(place + drift * shift > min(gone) - 0.3, _BLOWN_UP, 0.0)
            blow_ups.append(min(gone))
        if len(rung) > 1:
            likelihood, sharpness = _likelihood(rung, place + drift * shift)
            log_weight = log_weight + _TEMPER * likelihood
    top = int(np.argmax(log_weight))
    weights = np.exp(log_weight - log_weight[top])
    keep = weights > 1e-6
    weights = weights[keep] / weights[keep].sum()
    longest = min(used[-1], key=lambda o: o.mean)
    shortest = min(used[0], key=lambda o: o.mean)
    return ValleyFit(
        place=place[keep],
        drift=drift[keep],
        weights=weights,
        steps=used[-1][0].probe.steps,
        sharpness=float(weights @ sharpness[keep]),
        ceiling=max(untrained - longest.mean, 0.0),
        blow_up=min(blow_ups),
        order=_rank_correlation(rungs, float(place[top]), float(drift[top]), reference),
        memorised=_memorised(longest, untrained) if evidence.comparable else 0.0,
        stalled=_stalled(shortest, longest, untrained) if len(used) > 1 else 0.0,
        epoch_steps=evidence.epoch_steps,
    )


def _likelihood(rung: Sequence[Outcome], centre: Array) -> tuple[Array, Array]:
    """Return log-likelihood and best sharpness of one length, for each candidate centre: two arrays (k,)."""
    x = np.array([_octave(o) for o in rung])
    rise = np.array([o.mean for o in rung]) - min(o.mean for o in rung)
    near = float(np.sort(rise)[1:3].mean())  # the rise one probe away from the best: the unit here
    if near <= 0:
        return np.zeros_like(centre), np.zeros_like(centre)
    error = np.sqrt(paired_errors(rung) ** 2 + (_LAW_ERROR * rise) ** 2 + (_FLOOR * near) ** 2)
    rise, weight = rise / near, (near / np.maximum(error, 1e-6 * near)) ** 2
    shape = valley_shape(x[None] - centre[:, None])
    shape = shape - ((shape * weight).sum(1) / weight.sum())[:, None]
    rise = rise - (rise * weight).sum() / weight.sum()
    square = (shape**2 * weight).sum(1)
    sharpness = np.maximum((shape * rise * weight).sum(1) / np.maximum(square, 1e-12), 1e-12)
    misfit = ((rise[None] - sharpness[:, None] * shape) ** 2 * weight).sum(1)
    likelihood = -0.5 * (_FREEDOM + len(rung)) * np.log1p(misfit / _FREEDOM)
    likelihood += np.where(sharpness > 1e-12, 0.0, -50.0) - 0.5 * (np.log(sharpness) / 1.5) ** 2
    return likelihood, sharpness * near


def paired_errors(rung: Sequence[Outcome]) -> Array:
    """Return the standard error of each mean's difference from the best one's, batch by batch; the least for that."""
    best = min(rung, key=lambda o: o.mean)
    count = best.loss.size
    if count < 2:
        return np.zeros(len(rung))
    errors = np.array([float((o.loss - best.loss).std(ddof=1)) / math.sqrt(count) for o in rung])
    others = [error for error, o in zip(errors, rung, strict=True) if o is not best]
    return np.asarray(np.where([o is best for o in rung], min(others), errors))


def _rank_correlation(rungs: Sequence[Sequence[Outcome]], place: float, drift: float, reference: float) -> float:
    """Return Spearman's rank correlation of loss and distance from the place, over the lengths with three probes."""
    from scipy.stats import rankdata

    squares = pairs = 0.0
    for rung in (rung for rung in rungs if len(rung) > 2):
        centre = place + drift * (math.log2(rung[0].probe.steps) - reference)
        losses = rankdata([o.mean for o in rung])  # those that blew up share the last rank
        distances = rankdata([float(valley_shape(np.array(_octave(o) - centre))) for o in rung])
        squares += float(((losses - distances) ** 2).sum())
        pairs += len(rung) * (len(rung) ** 2 - 1) / 6
    return 1 - squares / pairs if pairs else 1.0


def _level_and_sharpness(rung: Sequence[Outcome], centre: float) -> tuple[float, float]:
    """Fit one length by least squares about a given place."""
    loss = np.array([o.mean for o in rung])
    rise = loss - loss.min()
    weights = 1 / np.maximum(_LAW_ERROR * rise + _FLOOR * float(np.sort(rise)[1:3].mean()), 1e-300)
    shape = valley_shape(np.array([_octave(o) - centre for o in rung]))
    columns = np.stack([np.ones_like(shape), shape], axis=1)
    level, sharpness = np.linalg.lstsq(columns * weights[:, None], loss * weights, rcond=None)[0]
    return float(level), float(sharpness)


def _memorised(longest: Outcome, untrained: float) -> float:
    training = float(longest.train_loss[-8:].mean())  # by then the rate is low: these are losses of the final state
    return min(max(longest.mean - training, 0.0) / max(untrained - longest.mean, 1e-300), 0.1)


def _stalled(shortest: Outcome, longest: Outcome, untrained: float) -> float:
    gain = max(shortest.mean - longest.mean, 0.0) / max(untrained - longest.mean, 1e-300)
    return max(0.0, 1.0 - gain / 0.1)


def valley_shape(off: Array) -> Array:
    """Return ``f`` of the module's formula at ``off`` octaves from the lowest place."""
    square = np.where(off > 0, _RIGHT, 1.0) * off**2
    return np.asarray(square / (1 + square / _SATURATION))


def _octave(outcome: Outcome) -> float:
    return math.log2(outcome.probe.lr)
