"""Files named by the user: curves read as plain data, results replaced atomically."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lrfinder.errors import InputError

__all__ = [
    "SCHEMA_VERSION",
    "check_writable",
    "excerpt",
    "is_device",
    "json_object",
    "number_from_json",
    "number_to_json",
    "read_text",
    "replace_file",
]

SCHEMA_VERSION = 1
"""Of the JSON document that carries curves and suggestion; see `Suggestion.to_dict`."""

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def number_to_json(value: float) -> float | str:
    """Return a number as JSON has it: non-finite ones become the strings NaN, Infinity and -Infinity."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def number_from_json(value: object) -> float:
    """Read a number written by `number_to_json`; TypeError or ValueError for anything else."""
    if isinstance(value, str):
        if value not in _NON_FINITE:
            raise ValueError(f"got {value!r:.60}")
        return _NON_FINITE[value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"got {value!r:.60}")
    return float(value)


_MAX_BYTES = 64 * 2**20  # a curve is a few kB; a larger file is the wrong file


def replace_file(path: str | Path, content: str | bytes) -> None:
    """Write ``content`` to ``path`` so that a reader sees the old file or the whole new one, never a part.

    Permissions stay, a link stays a link, and what is no regular file (``/dev/null``) is written to, not replaced.

    Raises:
        InputError: the folder does not exist or cannot be written.
    """
    path = Path(path)
    # A path that is not UTF-8 reaches us as lone surrogates, which no encoder takes.
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    try:
        if is_device(path):
            path.write_bytes(data)
        else:
            _replace(path.resolve() if path.is_symlink() else path, data)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None


def check_writable(path: str | Path, argument: str) -> None:
    """Raise now if ``path`` could not be written later, before minutes are spent on what goes there.

    Raises:
        InputError: naming the ``argument``, the path and why.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(f"{argument} must name a file, got the folder {path}")
        folder = (path.resolve() if path.is_symlink() else path).parent
        if not folder.is_dir() and not is_device(path):
            raise InputError(f"{argument}: the folder {folder} does not exist, create it first")
        written = [path] if is_device(path) else [folder, path] if path.exists() else [folder]
        if not all(os.access(place, os.W_OK) for place in written):
            raise InputError(f"{argument}: {path} cannot be written, choose another path or fix its permissions")
    except OSError as error:
        raise InputError(f"{argument}: {path} cannot be written: {error.strerror or error}") from None


def check_picture(path: str | None, logs: Iterable[str]) -> None:
    """Raise now if ``--plot`` could not be drawn to this path later; None draws nothing.

    Raises:
        InputError: it cannot be written, is no PNG, or is one of the ``logs``.
    """
    if path is None:
        return
    check_writable(path, "--plot")
    if not path.lower().endswith(".png"):
        raise InputError(f"--plot must name a .png file, got {path}")
    if os.path.abspath(path) in map(os.path.abspath, logs):
        raise InputError(f"--plot must not name a log, got {path}")


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name[:50]}.{os.getpid()}.part")
    try:
        temporary.write_bytes(data)
        if path.exists():
            temporary.chmod(path.stat().st_mode & 0o777)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):  # else it would hide why writing failed
            temporary.unlink()


def is_device(path: Path) -> bool:
    """Whether it is there and neither a file nor a folder, such as ``/dev/null``."""
    return path.exists() and not path.is_file() and not path.is_dir()


def read_text(path: Path, expected: str, most: int = _MAX_BYTES) -> str:
    """Return what a text file of at most so many bytes holds, without a byte order mark.

    Raises:
        InputError: it is missing, unreadable, too large or no text; then the text says what was ``expected``.
    """
    try:
        if path.stat().st_size > most:
            raise InputError(f"{path}: larger than {most // 2**20} MiB, which no recorded curve is")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file, expected {expected}") from None


def json_object(text: str, name: str) -> dict[str, Any]:
    """Return the object that a JSON text holds.

    Raises:
        InputError: it is no JSON, or no object; the text begins with ``name``.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: not valid JSON ({error})") from None
    if not isinstance(document, dict):
        raise InputError(f"{name}: expected a JSON object, got {type(document).__name__}")
    return document


def excerpt(value: object) -> str:
    """Quote what was found on one short line, whatever it is."""
    return f"{value!r:.60}"
