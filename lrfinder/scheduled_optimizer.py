"""Putting a policy in charge of a torch optimizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lrfinder.policy import Policy
from lrfinder.writeback import set_lr

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

__all__ = ["scheduled"]

_CYCLED = ("momentum", "betas")
_OF_SCHEDULERS = ("initial_lr", "max_lr", "min_lr", "swa_lr", "max_momentum", "base_momentum")
"""The keys that torch's schedulers add to param groups."""


def scheduled(
    optimizer: Optimizer, policy: Policy, peaks: Sequence[float], mode: str = "min", position: int = 0
) -> LRScheduler:
    """Return a scheduler that drives ``optimizer``, whatever drove it before.

    Args:
        optimizer: its param groups lose what other schedulers left in them.
        policy: the policy to follow.
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
