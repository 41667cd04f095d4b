"""The loss-curve law: how the loss of a training follows from the learning rate of every step.

    L(t) = L0 + A·S1(t)^-α - B·Σ_k (η_{k-1} - η_k)·S1(k)^-d·(1 - (1 + C·η_k^-γ·S_k(t))^-β)

with η_k the learning rate of step k, S1(t) = Σ_{τ<=t} η_τ, warmup included, and S_k(t) = Σ_{k<=τ<=t} η_τ; the sum runs
over the steps k <= t after warmup. Under a constant rate the loss follows a power law in the distance travelled, S1.
Every fall of the rate gains at most B times that fall, and the gain grows with the distance travelled after it.
Source: Luo et al., ICLR 2025 (arXiv 2503.12811), where d = 0. With d > 0 the same fall gains less after a longer way:
without it, the law predicts the ends of late decays too low (docs/forecast.md).

Here learning rates are in units of the highest one logged and their sums in units of the largest one logged. Then the
parameters are of the order of one and the scale of the learning rate drops out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrfinder.logs.log import end_of_warmup

Array = NDArray[np.float64]

_BLOCKS = 400
"""Maximum number of falls; more are gathered into groups of equal size."""

_CHUNK = 500
"""Number of steps predicted at once: with 400 falls this takes a matrix of 1.6 MB."""

_MIN_LR = 1e-6
"""Minimum rate, in units of the peak: below it η^-γ would only overflow, and the rest of the fall is spent."""

_TO_90 = NormalDist().inv_cdf(0.95) * 2.1
"""Half a 90% interval, in standard errors. The quantile alone would do for a law without error of its own.
With the factor of 2.1 the intervals hold 87 to 94% of the ends of curves not fitted, over pairs and triples of nine
(benchmarks/forecast.py)."""


class Exposure(NamedTuple):
    """What the law needs to know of a schedule at some steps.

    Attributes:
        travelled: (n,) S1, > 0.
        fall: (m,) η_{k-1} - η_k, negative where the rate rises after warmup.
        lr: (m,) η_k.
        before: (m,) S1 at the fall, > 0.
        since: (n, m) S_k; 0 if the fall is still to come.
    """

    travelled: Array
    fall: Array
    lr: Array
    before: Array
    since: Array


class Predicted(NamedTuple):
    """Predicted losses.

    Attributes:
        loss: (n,) the law's values.
        gradient: (n, 8) their derivatives by the parameters, see `LossLaw.parameters`.
    """

    loss: Array
    gradient: Array


@dataclass(frozen=True, eq=False)
class LossLaw:
    """A fitted law.

    Attributes:
        parameters: (8,) L0, the logarithms of A, α, B, C, β, γ, and d, for losses in units of ``loss_unit``.
        covariance: (8, 8) covariance of the parameters.
        loss_unit: the fall of the losses logged.
        lr_unit: the highest learning rate logged.
        sum_unit: the largest S1 logged, in units of ``lr_unit``.
        residual: root mean square difference between the law and the losses logged, in units of the loss.
        knows_falls: whether the rate fell in a log; if not, B is 0 and only constant rates can be predicted.
        caveats: what cannot be known from the logs, in sentences.
        refused: why nothing can be predicted from these logs, with the remedy; None if something can.
    """

    parameters: Array = field(repr=False)
    covariance: Array = field(repr=False)
    loss_unit: float
    lr_unit: float
    sum_unit: float
    residual: float
    knows_falls: bool
    caveats: tuple[str, ...] = ()
    refused: str | None = None

    def __call__(self, lr: Array, steps: NDArray[np.int64]) -> Predicted:
        """Predict the loss at (n,) ``steps`` of a schedule, given the rate of every step, (T + 1,)."""
        parts = [
            law_and_gradient(self.parameters, exposure(lr, steps[i : i + _CHUNK], self.lr_unit, self.sum_unit))
            for i in range(0, steps.size, _CHUNK)
        ]
        loss = np.concatenate([part[0] for part in parts])
        gradient = np.concatenate([part[1] for part in parts])
        return Predicted(self.loss_unit * loss, self.loss_unit * gradient)

    def half_width(self, gradient: Array) -> float:
        """Return half the 90% interval, due to the fit alone, of a quantity with this (8,) gradient."""
        variance = float(gradient @ self.covariance @ gradient)
        return _TO_90 * math.sqrt(max(variance, 0.0))

    def half_width_of_loss(self, gradient: Array) -> float:
        """Return half the 90% interval of a measured loss, which also differs from the law by ``residual``."""
        return float(np.hypot(self.half_width(gradient), _TO_90 * self.residual))

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as JSON-ready data, in units of the loss, of ``lr_unit`` and of ``sum_unit``."""
        floor = float(self.parameters[0])
        others = [float(value) for value in np.exp(self.parameters[1:7])]
        values = dict(zip(("A", "alpha", "B", "C", "beta", "gamma"), others, strict=True))
        return {
            "L0": self.loss_unit * floor,
            **{name: self.loss_unit * value if name in ("A", "B") else value for name, value in values.items()},
            "d": float(self.parameters[7]),
            "lr_unit": self.lr_unit,
            "sum_unit": self.sum_unit,
            "residual": self.residual,
        }


def exposure(lr: Array, steps: NDArray[np.int64], lr_unit: float, sum_unit: float) -> Exposure:
    """Summarise a schedule for the law, with at most `_BLOCKS` falls, each group of them at its mean step and rate.

    Args:
        lr: (T + 1,) learning rate of every step.
        steps: (n,) steps at which the law will be evaluated, each at most T.
        lr_unit: unit of learning rates.
        sum_unit: unit of their sums, in units of ``lr_unit``.
    """
    eta = lr / lr_unit
    before = np.concatenate([[0.0], np.cumsum(eta)]) / sum_unit  # [k]: travelled before step k
    travelled = before[steps + 1]
    fall = -np.diff(eta, prepend=eta[0])
    fall[: end_of_warmup(lr) + 1] = 0
    k = np.flatnonzero(np.abs(fall) > 1e-12)
    if not k.size:
        return Exposure(travelled, np.empty(0), np.empty(0), np.empty(0), np.empty((steps.size, 0)))
    size = np.abs(fall[k])
    middle = np.cumsum(size) - size / 2
    share = (middle / size.sum() * _BLOCKS).astype(int)
    block = np.cumsum(np.diff(share, prepend=share[0]) > 0)
    weight = np.bincount(block, size)
    at = np.bincount(block, size * k) / weight
    way = np.interp(at, np.arange(before.size), before)
    return Exposure(
        travelled,
        np.bincount(block, fall[k]).astype(np.float64),
        np.bincount(block, size * eta[k]) / weight,
        np.maximum(way, 1e-12),
        np.maximum(travelled[:, None] - way, 0.0),
    )


def law_and_gradient(parameters: Array, e: Exposure) -> tuple[Array, Array]:
    """Return the law's (n,) values and their (n, 8) derivatives by the parameters."""
    floor = parameters[0]
    a, alpha, b, _, beta, gamma = np.exp(parameters[1:7])
    log_way = np.log(e.before)
    fall = e.fall * np.exp(-parameters[7] * log_way)
    with np.errstate(divide="ignore", over="ignore"):
        log_travelled = np.log(e.travelled)
        power = a * np.exp(-alpha * log_travelled)
    # How much of its gain each fall has brought, with x = C·η_k^-γ·S_k, in logarithms, which never overflow.
    log_lr = np.log(np.maximum(e.lr, _MIN_LR))
    with np.errstate(divide="ignore"):
        log_x = parameters[4] - gamma * log_lr + np.log(e.since)
    log_1x = np.logaddexp(0.0, log_x)  # 0 if the fall is still to come
    left = np.exp(-beta * log_1x)
    slope = beta * np.exp(log_x - log_1x) * left
    gained = b * ((1 - left) @ fall)
    with np.errstate(invalid="ignore"):
        gradient = np.stack(
            [
                np.ones_like(power),
                power,
                -power * alpha * log_travelled,
                -gained,
                -b * (slope @ fall),
                -b * ((beta * log_1x * left) @ fall),
                b * gamma * (slope @ (fall * log_lr)),
                b * ((1 - left) @ (fall * log_way)),
            ],
            axis=1,
        )
    return floor + power - gained, gradient
