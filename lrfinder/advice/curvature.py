"""The largest learning rate that the curvature of the loss leaves stable, by optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfinder.advice.gradient_noise import NORMAL_90
from lrfinder.errors import InputError
from lrfinder.files import number_to_json

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


def top_curvature(apply: Callable[[Array], Array], size: int, seed: int = 0) -> tuple[float, Array]:
    """Return the largest eigenvalue of a symmetric operator and its eigenvector, by Lanczos.

    Args:
        apply: from a vector (size,) to its image (size,).
        size: the dimension, at least 3.
        seed: of the first vector.

    Returns:
        The eigenvalue, to a relative error of about 0.1%, and the eigenvector (size,) of norm 1.

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
    start = np.random.default_rng(seed).standard_normal(size)
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
