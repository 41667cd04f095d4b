"""The shape of a range test as a function of its six parameters, and its fit to losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PARAMETERS = ("level", "drop", "descent", "descent_width", "rise", "rise_width")
"""Names of the parameters of the shape, in their order."""


def shape_at(x: Array, parameters: Array, unit: float) -> Array:
    """Return ``level - drop * S((x - descent) / descent_width) + unit * exp((x - rise) / rise_width)``, logistic ``S``.

    The parameters, (6,), are in the order of `PARAMETERS`; ``unit`` is what the rise adds at its place.
    """
    _, fallen, _, growth = _parts(x, parameters)
    return np.asarray(parameters[0] - parameters[1] * fallen + unit * growth)


def slopes_at(x: Array, parameters: Array) -> Array:
    """Return the derivatives of the shape of unit 1 by its parameters: (n, 6)."""
    away, fallen, growing, growth = _parts(x, parameters)
    bump = parameters[1] * fallen * (1 - fallen) / parameters[3]
    rise = growth / parameters[5]
    return np.stack([np.ones_like(x), -fallen, bump, bump * away, -rise, -rise * growing], axis=-1)


def _parts(x: Array, parameters: Array) -> tuple[Array, ...]:
    """Return the argument and the value of the logistic descent, and of the exponential rise."""
    _, _, descent, descent_width, rise, rise_width = parameters
    away, growing = (x - descent) / descent_width, np.minimum((x - rise) / rise_width, 50.0)  # more only overflows
    return away, 0.5 + 0.5 * np.tanh(0.5 * away), growing, np.exp(growing)


@dataclass(frozen=True, eq=False)
class ShapeFit:
    """A fit of the shape of unit 1.

    Attributes:
        parameters: (6,).
        cost: what was minimised.
        residuals: (n,).
        slopes: (n, free parameters), weighted so that ``J.T @ J`` approximates the curvature of the cost.
    """

    parameters: Array
    cost: float
    residuals: Array
    slopes: Array


def fit_shape(x: Array, losses: Array, top: float, soft: float, start: Array, lower: Array, upper: Array) -> ShapeFit:
    """Fit the shape of unit 1, cut off at ``top``, by robust least squares (soft L1).

    Args:
        x, losses: (n,) what to fit.
        top: the loss above which a point only counts as "high".
        soft: the residual from which on the cost is linear.
        start: (6,) where to begin.
        lower, upper: (6,) bounds; equal ones fix a parameter.

    Source: `scipy.optimize.least_squares` (trust region reflective).
    """
    from scipy.optimize import least_squares

    free = lower < upper

    def whole(values: Array) -> Array:
        parameters: Array = start.copy()
        parameters[free] = values
        return parameters

    def residuals(values: Array) -> Array:
        fitted: Array = np.minimum(shape_at(x, whole(values), 1.0), top)
        return fitted - losses

    def slopes(values: Array) -> Array:
        parameters = whole(values)
        below = shape_at(x, parameters, 1.0) < top
        return np.asarray(slopes_at(x, parameters)[:, free] * below[:, None])

    inside = np.clip(start, lower + 1e-9, upper - 1e-9)[free]
    fit = least_squares(
        residuals, inside, slopes, (lower[free], upper[free]), loss="soft_l1", f_scale=soft, xtol=1e-10, ftol=1e-10,
        max_nfev=200,
    )  # fmt: skip
    return ShapeFit(whole(fit.x), float(fit.cost), fit.fun, fit.jac)
