"""Files that the user names: read whole as text or JSON, checked field by field, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from lrfinder.errors import MOST_STEPS, InputError

SCHEMA_VERSION = 1
"""Version of the JSON document that holds curves and a suggestion; see `Suggestion.to_dict`."""

_MAX_BYTES = 64 * 2**20  # a recorded curve takes a few kB, so a larger file is the wrong file

_MAX_DEPTH = 50  # our documents are nested eight levels deep

_LARGEST = 1e100  # squares and products of larger numbers overflow

Reader = Callable[[Any], Any]
"""Turns a value of a JSON document into what it stands for; raises InputError with a text that begins with "must"."""

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def number_to_json(value: float) -> float | str:
    """Return a number as JSON holds it: non-finite ones become the strings NaN, Infinity and -Infinity."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def read_any_number(value: object) -> float:
    """Read a number written by `number_to_json`, which may be infinite or NaN."""
    if isinstance(value, str) and value in _NON_FINITE:
        return _NON_FINITE[value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            return float(value)
    raise InputError(f"must be a number, got {value!r:.60}")


def number_reader(low: float = -_LARGEST, high: float = _LARGEST) -> Reader:
    """Return a reader of finite numbers from ``low`` to ``high``."""

    def read(value: Any) -> float:
        number = read_any_number(value)
        if not low <= number <= high:
            raise InputError(f"must be a number from {low:g} to {high:g}, got {value!r:.60}")
        return number

    return read


def whole_reader(low: int = 0, high: int = MOST_STEPS) -> Reader:
    """Return a reader of whole numbers from ``low`` to ``high``."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InputError(f"must be a whole number from {low:,} to {high:,}, got {value!r:.60}")
        return value

    return read


def read_string(value: Any) -> str:
    """Read a text."""
    if not isinstance(value, str):
        raise InputError(f"must be a text, got {value!r:.60}")
    return value


def read_flag(value: Any) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise InputError(f"must be true or false, got {value!r:.60}")
    return value


def read_list(value: Any) -> list[Any]:
    """Read a list of anything."""
    if not isinstance(value, (list, tuple)):
        raise InputError(f"must be a list, got {value!r:.60}")
    return list(value)


def read_object(value: Any) -> dict[str, Any]:
    """Read an object with any fields."""
    if not isinstance(value, Mapping):
        raise InputError(f"must be an object, got {value!r:.60}")
    return dict(value)


def list_reader(read: Reader) -> Reader:
    """Return a reader of lists whose items are read by ``read``."""

    def read_items(value: Any) -> list[Any]:
        items = []
        for item in read_list(value):
            try:
                items.append(read(item))
            except InputError as error:
                raise _at(f"item {len(items)}", error) from None
        return items

    return read_items


def optional(read: Reader) -> Reader:
    """Return a reader that gives None for null."""
    return lambda value: None if value is None else read(value)


def read_record(value: Any, readers: Mapping[str, Reader], defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read an object field by field; fields without a reader are left out.

    Args:
        defaults: values of the fields that may be missing, as JSON would hold them.
    """
    found = {**(defaults or {}), **read_object(value)}
    fields = {}
    for name, read in readers.items():
        if name not in found:
            raise InputError(f"the field {name!r} is missing")
        try:
            fields[name] = read(found[name])
        except InputError as error:
            raise _at(name, error) from None
    return fields


def _at(place: str, error: InputError) -> InputError:
    """Return an error of a reader with the place of the value in front."""
    text = str(error)
    return InputError(f"{place} {text}" if text.startswith("must ") else f"{place}: {text}")


def read_text(path: Path, expected: str) -> str:
    """Return the content of a text file, without a byte order mark; errors say what was ``expected``."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(_MAX_BYTES + 1)  # a device has no size, and may have no end
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file, expected {expected}") from None
    if len(text) > _MAX_BYTES:
        raise InputError(f"{path}: larger than {_MAX_BYTES // 2**20} MiB, expected {expected}")
    return text


def json_object(text: str, name: str) -> dict[str, Any]:
    """Return the object that a JSON text holds; errors begin with its ``name``."""
    try:
        document = json.loads(text)
    except RecursionError:
        raise _too_deep(name) from None
    except ValueError as error:
        raise InputError(f"{name}: not valid JSON ({error})") from None
    if not isinstance(document, dict):
        raise InputError(f"{name}: expected a JSON object, got {type(document).__name__}")
    level: list[Any] = [document]
    for _ in range(_MAX_DEPTH):
        items = (value.values() if isinstance(value, dict) else value for value in level)
        level = [item for values in items for item in values if isinstance(item, (dict, list))]
    if level:
        raise _too_deep(name)
    return document


def _too_deep(name: str) -> InputError:
    return InputError(f"{name}: JSON must be nested at most {_MAX_DEPTH} levels deep, got more")


def replace_file(path: str | Path, content: str | bytes) -> None:
    """Write ``content`` to ``path`` so that a reader sees either the old file or the whole new one.

    Permissions are kept, a symbolic link stays a link, and a device such as ``/dev/null`` is written to, not replaced.
    """
    path = Path(path)
    # A path that is not UTF-8 is decoded to lone surrogates, which UTF-8 cannot encode.
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    try:
        if is_device(path):
            path.write_bytes(data)
        else:
            _replace(_follow_links(path), data)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name[:50]}.{os.getpid()}.part")
    try:
        temporary.write_bytes(data)
        if path.exists():
            temporary.chmod(path.stat().st_mode & 0o777)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):  # it would hide the reason why writing failed
            temporary.unlink()


def check_writable(path: str | Path, argument: str) -> None:
    """Check before a long search that its result can be written to ``path``; errors name the ``argument``."""
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(f"{argument} must name a file, got the folder {path}")
        folder = _follow_links(path).parent
        if not folder.is_dir() and not is_device(path):
            raise InputError(f"{argument}: the folder {folder} does not exist, create it first")
        written = [path] if is_device(path) else [folder, path] if path.exists() else [folder]
        if not all(os.access(place, os.W_OK) for place in written):
            raise InputError(f"{argument}: {path} cannot be written, choose another path or fix its permissions")
    except OSError as error:
        raise InputError(f"{argument}: {path} cannot be written: {error.strerror or error}") from None


def check_picture(path: str | None, read: Iterable[str]) -> None:
    """Check that ``--plot`` names a PNG file that can be written and is none of the files that are read."""
    if path is None:
        return
    check_writable(path, "--plot")
    if not path.lower().endswith(".png"):
        raise InputError(f"--plot must name a .png file, got {path}")
    if os.path.abspath(path) in map(os.path.abspath, read):
        raise InputError(f"--plot must not name a log, got {path}")


def is_device(path: Path) -> bool:
    """Return whether a path exists and is neither a file nor a folder, such as ``/dev/null``."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _follow_links(path: Path) -> Path:
    """Return the file that symbolic links lead to; raise OSError if they lead round in a circle."""
    if not path.is_symlink():
        return path
    with contextlib.suppress(FileNotFoundError):  # a link to a file that will be created
        path.stat()
    return Path(os.path.realpath(path))
