"""`PolicyCallback`: the Lightning callback that follows a policy, for configurations that name one in plain numbers."""

from __future__ import annotations

from typing import Any

from lrfinder.callback_base import Callback
from lrfinder.errors import InputError
from lrfinder.horizon import begun, horizon
from lrfinder.install import InstalledSchedule, check_plateau_metric, install, replaces_text, resolve_policy
from lrfinder.internals import say, schedulers_of, warn
from lrfinder.policy import Policy
from lrfinder.writeback import configured_lrs

__all__ = ["PolicyCallback"]


class PolicyCallback(Callback):
    """Follow a policy from the learning rate that is configured, stepped with the optimizer.

    Training is what it is after an `LRFinder` has written back that rate and installed that policy, without a search.
    The schedule replaces any that the module configures, and is in every checkpoint: a fit that resumes from one with
    this callback goes on at its place. `write_config` puts it into the ``trainer.callbacks`` of a LightningCLI
    configuration, where Lightning would step an ``lr_scheduler`` section once per epoch.

    Args:
        name: a key of `lrfinder.policy.POLICIES`.
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
        if mode not in ("min", "max"):
            raise InputError(f"mode must be min or max, got {mode!r}")
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
        steps = horizon(trainer)
        if not begun(trainer):
            resolve_policy(self.policy, trainer, steps)
        if steps is not None and self._installed.ended(trainer.global_step + steps - 1):
            warn(
                trainer,
                f"will train at a rate of zero from step {self.policy.total_steps} to {trainer.global_step + steps}:"
                " search again for that length, or change total_steps of PolicyCallback",
            )
