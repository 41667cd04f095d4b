"""Putting a learning rate where a Lightning run will read it: into module, optimizers and schedulers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lrfinder.internals import configure_again, say
from lrfinder.module_lr import scale_numbers
from lrfinder.trainer import TrainerTrainee
from lrfinder.writeback import apply_lr, configured_lrs, copy_configuration, scaled_lrs

__all__ = ["write_back"]


def write_back(trainer: Any, trainee: TrainerTrainee, lr: float, names: Sequence[str]) -> tuple[float, ...]:
    """Put ``lr`` where training will read it; return the new peak learning rate of every param group.

    Preferred: set the module's attribute, let `configure_optimizers` build a second set of optimizers and schedulers
    (inside a snapshot, so that nothing else it does stays), and copy their settings: just what setting it by hand
    gives. Where the module has no such attribute, its optimizers do not follow it, or training is under way, scale
    what there is.
    """
    peak, reference = trainee.as_configured(lr)
    configured, factor, schedulers = trainee.configured(), peak / reference, trainee.schedulers()
    fresh = None
    if names and trainee.fresh:
        with trainee.undone():
            scale_numbers(trainee.module, names, peak, factor)
            try:
                fresh = configure_again(trainer)
            except Exception as error:
                say(trainer, f"configure_optimizers cannot run twice ({error}); scaling the optimizers instead")
    scale_numbers(trainee.module, names, peak, factor)
    expected = scaled_lrs(configured, peak, reference)
    if fresh is not None and len(fresh[1]) == len(schedulers) and _follows(configured_lrs(*fresh), expected):
        copy_configuration(trainer.optimizers, schedulers, *fresh)
        return trainee.configured()
    apply_lr(trainer.optimizers, peak, schedulers, reference)
    return scaled_lrs(trainee.lrs(), lr, trainee.reference())


def _follows(got: Sequence[float], expected: Sequence[float]) -> bool:
    return len(got) == len(expected) and all(
        math.isclose(a, b, rel_tol=1e-6) for a, b in zip(got, expected, strict=True)
    )
