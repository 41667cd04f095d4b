"""The scalars of TensorBoard's event files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from lrfinder.cells import Steps
from lrfinder.errors import InputError

__all__ = ["event_files", "read_events"]

_MARK = "tfevents"
"""In the name of every event file."""


def event_files(path: str | Path) -> list[Path]:
    """Return the event files that a path names: itself, or those in the folder, the oldest first.

    Their names begin with the time at which they were made, so that the part after a restart comes later.
    """
    path = Path(path)
    if path.is_dir():
        return sorted(file for file in path.iterdir() if _MARK in file.name and file.is_file())
    return [path] if _MARK in path.name else []


def read_events(path: str | Path) -> dict[str, Steps]:
    """Return every scalar by its tag, in the order written; a file that is still being written to is read so far.

    Args:
        path: an event file, or a folder with some.

    Raises:
        InputError: the package tensorboard is not installed, a file cannot be read, or there are no scalars.
    """
    try:
        from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
    except ImportError:
        raise InputError(
            f"{os.fspath(path)}: reading event files takes tensorboard: pip install 'lrfinder[tensorboard]'"
        ) from None
    found: dict[str, tuple[list[int], list[float]]] = {}
    for file in event_files(path):
        try:
            with file.open("rb"):  # the loader would wait for a file that is not there
                pass
            for event in LegacyEventFileLoader(os.fspath(file)).Load():
                for entry in event.summary.value:
                    if (number := _scalar(entry)) is not None:
                        steps, values = found.setdefault(entry.tag, ([], []))
                        steps.append(event.step)
                        values.append(number)
        except OSError as error:
            raise InputError(f"cannot read {file}: {error.strerror or error}") from None
    if not found:
        raise InputError(f"{os.fspath(path)}: an event file must hold scalars, got none")
    return {tag: Steps(np.array(steps, dtype=np.int64), np.array(values)) for tag, (steps, values) in found.items()}


def _scalar(entry: Any) -> float | None:
    """Return the number in a summary, whether of the old style or, as of TensorFlow 2, in a tensor; else None."""
    if entry.HasField("simple_value"):
        return float(entry.simple_value)
    if not entry.HasField("tensor") or entry.metadata.plugin_data.plugin_name not in ("scalars", ""):
        return None
    from tensorboard.util.tensor_util import make_ndarray

    value = make_ndarray(entry.tensor)
    return float(value) if value.ndim == 0 and value.dtype.kind in "fiu" else None
