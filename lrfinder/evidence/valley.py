"""Where the best learning rate lies: the range test as a prior, the probes as evidence, carried to the end of training.

Near its lowest place the loss of probes of one length is a lopsided parabola in ``x = log2(lr)``:

    loss(x) = level + sharpness * f(x - place)
    f(d) = g / (1 + g / 9),  g = d**2 for d < 0, 1.2 d**2 for d > 0

``f`` saturates, for far below the best rate nothing is learnt. The place is read off a grid, level and sharpness are
solved for at each of its points. A range test alone leaves the prior as it is. docs/probes.md says how well each of
these numbers is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfinder.evidence.probe import Evidence, Outcome, standard_error
from lrfinder.evidence.range_fit import expected_place

Array = NDArray[np.float64]

_RIGHT = 1.2
"""Sharpness above the best rate over that below."""

_SATURATION = 9.0

_STEP = 0.1
"""Grid spacing, octaves."""

_PRIOR_ERROR = 2.0
"""Standard deviation of the best rate about the place that the range test gives, octaves."""

_LAW_ERROR = 0.3
"""Share of its rise by which the parabola misses the loss at a point: so far points count little."""

_FLOOR = 0.1
"""Minimum standard deviation of a probe's loss, in units of the rise one probe from the best."""

_FREEDOM = 4.0
"""Degrees of freedom of the residuals' Student t distribution."""

_TAIL = 0.2
"""Share of a probe, at its end, whose training losses count: by then its learning rate is low."""

_SPREAD, _WANDER = 1.6, 0.12
"""Standard deviation from the best rate of the probes to that of the whole training: a constant, and octaves per
doubling of the steps. On average it does not move (docs/measured.md)."""

_FEW_EXAMPLES, _MANY_EXAMPLES = 300.0, 2000.0
"""Examples in the data. With as few as the first, the best rate halves with every doubling of the passes: the model
memorises its data, and what counts is when. From the second on nothing of this was seen."""

_USUAL_BATCH = 32
"""Examples of an optimizer step where the data do not tell."""

_MOST_FALL = 6.0
"""Octaves that the rate falls at most for that."""

_BLOWN_UP = -8.0
"""Log-likelihood of a best rate where a probe already blew up."""


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
    """Where the best learning rate of the probes lies, or of the range test where there are none.

    Attributes:
        place: (k,) candidate places, octaves, equally spaced.
        weights: (k,) their probabilities.
        steps: optimizer steps of a probe; of the range test where there are none.
        sharpness: of the loss of the probes about its lowest place, in its units per octave squared; None where fewer
            than two probes say where that is.
        ceiling: rise of their loss from the best to the untrained model.
        blow_up: log2 of the lowest learning rate above the best at which a probe blew up; inf for none.
        epoch_steps: optimizer steps per pass over the data; None where unknown.
        step_examples: examples of an optimizer step; None where unknown.
    """

    place: Array
    weights: Array
    steps: int
    sharpness: float | None
    ceiling: float
    blow_up: float
    epoch_steps: float | None
    step_examples: float | None

    def belief(self, horizon: int | None = None) -> LRPosterior:
        """Return where the best rate of a training of ``horizon`` steps lies; of one as short as a probe where None."""
        shift, width = 0.0, _SPREAD
        if horizon is not None:
            doublings = max(math.log2(horizon / self.steps), 0.0)
            shift = -fall_by_memorising(horizon, self.steps, self.epoch_steps, self.step_examples)
            width = math.hypot(_SPREAD, _WANDER * doublings)
        reach = math.ceil(5 * width / _STEP)
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * _STEP / width) ** 2)
        weights = np.convolve(self.weights, kernel)
        octaves = self.place[0] + shift + np.arange(-reach, self.place.size + reach) * _STEP
        return LRPosterior(octaves, weights / weights.sum())

    @property
    def mean(self) -> float:
        """Mean place, octaves."""
        return float(self.weights @ self.place)

    @property
    def error(self) -> float:
        """Standard deviation of the place, octaves."""
        return math.sqrt(max(float(self.weights @ (self.place - self.mean) ** 2), 0.0))

    def valley(self, rung: Sequence[Outcome]) -> tuple[float, float, float] | None:
        """Return centre (octaves), level and sharpness of the fitted loss; None without a valley."""
        if self.sharpness is None or self.sharpness <= 0:
            return None
        near = [o for o in rung if not o.diverged and abs(_octave(o) - self.mean) <= 2 * math.log2(10)]
        if not near:
            return None
        rises = self.sharpness * valley_shape(np.array([_octave(o) for o in near]) - self.mean)
        levels = np.array([o.mean for o in near]) - rises
        return self.mean, float(np.average(levels, weights=1 / (rises + self.sharpness))), self.sharpness

    def rise(self, octaves: float) -> float:
        """Return how much higher the loss of the probes lies so far from its lowest place; inf: blown up."""
        if self.mean + octaves >= self.blow_up:
            return math.inf
        return min((self.sharpness or 0.0) * float(valley_shape(np.array(octaves))), self.ceiling)

    def to_dict(self) -> dict[str, Any]:
        """Return the fit as JSON-ready data."""
        return {
            "shape": "level + sharpness * f(x - place), x = log2(lr)",
            "steps": self.steps,
            "place": self.mean,
            "place_error": self.error,
            "sharpness": self.sharpness,
            "blow_up": self.blow_up if math.isfinite(self.blow_up) else None,
            "epoch_steps": self.epoch_steps,
        }


def fall_by_memorising(horizon: int, steps: int, epoch_steps: float | None, step_examples: float | None) -> float:
    """Return the octaves by which the best rate falls because a training goes over few examples again and again.

    Below the best rate the held-out loss depends on ``lr * steps`` alone. Where memorising ends the training, the best
    rate therefore halves with every doubling of the passes; ``steps`` are those of the probes.
    """
    if epoch_steps is None:
        return 0.0
    examples = epoch_steps * (step_examples or _USUAL_BATCH)
    share = math.log2(_MANY_EXAMPLES / examples) / math.log2(_MANY_EXAMPLES / _FEW_EXAMPLES)
    share = min(max(share, 0.0), 1.0)
    doublings = math.log2(max(horizon / epoch_steps, 1e-9) / max(steps / epoch_steps, 3.0))
    return min(share * max(doublings, 0.0), _MOST_FALL)


def memorises(horizon: int | None, epoch_steps: float | None) -> bool:
    """Whether training goes over its data so often that the model is likely to memorise them: ten times or more."""
    return horizon is not None and epoch_steps is not None and horizon >= 10 * epoch_steps


def fit_valley(evidence: Evidence) -> ValleyFit:
    """Fit the probes, with the range test as prior; without probes the prior is the fit.

    Shifting the loss, or scaling it, changes nothing; scaling the learning rates shifts the place.
    """
    expected = expected_place(evidence.curve, evidence.range_fit)
    rung = evidence.rung
    octaves = [expected, *map(_octave, rung)]
    first, last = math.floor((min(octaves) - expected - 8) / _STEP), math.ceil((max(octaves) - expected + 8) / _STEP)
    place: Array = expected + np.arange(first, last + 1, dtype=np.float64) * _STEP
    log_weight = -0.5 * ((place - expected) / _PRIOR_ERROR) ** 2
    sharpness, ceiling, blow_up = None, 0.0, math.inf
    best = min((outcome.mean for outcome in rung), default=math.inf)
    untrained = evidence.untrained.mean
    limit = untrained + max(untrained - best, 0.0) if math.isfinite(untrained) else math.inf
    survived = [o for o in rung if o.mean < limit or (o.mean == best and not o.diverged)]
    lowest = min(survived, key=lambda o: o.mean, default=None)
    gone = [_octave(o) for o in rung if o not in survived and (lowest is None or _octave(o) > _octave(lowest))]
    if gone:
        blow_up = min(gone)
        log_weight = log_weight + np.where(place > blow_up - 0.3, _BLOWN_UP, 0.0)
    likelihood = _likelihood(survived, evidence, place) if len(survived) > 1 else None
    if likelihood is not None:
        log_weight = log_weight + likelihood[0]
    weights = np.exp(log_weight - log_weight.max())
    weights /= weights.sum()
    if likelihood is not None:
        sharpness = float(weights @ likelihood[1])
        ceiling = max(untrained - best, 0.0)
    kept = np.flatnonzero(weights > 1e-9)
    inside = slice(kept[0], kept[-1] + 1)
    return ValleyFit(
        place=place[inside],
        weights=weights[inside] / weights[inside].sum(),
        steps=rung[0].probe.steps if rung else max(evidence.range_steps, 1),
        sharpness=sharpness,
        ceiling=ceiling,
        blow_up=blow_up,
        epoch_steps=evidence.epoch_steps,
        step_examples=evidence.step_examples,
    )


def _likelihood(rung: Sequence[Outcome], evidence: Evidence, place: Array) -> tuple[Array, Array] | None:
    """Return log-likelihood and best sharpness for each candidate place, two arrays (k,); None if all probes tie."""
    x = np.array([_octave(o) for o in rung])
    loss, error = scores(rung, evidence)
    rise = loss - loss.min()
    near = float(np.sort(rise)[1:3].mean())  # the rise one probe away from the best: the unit here
    if near <= 0:
        return None
    error = np.sqrt(error**2 + (_LAW_ERROR * rise) ** 2 + (_FLOOR * near) ** 2)
    rise, weight = rise / near, (near / np.maximum(error, 1e-6 * near)) ** 2
    shape = valley_shape(x[None] - place[:, None])
    shape = shape - ((shape * weight).sum(1) / weight.sum())[:, None]
    rise = rise - (rise * weight).sum() / weight.sum()
    square = (shape**2 * weight).sum(1)
    sharpness = np.maximum((shape * rise * weight).sum(1) / np.maximum(square, 1e-12), 1e-12)
    misfit = ((rise[None] - sharpness[:, None] * shape) ** 2 * weight).sum(1)
    likelihood = -0.5 * (_FREEDOM + len(rung)) * np.log1p(misfit / _FREEDOM)
    likelihood += np.where(sharpness > 1e-12, 0.0, -50.0) - 0.5 * (np.log(sharpness) / 1.5) ** 2
    return likelihood, sharpness * near


def scores(rung: Sequence[Outcome], evidence: Evidence) -> tuple[Array, Array]:
    """Return what each probe is judged by, and the standard error of its difference from the best, two arrays (k,).

    That is the mean held-out loss. Where the probes saw every batch once, the training losses of their last fifth are
    held-out losses, too, of nearly the final state: then it is the mean of both, which halves the noise. Errors are
    paired batch by batch, since all probes see the same.
    """
    steps = rung[0].probe.steps
    fresh = evidence.comparable and evidence.epoch_steps is not None and steps <= evidence.epoch_steps
    held_out = _mean_and_error([o.loss for o in rung])
    if not fresh:
        return held_out
    last = max(round(_TAIL * steps), min(4, steps))
    tails = [o.train_loss[-last:] for o in rung]
    if not all(np.isfinite(tail).all() for tail in tails):
        return held_out
    training = _mean_and_error(tails)
    return (held_out[0] + training[0]) / 2, np.hypot(held_out[1], training[1]) / 2


def _mean_and_error(losses: Sequence[Array]) -> tuple[Array, Array]:
    means = np.array([float(loss.mean()) for loss in losses])
    best = losses[int(np.argmin(means))]
    errors = np.array([standard_error(loss - best) or 0.0 for loss in losses])
    errors[np.argmin(means)] = np.delete(errors, np.argmin(means)).min(initial=math.inf) if len(losses) > 1 else 0.0
    return means, errors


def valley_shape(off: Array) -> Array:
    """Return ``f`` of the module's formula at ``off`` octaves from the lowest place."""
    square = np.where(off > 0, _RIGHT, 1.0) * off**2
    return np.asarray(square / (1 + square / _SATURATION))


def _octave(outcome: Outcome) -> float:
    return math.log2(outcome.probe.lr)
