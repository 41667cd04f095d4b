"""What "as before, bit for bit" means in these tests: a written-down picture of everything an object reaches.

Deliberately not built on `lrfinder.snapshot.snapshot`: it reads what that module has to put back, by other means.
"""

from __future__ import annotations

import functools
import random
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

_VALUES = (type(None), bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device, np.generic)
_OPAQUE = (type, types.ModuleType, types.GeneratorType, torch.layout, torch.memory_format)


class Picture:
    """Every value reached from ``roots`` and the global random state, each under the path that leads to it."""

    def __init__(self, *roots: object) -> None:
        self.facts: dict[str, object] = {"random": random_state()}
        self._seen: dict[int, tuple[str, object]] = {}
        for number, root in enumerate(roots):
            self._look(f"{number}:{type(root).__name__}", root)

    def changes(self, *roots: object) -> list[str]:
        """Say what differs now; empty where nothing does."""
        then, now = self.facts, Picture(*roots).facts
        paths = [*then, *(path for path in now if path not in then)]
        return [
            f"{path}: {then.get(path, 'absent')!s:.80} -> {now.get(path, 'absent')!s:.80}"
            for path in paths
            if then.get(path, "absent") != now.get(path, "absent")
        ]

    def _look(self, path: str, obj: Any) -> None:
        if type(obj) in (weakref.ProxyType, weakref.CallableProxyType):
            return
        if isinstance(obj, _VALUES):
            self.facts[path] = (type(obj).__name__, repr(obj))
            return
        if id(obj) in self._seen:
            self.facts[path] = ("seen at", self._seen[id(obj)][0])
            return
        self._seen[id(obj)] = (path, obj)
        self.facts[path] = (type(obj).__name__, id(obj))
        if isinstance(obj, _OPAQUE):
            return
        for name, child in _parts(obj):
            self._look(f"{path}.{name}", child)


def random_state() -> tuple[object, ...]:
    """The state of the three global generators, and the grad mode."""
    name, keys, *rest = np.random.get_state()
    return (
        random.getstate(), name, keys.tobytes(), *rest, torch.get_rng_state().numpy().tobytes(), torch.is_grad_enabled()
    )  # fmt: skip


def _parts(obj: Any) -> Iterator[tuple[str, object]]:
    if isinstance(obj, torch.Tensor):
        yield from _tensor(obj)
    elif isinstance(obj, np.ndarray):
        if obj.dtype == object:
            yield from ((f"[{number}]", item) for number, item in enumerate(obj.ravel()))
        else:
            yield "values", obj.tobytes()
    elif isinstance(obj, torch.Generator):
        yield "state", obj.get_state().numpy().tobytes()
    elif isinstance(obj, np.random.Generator):
        yield "state", str(obj.bit_generator.state)
    elif isinstance(obj, np.random.RandomState):
        yield "state", str(obj.get_state(legacy=False))
    elif isinstance(obj, random.Random) and not isinstance(obj, random.SystemRandom):
        yield "state", str(obj.getstate())
    elif isinstance(obj, np.random.BitGenerator):
        yield "state", str(obj.state)
    elif isinstance(obj, dict):
        items = list((OrderedDict if isinstance(obj, OrderedDict) else dict).items(obj))
        yield "keys", str([key if isinstance(key, _VALUES) else id(key) for key, _ in items])
        for number, (key, value) in enumerate(items):
            yield (f"[{key!r}]" if isinstance(key, _VALUES) else f"[{number}]"), value
            yield f"key {number}", key
    elif isinstance(obj, (list, tuple, deque, set, frozenset)):
        yield "length", len(obj)
        for number, item in enumerate(obj):
            yield f"[{number}]", item
    elif isinstance(obj, bytearray):
        yield "bytes", bytes(obj)
    elif isinstance(obj, types.FunctionType):
        yield "defaults", obj.__defaults__
        yield "keyword defaults", obj.__kwdefaults__
        for number, cell in enumerate(obj.__closure__ or ()):
            try:
                yield f"cell {obj.__code__.co_freevars[number]}", cell.cell_contents
            except ValueError:
                yield f"cell {number}", "empty"
    elif isinstance(obj, types.MethodType):
        yield "self", obj.__self__
    elif isinstance(obj, functools.partial):
        yield from (("func", obj.func), ("args", obj.args), ("keywords", obj.keywords))
    elif isinstance(obj, types.BuiltinFunctionType) and not isinstance(obj.__self__, (type, types.ModuleType)):
        yield "self", obj.__self__
    elif isinstance(obj, types.MappingProxyType):
        yield from ((f"[{key!r}]", value) for key, value in obj.items())
    elif isinstance(obj, weakref.ref):
        yield "target", obj()
    if not isinstance(obj, (torch.Tensor, torch.Generator)):
        for kind in type(obj).__mro__:
            for slot in kind.__dict__.get("__slots__", ()):
                if slot not in ("__dict__", "__weakref__"):
                    yield slot, getattr(obj, slot, "no value")
    for name, value in vars(obj).items() if hasattr(obj, "__dict__") else ():
        if not (isinstance(obj, DataLoader) and name == "_iterator"):
            yield name, value


def _tensor(tensor: torch.Tensor) -> Iterator[tuple[str, object]]:
    yield "type", f"{tuple(tensor.shape)} {tensor.dtype} {tensor.device} {tensor.layout}"
    yield "grad mode", f"{tensor.requires_grad} {tensor.is_leaf} {type(tensor.grad_fn).__name__}"
    with torch.no_grad():
        if tensor.layout != torch.strided:
            plain = tensor.detach().coalesce()
            yield "indices", plain.indices().numpy().tobytes()
            yield "values", plain.values().numpy().tobytes()
        elif not torch.nn.parameter.is_lazy(tensor):
            storage = tensor.untyped_storage()
            yield "storage", f"{storage._cdata} {storage.nbytes()} {tensor.stride()} {tensor.storage_offset()}"
            if storage.nbytes():
                content = tensor.detach().clone().resolve_conj().contiguous().view(-1)
                yield "content", content.view(torch.uint8).numpy().tobytes()
    if tensor.is_leaf:
        yield "grad", tensor.grad
    yield "hooks", tensor._backward_hooks
    yield "hooks after accumulation", tensor._post_accumulate_grad_hooks
