"""Making a model that was trained for a few steps only ready to be evaluated, without lagging running statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lrfinder.errors import InputError

__all__ = ["scalar", "settle"]

_STATISTICS = 16
"""Training batches over which the running statistics are taken anew."""


def settle(model: nn.Module, forward: Callable[[Any], Any], training: Iterable[Any]) -> None:
    """Put the model in eval mode, with fresh statistics in every batch normalisation that was in train mode.

    Running averages of batch normalisation trail the weights by some ten steps, which in a probe of thirty is a third
    of it. The statistics are therefore taken anew, as plain averages over training batches; a layer frozen in eval mode
    keeps its own. The model is left so: the next probe rewinds it.

    Args:
        model: as it is after the last training step, train/eval mode included.
        forward: runs the model on a batch; called without gradients.
        training: batches to take statistics from; as many are drawn as are needed.

    Source: Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization", section 3.2
    (arXiv 1803.05407), takes the statistics of an averaged network anew in the same way.
    """
    moving = [
        layer
        for layer in model.modules()
        if isinstance(layer, _BatchNorm) and layer.training and layer.running_mean is not None
    ]
    model.eval()
    if not moving:
        return
    for layer in moving:
        layer.reset_running_stats()
        layer.momentum = None  # a plain average over all batches seen
        layer.train()
    with torch.no_grad():
        for _, batch in zip(range(_STATISTICS), training, strict=False):
            forward(batch)
    for layer in moving:
        layer.eval()


def scalar(value: Any, source: str) -> Tensor:
    """Return one number as a 0-d float64 tensor, detached, on its device.

    Raises:
        InputError: it is none; the text begins with ``source``.
    """
    if not isinstance(value, Tensor):
        try:
            value = torch.as_tensor(float(value), dtype=torch.float64)
        except (TypeError, ValueError):
            raise InputError(f"{source} must return one number, got {type(value).__name__}") from None
    tensor: Tensor = value
    if tensor.numel() != 1:
        raise InputError(f"{source} must return one number, got a tensor of shape {tuple(tensor.shape)}")
    return tensor.detach().double().reshape(())
