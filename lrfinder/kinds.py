"""Which objects hold state that a training step may change, which are machinery, and which cannot be wound back."""

from __future__ import annotations

import functools
import io
import logging
import random
import sysconfig
import threading
import types
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data.dataloader import _BaseDataLoaderIter

__all__ = ["GENERATORS", "is_atom", "is_foreign", "is_one_shot", "names_in", "own_code", "slot_names"]

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
