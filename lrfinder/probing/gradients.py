"""Measuring gradients of a plain torch training: their noise, and the curvature of the loss."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from lrfinder.advice.gradients import (
    MIN_BATCHES,
    CurvatureLimit,
    NoiseScale,
    estimate_noise_scale,
    limit_from,
    stability_constant,
    top_curvature,
)
from lrfinder.errors import InputError, whole_number
from lrfinder.probing.batch_loss import batch_loss
from lrfinder.probing.batches import END, map_batch, one_epoch, to_device
from lrfinder.probing.runner import trainable
from lrfinder.probing.torch_loop import TorchTraining

LossFunction = Callable[..., Tensor] | None


def measure_noise_scale(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: LossFunction,
    loader: Iterable[Any],
    *,
    after: int = 0,
    batches: int = 32,
    batch_size: int | None = None,
) -> NoiseScale:
    """Measure the gradient noise scale of a model after a few steps of training, and put everything back.

    It takes two passes over the batches, forward and backward, in train mode; memory for two more gradients suffices.
    Before the first step the noise scale is often far smaller than later on (docs/advice.md): let a new model train
    for 5% of its steps at the suggested rate.

    Args:
        model: the network, at the state of interest.
        optimizer: over the model's parameters, with the rates to train with.
        loss_fn: as `lrfinder.find_lr` has it; must average over the examples of a batch.
        loader: training batches in random order.
        after: steps to train first, with a linear warmup to the rates that are set.
        batches: how many to measure, of one epoch, at least 4.
        batch_size: examples per batch; by default the length of the first tensor in a batch.

    Raises:
        InputError: an argument breaks a rule, the epoch has fewer than 4 batches, or the gradients are not finite.
        UnsupportedError: the loader or the data cannot be wound back.

    Source: McCandlish et al. 2018, appendix A.1 (arXiv 1812.06162).
    """
    whole_number("batches", batches, MIN_BATCHES)
    with _frozen(model, optimizer, loss_fn, loader, after, batches) as (parameters, drawn, loss_of):
        size = _examples_in(drawn[0]) if batch_size is None else batch_size
        mean, squares = torch.zeros(()), []
        for i in range(len(drawn)):
            gradient = _flat_gradient(loss_of(i), parameters).float()
            mean = mean.to(gradient) + gradient / len(drawn)
            squares.append(float(gradient @ gradient))
        products = [float(_flat_gradient(loss_of(i), parameters).float() @ mean) for i in range(len(drawn))]
        return estimate_noise_scale(squares, products, size)


def curvature_limit(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: LossFunction,
    loader: Iterable[Any],
    *,
    after: int = 0,
    batches: int = 8,
) -> CurvatureLimit:
    """Measure the learning rate that the curvature leaves stable after a few steps, and put everything back.

    Lanczos finds the largest eigenvalue of the Hessian of the mean loss of a few batches from some 20 to 100
    Hessian-vector products; that of each batch along its eigenvector gives the interval. Adam and RMSprop count with
    the preconditioner that their state holds, and param groups with the ratios of their rates.

    Args:
        model: the network, at the state of interest.
        optimizer: SGD (plain, heavy ball, Nesterov), Adam, AdamW or RMSprop, with the rates to train with.
        loss_fn: as `lrfinder.find_lr` has it; must be twice differentiable.
        loader: training batches.
        after: steps to train first, with a linear warmup to the rates that are set.
        batches: how many to measure, of one epoch, at least 4.

    Raises:
        InputError: an argument breaks a rule, or the limit of this optimizer is not known; Adam and RMSprop must
            have taken a step.
        UnsupportedError: the loader or the data cannot be wound back.

    Source: Cohen et al. 2021, appendix B (arXiv 2103.00065); Cohen et al. 2022, section 3 (arXiv 2207.14484).
    """
    whole_number("batches", batches, MIN_BATCHES)
    kind, settings = type(optimizer).__name__, optimizer.param_groups[0]
    stability_constant(kind, settings)
    if any(group.get(name) != settings.get(name) for group in optimizer.param_groups for name in _DYNAMICS):
        raise InputError(f"optimizer must have the same {', '.join(_DYNAMICS)} in every param group for a limit")
    with _frozen(model, optimizer, loss_fn, loader, after, batches) as (parameters, drawn, loss_of):
        scale, decay = _metric(optimizer, parameters)

        def curvature(i: int, vector: Tensor) -> Tensor:
            gradient = _flat_gradient(loss_of(i), parameters, create_graph=True)
            product = _flat_gradient(gradient @ (scale * vector), parameters)
            return scale * (product + decay * scale * vector)

        def apply(values: NDArray[np.float64]) -> NDArray[np.float64]:
            vector = torch.from_numpy(values).float().to(scale)
            image = torch.stack([curvature(i, vector) for i in range(len(drawn))]).mean(0)
            return image.cpu().double().numpy()

        _, top = top_curvature(apply, scale.numel())
        vector = torch.from_numpy(top).float().to(scale)
        return limit_from([float(vector @ curvature(i, vector)) for i in range(len(drawn))], kind, settings)


_DYNAMICS = ("momentum", "dampening", "nesterov", "betas")
"""Settings on which the constant of a limit depends."""


@contextmanager
def _frozen(
    model: nn.Module, optimizer: Optimizer, loss_fn: LossFunction, loader: Iterable[Any], after: int, batches: int
) -> Iterator[tuple[list[nn.Parameter], list[Any], Callable[[int], Tensor]]]:
    """Yield the trainable parameters, batches, and the loss of batch ``i``, which is the same whenever it is called."""
    training = TorchTraining(model, optimizer, loss_fn, loader)
    with training.preserved():
        rates = training.lrs()
        for step in range(whole_number("after", after, 0)):
            training.set_lrs([lr * (step + 1) / after for lr in rates])
            training.step()
        drawn = list(itertools.islice(one_epoch(training.side_loader), batches))
        if len(drawn) < MIN_BATCHES:
            raise InputError(f"loader must yield at least {MIN_BATCHES} batches per epoch, got {len(drawn)}")

        def loss_of(i: int) -> Tensor:
            torch.manual_seed(i)  # the same dropout again
            loss: Tensor = batch_loss(model, loss_fn, to_device(drawn[i], training.device))
            return loss

        # Neither fused attention nor the recurrent layers of cuDNN can be differentiated twice.
        with (
            torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
            torch.backends.cudnn.flags(enabled=False),
        ):
            yield trainable(model), drawn, loss_of


def _flat_gradient(value: Tensor, parameters: list[nn.Parameter], create_graph: bool = False) -> Tensor:
    gradients = torch.autograd.grad(
        value, parameters, create_graph=create_graph, retain_graph=create_graph, allow_unused=True
    )
    zeros = (torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True))
    return torch.cat([gradient.flatten() for gradient in zeros])


def _metric(optimizer: Optimizer, parameters: list[nn.Parameter]) -> tuple[Tensor, Tensor]:
    """Return what scales a step of the reference group's rate, as its square root, and the coupled weight decay, (p,).

    In these coordinates a step is plain gradient descent, so their Hessian decides.
    """
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    reference = float(optimizer.param_groups[0]["lr"])
    coupled = not isinstance(optimizer, torch.optim.AdamW)
    scales, decays = [], []
    for parameter in parameters:
        group = group_of.get(id(parameter), {"lr": 0.0})
        denominator = _denominator(optimizer, group, optimizer.state.get(parameter, {}), parameter)
        scales.append((float(group["lr"]) / reference / denominator).sqrt().flatten())
        decay = float(group.get("weight_decay", 0.0)) if coupled else 0.0
        decays.append(torch.full_like(parameter.detach(), decay).flatten())
    return torch.cat(scales), torch.cat(decays)


def _denominator(optimizer: Optimizer, group: Mapping[str, Any], state: Mapping[str, Any], like: Tensor) -> Tensor:
    """Return what an optimizer divides a gradient by."""
    if isinstance(optimizer, torch.optim.SGD) or "params" not in group:
        return torch.ones_like(like.detach())
    square = state.get("max_exp_avg_sq", state.get("exp_avg_sq", state.get("square_avg")))
    if square is None:
        raise InputError(
            f"optimizer must have taken a step, which fills its state, got a new {type(optimizer).__name__}"
        )
    if "betas" in group:
        square = square / (1 - float(group["betas"][1]) ** float(state["step"]))
    elif group["centered"]:
        square = square - state["grad_avg"].square()
    root: Tensor = square.sqrt()
    return root + float(group["eps"])


def _examples_in(batch: Any) -> int:
    """Return the length of the first tensor of a batch."""
    lengths: list[int] = []

    def note(item: Any) -> Any:
        if isinstance(item, Tensor) and item.dim():
            lengths.append(len(item))
        return item if isinstance(item, Tensor) else END

    map_batch(batch, note)
    if not lengths:
        raise InputError("batch_size must be given, for the batches hold no tensor that tells it, got None")
    return lengths[0]
