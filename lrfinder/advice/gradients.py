"""What gradients say of a rate: how large a batch pays, by their noise, and which rate is stable, by the curvature."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrfinder.errors import InputError, whole_number
from lrfinder.files import number_to_json

MIN_BATCHES = 4
"""Minimum number of batch gradients from which an interval can be estimated."""

NORMAL_90 = NormalDist().inv_cdf(0.95)
"""Standard deviations from the middle of a 90% interval to its ends."""

_SOURCE = "McCandlish et al. 2018, sections 2.2 and 2.3, appendix A.1 (arXiv 1812.06162)"


@dataclass(frozen=True)
class NoiseScale:
    """The simple gradient noise scale, in examples, at one state of a model.

    It is ``tr(C) / |G|**2`` with the gradient G of the whole data and the covariance C of the gradients of single
    examples. It holds for the state at which it was measured, and usually grows while training goes on.

    Attributes:
        value: the estimate, in examples; inf if the batches do not show that G differs from zero.
        low: lower end of the 90% interval, in examples.
        high: upper end; inf if the batches cannot bound it.
        batch_size: examples per batch that it was measured with.
        batches: number of batch gradients.
        source: paper and section.
    """

    value: float
    low: float
    high: float
    batch_size: int
    batches: int
    source: str = _SOURCE

    def steps_factor(self, batch_size: int) -> float:
        """Return the steps that a batch size takes to one loss, over the fewest that any batch size takes.

        That is ``1 + value / batch_size``, if each batch size has its own best rate (section 2.3).
        """
        return 1 + self.value / whole_number("batch_size", batch_size)

    def examples_factor(self, batch_size: int) -> float:
        """Return the examples that a batch size takes to one loss, over the fewest that any takes.

        That is ``1 + batch_size / value``: at the noise scale both factors are 2, so it is called the critical batch
        size (section 2.3).
        """
        return 1 + whole_number("batch_size", batch_size) / self.value

    def __str__(self) -> str:
        high = f"{self.high:,.3g}" if math.isfinite(self.high) else "no upper end"
        return f"{self.value:,.3g} examples (90% interval {self.low:,.3g} to {high})"

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate as JSON-ready data."""
        return {**vars(self), **{name: number_to_json(getattr(self, name)) for name in ("value", "low", "high")}}


def estimate_noise_scale(squares: ArrayLike, products: ArrayLike, batch_size: int) -> NoiseScale:
    """Estimate the noise scale from the gradients ``g_i`` of n batches of one size B at one state.

    With the mean gradient ``g`` and ``s``, the sum of ``|g_i - g|**2`` over n - 1, ``|g|**2 - s / n`` estimates
    ``|G|**2`` and ``B s`` estimates ``tr(C)``. The interval is that of the delete-one jackknife for the reciprocal,
    which stays finite where the gradient vanishes in the noise.

    Args:
        squares: (n,) the squared norms ``|g_i|**2``.
        products: (n,) the products ``g_i . g`` with the mean gradient of the n batches.
        batch_size: B, examples per batch.

    Raises:
        InputError: fewer than `MIN_BATCHES` batches, unequal shapes, non-finite numbers, or gradients that are equal.

    Examples:
        >>> round(estimate_noise_scale([2, 2, 1, 1], [1, 1, 0.5, 0.5], 10).value, 1)
        20.0
    """
    batch_size = whole_number("batch_size", batch_size)
    square, product = (np.asarray(values, dtype=np.float64) for values in (squares, products))
    count = square.size
    if square.ndim != 1 or square.shape != product.shape or count < MIN_BATCHES:
        raise InputError(
            f"squares and products must be two arrays (n,) of at least {MIN_BATCHES} batches, got shapes"
            f" {square.shape} and {product.shape}"
        )
    if not (np.isfinite(square).all() and np.isfinite(product).all()):
        raise InputError("squares and products must be finite, got NaN or inf: the gradients have blown up")
    total, mean_square = float(square.sum()), float(product.mean())
    whole = _signal_to_noise(total, mean_square, count)
    if not math.isfinite(whole):
        raise InputError("the gradients of the batches must differ, got equal ones: there is no noise to measure")
    others = np.array(
        [
            _signal_to_noise(
                total - own, (count**2 * mean_square - 2 * count * to_mean + own) / (count - 1) ** 2, count - 1
            )
            for own, to_mean in zip(square, product, strict=True)
        ]
    )
    error = math.sqrt((count - 1) / count * float(((others - others.mean()) ** 2).sum()))
    low, high = (_reciprocal(whole + sign * NORMAL_90 * error, batch_size) for sign in (1, -1))
    return NoiseScale(_reciprocal(whole, batch_size), low, high, batch_size, count)


def _signal_to_noise(total: float, mean_square: float, count: int) -> float:
    """Return the estimate of ``|G|**2`` over that of the variance of a batch gradient; inf without noise.

    ``total`` is the sum of the squared norms, ``mean_square`` the squared norm of the mean gradient.
    """
    variance = (total - count * mean_square) / (count - 1)
    return (mean_square - variance / count) / variance if variance > 1e-12 * mean_square else math.inf


def _reciprocal(signal_to_noise: float, batch_size: int) -> float:
    return batch_size / signal_to_noise if signal_to_noise > 0 else math.inf


Array = NDArray[np.float64]

_TOLERANCE = 1e-3
"""Relative error of an eigenvalue at which Lanczos ends; the noise from batch to batch is larger."""


@dataclass(frozen=True)
class CurvatureLimit:
    """The learning rate above which an optimizer leaves a minimum of the local quadratic, at one state of a model.

    It is a limit for full-batch training near that state, no recommendation: training at a higher rate may move to
    flatter places and survive, above all after a warmup.

    Attributes:
        lr: the limit, ``constant / sharpness``.
        lr_low: lower end of its 90% interval, from the spread of the curvature over batches.
        lr_high: upper end; inf if the batches do not show that the curvature is positive.
        sharpness: largest eigenvalue of the Hessian of the loss, of Adam and RMSprop after preconditioning.
        constant: what the optimizer allows for ``lr * sharpness``.
        form: which form of the optimizer that constant belongs to.
        source: paper and section.
    """

    lr: float
    lr_low: float
    lr_high: float
    sharpness: float
    constant: float
    form: str
    source: str

    def to_dict(self) -> dict[str, Any]:
        """Return the limit as JSON-ready data; an upper end of inf becomes the string Infinity."""
        return {**vars(self), "lr_high": number_to_json(self.lr_high)}


_FULL_BATCH = "Cohen et al. 2021, section 2 and appendix B (arXiv 2103.00065)"
_ADAPTIVE = "Cohen et al. 2022, section 3 (arXiv 2207.14484)"


def stability_constant(kind: str, settings: Mapping[str, Any]) -> tuple[float, str, str]:
    """Return the largest stable ``lr * curvature`` on a quadratic, the name of the form, and its source.

    =================  ===================================
    SGD                ``2 / (1 - dampening)``, or 2 without momentum
    heavy ball         ``2 (1 + momentum) / (1 - dampening)``
    Nesterov           ``2 (1 + momentum) / (1 + 2 momentum)``
    Adam, AdamW        ``2 (1 + beta1) / (1 - beta1)``, of the preconditioned curvature
    RMSprop            ``2 (1 + momentum)``, of the preconditioned curvature
    =================  ===================================

    Args:
        kind: name of a class of `torch.optim`.
        settings: of its param group: momentum, dampening, nesterov, betas.

    Raises:
        InputError: the limit of this optimizer is not known.

    Examples:
        >>> stability_constant("SGD", {"momentum": 0.9})[0]
        3.8
    """
    momentum = float(settings.get("momentum") or 0.0)
    if kind == "SGD" and settings.get("nesterov"):
        return 2 * (1 + momentum) / (1 + 2 * momentum), "Nesterov momentum", _FULL_BATCH
    if kind == "SGD":
        damped = 1 - float(settings.get("dampening") or 0.0) if momentum else 1.0
        return 2 * (1 + momentum) / damped, "heavy ball" if momentum else "gradient descent", _FULL_BATCH
    if kind in ("Adam", "AdamW"):
        beta = float(settings["betas"][0])
        return 2 * (1 + beta) / (1 - beta), "Adam with its preconditioner held", _ADAPTIVE
    if kind == "RMSprop":
        return 2 * (1 + momentum), "RMSprop with its preconditioner held", _ADAPTIVE
    raise InputError(f"optimizer must be SGD, Adam, AdamW or RMSprop for a curvature limit, got {kind}")


def top_curvature(apply: Callable[[Array], Array], size: int) -> tuple[float, Array]:
    """Return the largest eigenvalue of a symmetric operator, to about 0.1%, and its eigenvector (size,) of norm 1.

    Args:
        apply: from a vector (size,) to its image (size,).
        size: the dimension, at least 3.

    Raises:
        InputError: the operator gives NaN or inf, or Lanczos does not converge.

    Source: Lanczos 1950; `scipy.sparse.linalg.eigsh` (ARPACK).
    """
    from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

    def checked(vector: Array) -> Array:
        image = apply(np.asarray(vector, dtype=np.float64).ravel())
        if not np.isfinite(image).all():
            raise InputError("the curvature must be finite, got NaN or inf: the loss has blown up at this state")
        return image

    operator = LinearOperator((size, size), matvec=checked, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(size)
    try:
        values, vectors = eigsh(operator, k=1, which="LA", v0=start, tol=_TOLERANCE, maxiter=300)
    except ArpackError as error:
        raise InputError(f"the curvature could not be found by Lanczos: {error}") from None
    return float(values[0]), np.asarray(vectors[:, 0])


def limit_from(sharpness: Sequence[float], kind: str, settings: Mapping[str, Any]) -> CurvatureLimit:
    """Return the limit from the curvature that each of several batches shows along the sharpest direction of them all.

    Args:
        sharpness: (m,) curvatures along the top eigenvector of the mean Hessian of m >= 2 batches; their mean is the
            top eigenvalue. With coupled weight decay that is part of the loss, and of these.

    Raises:
        InputError: fewer than two batches, no positive curvature, or an optimizer whose limit is not known.
    """
    constant, form, source = stability_constant(kind, settings)
    values = np.asarray(sharpness, dtype=np.float64)
    if values.size < 2:
        raise InputError(f"sharpness must hold at least two batches, for an interval, got {values.size}")
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(values.size)
    if mean <= 0:
        raise InputError(f"the largest eigenvalue of the Hessian must be positive for a limit, got {mean:.3g}")
    low, high = mean + NORMAL_90 * error, mean - NORMAL_90 * error
    return CurvatureLimit(
        constant / mean, constant / low, constant / high if high > 0 else math.inf, mean, constant, form, source
    )
