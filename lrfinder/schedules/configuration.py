"""What of optimizers and schedulers depends on the learning rate, measured: configure them at two rates and compare."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from lrfinder.errors import is_number
from lrfinder.schedules.optimizer_lr import SCALED_ATTRIBUTES, attributes, set_lr

Path = tuple[Any, ...]
"""How to reach a value from a list of schedulers: indices, keys and names of attributes."""

_IN_GROUPS = ("params", "optimizer", "state", "param_groups")


def adopt_differences(
    live: tuple[Sequence[Optimizer], Sequence[Any]],
    old: tuple[Sequence[Optimizer], Sequence[Any]],
    new: tuple[Sequence[Optimizer], Sequence[Any]],
) -> None:
    """Write into live optimizers and schedulers what differs between two configurations, and only that.

    Whatever is equal in both does not depend on the rate and stays as it is in the live objects, also if a hook or
    another callback has set it since. A number that has been changed since is scaled by the ratio of the two. ``old``
    and ``new`` are the same objects, configured afresh at the rate of the live ones and at the new rate.
    """
    seen: set[int] = set()
    for optimizer, before, after in zip(live[0], old[0], new[0], strict=True):
        for triple in zip(optimizer.param_groups, before.param_groups, after.param_groups, strict=True):
            _adopt(*triple, seen)
        _adopt(optimizer.defaults, before.defaults, after.defaults, seen)
        _adopt_numbers(vars(optimizer), vars(before), vars(after))
    for scheduler, before, after in zip(live[1], old[1], new[1], strict=True):
        _adopt(scheduler, before, after, seen)


def _adopt_numbers(live: dict[str, Any], old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Write the plain numbers of an optimizer's attributes that differ."""
    for name, value in new.items():
        if is_number(value) and is_number(old.get(name)) and is_number(live.get(name)):
            live[name] = _adopted(live[name], old[name], value)


def _adopt(live: Any, old: Any, new: Any, seen: set[int]) -> None:
    """Write what differs into a container, an object or a function; the three have the same structure."""
    if id(live) in seen or live is new or type(live) is not type(new):
        return
    seen.add(id(live))
    if isinstance(live, dict):
        keys = [key for key in new if key in live and key in old and key not in _IN_GROUPS]
        for key in keys:
            _adopt_item(live, key, old[key], new[key], seen)
    elif isinstance(live, list):
        for index in range(len(live) if len(live) == len(new) == len(old) else 0):
            _adopt_item(live, index, old[index], new[index], seen)
    elif isinstance(live, tuple):
        for triple in zip(live, old, new, strict=False):
            _adopt(*triple, seen)
    elif isinstance(live, types.FunctionType):
        before, after = _closure(old), _closure(new)
        for name, content in _closure(live).items() if live.__code__ == new.__code__ else ():
            held = {name: content}
            if name in before and name in after:
                _adopt_item(held, name, before[name], after[name], seen)
                _put(live, (name,), held[name])
    elif isinstance(live, types.MethodType):
        _adopt(live.__self__, old.__self__, new.__self__, seen)
    elif hasattr(live, "__dict__") and not isinstance(live, (Optimizer, torch.nn.Module, type, types.ModuleType)):
        _adopt(vars(live), vars(old), vars(new), seen)


def _adopt_item(live: Any, key: Any, old: Any, new: Any, seen: set[int]) -> None:
    held = live[key]
    if not all(map(_is_value, (held, old, new))):
        if isinstance(new, functools.partial):
            live[key] = new
        else:
            _adopt(held, old, new, seen)
    elif isinstance(held, Tensor):  # set in place, and once, since groups and defaults may share one tensor
        if id(held) not in seen:
            seen.add(id(held))
            set_lr(live, _adopted(float(held), float(old), float(new)), key)
    else:
        live[key] = _adopted(held, _plain(old), _plain(new))


def _adopted(live: Any, old: Any, new: Any) -> Any:
    """Return the new value; one that has been changed since it was configured is scaled by the same ratio."""
    if _equal(old, new):
        return live
    if _equal(live, old) or not (is_number(live) and is_number(old) and is_number(new)) or old == 0:
        return new
    return live * (new / old)


def _is_value(value: object) -> bool:
    """Whether a value is a number or made of numbers only."""
    if isinstance(value, Tensor):
        return not isinstance(value, torch.nn.Parameter) and value.numel() == 1
    if isinstance(value, (tuple, np.ndarray)):
        return len(value) > 0 and all(is_number(item) for item in np.ravel(np.asarray(value, dtype=object)))
    return is_number(value)


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Tensor) else value


def _equal(first: Any, second: Any) -> bool:
    return bool(np.array_equal(np.asarray(first), np.asarray(second)))


def rebuilt_differences(optimizer: Optimizer, old: float, new: float) -> dict[str, float]:
    """Return the attributes that an optimizer derives from its learning rate, with their values at the new rate.

    Its class builds two throw-away optimizers, at the old and the new rate. Empty if the class cannot do so.
    """
    kind: Any = type(optimizer)
    settings = optimizer.defaults
    if kind.__module__.startswith("torch."):
        return {}  # none of torch's keeps its rate anywhere but in the groups
    try:
        known = inspect.signature(kind).parameters
        options = {name: value for name, value in settings.items() if name in known and name != "lr"}
        before, after = (vars(kind([torch.nn.Parameter(torch.zeros(1))], lr=lr, **options)) for lr in (old, new))
    except Exception:  # whatever the class needs beyond its settings
        return {}
    return {
        name: float(value)
        for name, value in after.items()
        if is_number(value) and is_number(before.get(name)) and value != before[name]
        and getattr(optimizer, name, None) == before[name]
    }  # fmt: skip


_MAX_DEPTH = 5


def own_values(schedulers: Sequence[Any]) -> Iterator[Path]:
    """Yield where schedulers keep positive numbers of their own, beside those that torch's schedulers keep.

    A list, tuple or array of numbers counts as one value. Numbers that a class of one's own holds count as those of its
    schedulers.
    """
    seen: set[int] = set()

    def walk(path: Path, obj: Any, depth: int) -> Iterator[Path]:
        if _is_amount(obj):
            yield path
            return
        if id(obj) in seen or depth > _MAX_DEPTH or isinstance(obj, (Optimizer, torch.nn.Module, Tensor, type)):
            return
        seen.add(id(obj))
        for key, value in _parts(obj):
            if not (isinstance(key, str) and (key in SCALED_ATTRIBUTES or key in _IN_GROUPS)):
                yield from walk((*path, key), value, depth + 1)

    for index, scheduler in enumerate(schedulers):
        yield from walk((index,), scheduler, 0)


def _parts(obj: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(obj, dict):
        return obj.items()
    if isinstance(obj, (list, tuple)):
        return enumerate(obj)
    if isinstance(obj, types.FunctionType):
        return [(name, value) for name, value in _closure(obj).items()]
    if isinstance(obj, types.MethodType):
        return [("__self__", obj.__self__)]
    held = attributes(obj)
    if isinstance(obj, types.ModuleType) or not (held or hasattr(obj, "__dict__")):
        return ()
    of_class = {
        name: value
        for base in reversed(type(obj).__mro__)
        if not base.__module__.startswith(("torch.", "builtins"))
        for name, value in vars(base).items()
        if _is_amount(value)
    }
    return {**of_class, **held}.items()


def _closure(function: types.FunctionType) -> dict[str, Any]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    held: dict[str, Any] = {}
    for name, cell in cells:
        try:
            held[name] = cell.cell_contents
        except ValueError:  # not yet assigned
            continue
    return held


def _is_amount(value: object) -> bool:
    """Whether a value may be a rate, or several: positive, not a whole number unless it is a float."""
    if isinstance(value, (list, tuple)):
        return any(value) and all(item == 0 or _is_amount(item) for item in value)
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "f" and value.size > 0 and bool((value >= 0).all()) and bool(value.any())
    if isinstance(value, Tensor):
        return value.is_floating_point() and value.numel() > 0 and bool((value >= 0).all()) and bool(value.any())
    return isinstance(value, (float, np.floating)) and bool(0 < value < np.inf)


def values_at(schedulers: Sequence[Any], path: Path) -> list[float]:
    """Return the numbers that stand at a path."""
    value = _at(schedulers, path)
    return [float(number) for number in np.ravel(np.asarray(value))]


def _at(obj: Any, path: Path) -> Any:
    return functools.reduce(_child, path, obj)


def _child(obj: Any, key: Any) -> Any:
    if isinstance(obj, (dict, list, tuple)):
        return obj[key]
    return _closure(obj)[key] if isinstance(obj, types.FunctionType) else getattr(obj, key)


def scale_values(schedulers: Sequence[Any], path: Path, factor: float, exact: Mapping[float, float]) -> None:
    """Multiply the numbers at a path; ``exact`` holds products that are known without rounding, by number."""

    def scaled(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(scaled(item) for item in value)
        if isinstance(value, (np.ndarray, Tensor)):
            return value * factor
        return exact.get(float(value), float(value) * factor)

    _put(schedulers, path, scaled(_at(schedulers, path)))


def _put(root: Any, path: Path, value: Any) -> None:
    *before, key = path
    holder = _at(root, tuple(before))
    if isinstance(holder, tuple):
        _put(root, tuple(before), (*holder[:key], value, *holder[key + 1 :]))
    elif isinstance(holder, (dict, list)):
        holder[key] = value
    elif isinstance(holder, types.FunctionType):
        cells = holder.__closure__ or ()
        cells[holder.__code__.co_freevars.index(key)].cell_contents = value
    else:
        setattr(holder, key, value)
