"""Installing a suggested policy into a Lightning trainer, as if the module had configured it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lrfinder.errors import InputError
from lrfinder.internals import internals, say
from lrfinder.policy import ENDLESS, POLICIES, Policy
from lrfinder.scheduled_optimizer import scheduled

if TYPE_CHECKING:
    from lrfinder.suggestion import Suggestion
    from lrfinder.trainer import TrainerTrainee

__all__ = [
    "Asked",
    "Installed",
    "checked_policy",
    "in_place_of",
    "install",
    "settled",
    "to_install",
    "told",
]

Asked = str | Policy | None
"""What to do about the schedule: "keep", "auto", the name of a policy, one with parameters, or what fits best."""


@dataclass(frozen=True)
class Installed:
    """A policy that was put into a trainer: all that it takes to put it there again.

    Attributes:
        policy: which.
        peaks: learning rate of every param group at a multiplier of 1.
        since: optimizer step of the trainer at which it began.
        monitor: the metric that "plateau" follows; None for the others.
        mode: "min" or "max", of that metric.
    """

    policy: Policy
    peaks: tuple[float, ...]
    since: int
    monitor: str | None = None
    mode: str = "min"

    def ended(self, step: int) -> bool:
        """Whether nothing but a rate of zero is left at ``step`` of the trainer."""
        total = self.policy.total_steps
        return total is not None and step - self.since >= total and self.policy(total) == 0

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {**dataclasses.asdict(self), "policy": self.policy.to_dict(), "peaks": list(self.peaks)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Installed:
        """Rebuild it from `to_dict`."""
        return cls(**{**data, "policy": Policy.from_dict(data["policy"]), "peaks": tuple(data["peaks"])})


def checked_policy(policy: Any, monitor: str | None) -> Asked:
    """Return what was asked for.

    Raises:
        InputError: it is none of the names, or "plateau" has nothing to follow or is to warm up.
    """
    asked: Asked = policy
    if policy is None or policy in ("auto", "keep"):
        return asked
    name = policy.name if isinstance(policy, Policy) else policy
    if not isinstance(name, str) or name not in POLICIES:
        raise InputError(f"policy must be auto, keep, one of {', '.join(POLICIES)}, or a Policy, got {policy!r}")
    if name == "plateau":
        if monitor is None:
            raise InputError("monitor must be given with policy 'plateau', a metric for it to follow, got None")
        if isinstance(policy, Policy) and policy.warmup_steps:
            raise InputError(f"warmup_steps of policy 'plateau' must be 0, got {policy.warmup_steps}")
    return asked


def settled(asked: Asked, trainer: Any, horizon: int | None) -> str | Policy:
    """Return what is to be done in this fit: "keep", "auto", a name or a policy.

    By default the schedulers of the module are kept; so is a rate without any where none of ours could drive it: the
    module steps its schedulers by hand, or a callback adds param groups, for which a scheduler has no rate.

    Raises:
        InputError: what was asked for cannot be installed here.
    """
    by_hand = not trainer.lightning_module.automatic_optimization
    growing = any(hasattr(callback, "unfreeze_and_add_param_group") for callback in trainer.callbacks)
    if asked is None:
        return "keep" if by_hand or growing or trainer.lr_scheduler_configs else "auto"
    if asked == "keep":
        return "keep"
    if by_hand:
        raise InputError(
            f"policy must be keep (or None) with manual optimization, where the module steps schedulers, got {asked!r}"
        )
    if growing:
        raise InputError(
            "policy must be keep (or None) with a callback that adds param groups later (BackboneFinetuning), for which"
            f" no schedule has a rate, got {asked!r}"
        )
    if isinstance(asked, Policy) and asked.total_steps is not None and asked.total_steps != horizon:
        until = "an end that is not known" if horizon is None else f"{horizon} steps"
        say(trainer, f"installs a policy of {asked.total_steps} steps in a training of {until}, as asked for")
    if isinstance(asked, str) and asked not in ("auto", *ENDLESS) and horizon is None:
        raise InputError(
            f"policy {asked!r} needs to know how long training is: give max_epochs or, for data without length,"
            f" max_steps, got max_epochs = {trainer.max_epochs}, max_steps = {trainer.max_steps}"
        )
    return asked


def to_install(suggestion: Suggestion, what: str | Policy, trainee: TrainerTrainee) -> tuple[Suggestion, Policy | None]:
    """Return the suggestion for what is to be done, and the policy to install, None where there is nothing to.

    A schedule that is kept has a best peak of its own too.

    Args:
        suggestion: what was found.
        what: as `settled` gives it.
        trainee: what it was found on, with the schedulers there are.
    """
    own = trainee.schedulers()
    if suggestion.lr is None:
        return suggestion, None
    if what == "keep":
        if not own:
            return suggestion.with_policy("constant"), None
        name = " and ".join(type(scheduler).__name__ for scheduler in own)
        rates = trainee.rates_to_come()
        if rates is None:
            return suggestion.with_unknown_schedule(name), None
        return suggestion.with_schedule(rates, name, trainee.reference()), None
    if what != "auto":
        suggestion = suggestion.with_policy(what)
        return suggestion, suggestion.policy
    policy = suggestion.policy
    idle = policy is None or (policy.name == "constant" and not policy.warmup_steps and not own)
    return suggestion, None if idle or suggestion.horizon is None else policy


def in_place_of(schedulers: Sequence[Any]) -> str:
    """Say what is replaced, as the end of a sentence; nothing where there is nothing."""
    names = ", ".join(type(scheduler).__name__ for scheduler in schedulers)
    return f", in place of {names}" if names else ""


def told(
    suggestion: Suggestion, what: str | Policy, policy: Policy | None, own: Sequence[Any], before: Installed | None
) -> str:
    """Say what becomes of the schedule."""
    names = ", ".join(type(scheduler).__name__ for scheduler in own)
    if policy is not None:
        return f"installed {policy.name}: {policy.text}" + (f", in place of the module's {names}" if own else "")
    if before is not None:
        return f"kept the schedule installed before, {before.policy.name}"
    if own:
        return f"kept the module's {names}"
    if what == "auto" and suggestion.horizon is None:
        return "installed no schedule, not knowing how long training is: give max_epochs or max_steps"
    return "installed no schedule, the rate is constant"


def install(trainer: Any, installed: Installed, step: int) -> None:
    """Put the policy into the trainer, at its place at ``step`` of the trainer, instead of any scheduler there is."""
    (optimizer,) = trainer.optimizers
    peaks = installed.peaks
    if len(peaks) != len(optimizer.param_groups):  # the module has been changed since
        peaks = tuple(float(group["lr"]) for group in optimizer.param_groups)
    scheduler = scheduled(optimizer, installed.policy, peaks, installed.mode, max(step - installed.since, 0))
    follows: dict[str, Any] = {"interval": "step"}
    if installed.policy.name == "plateau":
        # Where an epoch has no validation, the metric is missing: no reason to end a run, so not strict.
        every = trainer.check_val_every_n_epoch or 1
        follows = {"frequency": every, "reduce_on_plateau": True, "monitor": installed.monitor, "strict": False}
    config = internals(trainer, "utilities.types").LRSchedulerConfig(scheduler, **follows)
    trainer.strategy.lr_scheduler_configs[:] = [config]
