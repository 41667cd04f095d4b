"""Putting a learning rate into live optimizers and the schedulers that drive them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lrfinder.errors import InputError

if TYPE_CHECKING:
    from torch.optim import Optimizer

__all__ = ["apply_lr", "configured_lr", "copy_configuration", "own_lrs", "reference_lr", "scaled_lrs", "set_lr"]

_SCALED_KEYS = ("lr", "initial_lr", "max_lr", "min_lr", "swa_lr")
"""What schedulers keep in a param group in units of the learning rate; floors like `eta_min` stay absolute."""

_SCALED_ATTRIBUTES = ("base_lrs", "max_lrs", "_last_lr")
"""The same, in the scheduler."""


def configured_lr(group: Mapping[str, Any]) -> float:
    """Return the learning rate that the person configured for a param group: its peak, whatever step it is at.

    A scheduler that warms up changes ``lr`` at once, but keeps the configured value: one-cycle in ``max_lr``, every
    other in ``initial_lr``.
    """
    return float(group.get("max_lr", group.get("initial_lr", group["lr"])))


def reference_lr(lrs: Sequence[float], named: Iterable[float] = ()) -> float:
    """Return the learning rate that is searched and quoted, while the other groups keep their ratio to it.

    The first of the ``named`` rates (what the person sets: the module's ``lr``, the optimizer's own ``lr``) that a
    group is at; where none is, that of the first group with a positive rate.

    Raises:
        InputError: no group has one.
    """
    positive = [lr for lr in lrs if lr > 0]
    if not positive:
        raise InputError(
            "optimizer must have a param group with lr > 0, for the groups to keep their ratios, got "
            + ("no param groups" if not lrs else "lr = " + ", ".join(f"{lr:g}" for lr in lrs))
        )
    return next((lr for lr in named if lr in positive), positive[0])


def own_lrs(optimizers: Iterable[Optimizer]) -> list[float]:
    """Return the ``lr`` that each optimizer was made with, which groups without one of their own have."""
    return [float(optimizer.defaults["lr"]) for optimizer in optimizers if optimizer.defaults.get("lr") is not None]


def scaled_lrs(lrs: Sequence[float], lr: float, reference: float) -> tuple[float, ...]:
    """Return ``lrs`` scaled together so that ``reference`` becomes exactly ``lr``."""
    return tuple(old / reference * lr for old in lrs)


def set_lr(group: dict[str, Any], lr: float, key: str = "lr") -> None:
    """Set a learning rate in a param group, in place where it is a tensor (as capturable optimizers need)."""
    if hasattr(group[key], "fill_"):
        group[key].fill_(lr)
    else:
        group[key] = lr


def apply_lr(
    optimizers: Iterable[Optimizer], lr: float, schedulers: Iterable[Any] = (), reference: float | None = None
) -> tuple[float, ...]:
    """Make ``lr`` the learning rate of the groups at ``reference``; the others keep their ratio to it.

    Every value in units of the learning rate is scaled with it: in the param groups, in the optimizers' defaults and
    in the schedulers, children included. Absolute floors (``eta_min``, ``min_lrs``) stay.

    Args:
        optimizers: scaled together.
        lr: the new learning rate, > 0.
        schedulers: those that drive the optimizers, if they exist already.
        reference: the rate that becomes ``lr``; by default the optimizers' own, see `reference_lr`.

    Returns:
        The new configured learning rate of every param group.

    Raises:
        InputError: ``lr`` is not positive and finite, or no group has a positive learning rate.
    """
    if not (math.isfinite(lr) and lr > 0):
        raise InputError(f"lr must be positive and finite, got lr = {lr:g}")
    optimizers = list(optimizers)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    old = [configured_lr(group) for group in groups]
    reference = reference_lr(old, own_lrs(optimizers)) if reference is None else reference
    new, factor = scaled_lrs(old, lr, reference), lr / reference
    for group, was, becomes in zip(groups, old, new, strict=True):
        for key in _SCALED_KEYS:
            if key in group:
                value = float(group[key])
                set_lr(group, becomes if value == was else value * factor, key)
    exact = dict(zip(old, new, strict=True))
    for optimizer in optimizers:
        default = optimizer.defaults.get("lr")
        if default is not None:
            optimizer.defaults["lr"] = exact.get(float(default), float(default) * factor)
    for scheduler in schedulers:
        _scale_scheduler(scheduler, exact, factor)
    return new


def copy_configuration(
    optimizers: Iterable[Optimizer],
    schedulers: Iterable[Any],
    fresh_optimizers: Iterable[Optimizer],
    fresh: Iterable[Any],
) -> None:
    """Give live, not yet stepped optimizers and schedulers the hyperparameters of freshly configured ones."""
    for optimizer, source in zip(optimizers, fresh_optimizers, strict=True):
        for group, values in zip(optimizer.param_groups, source.param_groups, strict=True):
            for key, value in values.items():
                if key in _SCALED_KEYS and key in group:
                    set_lr(group, float(value), key)
                elif key != "params":
                    group[key] = value
        optimizer.defaults.update(source.defaults)
    for scheduler, source in zip(schedulers, fresh, strict=True):
        _copy_scheduler(scheduler, source)


def _copy_scheduler(scheduler: Any, source: Any) -> None:
    children = getattr(scheduler, "_schedulers", ())
    for child, child_source in zip(children, getattr(source, "_schedulers", ()), strict=True):
        _copy_scheduler(child, child_source)
    kept = {"optimizer", "_schedulers"}
    vars(scheduler).update({name: value for name, value in vars(source).items() if name not in kept})


def _scale_scheduler(scheduler: Any, exact: Mapping[float, float], factor: float) -> None:
    for child in getattr(scheduler, "_schedulers", ()):
        _scale_scheduler(child, exact, factor)
    for name in _SCALED_ATTRIBUTES:
        values = getattr(scheduler, name, None)
        if isinstance(values, list):
            values[:] = [exact.get(float(value), float(value) * factor) for value in values]
