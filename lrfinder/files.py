"""Files named by the user: curves read as plain data, results replaced atomically."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lrfinder.curve import SCHEMA_VERSION, Curve, Stage
from lrfinder.errors import InputError

__all__ = [
    "check_writable",
    "excerpt",
    "is_device",
    "json_object",
    "read_curve",
    "read_text",
    "replace_file",
    "write_curve_csv",
]

_MAX_BYTES = 64 * 2**20  # a curve is a few kB; a larger file is the wrong file


def read_curve(path: str | Path) -> tuple[Curve, Mapping[str, Any]]:
    """Read a recorded curve from CSV (columns ``lr,loss``, optional ``step,stage``) or from JSON.

    JSON may be the document written by ``lrfinder suggest --out``, or any object with the lists ``lr`` and ``loss``
    (torch-lr-finder's ``history`` is one).

    Returns:
        The curve, and the JSON document around it (empty for CSV).

    Raises:
        InputError: the file is missing, unreadable, or breaks a rule; the text names file, field and value.
    """
    path = Path(path)
    text = read_text(path, "CSV with columns lr,loss or JSON")
    if path.suffix.lower() == ".json" or text.lstrip().startswith("{"):
        return _curve_from_json(text, str(path))
    try:
        return _curve_from_csv(text, str(path)), {}
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV file ({error})") from None


def write_curve_csv(curve: Curve, path: str | Path) -> None:
    """Write ``step,lr,loss,stage`` with every digit, so that `read_curve` gives back equal numbers."""
    rows = [f"{s},{lr!r},{loss!r},{curve.stage}\n" for s, lr, loss in _rows(curve)]
    replace_file(path, "step,lr,loss,stage\n" + "".join(rows))


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


def _rows(curve: Curve) -> list[tuple[int, float, float]]:
    return list(zip(curve.step.tolist(), curve.lr.tolist(), curve.loss.tolist(), strict=True))


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


def _curve_from_json(text: str, name: str) -> tuple[Curve, Mapping[str, Any]]:
    document = json_object(text, name)
    if "comparison" in document:
        raise InputError(f"{name}: must hold one result, got a comparison of several: lrfinder report shows those")
    if "curves" not in document:
        return Curve.from_dict(document, name), {}
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise InputError(f"{name}: schema_version must be {SCHEMA_VERSION}, got {version!r}")
    curves = document["curves"]
    if not isinstance(curves, list) or not all(isinstance(curve, dict) for curve in curves):
        raise InputError(f"{name}: curves must be a list of objects")
    ranges = [curve for curve in curves if curve.get("stage") == Stage.RANGE]
    if len(ranges) != 1:
        raise InputError(f"{name}: curves must hold one curve with stage 'range', got {len(ranges)}")
    return Curve.from_dict(ranges[0], name), document


def _curve_from_csv(text: str, name: str) -> Curve:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    columns = [column.strip().lower() for column in reader.fieldnames or ()]
    missing = [column for column in ("lr", "loss") if column not in columns]
    if missing:
        raise InputError(f"{name}: needs the columns lr and loss, got {excerpt(','.join(columns))}")
    reader.fieldnames = columns
    values: dict[str, list[float]] = {column: [] for column in ("lr", "loss", "step") if column in columns}
    for row in reader:
        if (row.get("stage") or Stage.RANGE) != Stage.RANGE:
            raise InputError(f"{name}, line {reader.line_num}: stage must be 'range', got {excerpt(row['stage'])}")
        for column, numbers in values.items():
            try:
                numbers.append(float(row[column]))
            except (TypeError, ValueError):
                raise InputError(
                    f"{name}, line {reader.line_num}: {column} must be a number, got {excerpt(row[column])}"
                ) from None
    try:
        return Curve(values["lr"], values["loss"], values.get("step"))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def excerpt(value: object) -> str:
    """Quote what was found on one short line, whatever it is."""
    return f"{value!r:.60}"
