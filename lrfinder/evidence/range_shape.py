"""The shape of a range test as a function of its six parameters, and its fit to losses from several starts at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PARAMETERS = ("level", "drop", "descent", "descent_width", "rise", "rise_width")
"""Names of the parameters of the shape, in their order."""

_MOST_STEPS, _ENOUGH = 200, 1e-9
"""Steps of a fit; it ends before where one lowers the cost by no more than this share of it, or of ``soft**2``."""

_KEPT = 0.3
"""Share of the distance to a bound that a step leaves: there the shape may not depend on a parameter any more."""

_NEAR = 1e-7
"""Share of the distance between the bounds from which on a parameter is put on the nearer one."""


def shape_at(x: Array, parameters: Array, unit: float) -> Array:
    """Return ``level - drop * S((x - descent) / descent_width) + unit * exp((x - rise) / rise_width)``, logistic ``S``.

    Args:
        x: (n,) or a number.
        parameters: (6,) in the order of `PARAMETERS`.
        unit: what the rise adds at its place.
    """
    level, drop, *places = parameters
    _, fallen, _, growth = _parts(x, *places)
    return np.asarray(level - drop * fallen + unit * growth)


def _parts(x: Array, descent: Array, descent_width: Array, rise: Array, rise_width: Array) -> tuple[Array, ...]:
    """Return the argument and the value of the logistic descent, and of the exponential rise."""
    away, growing = (x - descent) / descent_width, np.minimum((x - rise) / rise_width, 50.0)  # more only overflows
    return away, 0.5 + 0.5 * np.tanh(0.5 * away), growing, np.exp(growing)


def fit_shapes(
    x: Array, losses: Array, top: float, soft: float, starts: Array, lower: Array, upper: Array
) -> tuple[Array, Array, Array, Array]:
    """Fit the shape of unit 1, cut off at ``top``, by robust least squares, once from every start.

    Minimises ``soft**2 * sum(sqrt(1 + (residual / soft)**2) - 1)`` (soft L1) by Levenberg-Marquardt steps, for all
    starts side by side. A parameter at a bound stays there while the cost falls towards the outside.

    Args:
        x, losses: (n,) what to fit.
        top: the loss above which a point only counts as "high".
        soft: the residual from which on the cost is linear.
        starts: (k, 6) where to begin.
        lower, upper: (k, 6) bounds; equal ones fix a parameter.

    Returns:
        The parameters (k, 6), their costs (k,), residuals (k, n), and slopes ``J`` (k, n, 6), weighted so that
        ``J.T @ J`` approximates the curvature of the cost.

    Source: Marquardt 1963, SIAM Journal 11; for the weights, Triggs et al. 2000, "Bundle adjustment", section 4.3.
    """
    at = _judged(x, losses, top, soft, np.clip(starts, lower, upper))
    damping, done = np.full(len(starts), 1e-3), np.zeros(len(starts), dtype=bool)
    for _ in range(_MOST_STEPS):
        parameters, cost, residuals, slopes = at
        gradient = np.einsum("kn,knp->kp", residuals * (1 + (residuals / soft) ** 2) ** 0.25, slopes)
        held = ((parameters <= lower) & (gradient >= 0)) | ((parameters >= upper) & (gradient <= 0))
        slopes = np.where(held[:, None], 0.0, slopes)
        curvature = slopes.swapaxes(1, 2) @ slopes
        scale = np.einsum("kpp->kp", curvature)
        scale = np.maximum(scale, 1e-10 * scale.max(axis=1, keepdims=True) + 1e-300) * damping[:, None] + held
        step = np.linalg.solve(curvature + scale[..., None] * np.eye(6), np.where(held, 0.0, -gradient)[..., None])
        new = parameters + step[..., 0]
        new = np.clip(new, lower + _KEPT * (parameters - lower), upper - _KEPT * (upper - parameters))
        near = _NEAR * (upper - lower)
        new = np.where(new - lower < near, lower, np.where(upper - new < near, upper, new))
        tried = _judged(x, losses, top, soft, new)
        better = tried[1] < cost
        done |= (better & (cost - tried[1] <= _ENOUGH * np.maximum(cost, soft**2))) | (damping > 1e8)
        for old, found in zip(at, tried, strict=True):
            old[better] = found[better]
        if done.all():
            break
        damping = np.maximum(damping * np.where(better, 0.25, 4.0), 1e-8)
    return at


def _judged(x: Array, losses: Array, top: float, soft: float, parameters: Array) -> tuple[Array, Array, Array, Array]:
    level, drop, descent, width, rise, rise_width = parameters.T[..., None]
    away, fallen, growing, growth = _parts(x, descent, width, rise, rise_width)
    shape = level - drop * fallen + growth
    bump = drop * fallen * (1 - fallen) / width
    slopes = [np.ones_like(shape), -fallen, bump, bump * away, -growth / rise_width, -growth * growing / rise_width]
    residuals = np.minimum(shape, top) - losses
    weights = 1 + (residuals / soft) ** 2
    weighted = np.stack(slopes, axis=-1) * np.where(shape < top, weights**-0.75, 0.0)[..., None]
    return parameters, soft**2 * np.sum(np.sqrt(weights) - 1, axis=-1), residuals, weighted
