"""Lowering the learning rates of a Lightning training that is under way, and proving that they stay low."""

from __future__ import annotations

import math
from typing import Any

from lrfinder.errors import InputError, UnsupportedError
from lrfinder.lightning.internals import schedulers_of, steps_to_come
from lrfinder.lightning.look_ahead import rates_ahead, snapshot_of_rates
from lrfinder.lightning.schedule import InstalledSchedule, check_installed, install
from lrfinder.lightning.watch import RateWatch
from lrfinder.lightning.write_back import AppliedRates, follows, scale_rates
from lrfinder.schedules.optimizer_lr import configured_lrs, reference_lr
from lrfinder.schedules.policy import Policy

__all__ = ["anneal_rates", "check_annealing", "lower_rates"]

_LOOKED_AT = 50
"""Number of times that schedulers are stepped ahead to see whether a lower rate lasts."""


def lower_rates(trainer: Any, factor: float, applied: AppliedRates | None) -> tuple[AppliedRates | None, RateWatch]:
    """Multiply all learning rates, and what schedulers make of them.

    Args:
        trainer: within an epoch, after a step.
        factor: the factor, below 1.
        applied: what was changed earlier in this training.

    Returns:
        What has been changed by now, for a fit that goes on, and what watches the next steps.

    Raises:
        InputError: no param group has a learning rate.
        UnsupportedError: the schedulers would undo it; nothing has been changed.
    """
    before = rates_ahead(trainer, _LOOKED_AT, in_epoch=True)
    reference = reference_lr(configured_lrs(trainer.optimizers, schedulers_of(trainer)))
    snapshot = snapshot_of_rates(trainer)

    def holds() -> bool:
        return follows(trainer, before, factor, in_epoch=True)

    with AppliedRates.recorded(trainer, applied) as record:
        scale_rates(trainer, snapshot, reference * factor, reference, holds, in_epoch=True)
    return record[0], RateWatch.of(trainer, before, "PlateauDetector", in_epoch=True)


def anneal_rates(trainer: Any) -> InstalledSchedule | None:
    """Install a schedule that lowers the rates linearly to zero over the remaining steps; None if there are none.

    Args:
        trainer: within an epoch, after a step; with one optimizer, and an end that is known.

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
    """Check that the rates could be annealed.

    Raises:
        InputError: the end of training is unknown, or there is no single optimizer that Lightning steps.
    """
    rule = "factor must be given with on_plateau decay, since annealing needs"
    if not trainer.lightning_module.automatic_optimization or len(trainer.optimizers) != 1:
        raise InputError(f"{rule} one optimizer and automatic optimization, got factor = None")
    if not math.isfinite(steps_to_come(trainer)):
        raise InputError(f"{rule} a training of known length (max_epochs, max_steps), got factor = None")
