"""How much of its training a Lightning Trainer still has before it, and what its schedulers will do in it."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["accumulated", "begun", "horizon", "schedules_to_come", "steps_left", "steps_to_come"]


def begun(trainer: Any) -> bool:
    """Whether training is under way: by an earlier fit, or by the one a checkpoint is of."""
    return bool(trainer.global_step > 0 or trainer.current_epoch > 0)


def accumulated(trainer: Any) -> int:
    """Return the batches of an optimizer step in the present epoch. By hand, every batch is taken for a step."""
    if not trainer.lightning_module.automatic_optimization:
        return 1
    for callback in trainer.callbacks:  # a GradientAccumulationScheduler acts after us
        if hasattr(callback, "get_accumulate_grad_batches"):
            return int(callback.get_accumulate_grad_batches(trainer.current_epoch))
    return int(trainer.accumulate_grad_batches)


def steps_left(trainer: Any) -> float:
    """Return the optimizer steps to come, from the start of an epoch; infinite where training has no end."""
    left = _epochs_asked(trainer) * _steps_of_epoch(trainer)
    if trainer.max_steps != -1:
        by_hand = not trainer.lightning_module.automatic_optimization  # then the steps of all optimizers count
        left = min(left, (trainer.max_steps - trainer.global_step) / (len(trainer.optimizers) if by_hand else 1))
    return left


def steps_to_come(trainer: Any) -> float:
    """Return the optimizer steps to come, from anywhere in an epoch, with one optimizer that Lightning steps.

    Infinite where training has no end, or none that is known.
    """
    steps, batches = math.inf, trainer.num_training_batches
    if trainer.max_epochs not in (None, -1) and math.isfinite(batches):
        begun_batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        each = _steps_of_epoch(trainer)
        rest = each - begun_batches // accumulated(trainer) if begun_batches < batches else 0
        steps = rest + (_epochs_asked(trainer) - 1) * each
    return steps if trainer.max_steps == -1 else min(steps, trainer.max_steps - trainer.global_step)


def horizon(trainer: Any) -> int | None:
    """Return `steps_left` where there are any and it is known how many."""
    steps = steps_left(trainer)
    return int(steps) if math.isfinite(steps) and steps >= 1 else None


def schedules_to_come(trainer: Any) -> list[tuple[Any, float]]:
    """Return every scheduler with how often it will step before the last step of training."""
    times = {"step": steps_left(trainer) - 1, "epoch": _epochs_left(trainer) - 1}
    return [(config.scheduler, times[config.interval] / config.frequency) for config in trainer.lr_scheduler_configs]


def _epochs_left(trainer: Any) -> float:
    """Return the epochs to come, begun ones included; infinite where training has no end, or none that is known."""
    epochs, steps, each = _epochs_asked(trainer), steps_left(trainer), _steps_of_epoch(trainer)
    return min(epochs, math.ceil(steps / each)) if steps < math.inf and each < math.inf else epochs


def _epochs_asked(trainer: Any) -> float:
    """Return the epochs to come by `max_epochs` alone."""
    most = trainer.max_epochs
    return math.inf if most in (None, -1) else float(most - trainer.current_epoch)


def _steps_of_epoch(trainer: Any) -> float:
    batches = trainer.num_training_batches / accumulated(trainer)
    return math.ceil(batches) if math.isfinite(batches) else math.inf
