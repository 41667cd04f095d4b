"""Snapshot and exact, in-place restoration of everything that a training step may change.

`state_dict` is not enough: it leaves out non-persistent buffers, metrics, plain attributes, train/eval flags and
``requires_grad``, and `load_state_dict` replaces objects to which others hold references. A `Snapshot` walks the object
graph once, records the items of every mutable container and the values of every tensor, and restores the same objects,
so identities and outside references survive.

By design it does not see class attributes, globals that no function on the walk names, the inside of C objects that
cannot be described (caches of `functools.lru_cache`, attributes of scripted modules), what is written to files,
loggers, threads and other processes.
"""

from __future__ import annotations

import functools
import io
import itertools
import signal
import threading
import types
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader, Dataset

from lrfinder.errors import UnsupportedError
from lrfinder.snapshot.content import content_undo, process_modes, shared_memory, unchanged
from lrfinder.snapshot.undo import (
    EMPTY,
    GENERATORS,
    StorageContent,
    Undo,
    cell_content,
    generator_state,
    ignore,
    is_atom,
    is_foreign,
    is_one_shot,
    is_sharded,
    names_in,
    own_code,
    random_state,
    refill,
    setter,
    slot_names,
)

_DATA_ITEMS = 1000
"""Maximum number of items of a container in a data set that is looked into; a larger one holds samples, not state."""

_DATA_BYTES = 2**20
"""Maximum size of a tensor or array in a data set that is copied; a larger one holds samples, not state."""


class Snapshot:
    """The state of ``roots`` and of the random number generators, at the moment of construction.

    It covers everything that the roots reach: modules, optimizers, containers, attributes, closures, bound methods. It
    holds one copy of the tensors found, on their own devices if there is room and else in host memory; a storage shared
    by several tensors is copied once.

    Args:
        roots: objects whose reachable state is recorded.
        data: loaders, samplers and data sets; their samples, by `_DATA_ITEMS` and `_DATA_BYTES`, are not recorded.
        leave: objects that are not looked into.
        lenient: further objects whose state is recorded, where what cannot be rewound is left alone.
        lenient_data: the same of data sets.
        exact_data: whether data that cannot be rewound are refused; otherwise they are left alone.

    Attributes:
        left: names of the classes of the data that cannot be rewound and were left alone.

    Raises:
        UnsupportedError: a lazy parameter has no shape yet, or there is a generator, another one-shot iterator, or data
            read from an open file, none of which can be rewound.
    """

    def __init__(
        self,
        *roots: object,
        data: Iterable[object] = (),
        leave: Iterable[object] = (),
        lenient: Iterable[object] = (),
        lenient_data: Iterable[object] = (),
        exact_data: bool = True,
    ) -> None:
        self.left: set[str] = set()
        self._first: list[Undo] = []
        self._random: list[Undo] = random_state()
        self._undos: list[Undo] = process_modes()
        self._alive: dict[int, object] = {id(obj): obj for obj in leave}  # a reference keeps each id unique
        self._storages: set[int] = set()
        self._contents: list[StorageContent] = []
        self._grad_mode = torch.is_grad_enabled()
        # State is visited before data, so that what a data set shares with the model is recorded completely.
        queues = {"state": [*roots], "data": [*data], "lenient": [*lenient], "lenient data": [*lenient_data]}
        while kind := next((kind for kind, queue in queues.items() if queue), None):
            self._visit(queues[kind].pop(), kind, queues, exact_data)

    def keep_attributes(self, obj: object) -> None:
        """Record which attributes an object that is not looked into has, by identity."""
        self._undos.append(refill(vars(obj)))

    def rewind_random(self) -> None:
        """Restore only the random number generators, the global ones and those found."""
        for undo in self._random:
            undo()

    @property
    def nbytes(self) -> int:
        """Bytes of the copied storages; small views and tensors of unusual layout come on top."""
        return sum(content.nbytes for content in self._contents)

    def to_host(self) -> bool:
        """Move the copies of tensors from their devices to host memory; return whether there were any to move."""
        moved = [content.to_host() for content in self._contents]
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return any(moved)

    def restore(self) -> None:
        """Restore everything, in place; it may be called repeatedly.

        If one object cannot be restored, the others are restored all the same, and the first error is raised at the
        end.
        """
        errors = []
        with torch.no_grad():
            undos: list[Undo] = [*self._first, *self._random, *self._contents, *self._undos]
            for undo in undos:
                try:
                    undo()
                except Exception as error:
                    errors.append(error)
        torch._C._set_grad_enabled(self._grad_mode)
        if errors:
            raise errors[0]

    def _visit(self, obj: object, kind: str, queues: dict[str, list[object]], exact_data: bool) -> None:
        if is_atom(obj) or id(obj) in self._alive:
            return
        if isinstance(obj, Dataset):
            kind = "lenient data" if kind.startswith("lenient") else "data"
        data = kind.endswith("data")
        self._alive[id(obj)] = obj
        if is_one_shot(obj, data) and not isinstance(obj, (io.StringIO, io.BytesIO)):
            if kind == "state" or (kind == "data" and exact_data):
                holder, remedy = (
                    ("the data holds", "build it inside __iter__ or __getitem__ instead")
                    if data
                    else ("what a step uses holds", "make it anew in each step instead")
                )
                raise UnsupportedError(
                    f"{holder} a {type(obj).__name__}, which cannot be rewound after probing: {remedy}"
                )
            if kind == "data":
                self.left.add(type(obj).__name__)
        elif (shared := shared_memory(obj)) is not None:
            queues[kind].append(shared)
        elif (undo := content_undo(obj, data)) is not None:
            self._undos.append(undo)
        elif not is_foreign(obj):
            queues[kind].extend(self._record(obj, data))

    def _record(self, obj: Any, data: bool) -> Iterable[object]:
        """Record ``obj`` itself; return the objects it refers to."""
        if isinstance(obj, Tensor):
            return self._tensor(obj, data)
        if isinstance(obj, np.ndarray):
            return self._array(obj, data)
        if isinstance(obj, GENERATORS):
            self._random.append(generator_state(obj))
            return ()
        if is_sharded(obj):  # FSDP2's note of whether parameters are gathered is not recorded: here they never are
            obj.reshard()
            self._first.append(obj.reshard)
        children = [*self._members(obj, data), *self._slots(obj)]
        if isinstance(attributes := getattr(obj, "__dict__", None), dict):
            if isinstance(obj, DataLoader):  # its live iterator is full of queues and processes
                self._alive.setdefault(id(attributes.get("_iterator")), attributes.get("_iterator"))
            children.append(attributes)
        if isinstance(obj, torch.jit.ScriptModule):
            self._undos.append(functools.partial(setattr, obj, "training", obj.training))
            children += [*obj.children(), *obj.parameters(recurse=False), *obj.buffers(recurse=False)]
        return children

    def _members(self, obj: Any, data: bool) -> Iterable[object]:
        """Record what ``obj`` holds beside its attributes; return the objects among it."""
        if isinstance(obj, (dict, list, deque, set, bytearray)):
            self._undos.append(refill(obj))
        if isinstance(obj, (dict, types.MappingProxyType)):
            items = dict.items(obj) if isinstance(obj, dict) else obj.items()
            return _descend(itertools.chain(*items), len(items), data)
        if isinstance(obj, (list, tuple, deque, set, frozenset)):
            return _descend(obj, len(obj), data)
        if isinstance(obj, types.FunctionType):
            return self._function(obj)
        if isinstance(obj, types.MethodType):
            return (obj.__self__, obj.__func__)
        if isinstance(obj, types.BuiltinMethodType):
            return (obj.__self__,)
        if isinstance(obj, functools.partial):
            return (obj.func, obj.args, obj.keywords)
        if isinstance(obj, weakref.ref):
            return (obj(),)
        kind: Any = type(obj)
        if not data and not hasattr(obj, "__dict__") and not slot_names(kind) and (check := unchanged(obj)) is not None:
            self._undos.append(check)
        return ()

    def _tensor(self, tensor: Tensor, data: bool) -> Iterable[object]:
        if is_lazy(tensor):
            raise UnsupportedError("a lazy parameter has no shape yet: run one batch through the model first")
        if tensor.is_meta or (data and tensor.numel() * tensor.element_size() > _DATA_BYTES):
            return ()
        alias, leaf = tensor.data, tensor.is_leaf  # `data`, unlike `detach()`, leaves the version counter alone
        grad, requires_grad = tensor.grad if leaf else None, tensor.requires_grad
        hooks = {name: getattr(tensor, name, None) for name in ("_backward_hooks", "_post_accumulate_grad_hooks")}
        if hasattr(alias, "__tensor_flatten__"):  # a shard, whose memory may be exchanged when it is first used
            clone = alias.clone()
            self._undos.append(lambda: ignore(tensor.data.copy_(clone)))
        else:
            self._copy_content(alias)

        def undo() -> None:
            if leaf and not tensor.is_leaf:  # an in-place operation drew it into a graph
                tensor.detach_()
            if not _same_memory(tensor, alias):
                tensor.data = alias
            if tensor.is_leaf:
                if tensor.grad is not grad:
                    tensor.grad = grad
                if tensor.requires_grad != requires_grad:
                    tensor.requires_grad_(requires_grad)
                for name, held in hooks.items():
                    if getattr(tensor, name, None) is not held:
                        setattr(tensor, name, held)

        self._undos.append(undo)
        return [grad, vars(tensor), *hooks.values()]

    def _copy_content(self, alias: Tensor) -> None:
        if alias.layout == torch.strided and type(alias) is Tensor and not alias.is_nested:
            storage = alias.untyped_storage()
            if storage.nbytes() == 0 or storage.data_ptr() in self._storages:
                return
            if storage.nbytes() <= 2 * alias.nbytes or torch._debug_has_internal_overlap(alias) == 1:
                self._storages.add(storage.data_ptr())
                self._contents.append(StorageContent(storage))
                return
        clone = alias.clone()  # a small view into a large storage, a sparse tensor, a tensor subclass
        self._undos.append(lambda: ignore(alias.copy_(clone)))

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
            except ValueError:
                content = EMPTY
            self._undos.append(cell_content(cell, content))
            children.append(content)
        # In a script or a notebook, the state of a step (a GradScaler, a moving average, a counter) is in globals.
        for name in names_in(function.__code__) & function.__globals__.keys() if own_code(function) else ():
            value = function.__globals__[name]
            self._undos.append(functools.partial(function.__globals__.__setitem__, name, value))
            children.append(value)
        return children

    def _slots(self, obj: Any) -> list[object]:
        children = []
        for name in slot_names(type(obj)):  # type: ignore[arg-type]  # a class is hashable
            value = getattr(obj, name, EMPTY)
            self._undos.append(setter(obj, name, value))
            children.append(value)
        return children


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Defer Ctrl-C until the block is left, so that a restoration is always complete."""
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


def _descend(items: Iterable[object], count: int, data: bool) -> list[object]:
    return [] if data and count > _DATA_ITEMS else [item for item in items if not is_atom(item)]


def _same_memory(a: Tensor, b: Tensor) -> bool:
    if a.layout != torch.strided or b.layout != torch.strided or a.is_nested or b.is_nested:
        return False
    return _geometry(a) == _geometry(b)


def _geometry(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device, tensor.data_ptr()
