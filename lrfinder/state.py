"""Snapshot and exact, in-place restore of everything a training step may change.

`state_dict` is not enough: it leaves out non-persistent buffers, metrics, plain attributes, train/eval flags and
``requires_grad``, and `load_state_dict` replaces objects that others hold. A `Snapshot` instead walks the object graph
once, remembers every mutable container shallowly and every tensor by value, and refills the same objects, so that
identities and outside references survive.

What it cannot see, by design: class attributes, module globals, files, sockets and other processes.
"""

from __future__ import annotations

import functools
import io
import itertools
import logging
import random
import signal
import threading
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.utils.data import Dataset

from lrfinder.errors import UnsupportedError

__all__ = ["Snapshot", "interrupts_deferred"]

Undo = Callable[[], None]
_EMPTY: Any = type  # marks a slot or attribute without a value; an atom, so that it is never walked

_ATOMS = (
    type(None), bool, int, float, complex, str, bytes, range, slice, type, types.ModuleType, types.BuiltinFunctionType,
    types.CodeType, torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size, np.dtype, np.generic,
    logging.Logger, threading.Thread, weakref.ref, weakref.ProxyType,
)  # fmt: skip
_GENERATORS = (random.Random, np.random.RandomState, np.random.Generator, torch.Generator)
_ONE_SHOT = (types.GeneratorType, io.IOBase, itertools.count, itertools.cycle, map, filter, zip, enumerate)
_FOREIGN = (
    "torch._dynamo", "torch._inductor", "torch._functorch", "torch.jit", "torch.distributed", "torch.multiprocessing",
    "torch.fx", "torch._C", "multiprocessing", "concurrent", "asyncio", "threading", "_thread", "logging", "importlib",
)  # fmt: skip
"""Machinery that holds caches, handles and locks of the process: putting its dicts back would break it."""

_DATA_ITEMS = 1000
"""A larger container reached through a data set holds the data, not its state: kept, but not looked into."""
_DATA_BYTES = 2**20
"""A larger tensor or array reached through a data set is data: it is not copied."""


class Snapshot:
    """The state of ``roots`` and of the random number generators, at the moment of construction.

    Walks what the roots reach: modules, optimizers, containers, attributes, closures, bound methods. Costs one copy
    of the tensors found, on their own devices; a storage shared by several tensors is copied once.

    Args:
        roots: objects whose reachable state is kept.
        data: objects (loaders, samplers, data sets) whose bulk, by `_DATA_ITEMS` and `_DATA_BYTES`, is not kept.
        leave: objects not to look into.

    Raises:
        UnsupportedError: a lazy parameter without a shape, or data drawn from a generator or an open file, which
            cannot be wound back.
    """

    def __init__(self, *roots: object, data: Iterable[object] = (), leave: Iterable[object] = ()) -> None:
        self._undos: list[Undo] = _random_state()
        self._alive: dict[int, object] = {id(obj): obj for obj in leave}  # holding on to them keeps ids unique
        self._storages: set[int] = set()
        for root in data:
            self._walk(root, is_data=True)
        for root in roots:
            self._walk(root, is_data=False)

    def keep(self, obj: object, name: str) -> None:
        """Remember one attribute of an object that is not walked, by identity."""
        self._undos.append(_setter(obj, name, getattr(obj, name, _EMPTY)))

    def restore(self) -> None:
        """Put everything back, in place. May be called again."""
        with torch.no_grad():
            for undo in self._undos:
                undo()

    def _walk(self, root: object, is_data: bool) -> None:
        pending = [(root, is_data)]
        while pending:
            obj, data = pending.pop()
            if isinstance(obj, _ATOMS) or id(obj) in self._alive or _is_foreign(obj):
                continue
            self._alive[id(obj)] = obj
            data = data or isinstance(obj, Dataset)
            if data and isinstance(obj, _ONE_SHOT):
                raise UnsupportedError(
                    f"the data holds a {type(obj).__name__}, which cannot be wound back after probing:"
                    " build it inside __iter__ or __getitem__ instead"
                )
            pending.extend((child, data) for child in self._record(obj, data))

    def _record(self, obj: Any, data: bool) -> Iterable[object]:
        """Remember how to undo changes to ``obj`` itself; return what it refers to."""
        if isinstance(obj, Tensor):
            return self._tensor(obj, data)
        if isinstance(obj, np.ndarray):
            return self._array(obj, data)
        if isinstance(obj, _GENERATORS):
            self._undos.append(_generator_state(obj))
            return ()
        children: list[object] = []
        if isinstance(obj, (dict, list, deque, set, bytearray)):
            self._undos.append(_refill(obj))
        if isinstance(obj, dict):
            children += _descend(obj.values(), len(obj), data) + _descend(obj.keys(), len(obj), data)
        elif isinstance(obj, (list, tuple, deque, set, frozenset, types.MappingProxyType)):
            children += _descend(obj, len(obj), data)
        elif isinstance(obj, types.FunctionType):
            children += self._function(obj)
        elif isinstance(obj, types.MethodType):
            children += (obj.__self__, obj.__func__)
        elif isinstance(obj, functools.partial):
            children += (obj.func, obj.args, obj.keywords)
        children += self._slots(obj)
        if isinstance(attributes := getattr(obj, "__dict__", None), dict):
            children.append(attributes)
        if isinstance(obj, torch.jit.ScriptModule):
            children += [*obj.parameters(recurse=False), *obj.buffers(recurse=False)]
        return children

    def _tensor(self, tensor: Tensor, data: bool) -> Iterable[object]:
        if is_lazy(tensor):
            raise UnsupportedError("a lazy parameter has no shape yet: run one batch through the model first")
        if tensor.is_meta or (data and tensor.nbytes > _DATA_BYTES):
            return ()
        alias, grad, requires_grad = tensor.detach(), tensor.grad if tensor.is_leaf else None, tensor.requires_grad
        self._copy_content(alias)

        def undo() -> None:
            if not _same_memory(tensor, alias):
                tensor.data = alias
            if tensor.is_leaf:
                if tensor.grad is not grad:
                    tensor.grad = grad
                if tensor.requires_grad != requires_grad:
                    tensor.requires_grad_(requires_grad)

        self._undos.append(undo)
        return [grad, vars(tensor)] if vars(tensor) else [grad]

    def _copy_content(self, alias: Tensor) -> None:
        if alias.layout == torch.strided and type(alias) in (Tensor, torch.nn.Parameter):
            storage = alias.untyped_storage()
            if storage.nbytes() == 0 or storage.data_ptr() in self._storages:
                return
            if storage.nbytes() <= 2 * alias.nbytes or torch._debug_has_internal_overlap(alias) == 1:
                self._storages.add(storage.data_ptr())
                saved = storage.clone()  # type: ignore[no-untyped-call]
                self._undos.append(lambda: _ignore(storage.copy_(saved)))
                return
        clone = alias.clone()  # a small view into a large storage, a sparse tensor, a tensor subclass

        def undo() -> None:
            with torch.inference_mode(alias.is_inference()):
                alias.copy_(clone)

        self._undos.append(undo)

    def _array(self, array: np.ndarray[Any, Any], data: bool) -> Iterable[object]:
        if not array.flags.writeable or (data and array.nbytes > _DATA_BYTES):
            return ()
        saved = array.copy()
        self._undos.append(lambda: np.copyto(array, saved))
        return _descend(saved.ravel().tolist(), saved.size, data) if array.dtype == object else ()

    def _function(self, function: types.FunctionType) -> list[object]:
        children: list[object] = [function.__defaults__, function.__kwdefaults__]
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:  # an empty cell
                continue
            self._undos.append(_setter(cell, "cell_contents", content))
            children.append(content)
        return children

    def _slots(self, obj: Any) -> list[object]:
        children = []
        for name in _slot_names(type(obj)):  # type: ignore[arg-type]  # a class is hashable
            value = getattr(obj, name, _EMPTY)
            self._undos.append(_setter(obj, name, value))
            children.append(value)
        return children


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Hold back Ctrl-C until the block is left, so that a restore is never left half done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous or signal.default_int_handler)
        if received:
            signal.raise_signal(signal.SIGINT)


def _random_state() -> list[Undo]:
    python, array, cpu, grad = random.getstate(), np.random.get_state(), torch.get_rng_state(), torch.is_grad_enabled()
    undos: list[Undo] = [
        lambda: random.setstate(python),
        lambda: np.random.set_state(array),
        lambda: torch.set_rng_state(cpu),
        lambda: torch._C._set_grad_enabled(grad),
    ]
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        cuda = torch.cuda.get_rng_state_all()
        undos.append(lambda: torch.cuda.set_rng_state_all(cuda))
    if torch.backends.mps.is_available():
        mps = torch.mps.get_rng_state()
        undos.append(lambda: torch.mps.set_rng_state(mps))
    return undos


def _generator_state(generator: Any) -> Undo:
    if isinstance(generator, random.Random):
        state = generator.getstate()
        return lambda: generator.setstate(state)
    if isinstance(generator, np.random.Generator):
        bits = generator.bit_generator.state
        return lambda: setattr(generator.bit_generator, "state", bits)
    saved = generator.get_state()
    return lambda: _ignore(generator.set_state(saved))


def _refill(container: Any) -> Undo:
    """Return what empties ``container`` and fills it with what it holds now, unless it still holds just that."""
    if isinstance(container, dict):
        items = list(container.items())
        base = OrderedDict if isinstance(container, OrderedDict) else dict

        def undo_dict() -> None:
            now = list(container.items())
            if len(now) != len(items) or any(
                a is not c or b is not d for (a, b), (c, d) in zip(now, items, strict=True)
            ):
                base.clear(container)
                for key, value in items:
                    base.__setitem__(container, key, value)

        return undo_dict
    held = list(container)

    def undo() -> None:
        now = list(container)
        if len(now) != len(held) or any(a is not b for a, b in zip(now, held, strict=True)):
            container.clear()
            (container.update if isinstance(container, set) else container.extend)(held)

    return undo


def _descend(items: Iterable[object], count: int, data: bool) -> list[object]:
    return [] if data and count > _DATA_ITEMS else [item for item in items if not isinstance(item, _ATOMS)]


def _setter(obj: object, name: str, value: object) -> Undo:
    def undo() -> None:
        if getattr(obj, name, _EMPTY) is value:
            return
        if value is _EMPTY:
            object.__delattr__(obj, name)
        else:
            object.__setattr__(obj, name, value)

    return undo


@functools.cache
def _slot_names(kind: Any) -> tuple[str, ...]:
    names: list[str] = []
    for owner in kind.__mro__:
        slots = owner.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            private = name.startswith("__") and not name.endswith("__")
            names.append(f"_{owner.__name__.lstrip('_')}{name}" if private else name)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def _same_memory(a: Tensor, b: Tensor) -> bool:
    if a.layout != torch.strided or b.layout != torch.strided:
        return a.layout == b.layout
    return (a.shape, a.stride(), a.dtype, a.device, a.data_ptr()) == (
        b.shape,
        b.stride(),
        b.dtype,
        b.device,
        b.data_ptr(),
    )


def _is_foreign(obj: object) -> bool:
    if isinstance(obj, (dict, list, tuple, set, frozenset, deque, Tensor, np.ndarray, *_GENERATORS)):
        return False
    holder = obj if isinstance(obj, types.FunctionType) else type(obj)
    module = getattr(holder, "__module__", None) or ""
    if isinstance(obj, types.FunctionType) and module.split(".")[0] in ("torch", "lightning", "pytorch_lightning"):
        return True
    return module.startswith(_FOREIGN) and not isinstance(obj, (torch.nn.Module, Iterator))


def _ignore(_: object) -> None:
    """Turn an expression with a value into a statement of a lambda."""
