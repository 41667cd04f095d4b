"""The numbers under which a Lightning module keeps its learning rate: attributes and hyperparameters."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any, TypeGuard

from lrfinder.errors import InputError
from lrfinder.lightning.internals import configure_again, say
from lrfinder.lightning.training import LightningTraining
from lrfinder.schedules.optimizer_lr import apply_lr, configured_lrs, copy_configuration, scaled_lrs

__all__ = ["held_numbers", "names_of_lr", "numbers", "put_numbers", "scale_numbers", "write_back"]

_ATTRIBUTES = ("lr", "learning_rate")


def names_of_lr(module: Any, name: str | None) -> list[str]:
    """Return the names under which the module keeps its learning rate.

    Raises:
        InputError: the name was given and the module has no number under it.
    """
    if name and not numbers(module, name):
        raise InputError(f"attribute must name a number of {type(module).__name__}, got {name!r}, which is none")
    return [candidate for candidate in ((name,) if name else _ATTRIBUTES) if numbers(module, candidate)]


def numbers(module: Any, name: str) -> list[float]:
    """Return the numbers the module keeps under a name: its attribute, its hyperparameter."""
    held = (getattr(module, name, None), _hparams(module).get(name))
    return [float(value) for value in held if _is_number(value)]


def scale_numbers(module: Any, names: Sequence[str], lr: float, factor: float) -> None:
    """Set the numbers that stand for the learning rate; one that is not the rate itself is scaled along."""

    def scaled(value: float) -> float:
        return lr if math.isclose(value * factor, lr, rel_tol=1e-9) else value * factor

    for name in names:
        put_numbers(module, name, [None if value is None else scaled(value) for value in held_numbers(module, name)])


def held_numbers(module: Any, name: str) -> list[float | None]:
    """Return attribute and hyperparameter of a name, each None where it is no number or follows from others."""
    derived = isinstance(inspect.getattr_static(type(module), name, None), property)
    held = (None if derived else getattr(module, name, None), _hparams(module).get(name))
    return [float(value) if _is_number(value) else None for value in held]


def put_numbers(module: Any, name: str, values: Sequence[float | None]) -> None:
    """Set attribute and hyperparameter of a name, where the value is not None."""
    attribute, hyperparameter = values
    if attribute is not None:
        setattr(module, name, attribute)
    if hyperparameter is not None:
        _hparams(module)[name] = hyperparameter


def _hparams(module: Any) -> dict[str, Any]:
    """Return the module's hyperparameters, without creating them as Lightning's property does."""
    hparams: dict[str, Any] = getattr(module, "_hparams", {})
    return hparams


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def write_back(trainer: Any, trainee: LightningTraining, lr: float, names: Sequence[str]) -> tuple[float, ...]:
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
