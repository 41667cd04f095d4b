"""The numbers of a Lightning module that hold its learning rate: attributes and hyperparameters, also nested ones."""

from __future__ import annotations

import dataclasses
import importlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from lrfinder.errors import InputError, is_number

Path = tuple[str, ...]
"""Names that lead from a module to a number; the first is "hparams" for a hyperparameter."""

_NAMES = ("lr", "learning_rate")

_NAME_OF_RATE = re.compile(r"(^|_)(lr|learning_rate)(_|$)")
"""Names such as max_lr, lr_head or base_learning_rate."""

_MAX_DEPTH = 4


def numbers_of_lr(
    module: Any, attribute: str | None, configured: Iterable[float], course: Iterable[float]
) -> list[Path]:
    """Return where the module keeps its learning rate, deepest first; empty if there is no such number.

    These are the numbers under a name that is given (``attribute``, with dots for nested ones), else those called
    ``lr`` or ``learning_rate``, else such numbers in nested configurations, else the numbers called ``max_lr``,
    ``init_lr`` and the like that the schedule takes values from. If several are called alike, those that a param group
    is at are preferred: ``configured`` are the rates of the groups, ``course`` those that the schedule gives.
    """
    if attribute is not None:
        names = tuple(attribute.split("."))
        known = [path for path in (names, ("hparams", *names)) if number_at(module, path) is not None]
        if not known:
            raise InputError(
                f"attribute must name a number of {type(module).__name__}, got {attribute!r}, which is none"
            )
        return known
    rates = set(configured)
    top = [path for name in _NAMES for path in ((name,), ("hparams", name)) if number_at(module, path) is not None]
    names_followed = {path[-1] for path in top if number_at(module, path) in rates}
    nested = [path for path in _nested(module) if number_at(module, path) in rates and path[-1] in _NAMES]
    if top:
        chosen = [path for path in top if path[-1] in names_followed] if names_followed else top
        return [*sorted(nested, key=len, reverse=True), *chosen]
    if nested:
        return sorted(nested, key=len, reverse=True)
    seen = [*rates, *course]
    named = [(name,) for name in vars(module)] + [("hparams", name) for name in _hparams(module)]
    several = [
        path
        for path in dict.fromkeys([*_nested(module), *named])
        if _NAME_OF_RATE.search(path[-1])
        and (number := number_at(module, path)) is not None
        and any(math.isclose(number, rate, rel_tol=1e-9) for rate in seen)
    ]
    return several if any(number_at(module, path) in rates for path in several) else []


def number_at(module: Any, path: Path) -> float | None:
    """Return the number at a path; None if there is none."""
    held: Any = module
    for depth, name in enumerate(path):
        held = _hparams(module) if depth == 0 and name == "hparams" else _part(held, name)
    return float(held) if is_number(held) else None


def settable(module: Any, paths: Iterable[Path], factor: float) -> list[Path]:
    """Return the paths at which a number follows when all are multiplied; the caller puts everything back."""
    paths = list(paths)
    expected = {path: number * factor for path in paths if (number := number_at(module, path)) is not None}
    put_numbers(module, expected)
    return [path for path in paths if _close(number_at(module, path), expected[path])]


def put_numbers(module: Any, numbers: Mapping[Path, float]) -> None:
    """Set the numbers at several paths; what cannot be set is left."""
    for path, value in numbers.items():
        if not _close(number_at(module, path), value):  # it may follow another one already
            put_number(module, path, value)


def put_number(module: Any, path: Path, value: float) -> None:
    """Set the number at a path, also where its configuration is read-only; what cannot be set is left."""
    *before, name = path
    holder: Any = module
    for depth, part in enumerate(before):
        holder = _hparams(module) if depth == 0 and part == "hparams" else _part(holder, part)
    if _follows_another(holder, name):
        return
    try:
        if isinstance(holder, MutableMapping):
            with _writable(holder):
                holder[name] = value
        elif dataclasses.is_dataclass(holder):
            object.__setattr__(holder, name, value)  # a frozen one too
        else:
            setattr(holder, name, value)
    except (AttributeError, TypeError, ValueError):  # a property without a setter, a named tuple, a checked model
        return


def _close(first: float | None, second: float) -> bool:
    return first is not None and math.isclose(first, second, rel_tol=1e-12)


def _part(holder: Any, name: str) -> Any:
    try:
        return holder[name] if isinstance(holder, Mapping) else getattr(holder, name, None)
    except Exception:  # a configuration with a missing or broken value, a property that fails
        return None


def _hparams(module: Any) -> Mapping[str, Any]:
    """Return the module's hyperparameters, without creating them as Lightning's property does."""
    hparams: Mapping[str, Any] = getattr(module, "_hparams", {})
    return hparams


def _nested(module: Any) -> Iterator[Path]:
    """Yield where numbers stand within configurations: mappings, dataclasses and plain objects, not modules."""
    seen: set[int] = set()
    pending: list[tuple[Path, Any, int]] = [(("hparams", name), value, 0) for name, value in _items(_hparams(module))]
    pending += [((name,), value, 0) for name, value in vars(module).items() if not name.startswith("_")]
    while pending:
        path, value, depth = pending.pop()
        if id(value) in seen or not _is_configuration(value) or depth > _MAX_DEPTH:
            continue
        seen.add(id(value))
        for name, item in _items(value):
            if is_number(item) and not _follows_another(value, name):
                yield (*path, name)
            elif not is_number(item):
                pending.append(((*path, name), item, depth + 1))


_MAX_ITEMS = 1000
"""Maximum number of items of a configuration; a larger mapping holds data."""


def _items(holder: Any) -> list[tuple[str, Any]]:
    names = list(holder if isinstance(holder, Mapping) else vars(holder))
    if len(names) > _MAX_ITEMS:
        return []
    return [(name, _part(holder, name)) for name in names if isinstance(name, str)]


def _is_configuration(value: object) -> bool:
    if isinstance(value, Mapping) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return True
    foreign = ("torch", "lightning", "pytorch_lightning", "torchmetrics", "numpy", "builtins")
    return (
        hasattr(value, "__dict__") and type(value).__module__.partition(".")[0] not in foreign and not callable(value)
    )


def _follows_another(holder: Any, name: str) -> bool:
    """Whether a value of an OmegaConf configuration is an interpolation, which takes another one's value."""
    if not _is_omegaconf(holder):
        return False
    return bool(importlib.import_module("omegaconf").OmegaConf.is_interpolation(holder, name))


def _writable(holder: Any) -> AbstractContextManager[Any]:
    """Return a context in which a read-only OmegaConf configuration can be written."""
    if not _is_omegaconf(holder):
        return nullcontext()
    context: AbstractContextManager[Any] = importlib.import_module("omegaconf").read_write(holder)
    return context


def _is_omegaconf(holder: object) -> bool:
    return type(holder).__module__.startswith("omegaconf.")
