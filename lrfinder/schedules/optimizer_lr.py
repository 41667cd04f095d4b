"""Putting a learning rate into live optimizers and the schedulers that drive them."""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lrfinder.errors import InputError, UnsupportedError
from lrfinder.schedules.policy import Policy

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


_CYCLED = ("momentum", "betas")

_OF_SCHEDULERS = ("initial_lr", "max_lr", "min_lr", "swa_lr", "max_momentum", "base_momentum")
"""The keys that torch's schedulers add to param groups."""


def scheduled(
    optimizer: Optimizer, policy: Policy, peaks: Sequence[float], mode: str = "min", position: int = 0
) -> LRScheduler:
    """Return a scheduler that drives ``optimizer`` along the policy, whatever drove it before.

    Args:
        peaks: learning rate of every param group at a multiplier of 1, in order.
        mode: "min" or "max", of the metric that "plateau" follows.
        position: step of the policy to begin at.
    """
    for group, peak in zip(optimizer.param_groups, peaks, strict=True):
        _forget_schedule(group, optimizer.defaults)
        set_lr(group, peak)
    scheduler = policy.scheduler(optimizer, mode)
    if position and policy.name != "plateau":
        scheduler.last_epoch = position - 1
        scheduler._initial_step()
    return scheduler


def _forget_schedule(group: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    """Remove what schedulers left; a momentum that one has cycled goes back to the optimizer's own."""
    if "base_momentum" in group:
        group.update({name: defaults[name] for name in _CYCLED if name in group})
    for name in _OF_SCHEDULERS:
        group.pop(name, None)


_SCALED_KEYS = ("lr", "initial_lr", "max_lr", "min_lr", "swa_lr")
"""What schedulers keep in a param group in units of the learning rate; floors like `eta_min` stay absolute."""

SCALED_ATTRIBUTES = ("base_lrs", "max_lrs", "_last_lr")
"""The same, in the scheduler."""


def configured_lr(group: Mapping[str, Any]) -> float:
    """Return the learning rate that the person configured for a param group: its peak, whatever step it is at.

    A scheduler that warms up changes ``lr`` at once, but keeps the configured value: one-cycle in ``max_lr``, every
    other in ``initial_lr``. A group without a rate is an `InputError`.
    """
    lr = group.get("max_lr", group.get("initial_lr", group.get("lr")))
    if lr is None:
        raise InputError(
            "optimizer must have a learning rate in every param group, got lr = None: give it one, and turn off what"
            " sets the length of its steps instead (relative steps)"
        )
    return float(lr)


def configured_lrs(optimizers: Iterable[Optimizer], schedulers: Iterable[Any] = ()) -> list[float]:
    """Return `configured_lr` of every param group, or the peak that a `CyclicLR` drives it to and keeps to itself."""
    peaks = {
        id(group): float(peak)
        for scheduler in _with_children(schedulers)
        if hasattr(scheduler, "max_lrs")
        for group, peak in zip(scheduler.optimizer.param_groups, scheduler.max_lrs, strict=True)
    }
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    return [max(configured_lr(group), peaks.get(id(group), 0.0)) for group in groups]


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
    return tuple(lrs if lr == reference else (old / reference * lr for old in lrs))


def set_lr(group: Any, lr: float, key: Any = "lr") -> None:
    """Set a rate in a param group or a scheduler's list, in place where it is a tensor (capturable optimizers)."""
    if hasattr(group[key], "fill_"):
        group[key].fill_(lr)
    else:
        group[key] = lr


def set_lrs(groups: Sequence[Any], lrs: Sequence[float]) -> None:
    """Set the rate of every param group."""
    if len(groups) != len(lrs):
        raise UnsupportedError(
            f"a step must leave the number of param groups as it is while it is probed, got {len(groups)} groups after"
            f" {len(lrs)}: add them before training"
        )
    for group, lr in zip(groups, lrs, strict=True):
        set_lr(group, lr)


def apply_lr(
    optimizers: Iterable[Optimizer], lr: float, schedulers: Iterable[Any] = (), reference: float | None = None
) -> tuple[float, ...]:
    """Make ``lr`` the learning rate of the groups at ``reference``; the others keep their ratio to it.

    Every value in units of the learning rate is scaled with it: in the param groups, in the optimizers' defaults and
    in the schedulers, children included. Absolute floors (``eta_min``, ``min_lrs``) stay.

    Args:
        schedulers: those that drive the optimizers, if they exist already. A cyclic one's ``max_lr`` becomes the peak.
        reference: the rate that becomes ``lr``; by default the optimizers' own, see `reference_lr`.

    Returns:
        The new configured learning rate of every param group.
    """
    if not (math.isfinite(lr) and lr > 0):
        raise InputError(f"lr must be positive and finite, got lr = {lr:g}")
    optimizers, schedulers = list(optimizers), list(_with_children(schedulers))
    old = configured_lrs(optimizers, schedulers)
    reference = reference_lr(old, own_lrs(optimizers)) if reference is None else reference
    new, factor = scaled_lrs(old, lr, reference), lr / reference
    exact = dict(zip(old, new, strict=True))
    # All are read before any is set: groups may share one tensor, and schedulers one list.
    places = [*_places(optimizers, schedulers)]
    values = [float(holder[key]) for holder, key in places]
    for (holder, key), value in zip(places, values, strict=True):
        set_lr(holder, exact.get(value, value * factor), key)
    return new


def _with_children(schedulers: Iterable[Any]) -> Iterator[Any]:
    """Yield the schedulers, each followed by those that it drives."""
    for scheduler in schedulers:
        yield scheduler
        for name, value in attributes(scheduler).items():
            if name == "optimizer":
                continue
            items = value if isinstance(value, (list, tuple)) else [value]
            yield from _with_children(one for one in items if hasattr(one, "optimizer") and hasattr(one, "step"))


def attributes(obj: Any) -> dict[str, Any]:
    """Return the attributes of an object, those in the ``__slots__`` of its class included."""
    owners = (vars(base) for base in type(obj).__mro__ if "__slots__" in vars(base))
    slots = [name for owner in owners for name, held in owner.items() if isinstance(held, types.MemberDescriptorType)]
    return {**{name: getattr(obj, name) for name in slots if hasattr(obj, name)}, **getattr(obj, "__dict__", {})}


def _places(optimizers: Iterable[Optimizer], schedulers: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield every ``(holder, key)`` where a value in units of the learning rate stands."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            yield from ((group, key) for key in _SCALED_KEYS if key in group)
        if optimizer.defaults.get("lr") is not None:
            yield optimizer.defaults, "lr"
    for scheduler in schedulers:
        for name in SCALED_ATTRIBUTES:
            values = getattr(scheduler, name, None)
            if isinstance(values, list):
                yield from ((values, index) for index in range(len(values)))
