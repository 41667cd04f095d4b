"""Fitting the loss-curve law to recorded trainings."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrfinder.errors import InputError
from lrfinder.logs.log import TrainingLog
from lrfinder.logs.loss_law import Exposure, LossLaw, exposure, law_and_gradient

Array = NDArray[np.float64]

_MIN_LOSSES = 10
"""Minimum number of losses of each log after warmup: a power law has three parameters, and the rest shows its error."""

_MAX_POINTS = 400
"""Maximum number of points of each log; longer logs are averaged over runs of neighbours."""

_MIN_FALL = 0.02
"""Minimum change of the rate, as a share of the peak, to count as a fall: smaller ones (rounding, the first steps of a
cosine) do not show what a fall gains."""

_FIRST_SCALE = 0.01
"""Scale of the soft-L1 loss in the first fit, in units of the fall of the loss."""

_TIMES_NOISE = 4.0
"""Scale of the soft-L1 loss in the second fit, in standard deviations of the residuals of the first: only spikes
exceed it."""

_MIN_SCALE = 1e-4
"""Minimum of that scale, in units of the fall of the loss."""

_MIN_EXPLAINED = 0.5
"""Minimum share of the variance of the losses that the law must explain."""

_PARTS = 10
"""Number of parts of a log whose means show whether the loss rises in the end."""

_MIN_RISE = 0.03
"""Minimum rise from the lowest part to the last, as a share of the fall of the loss, to count; also five standard
errors."""

_BLOCKS_OF_ROWS = 6
"""Number of blocks of neighbouring losses of each log; within a block, residuals may be correlated in any way."""

_TYPICAL = np.array([*np.log([100.0, 0.5, 1.0]), 0.1])

_SPREAD = np.array([3.0, 1.0, 1.0, 0.05])
"""Mean and standard deviation of the prior of log C, log β, log γ, d. The prior decides if the logs do not: from falls
to a single rate only the number C·η^-γ can be known, and from falls at one place nothing about d.
benchmarks/forecast.py fits with and without it."""

_STARTS = ((0.13, 20.0, 0.5, 0.5), (0.13, 400.0, 0.5, 2.5))
"""Start values (B, C, β, γ): with a small γ, as published, and with a large γ, as fitted to the curves of the 25M
model."""

NO_FALLS = (
    "The rate falls in none of the logs, so what a decay gains cannot be known. Add the log of one run whose rate"
    " falls."
)
"""The reason why schedules cannot be compared, with the remedy."""


class _Data(NamedTuple):
    """The (n,) losses of a log after warmup, the exposure to its schedule, and the weight of each residual."""

    name: str
    loss: Array
    exposure: Exposure
    weight: float


def fit_law(logs: Sequence[TrainingLog]) -> LossLaw:
    """Fit the law to the losses after warmup.

    The fit minimises the soft-L1 loss of the differences between law and loss, so that neither scale nor offset of the
    loss matters and a spike has little weight. Every log has the same weight, however many rows it has. The covariance
    is the sandwich estimate with six blocks of neighbouring losses per log as its units, because the residuals are
    correlated along a curve.

    Args:
        logs: at least one. The law can tell schedules apart if the rate falls in at least one of them.

    Raises:
        InputError: there is no log, a log has no learning rates, no losses or fewer than ten of them after warmup, or
            the losses never differ.
    """
    if not logs:
        raise InputError("logs must hold at least one log, got none")
    rates = [log.every_lr() for log in logs]
    lr_unit = max(log.peak_lr for log in logs)
    sum_unit = max(float(rate.sum()) for rate in rates) / lr_unit
    points = [_points(log) for log in logs]
    losses = np.concatenate([loss for _, loss in points])
    level = float(np.quantile(losses, 0.01))
    unit = float(np.quantile(losses, 0.99)) - level
    if not unit > 1e-9 * abs(level):
        raise InputError(f"losses after warmup must differ, got {level:g} throughout")
    count = np.mean([loss.size for _, loss in points])
    data = [
        _Data(log.name, (loss - level) / unit, exposure(rate, step, lr_unit, sum_unit), float(count / loss.size) ** 0.5)
        for log, rate, (step, loss) in zip(logs, rates, points, strict=True)
    ]
    knows = any(_falls(one) for one in data)
    parameters, scale = _best(data, knows)
    covariance = _covariance(parameters, data, knows, scale)
    misfit = np.concatenate([_residual(parameters, one) / one.weight for one in data])
    parameters[0] += level / unit
    residual = float(np.sqrt(np.mean(misfit**2))) * unit
    caveats = _caveats(logs, data, knows)
    if residual > 0.05 * unit:
        caveats.append(
            f"The law leaves {residual:.2g} of the loss unexplained (root mean square): the losses are noisy, or the"
            " law does not fit this training."
        )
    explained = 1 - residual**2 / float(np.var(losses))
    refused = next(filter(None, map(_rise, logs, rates, points)), None)
    if refused is None and explained < _MIN_EXPLAINED:
        refused = (
            f"The law explains only {max(explained, 0.0):.0%} of the variance of the losses, which are flat or mostly"
            " noise. Use logs of the validation loss, of a smoothed loss, or of the whole training."
        )
    return LossLaw(parameters, covariance, unit, lr_unit, sum_unit, residual, knows, tuple(caveats), refused)


def _rise(log: TrainingLog, rate: Array, points: tuple[NDArray[np.int64], Array]) -> str | None:
    """Return why a log whose loss rises in the end cannot be used, although the rate does not rise; else None."""
    step, loss = points
    if (np.diff(rate[log.warmup_steps :]) > _MIN_FALL * log.peak_lr).any() or loss.size < 2 * _PARTS:
        return None
    means = np.array([part.mean() for part in np.array_split(loss, _PARTS)])
    lowest = int(means.argmin())
    noise = float(np.median(np.abs(np.diff(loss)))) / NormalDist().inv_cdf(0.75) / 2**0.5
    if means[-1] - means[lowest] < max(_MIN_RISE * np.ptp(means), 5 * noise * (_PARTS / loss.size) ** 0.5):
        return None
    since = int(np.array_split(step, _PARTS)[lowest][-1])
    return (
        f"{log.name}: the loss rises from about step {since} on, as in overfitting or divergence, for which the law has"
        " no term. Use the training loss, or the rows up to that step."
    )


def _points(log: TrainingLog) -> tuple[NDArray[np.int64], Array]:
    """Return steps and losses after warmup; long logs are averaged over neighbours."""
    if not log.has_loss.any():
        raise InputError(f"{log.name}: needs losses to fit the law to, got none")
    keep = log.has_loss & (log.step >= max(log.warmup_steps, 1))
    if keep.sum() < _MIN_LOSSES:
        raise InputError(
            f"{log.name}: needs at least {_MIN_LOSSES} losses after warmup, got {int(keep.sum())}"
            f" (warmup ends at step {log.warmup_steps}, the log at {log.last_step})"
        )
    step, loss = log.step[keep], log.value[keep]
    size = -(-step.size // _MAX_POINTS)
    starts = np.arange(0, step.size, size)
    counts = np.diff(starts, append=step.size)
    return np.add.reduceat(step, starts) // counts, np.add.reduceat(loss, starts) / counts


def _falls(data: _Data) -> bool:
    """Return whether enough of the losses were logged after a fall of the rate."""
    e = data.exposure
    return bool(((e.since > 0) @ np.maximum(e.fall, 0) > _MIN_FALL).sum() >= _MIN_LOSSES // 2)


def _residual(parameters: Array, data: _Data) -> Array:
    return data.weight * (law_and_gradient(parameters, data.exposure)[0] - data.loss)


def _best(data: Sequence[_Data], knows: bool) -> tuple[Array, float]:
    """Return the parameters and the scale of the soft-L1 loss."""
    from scipy.optimize import least_squares

    def fitted(start: Array, scale: float) -> tuple[float, Array]:
        free = 8 if knows else 3

        def full(p: Array) -> Array:
            return np.concatenate([p, start[free:]])

        def residuals(p: Array) -> Array:
            prior = scale * (p[4:] - _TYPICAL) / _SPREAD if knows else np.empty(0)
            return np.concatenate([*(_residual(full(p), one) for one in data), prior])

        def jacobian(p: Array) -> Array:
            rows = [one.weight * law_and_gradient(full(p), one.exposure)[1][:, :free] for one in data]
            prior = np.hstack([np.zeros((4, 4)), np.diag(scale / _SPREAD)]) if knows else np.empty((0, 3))
            return np.concatenate([*rows, prior])

        low, high = np.full(free, -12.0), np.full(free, 12.0)
        low[2], high[2] = np.log(0.01), np.log(5.0)  # α: beyond these, the power law is a logarithm or a step
        low[0], high[0] = -100.0, 1.0
        found = least_squares(
            residuals, start[:free], jacobian, (low, high), loss="soft_l1", f_scale=scale, x_scale="jac", max_nfev=100
        )
        return float(found.cost), full(found.x)

    first = [-0.3, np.log(0.3), np.log(0.5)]
    starts = [np.array([*first, *np.log(start), _TYPICAL[3]]) for start in _STARTS]
    if not knows:
        starts = [np.array([*first, -np.inf, *_TYPICAL])]
    _, best = min((fitted(start, _FIRST_SCALE) for start in starts), key=lambda found: found[0])
    spread = np.concatenate([np.abs(_residual(best, one)) for one in data])
    scale = max(_MIN_SCALE, _TIMES_NOISE / NormalDist().inv_cdf(0.75) * float(np.median(spread)))
    return fitted(best, scale)[1], scale


def _covariance(parameters: Array, data: Sequence[_Data], knows: bool, scale: float) -> Array:
    free = 8 if knows else 3
    bread, meat = np.zeros((free, free)), np.zeros((free, free))
    if knows:
        prior = np.diag(np.concatenate([np.zeros(4), (scale / _SPREAD) ** 2]))
        bread, meat = bread + prior, meat + scale**2 * prior
    for one in data:
        r = _residual(parameters, one)
        gradient = one.weight * law_and_gradient(parameters, one.exposure)[1][:, :free]
        robust = 1 / np.sqrt(1 + (r / scale) ** 2)
        bread += gradient.T @ (robust[:, None] * gradient)
        for rows in np.array_split(np.arange(r.size), _BLOCKS_OF_ROWS):
            score = gradient[rows].T @ (robust[rows] * r[rows])
            meat += np.outer(score, score)
    units = len(data) * _BLOCKS_OF_ROWS
    inverse = np.linalg.pinv(bread, rcond=1e-14, hermitian=True)
    covariance = np.zeros((8, 8))
    covariance[:free, :free] = inverse @ meat @ inverse * units / max(units - free, 1)
    return covariance


def _one_depth(logs: Sequence[TrainingLog]) -> bool:
    """Return whether all losses logged below the peak rate were logged at about the same share of it."""
    shares = [(log.every_lr()[log.step] / log.peak_lr)[log.has_loss & (log.step > log.warmup_steps)] for log in logs]
    below = np.concatenate([share[share < 1 - _MIN_FALL] for share in shares])
    low, high = np.quantile(below, [0.05, 0.95])
    return bool(high < 1.2 * low)


def _caveats(logs: Sequence[TrainingLog], data: Sequence[_Data], knows: bool) -> list[str]:
    caveats = []
    if not knows:
        caveats.append(NO_FALLS)
    elif _one_depth(logs):
        caveats.append(
            "The logs hold falls to one learning rate only, so how the gain depends on the depth is a typical value."
        )
    peaks = sorted(log.peak_lr for log in logs)
    if peaks[-1] > 1.02 * peaks[0]:
        caveats.append(
            f"The logs have peaks from {peaks[0]:.3g} to {peaks[-1]:.3g}, but the law was found at one peak and does"
            " not know that a rate can be too high."
        )
    return caveats + [
        f"{one.name}: the rate rises after warmup, where the law has not been validated."
        for one in data
        if (one.exposure.fall < -_MIN_FALL).any()
    ]
