"""How to restore what an object holds outside its attributes: buffers, queues, files in memory, tables, modes."""

from __future__ import annotations

import array
import ctypes
import io
import pickle
import queue
import sys
from typing import Any

import numpy as np
import torch

from lrfinder.errors import UnsupportedError
from lrfinder.snapshot.undo import Undo, ignore

_C_DATA = (ctypes._SimpleCData, ctypes.Structure, ctypes.Union, ctypes.Array)

_MAX_BYTES = 2**20
"""Maximum size of what is copied of a data set, and of the description by which a change is recognised."""


def content_undo(obj: Any, data: bool) -> Undo | None:
    """Record the content of an object that no walk over attributes sees; None if it is of no such kind.

    Args:
        data: whether it belongs to a data set, of which large contents are not recorded, and queues neither, since
            threads that read ahead may own them.
    """
    undo: Undo | None = None
    if isinstance(obj, array.array) and not (data and obj.itemsize * len(obj) > _MAX_BYTES):
        undo = _array(obj)
    elif isinstance(obj, _C_DATA) and not (data and ctypes.sizeof(obj) > _MAX_BYTES):
        undo = _c_data(obj)
    elif isinstance(obj, memoryview) and not obj.readonly and obj.contiguous:
        undo = _buffer(obj)
    elif isinstance(obj, (io.StringIO, io.BytesIO)) and not obj.closed:
        undo = _file_in_memory(obj)
    elif isinstance(obj, io.IOBase):
        undo = _place_in_file(obj)
    elif isinstance(obj, queue.Queue) and not data:
        undo = _queue(obj)
    elif isinstance(obj, queue.SimpleQueue) and not data:
        undo = _simple_queue(obj)
    elif _is_table(obj) and not (data and int(np.sum(obj.memory_usage())) > _MAX_BYTES):
        undo = _table(obj)
    return undo


def _array(obj: array.array[Any]) -> Undo:
    saved = obj[:]

    def undo() -> None:
        obj[:] = saved

    return undo


def _c_data(obj: Any) -> Undo:
    saved = ctypes.string_at(ctypes.addressof(obj), ctypes.sizeof(obj))
    return lambda: ignore(ctypes.memmove(ctypes.addressof(obj), saved, len(saved)))


def _buffer(obj: memoryview) -> Undo:
    saved = obj.tobytes()

    def undo() -> None:
        obj.cast("B")[:] = saved

    return undo


def _file_in_memory(obj: Any) -> Undo:
    content, place = obj.getvalue(), obj.tell()

    def undo() -> None:
        if obj.closed:
            raise UnsupportedError(f"a step closed a {type(obj).__name__}, which cannot be opened again")
        obj.seek(0)
        obj.truncate()
        obj.write(content)
        obj.seek(place)

    return undo


def _place_in_file(obj: Any) -> Undo | None:
    """Record the place in an open file that is only read; what is written to files is not seen."""
    try:
        if obj.closed or obj.writable() or not obj.seekable():
            return None
        place = obj.tell()
    except (OSError, ValueError):  # in the middle of an iteration
        return None
    return lambda: None if obj.closed else ignore(obj.seek(place))


def _queue(obj: Any) -> Undo | None:
    """Record a queue, unless a thread waits for it, which takes what is put."""
    with obj.mutex:
        if obj.not_empty._waiters:
            return None
        held, unfinished = list(obj.queue), obj.unfinished_tasks

    def undo() -> None:
        with obj.mutex:
            if not obj.not_empty._waiters:
                obj.queue.clear()
                obj.queue.extend(held)
                obj.unfinished_tasks = unfinished

    return undo


def _simple_queue(obj: Any) -> Undo:
    held = _drained(obj)
    _filled(obj, held)

    def undo() -> None:
        _drained(obj)
        _filled(obj, held)

    return undo


def _drained(obj: Any) -> list[Any]:
    items = []
    while True:
        try:
            items.append(obj.get_nowait())
        except queue.Empty:
            return items


def _filled(obj: Any, items: list[Any]) -> None:
    for item in items:
        obj.put(item)


def _is_table(obj: Any) -> bool:
    """Whether an object is a DataFrame or a Series; pandas is not loaded for that."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(obj, (pandas.DataFrame, pandas.Series))


def _table(obj: Any) -> Undo:
    saved = obj.copy(deep=True)

    def undo() -> None:
        if not (obj.equals(saved) and obj.index.equals(saved.index)):
            obj._update_inplace(saved.copy(deep=True))

    return undo


def shared_memory(obj: Any) -> Any:
    """Return the C object behind a `multiprocessing.Value` or `Array`; None if it is none."""
    owner = type(obj).__module__ == "multiprocessing.sharedctypes"
    return obj.get_obj() if owner and hasattr(obj, "get_obj") else None


def unchanged(obj: Any) -> Undo | None:
    """Return an undo that raises if an object without attributes has changed; None if that cannot be recognised.

    For objects of extension modules, whose state cannot be put back.

    Raises:
        UnsupportedError: from the undo.
    """
    try:
        saved = _description(obj)
    except Exception:  # it cannot be described
        return None
    if len(saved) > _MAX_BYTES:
        return None

    def undo() -> None:
        if _description(obj) != saved:
            kind = f"{type(obj).__module__}.{type(obj).__qualname__}"
            raise UnsupportedError(
                f"a step changed a {kind}, whose state cannot be put back: make it anew in each step, or search in a"
                " run of its own"
            )

    return undo


def _description(obj: Any) -> bytes:
    return obj.hexdigest().encode() if hasattr(obj, "hexdigest") else pickle.dumps(obj)


def process_modes() -> list[Undo]:
    """Record the modes of torch and NumPy that a step may set for the whole process."""
    anomaly, check = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    deterministic, warn = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    dtype, errors = torch.get_default_dtype(), np.geterr()
    return [
        lambda: ignore(torch.autograd.set_detect_anomaly(anomaly, check)),
        lambda: torch.use_deterministic_algorithms(deterministic, warn_only=warn),
        lambda: torch.set_default_dtype(dtype),
        lambda: ignore(np.seterr(**errors)),
    ]
