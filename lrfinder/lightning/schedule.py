"""Installing a suggested policy into a Lightning trainer, as if the module had configured it."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lrfinder.answer.ranking import warmup_steps
from lrfinder.errors import InputError, UnsupportedError, one_of
from lrfinder.lightning.internals import (
    Callback,
    has_started,
    horizon,
    internals,
    say,
    schedulers_of,
    steps_from_start,
    steps_to_come,
    warn,
)
from lrfinder.lightning.look_ahead import rates_ahead, snapshot_of_rates
from lrfinder.probing.options import PolicyRequest
from lrfinder.schedules.optimizer_lr import configured_lrs, scheduled
from lrfinder.schedules.policy import ENDLESS, Policy

if TYPE_CHECKING:
    from lrfinder.answer.suggestion import Suggestion
    from lrfinder.lightning.training import LightningTraining

_LOOKED_AT = 20
"""Number of steps at which the rates of a schedule are checked once it is installed."""


@dataclass(frozen=True)
class InstalledSchedule:
    """A policy that was put into a trainer, with everything needed to put it there again.

    Attributes:
        policy: the policy.
        peaks: learning rate of every param group at a multiplier of 1, in order.
        since: optimizer step of the trainer at which it began.
        monitor: the metric that "plateau" follows; None for the others.
        mode: "min" or "max", of that metric.
    """

    policy: Policy
    peaks: tuple[float, ...]
    since: int
    monitor: str | None = None
    mode: str = "min"

    @property
    def end(self) -> float:
        """The step of the trainer from which on nothing but a rate of zero is left; infinite if there is none."""
        total = self.policy.total_steps
        return math.inf if total is None or self.policy(total) != 0 else self.since + total

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {**dataclasses.asdict(self), "policy": self.policy.to_dict(), "peaks": list(self.peaks)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InstalledSchedule:
        """Rebuild it from `to_dict`."""
        return cls(**{**data, "policy": Policy.from_dict(data["policy"]), "peaks": tuple(data["peaks"])})


def check_plateau_metric(policy: PolicyRequest, monitor: str | None) -> None:
    """Check that "plateau", if it is to be installed, has a metric to follow and no warmup."""
    if (policy.name if isinstance(policy, Policy) else policy) != "plateau":
        return
    if monitor is None:
        raise InputError("monitor must be given with policy 'plateau', a metric for it to follow, got None")
    if isinstance(policy, Policy) and policy.warmup_steps:
        raise InputError(f"warmup_steps of policy 'plateau' must be 0, got {policy.warmup_steps}")


def resolve_policy(request: PolicyRequest, trainer: Any, horizon: int | None, constant: bool = False) -> str | Policy:
    """Return what to do about the schedule in this fit: "keep", "auto", the name of a policy, or a policy.

    By default the schedulers of the module are kept. A rate without any scheduler is kept too if none of ours could
    drive it: the module steps its schedulers by hand, or a callback adds param groups, for which a scheduler has no
    rate.

    Args:
        horizon: optimizer steps that the trainer will take; None if unknown.
        constant: whether the schedulers of the module will never change a rate, so that they count as none.
    """
    by_hand = not trainer.lightning_module.automatic_optimization
    growing = any(hasattr(callback, "unfreeze_and_add_param_group") for callback in trainer.callbacks)
    if request is None:
        return "keep" if by_hand or growing or (trainer.lr_scheduler_configs and not constant) else "auto"
    if request == "keep":
        return "keep"
    if by_hand:
        raise InputError(
            "policy must be keep (or None) with manual optimization, where the module steps schedulers, got"
            f" {request!r}"
        )
    if growing:
        raise InputError(
            "policy must be keep (or None) with a callback that adds param groups later (BackboneFinetuning), which"
            f" would stay at their own rates, got {request!r}"
        )
    if isinstance(request, Policy) and request.total_steps is not None and request.total_steps != horizon:
        until = "an end that is not known" if horizon is None else f"{horizon} steps"
        say(trainer, f"installs a policy of {request.total_steps} steps in a training of {until}, as asked for")
    if isinstance(request, str) and request not in ("auto", *ENDLESS) and horizon is None:
        raise InputError(
            f"policy {request!r} needs to know how long training is: give max_epochs or, for data without length,"
            f" max_steps, got max_epochs = {trainer.max_epochs}, max_steps = {trainer.max_steps}"
        )
    return request


def plan_schedule(
    suggestion: Suggestion, resolved: str | Policy, trainee: LightningTraining
) -> tuple[Suggestion, Policy | None]:
    """Return the suggestion for the schedule that training will follow, and the policy to install, None for none.

    A schedule that is kept has a best peak of its own too.
    """
    own = schedulers_of(trainee.trainer)
    if suggestion.lr is None:
        return suggestion, None
    if resolved == "keep":
        if not own:
            return suggestion.with_policy("constant"), None
        name = " and ".join(type(scheduler).__name__ for scheduler in own)
        rates = trainee.rates_to_come()
        if rates is None:
            return suggestion.with_unknown_schedule(name), None
        return suggestion.with_schedule(rates, name, trainee.reference()), None
    if resolved != "auto":
        suggestion = suggestion.with_policy(resolved)
        return suggestion, suggestion.policy
    policy = suggestion.policy
    idle = policy is None or (policy.name == "constant" and not policy.warmup_steps and not own)
    return suggestion, None if idle or suggestion.horizon is None else policy


def replaces_text(schedulers: Sequence[Any]) -> str:
    """Return the end of a sentence that names the schedulers replaced; empty if there are none."""
    names = ", ".join(type(scheduler).__name__ for scheduler in schedulers)
    return f", in place of {names}" if names else ""


def describe_schedule_change(
    suggestion: Suggestion,
    resolved: str | Policy,
    policy: Policy | None,
    own: Sequence[Any],
    before: InstalledSchedule | None,
) -> str:
    """Return a clause on what becomes of the schedule, also of the one that we installed ``before``."""
    names = ", ".join(type(scheduler).__name__ for scheduler in own)
    if policy is not None:
        return f"installed {policy.name}: {policy.text}" + (f", in place of the module's {names}" if own else "")
    if before is not None:
        return f"kept the schedule installed before, {before.policy.name}"
    if own:
        return f"kept the module's {names}"
    if resolved == "auto" and suggestion.horizon is None:
        return "no schedule installed: the length of training is unknown, give max_epochs or max_steps"
    return "installed no schedule, the rate is constant"


def install(trainer: Any, installed: InstalledSchedule, step: int) -> None:
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


def check_installed(trainer: Any, installed: InstalledSchedule, in_epoch: bool = False) -> None:
    """Check that training will follow a schedule that has been installed and begins now.

    Raises:
        UnsupportedError: training would not follow it; the caller puts the schedulers back.
    """
    if installed.policy.name == "plateau":
        return
    ahead = rates_ahead(trainer, _LOOKED_AT, in_epoch)
    expected = [[peak * installed.policy(int(step)) for peak in installed.peaks] for step in ahead.steps]
    pairs = zip(itertools.chain(*ahead.rates), itertools.chain(*expected), strict=True)
    if ahead.hidden or not all(math.isclose(got, rate, rel_tol=1e-6, abs_tol=1e-30) for got, rate in pairs):
        raise UnsupportedError(
            f"policy {installed.policy.name} cannot be installed in {type(trainer.lightning_module).__name__}, whose"
            " lr_scheduler_step does not step torch's schedulers as Lightning does: use policy='keep'"
        )


def begin_anew(trainer: Any, ended: InstalledSchedule) -> InstalledSchedule:
    """Install a schedule that has ended once more, over the steps to come; leave it if their number is unknown."""
    steps = steps_from_start(trainer)
    if math.isinf(steps) or steps < 1:
        return ended
    warmup = min(ended.policy.warmup_steps, warmup_steps(int(steps)))
    policy = dataclasses.replace(ended.policy, total_steps=int(steps), warmup_steps=warmup)
    again = dataclasses.replace(ended, policy=policy, since=trainer.global_step)
    install(trainer, again, trainer.global_step)
    return again


def warn_of_rate_zero(trainer: Any, installed: InstalledSchedule, remedy: str) -> None:
    """Warn where a schedule ends before the training does."""
    step, end, left = trainer.global_step, installed.end, steps_from_start(trainer)
    if left > 0 and (end <= step or end < step + left < math.inf):
        warn(trainer, f"will train at a rate of zero from step {max(end, step)} on: {remedy}")


def anneal_rates(trainer: Any) -> InstalledSchedule | None:
    """Install a schedule that lowers the rates linearly to zero over the remaining steps; None if there are none.

    Raises:
        UnsupportedError: training would not follow the schedule; nothing has been changed.
    """
    left = int(steps_to_come(trainer))
    if left < 1:
        return None
    own = list(trainer.lr_scheduler_configs)
    peaks = tuple(float(group["lr"]) for group in trainer.optimizers[0].param_groups)
    installed = InstalledSchedule(Policy("linear", left), peaks, trainer.global_step)
    snapshot = snapshot_of_rates(trainer)
    install(trainer, installed, trainer.global_step)
    try:
        check_installed(trainer, installed, in_epoch=True)
    except UnsupportedError:
        trainer.strategy.lr_scheduler_configs[:] = own
        snapshot.restore()
        raise
    return installed


def check_annealing(trainer: Any) -> None:
    """Check that there is one optimizer that Lightning steps, and a known end, so that the rates can be annealed."""
    rule = "factor must be given with on_plateau decay, since annealing needs"
    if not trainer.lightning_module.automatic_optimization or len(trainer.optimizers) != 1:
        raise InputError(f"{rule} one optimizer and automatic optimization, got factor = None")
    if not math.isfinite(steps_to_come(trainer)):
        raise InputError(f"{rule} a training of known length (max_epochs, max_steps), got factor = None")


class PolicyCallback(Callback):
    """Follow a policy from the learning rate that is configured, stepped with the optimizer.

    Training is what it is after an `LRFinder` has written back that rate and installed that policy, without a search.
    The schedule replaces any that the module configures, and is in every checkpoint: a fit that resumes from one with
    this callback goes on at its place. `write_config` puts it into the ``trainer.callbacks`` of a LightningCLI
    configuration, where Lightning would step an ``lr_scheduler`` section once per epoch.

    Args:
        name: a key of `lrfinder.POLICIES`.
        total_steps: optimizer steps from the start of training to the end of the decay; None for a rate without end.
        warmup_steps: the first of them, that rise linearly to the rate configured.
        params: parameters of the shape, at their defaults where left out.
        monitor: the metric that "plateau" follows; None for the others.
        mode: "min" or "max", of that metric.

    Raises:
        InputError: an argument breaks a rule; at the start of a fit, the module has several optimizers, steps them by
            hand, or a callback adds param groups later.
    """

    def __init__(
        self,
        name: str,
        total_steps: int | None = None,
        warmup_steps: int = 0,
        params: dict[str, Any] | None = None,
        monitor: str | None = None,
        mode: str = "min",
    ) -> None:
        one_of("mode", mode, ("min", "max"))
        params = {key: tuple(value) if isinstance(value, list) else value for key, value in (params or {}).items()}
        self.policy = Policy(name, total_steps, warmup_steps, params)
        check_plateau_metric(self.policy, monitor)
        self.monitor, self.mode = (monitor, mode) if name == "plateau" else (None, "min")

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Put the schedule in, before Lightning restores its state from a checkpoint."""
        if len(trainer.optimizers) != 1 or not pl_module.automatic_optimization:
            raise InputError(
                "PolicyCallback must have one optimizer to drive, with automatic optimization, got"
                f" {len(trainer.optimizers)} of {type(pl_module).__name__}: remove it from trainer.callbacks"
            )
        own = schedulers_of(trainer)
        peaks = tuple(configured_lrs(trainer.optimizers, own))
        self._installed = InstalledSchedule(self.policy, peaks, 0, self.monitor, self.mode)
        install(trainer, self._installed, trainer.global_step)
        say(trainer, f"follows {self.policy.name} from {max(peaks):.3g}: {self.policy.text}{replaces_text(own)}")

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Say so where training is not as long as the policy."""
        if not has_started(trainer):
            resolve_policy(self.policy, trainer, horizon(trainer))
        remedy = "search again for that length, or change total_steps of PolicyCallback"
        warn_of_rate_zero(trainer, self._installed, remedy)
