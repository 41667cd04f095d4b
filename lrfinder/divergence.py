"""Where gradient descent stops being stable, read off the way a range test blows up.

A ramp finds the limit late. Along the sharpest direction a step multiplies the error by ``1 - lr * sharpness``: while
the ladder passes ``lr = 1 / sharpness`` the error all but vanishes, and beyond the limit ``2 / sharpness`` it must
grow back from there before the loss shows it. On a quadratic, however fine the ladder, it is back at its initial size
only at ``lr = 12.6 / sharpness`` (the root of the dilogarithm ``Re Li2``), six times too late. But the growth from rung
to rung tells the sharpness, and with it the limit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

__all__ = ["BlowUp", "blow_up"]

_MIN_RUNGS = 4
"""Growth factors needed: two parameters, and two degrees of freedom to see whether the law holds."""

_TOLERANCE = 0.01
"""Largest root-mean-square misfit of the log growth per step (1%): mini-batch noise and adaptive optimizers, whose
blow-ups follow no such law, exceed it by far."""


@dataclass(frozen=True)
class BlowUp:
    """The stability limit of gradient descent with heavy-ball momentum, from the growth of the loss.

    Attributes:
        lr_limit: largest stable learning rate, ``2 (1 + momentum) / sharpness``.
        momentum: the momentum that explains the growth best; 0 for plain gradient descent.
        misfit: root-mean-square error of the log growth per step.
    """

    lr_limit: float
    momentum: float
    misfit: float


def blow_up(lr: NDArray[np.float64], loss: NDArray[np.float64]) -> BlowUp | None:
    """Fit the growth law to the rising end of a range test; None where the end follows no such law.

    With ``L`` the loss above its minimum, one step at ``lr`` multiplies ``sqrt(L)`` by the larger root ``z`` of
    ``z**2 - (lr * h - 1 - b) z + b = 0``, so that ``h = (1 + b + z + b / z) / lr``, for sharpness ``h`` and momentum
    ``b`` (times the ratio of two rungs, since the step before was taken at the rung before).

    Args:
        lr: (n,) increasing learning rates, one step each.
        loss: (n,) finite losses before the steps.

    Source: Cohen et al. 2021, "Gradient descent on neural networks typically occurs at the edge of stability",
    section 2 and appendix B (arXiv 2103.00065): limits ``2 / h`` and ``(2 + 2 b) / h``.
    """
    bottom = loss.size - 1 - int(np.argmin(loss[::-1]))  # the last of equals: growth is measured from above it
    above = loss[bottom + 1 :] - loss[bottom]
    if above.size <= _MIN_RUNGS or np.any(np.diff(above) <= 0):
        return None
    # The last factors are the cleanest: there the growing direction outweighs all others.
    growth = 0.5 * np.log(above[1:] / above[:-1])[-_MIN_RUNGS:]
    rungs = lr[bottom + 1 : -1][-_MIN_RUNGS:]
    ratio = float(rungs[1] / rungs[0])

    def misfit(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        log_sharpness, momentum = parameters
        half = 0.5 * (rungs * np.exp(log_sharpness) - 1 - momentum)
        root = half + np.sqrt(np.maximum(half**2 - momentum, 0.0))
        return np.asarray(np.log(np.maximum(root, 1e-3)) - growth)

    start = float(np.log((1 + np.exp(growth[-1])) / rungs[-1]))
    fit = least_squares(
        misfit, [start, 0.0], bounds=([-np.inf, 0.0], [np.inf, ratio]), xtol=1e-14, ftol=1e-14, gtol=1e-14
    )
    error = float(np.sqrt(np.mean(fit.fun**2)))
    momentum = min(float(fit.x[1]) / ratio, 1.0) if fit.x[1] > 1e-3 else 0.0
    limit = 2 * (1 + momentum) / float(np.exp(fit.x[0]))
    return BlowUp(limit, momentum, error) if error <= _TOLERANCE and limit < rungs[-1] else None
