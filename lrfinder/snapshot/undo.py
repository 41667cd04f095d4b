"""How to restore single objects: each function records one object and returns an `Undo` for all later changes to it."""

from __future__ import annotations

import functools
import io
import itertools
import logging
import operator
import random
import sysconfig
import threading
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data.dataloader import _BaseDataLoaderIter

_ATOMS = (
    type(None), bool, int, float, complex, str, bytes, range, slice, type, types.ModuleType, types.CodeType,
    torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size, np.dtype, np.generic,
    logging.Logger, threading.Thread, random.SystemRandom,
)  # fmt: skip

_PROXIES = (weakref.ProxyType, weakref.CallableProxyType)  # isinstance sees their referent, or raises once it is gone

GENERATORS = (random.Random, np.random.RandomState, np.random.Generator, np.random.BitGenerator, torch.Generator)

_FOREIGN = (
    "torch._dynamo", "torch._inductor", "torch._functorch", "torch.jit", "torch.distributed", "torch.multiprocessing",
    "torch.fx", "torch._C", "torch.utils.tensorboard", "multiprocessing", "concurrent", "asyncio", "threading",
    "_thread", "queue", "contextlib", "logging", "importlib", "tensorboard", "tensorboardX", "wandb", "mlflow",
)  # fmt: skip
"""Packages whose objects hold caches, handles and locks of the process; restoring their dicts would break them."""

_ITERATORS_OF = ("builtins", "itertools", "_csv")
"""Modules whose iterators do not expose their position."""

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
"""Folders of installed code, whose globals are not taken for state of a training step."""


def is_atom(obj: object) -> bool:
    """Return whether an object is immutable, or must not be looked into."""
    return type(obj) in _PROXIES or isinstance(obj, _ATOMS)


def is_foreign(obj: object) -> bool:
    """Return whether an object belongs to the internals of torch, Python or a logger, which must not be restored."""
    if isinstance(obj, (dict, list, tuple, set, frozenset, deque, Tensor, np.ndarray, *GENERATORS)):
        return False
    if isinstance(obj, types.FunctionType) and _is_in(obj, ("torch", "lightning", "pytorch_lightning")):
        return True
    return _is_in(obj, _FOREIGN) and not isinstance(obj, (torch.nn.Module, Optimizer))


def is_one_shot(obj: Any, data: bool) -> bool:
    """Return whether ``obj`` is an iterator that cannot be rewound; an open file counts only within the data."""
    if not isinstance(obj, Iterator):
        return False
    if isinstance(obj, types.GeneratorType):
        return obj.gi_frame is not None  # not yet exhausted
    if isinstance(obj, io.IOBase):
        return data
    hidden = _is_in(obj, _ITERATORS_OF) and not hasattr(obj, "__dict__")
    return hidden or _is_in(obj, _FOREIGN) or isinstance(obj, _BaseDataLoaderIter)


def is_sharded(obj: object) -> bool:
    """Return whether an object is a module that `torch.distributed.fsdp.fully_shard` was applied to."""
    return isinstance(obj, torch.nn.Module) and any(kind.__name__ == "FSDPModule" for kind in type(obj).__mro__)


@functools.cache
def slot_names(kind: Any) -> tuple[str, ...]:
    """Return the attribute names of the ``__slots__`` of a class and its bases."""
    names: list[str] = []
    for owner in kind.__mro__:
        slots = owner.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            private = name.startswith("__") and not name.endswith("__")
            names.append(f"_{owner.__name__.lstrip('_')}{name}" if private else name)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


@functools.cache
def names_in(code: types.CodeType) -> frozenset[str]:
    """Return the names of globals and attributes that ``code`` and the functions inside it use."""
    nested = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return frozenset(code.co_names).union(*map(names_in, nested))


def _is_in(obj: object, packages: tuple[str, ...]) -> bool:
    """Return whether a function, or the class of another object, is defined in one of ``packages``."""
    module = getattr(obj if isinstance(obj, types.FunctionType) else type(obj), "__module__", None)
    return _is_within(module, packages) if isinstance(module, str) else False


@functools.cache
def _is_within(module: str, packages: tuple[str, ...]) -> bool:
    return f"{module}.".startswith(tuple(f"{package}." for package in packages))


def own_code(function: types.FunctionType) -> bool:
    """Return whether a function is the user's own code rather than that of an installed library."""
    return not function.__code__.co_filename.startswith(_LIBRARIES)


Undo = Callable[[], None]

EMPTY: Any = type  # stands for "no value" in a slot, cell or attribute; a class is an atom, so no walk enters it


def random_state() -> list[Undo]:
    """Record the global random generators of Python, NumPy and torch, on every device in use."""
    python, array, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    undos: list[Undo] = [
        lambda: random.setstate(python),
        lambda: np.random.set_state(array),
        lambda: torch.set_rng_state(cpu),
    ]
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch's own
        cuda = torch.cuda.get_rng_state_all()
        undos.append(lambda: torch.cuda.set_rng_state_all(cuda))
    if torch.backends.mps.is_available():
        mps = torch.mps.get_rng_state()
        undos.append(lambda: torch.mps.set_rng_state(mps))
    return undos


def generator_state(generator: Any) -> Undo:
    """Record a random generator of Python, NumPy or torch."""
    if isinstance(generator, random.Random):
        state = generator.getstate()
        return lambda: generator.setstate(state)
    if isinstance(generator, (np.random.Generator, np.random.BitGenerator)):
        source: Any = getattr(generator, "bit_generator", generator)
        bits = source.state
        return lambda: setattr(source, "state", bits)
    saved = generator.get_state(legacy=False) if isinstance(generator, np.random.RandomState) else generator.get_state()
    return lambda: ignore(generator.set_state(saved))


def refill(container: Any) -> Undo:
    """Record the items of a container, by identity; the undo refills the same container if its items have changed.

    Both use the methods of the built-in type, since a subclass may have overridden them.
    """
    if isinstance(container, bytearray):
        content = bytes(container)
        return lambda: container.__setitem__(slice(None), content)
    kind = _built_in(type(container))  # type: ignore[arg-type]  # a class is hashable
    parts = kind.items if issubclass(kind, dict) else kind.__iter__
    held = list(parts(container))

    def undo() -> None:
        now = list(parts(container))
        if issubclass(kind, dict):
            if not _same_objects([*itertools.chain(*now)], [*itertools.chain(*held)]):
                kind.clear(container)
                for key, value in held:
                    kind.__setitem__(container, key, value)
        elif not _same_objects(now, held):
            kind.clear(container)
            (kind.update if kind is set else kind.extend)(container, held)

    return undo


class StorageContent:
    """An undo for the memory of one or several tensors, which holds one copy of it.

    The copy is on the same device, or in host memory if the device is full.
    """

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        try:
            self._saved = _content(storage).clone()
        except torch.OutOfMemoryError:
            self._saved = _on_host(_content(storage))

    def __call__(self) -> None:
        """Restore the content."""
        if self._storage.nbytes() != self.nbytes:
            self._storage.resize_(self.nbytes)
        _content(self._storage).copy_(self._saved)

    @property
    def nbytes(self) -> int:
        """Size of the copy."""
        return self._saved.nbytes

    def to_host(self) -> bool:
        """Move the copy to host memory; return whether it was on a device."""
        if self._saved.device.type == "cpu":
            return False
        self._saved = _on_host(self._saved)
        return True


def _content(storage: Any) -> Tensor:
    """Return a tensor over the whole of a storage: of the widest integers that fill it, which are copied fastest."""
    dtype = torch.int64 if storage.nbytes() % 8 == 0 else torch.uint8
    return torch.empty(0, dtype=dtype, device=storage.device).set_(storage)


def _on_host(content: Tensor) -> Tensor:
    """Return a copy in host memory, pinned for a CUDA device, to which it is then copied back faster."""
    return torch.empty_like(content, device="cpu", pin_memory=content.device.type == "cuda").copy_(content)


def cell_content(cell: types.CellType, content: Any) -> Undo:
    """Return the undo for a variable of a closure."""

    def undo() -> None:
        if content is EMPTY:
            del cell.cell_contents
        else:
            cell.cell_contents = content

    return undo


def setter(obj: object, name: str, value: object) -> Undo:
    """Return the undo for one attribute; the object that it refers to is not restored."""

    def undo() -> None:
        if getattr(obj, name, EMPTY) is value:
            return
        if value is EMPTY:
            object.__delattr__(obj, name)
        else:
            object.__setattr__(obj, name, value)

    return undo


@functools.cache
def _built_in(kind: type) -> Any:
    return next(base for base in (OrderedDict, dict, list, deque, set) if issubclass(kind, base))


def _same_objects(first: list[object], second: list[object]) -> bool:
    return len(first) == len(second) and all(map(operator.is_, first, second))


def ignore(_: object) -> None:
    """Take the value of an expression, so that a lambda returns None."""
