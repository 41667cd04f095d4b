"""Evaluating a model that was trained for a few steps only, without the bias of lagging running statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lrfinder.errors import InputError

__all__ = ["evaluated"]

_STATISTICS = 16
"""Training batches over which the running statistics are taken anew."""


def evaluated(
    model: nn.Module, forward: Callable[[Any], Tensor], held_out: Iterable[Any], training: Iterable[Any]
) -> Tensor:
    """Return ``forward`` of each held-out batch, model in eval mode, without gradients: (m,).

    Running averages of batch normalisation trail the weights by some ten steps, which in a probe of thirty is most of
    it. The statistics of every such layer in train mode are therefore taken anew, as plain averages over training
    batches; a layer frozen in eval mode keeps its own. The model is left so: the next probe rewinds it.

    Args:
        model: as it is after the last training step, train/eval mode included.
        forward: from a batch to a scalar.
        held_out: what to evaluate.
        training: to take statistics from, as many as are needed.

    Raises:
        InputError: ``forward`` returns no scalar.

    Source: Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization", section 3.2
    (arXiv 1803.05407), takes the statistics of an averaged network anew in the same way.
    """
    moving = [
        layer
        for layer in model.modules()
        if isinstance(layer, _BatchNorm) and layer.training and layer.running_mean is not None
    ]
    model.eval()
    with torch.no_grad():
        if moving:
            for layer in moving:
                layer.reset_running_stats()
                layer.momentum = None  # a plain average over all batches seen
                layer.train()
            for _, batch in zip(range(_STATISTICS), training, strict=False):
                forward(batch)
            for layer in moving:
                layer.eval()
        return torch.stack([_scalar(forward(batch)) for batch in held_out])


def _scalar(value: Any) -> Tensor:
    tensor = value if isinstance(value, Tensor) else torch.as_tensor(value)
    if tensor.numel() != 1:
        raise InputError(f"the evaluation of a batch must be one scalar, got a tensor of shape {tuple(tensor.shape)}")
    return tensor.detach().double().reshape(())
