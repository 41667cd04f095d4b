"""The loss of a model on a batch of any common kind: pairs, mappings, single tensors, outputs that hold a loss."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from lrfinder.errors import InputError
from lrfinder.probing.batches import scalar

_TARGETS = ("labels", "label", "targets", "target", "y")
"""Names under which mappings hold what a model is to predict."""


def batch_loss(model: nn.Module, loss_fn: Callable[..., Any] | None, batch: Any) -> Any:
    """Return the loss of a model on a batch.

    ============================================  ===================================================================
    batch                                         loss
    ============================================  ===================================================================
    (inputs, targets)                             ``loss_fn(model(inputs), targets)``
    a mapping of arguments of ``model.forward``   of ``model(**batch)``: ``loss_fn`` of it, or its own ``loss``
    any other                                     ``loss_fn(model(batch))``
    ============================================  ===================================================================

    A mapping may also hold the targets, under one of the usual names, for a ``loss_fn`` of two arguments. Inputs that
    are a mapping are passed by name in the same way. Without ``loss_fn``, the output is the loss, or holds it.
    """
    if isinstance(batch, (list, tuple)) and len(batch) == 2:
        inputs, targets = batch
        outputs = _called(model, inputs)
        return _own_loss(outputs) if loss_fn is None else loss_fn(outputs, targets)
    held = next((name for name in _TARGETS if isinstance(batch, Mapping) and name in batch), None)
    two = loss_fn is not None and _required(loss_fn) >= 2
    outputs = _called(model, batch, () if held is None or not two else (held,))
    if loss_fn is not None and not two:
        return loss_fn(outputs)
    if two and held is not None and _held_loss(outputs) is None:
        assert loss_fn is not None
        return loss_fn(outputs, batch[held])
    loss = _own_loss(outputs) if loss_fn is None else _held_loss(outputs)
    if loss is None:
        raise InputError(
            f"loss_fn takes outputs and targets, but the batch is a {_kind(batch)}, which holds no targets that can be"
            " recognised: pass train_step= and val_step=, which take a batch and return its loss"
        )
    return loss


def _called(model: nn.Module, inputs: Any, without: tuple[str, ...] = ()) -> Any:
    """Return the outputs for inputs; a mapping is passed by name if `forward` has arguments of these names."""
    try:
        if not isinstance(inputs, Mapping):
            return model(inputs)
        known = inspect.signature(model.forward).parameters
        anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
        named = {name: value for name, value in inputs.items() if name in known}
        if named:
            return model(**(dict(inputs) if anything else named))
        rest = [value for name, value in inputs.items() if name not in without and isinstance(value, Tensor)]
        return model(rest[0] if without and len(rest) == 1 else inputs)
    except TypeError as error:
        if isinstance(inputs, (Tensor, Mapping)) and f"{type(model).__name__}.forward()" not in str(error):
            raise  # it was raised within `forward`, not by the call
        raise InputError(
            f"model must take the inputs of a batch, which is a {_kind(inputs)}, got {error}: pass train_step= and"
            " val_step=, which take a batch and return its loss"
        ) from error


def _held_loss(outputs: Any) -> Any:
    """Return the loss that outputs hold, as those of Hugging Face's models do; None if they hold none."""
    if isinstance(outputs, Mapping):
        return outputs.get("loss")
    return None if isinstance(outputs, Tensor) else getattr(outputs, "loss", None)


def _own_loss(outputs: Any) -> Any:
    loss = _held_loss(outputs)
    if loss is None and isinstance(outputs, Tensor) and outputs.numel() == 1:
        return outputs
    if loss is None:
        raise InputError(
            f"loss_fn may be None only for a model whose output is or holds its loss, got a {_kind(outputs)}: pass"
            " loss_fn, or val_step= (with train_step=), which takes a batch and returns its loss"
        )
    return loss


def _required(function: Callable[..., Any]) -> int:
    """Return how many arguments a function cannot do without; 1 if that cannot be told."""
    try:
        parameters = inspect.signature(function.forward if isinstance(function, nn.Module) else function).parameters
    except (TypeError, ValueError):
        return 1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in positional and one.default is one.empty for one in parameters.values())


def judged_loss(model: nn.Module, loss_fn: Callable[..., Any] | None, batch: Any) -> Tensor:
    """Return the loss on a batch of a model that is trained by a ``train_step`` of its own."""
    try:
        return scalar(batch_loss(model, loss_fn, batch), "loss_fn")
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            "val_step must be given with train_step if loss_fn cannot judge a batch by itself:"
            f" {type(error).__name__}: {str(error)[:120]}"
        ) from error


def scalar_loss(loss: Any, source: str) -> Tensor:
    """Return a copy of a loss, detached, 0-d; errors name its ``source``."""
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise InputError(f"{source} must return one scalar tensor, got {got}")
    return loss.detach().clone().reshape(())


def takes_closure(optimizer: Any) -> bool:
    """Whether the step of an optimizer cannot do without a closure, as that of L-BFGS."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return "tensor"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} of {len(value)}"
    if isinstance(value, Mapping):
        return f"{type(value).__name__} of {', '.join(map(str, value))}"[:80]
    return type(value).__name__
