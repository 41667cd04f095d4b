"""How to put single things back: each function looks at one now and returns what undoes every later change to it."""

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

__all__ = [
    "EMPTY",
    "GENERATORS",
    "StorageContent",
    "Undo",
    "cell_content",
    "generator_state",
    "ignore",
    "is_atom",
    "is_foreign",
    "is_one_shot",
    "names_in",
    "own_code",
    "random_state",
    "refill",
    "setter",
    "slot_names",
]

_ATOMS = (
    type(None), bool, int, float, complex, str, bytes, range, slice, type, types.ModuleType, types.CodeType,
    torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size, np.dtype, np.generic,
    logging.Logger, threading.Thread, random.SystemRandom,
)  # fmt: skip

_PROXIES = (weakref.ProxyType, weakref.CallableProxyType)  # pass for what they stand for, and raise once that is gone

GENERATORS = (random.Random, np.random.RandomState, np.random.Generator, np.random.BitGenerator, torch.Generator)

_FOREIGN = (
    "torch._dynamo", "torch._inductor", "torch._functorch", "torch.jit", "torch.distributed", "torch.multiprocessing",
    "torch.fx", "torch._C", "torch.utils.tensorboard", "multiprocessing", "concurrent", "asyncio", "threading",
    "_thread", "queue", "contextlib", "logging", "importlib", "tensorboard", "tensorboardX", "wandb", "mlflow",
)  # fmt: skip
"""Machinery that holds caches, handles and locks of the process: putting its dicts back would break it."""

_ITERATORS_OF = ("builtins", "itertools", "_csv")
"""Modules whose iterators hide where they are."""

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
"""Where installed code lies: no person keeps the state of a step in the globals of that."""


def is_atom(obj: object) -> bool:
    """Whether an object holds nothing that could change, or nothing that a walk may enter."""
    return type(obj) in _PROXIES or isinstance(obj, _ATOMS)


def is_foreign(obj: object) -> bool:
    """Whether an object belongs to the machinery of torch, Python or a logger, which must not be put back."""
    if isinstance(obj, (dict, list, tuple, set, frozenset, deque, Tensor, np.ndarray, *GENERATORS)):
        return False
    if isinstance(obj, types.FunctionType) and _is_in(obj, ("torch", "lightning", "pytorch_lightning")):
        return True
    return _is_in(obj, _FOREIGN) and not isinstance(obj, (torch.nn.Module, Optimizer))


def is_one_shot(obj: Any, data: bool) -> bool:
    """Whether ``obj`` is drawn from where nothing can be put back. A file of the model's is taken for a log."""
    if not isinstance(obj, Iterator):
        return False
    if isinstance(obj, types.GeneratorType):
        return obj.gi_frame is not None  # not yet exhausted
    if isinstance(obj, io.IOBase):
        return data
    hidden = _is_in(obj, _ITERATORS_OF) and not hasattr(obj, "__dict__")
    return hidden or _is_in(obj, _FOREIGN) or isinstance(obj, _BaseDataLoaderIter)


@functools.cache
def slot_names(kind: Any) -> tuple[str, ...]:
    """Return the names under which a class keeps values in ``__slots__``, its bases' included."""
    names: list[str] = []
    for owner in kind.__mro__:
        slots = owner.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            private = name.startswith("__") and not name.endswith("__")
            names.append(f"_{owner.__name__.lstrip('_')}{name}" if private else name)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


@functools.cache
def names_in(code: types.CodeType) -> frozenset[str]:
    """Return the names that ``code`` and the functions within it look up by name: globals, and attributes besides."""
    nested = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return frozenset(code.co_names).union(*map(names_in, nested))


def _is_in(obj: object, packages: tuple[str, ...]) -> bool:
    """Whether a function, or the class of any other object, is defined in one of ``packages``."""
    module = getattr(obj if isinstance(obj, types.FunctionType) else type(obj), "__module__", None)
    return _is_within(module, packages) if isinstance(module, str) else False


@functools.cache
def _is_within(module: str, packages: tuple[str, ...]) -> bool:
    return f"{module}.".startswith(tuple(f"{package}." for package in packages))


def own_code(function: types.FunctionType) -> bool:
    """Whether a function is the person's own code, not an installed library's."""
    return not function.__code__.co_filename.startswith(_LIBRARIES)


Undo = Callable[[], None]

EMPTY: Any = type  # marks a slot, cell or attribute without a value; a class, so that no walk enters it


def random_state() -> list[Undo]:
    """Of the global generators of Python, NumPy and torch, on every device in use."""
    python, array, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    undos: list[Undo] = [
        lambda: random.setstate(python),
        lambda: np.random.set_state(array),
        lambda: torch.set_rng_state(cpu),
    ]
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        cuda = torch.cuda.get_rng_state_all()
        undos.append(lambda: torch.cuda.set_rng_state_all(cuda))
    if torch.backends.mps.is_available():
        mps = torch.mps.get_rng_state()
        undos.append(lambda: torch.mps.set_rng_state(mps))
    return undos


def generator_state(generator: Any) -> Undo:
    """Of a generator of Python, NumPy or torch."""
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
    """Return what empties ``container`` and fills it with what it holds now, unless it still holds just that.

    By the methods of the built-in type, whatever a subclass made of them.
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
    """Of the memory under one or several tensors: costs one copy of it, on its device while that has room.

    Called, it puts the content back.
    """

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        try:
            self._saved = storage.clone()
        except torch.OutOfMemoryError:
            self._saved = _on_host(storage)

    def __call__(self) -> None:
        """Put the content back."""
        if self._storage.nbytes() != self._saved.nbytes():
            self._storage.resize_(self._saved.nbytes())
        self._storage.copy_(self._saved)

    @property
    def nbytes(self) -> int:
        """Size of the copy."""
        return int(self._saved.nbytes())

    def to_host(self) -> bool:
        """Move the copy to host memory; return whether it was anywhere else."""
        if self._saved.device.type == "cpu":
            return False
        self._saved = _on_host(self._saved)
        return True


def _on_host(storage: Any) -> Any:
    """Return a copy in host memory, pinned where that makes the way back quicker."""
    host = torch.empty(storage.nbytes(), dtype=torch.uint8, pin_memory=storage.device.type == "cuda").untyped_storage()
    host.copy_(storage)
    return host


def cell_content(cell: types.CellType, content: Any) -> Undo:
    """Of a variable that a closure holds."""

    def undo() -> None:
        if content is EMPTY:
            del cell.cell_contents
        else:
            cell.cell_contents = content

    return undo


def setter(obj: object, name: str, value: object) -> Undo:
    """Of one attribute: what it refers to, not what that holds."""

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
    """Turn an expression with a value into a statement of a lambda."""
