"""Logs that are no tables: JSON, lines of text, TensorBoard, MLflow; and where a folder holds a log."""

from __future__ import annotations

import array
import contextlib
import json
import os
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lrfinder.errors import InputError
from lrfinder.logs.table import PAIR, LogTable, check_size, first_lines, text_lines

_SUMMARY = "train_runtime"
"""A field of the last record of the Hugging Face Trainer, which sums up the training and is no step of it."""


def read_json(path: str | Path, file: Path) -> LogTable:
    """Return the columns of a file of JSON.

    It may hold one object to a line; ``trainer_state.json`` of the Hugging Face Trainer; a list of objects; an object
    of lists, such as the ``history`` of Keras; or an object that holds one of these. Nested names are joined by "/".
    """
    name = os.fspath(path)
    first = first_lines(name, file)
    if len(first) > 1 and _is_object(first[0]) and first[1].lstrip().startswith("{"):
        with text_lines(name, file) as lines:
            return _from_records("JSON lines", _json_lines(name, lines))
    with text_lines(name, file) as lines:
        try:
            document = json.load(lines)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{name}: not valid JSON ({error})") from None
    kind = "trainer_state.json" if isinstance(document, dict) and "log_history" in document else "JSON"
    records = _records_of(document)
    if records is None:
        raise InputError(
            f"{name}: a log in JSON must be a list of objects, an object of lists, or one object to a line, got"
            f" {document!r:.60}"
        )
    return _from_records(kind, (record for record in records if _SUMMARY not in record))


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _json_lines(name: str, lines: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            if line.endswith("\n"):
                raise InputError(f"{name}, line {number}: not valid JSON ({error})") from None
            return  # the last line of a file that is still being written
        if not isinstance(record, dict):
            raise InputError(f"{name}, line {number}: must be an object, got {record!r:.60}")
        yield record


def _records_of(document: Any) -> Iterable[Mapping[str, Any]] | None:
    """Return the records that a document holds, at whatever depth; None if there are none."""
    if isinstance(document, list):
        return document if document and all(isinstance(record, dict) for record in document) else None
    if not isinstance(document, dict):
        return None
    lists = {name: value for name, value in document.items() if isinstance(value, list) and value}
    columns = {name: value for name, value in lists.items() if not isinstance(value[0], (dict, list))}
    if columns:
        count = max(map(len, columns.values()))
        return ({name: value[i] for name, value in columns.items() if i < len(value)} for i in range(count))
    parts = [document["log_history"]] if "log_history" in document else document.values()
    return next((records for part in parts if (records := _records_of(part)) is not None), None)


def read_text_records(path: str | Path, file: Path) -> LogTable:
    """Return the columns of lines of text with names and numbers, such as "step 100: loss 2.31, lr 1e-3".

    Lines with fewer than two pairs are left out.
    """
    with text_lines(os.fspath(path), file) as lines:
        pairs = (PAIR.findall(line) for line in lines)
        return _from_records("text", ({name: float(number) for name, number in found} for found in pairs if found[1:]))


def _from_records(kind: str, records: Iterable[Mapping[str, Any]]) -> LogTable:
    """Return the columns of records; the numbers of a record stand in the row of its number, from 1."""
    found: dict[str, tuple[array.array[int], array.array[float]]] = {}
    for row, record in enumerate(records, 1):
        is_nested = any(type(value) is dict for value in record.values())
        for name, value in (_flat(record) if is_nested else record).items():
            number = value if type(value) is float else _number(value)
            if number is not None:
                if (column := found.get(name)) is None:
                    column = found[name] = (array.array("q"), array.array("d"))
                column[0].append(row)
                column[1].append(number)
    return LogTable.of(kind, found)


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}/"))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _number(value: Any) -> float | None:
    """Return a value as a number, also one in text, as Weights & Biases writes NaN; None otherwise."""
    if type(value) in (int, float):
        return float(value)
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)
    return None


_EVENTS = "tfevents"
"""Part of the name of every event file of TensorBoard."""

_FILES = ("trainer_state.json", "metrics.csv")
"""Names under which tools write a log into the folder of a training; event files and metrics of MLflow beside them."""

_OTHER_ENDINGS = (".csv", ".jsonl", ".tsv")
"""Endings of a file that is taken for the log of a folder if it is the only one."""

_HELD_OUT = ("val", "valid", "validation", "test", "eval")
"""Names of the folders that Keras and others write beside ``train``."""

_LISTED = 5
"""Maximum number of logs that an error names."""


def log_in(path: str | Path) -> Path:
    """Return the log that a path stands for: a file, or a folder that directly holds a log.

    A folder further up stands for the only log below it, for the one in ``train`` if the others are of held-out data,
    or for the latest of the checkpoints of the Hugging Face Trainer.
    """
    folder = Path(path)
    if not folder.is_dir():
        return folder
    if (log := _directly_in(folder)) is not None:
        return log
    # A run of MLflow and its folder ``metrics`` are one log.
    below = sorted({log for parent, *_ in os.walk(folder) if (log := _directly_in(Path(parent))) is not None})
    states = [log for log in below if log.name == "trainer_state.json"]
    if states and len({log.parents[1] for log in states}) == 1:
        return max(states, key=lambda log: int((re.findall(r"\d+", log.parent.name) or ["-1"])[-1]))
    training = [log for log in below if not any(part in _HELD_OUT for part in log.relative_to(folder).parts)]
    if len(training) == 1:
        return training[0]
    if not below:
        raise InputError(
            f"{path}: a folder must hold event files of TensorBoard, metrics.csv, trainer_state.json or metrics of"
            " MLflow, got none of these"
        )
    listed = ", ".join(str(log if log.is_dir() else log.parent) for log in below[:_LISTED])
    more = f" and {len(below) - _LISTED} more" if len(below) > _LISTED else ""
    raise InputError(f"{path}: a folder must hold one log, got {len(below)}: {listed}{more}. Name one of them.")


def _directly_in(folder: Path) -> Path | None:
    if event_files(folder):
        return folder
    for name in _FILES:
        if (folder / name).is_file():
            return folder / name
    if metrics := _mlflow_metrics(folder):
        return metrics
    others = [file for file in folder.iterdir() if file.suffix in _OTHER_ENDINGS and file.is_file()]
    return others[0] if len(others) == 1 else None


def event_files(path: str | Path) -> list[Path]:
    """Return the event files that a path names: itself, or those in the folder, the oldest first.

    Their names begin with the time at which they were made, so that the part after a restart comes later.
    """
    path = Path(path)
    if path.is_dir():
        return sorted(file for file in path.iterdir() if _EVENTS in file.name and file.is_file())
    return [path] if _EVENTS in path.name else []


def read_events(path: str | Path) -> LogTable:
    """Return every scalar of TensorBoard by its tag, in the order written, up to the first incomplete record."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event
    except ImportError:
        raise InputError(
            f"{os.fspath(path)}: reading event files needs tensorboard: pip install 'lrfinder[tensorboard]'"
        ) from None
    found: dict[str, tuple[list[int], list[float]]] = {}
    for file in event_files(path):
        check_size(file)
        for record in _records(file.read_bytes()):
            try:
                event = Event.FromString(record)
            except Exception:  # protobuf has two implementations, each with an exception of its own
                break
            for entry in event.summary.value:
                if (number := _scalar(entry)) is not None:
                    steps, values = found.setdefault(entry.tag, ([], []))
                    steps.append(event.step)
                    values.append(number)
    if not found:
        raise InputError(f"{os.fspath(path)}: an event file must hold scalars, got none")
    return LogTable.of("TensorBoard", found, has_steps=True)


def _records(data: bytes) -> Iterator[bytes]:
    """Return the records of an event file, up to the first that is not all there.

    Each is its length in 8 bytes, 4 bytes of checksum, the record, and 4 bytes of checksum. The checksums are not
    compared: in Python that takes ten times as long as all the rest.
    """
    place = 0
    while place + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        if place + 16 + length > len(data):
            return
        yield data[place + 12 : place + 12 + length]
        place += 16 + length


def _scalar(entry: Any) -> float | None:
    """Return the number in a summary, in the old style or, as of TensorFlow 2, in a tensor; None if there is none."""
    if entry.HasField("simple_value"):
        return float(entry.simple_value)
    if not entry.HasField("tensor") or entry.metadata.plugin_data.plugin_name not in ("scalars", ""):
        return None
    from tensorboard.util.tensor_util import make_ndarray

    value = make_ndarray(entry.tensor)
    return float(value) if value.ndim == 0 and value.dtype.kind in "fiu" else None


def _mlflow_metrics(folder: Path) -> Path | None:
    """Return the folder with the metrics of a run of MLflow, given the run or that folder itself."""
    for metrics in (folder, folder / "metrics"):
        if metrics.name == "metrics" and metrics.is_dir() and any(map(_is_mlflow, _files_below(metrics))):
            return metrics
    return None


def _files_below(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _is_mlflow(file: Path) -> bool:
    with file.open("rb") as lines:
        return re.fullmatch(rb"\d{12,} \S+ \d+\s*", lines.readline(200)) is not None


def read_mlflow(path: str | Path) -> LogTable | None:
    """Return the metrics of a run of MLflow by name; None if the path names none.

    It names the ``metrics`` folder of the run, or the file of one metric. Each line is time, value and step.
    """
    path = Path(path)
    files = (
        {file.relative_to(path).as_posix(): file for file in _files_below(path)} if path.is_dir() else {path.name: path}
    )
    found: dict[str, tuple[list[int], list[float]]] = {}
    for name, file in files.items():
        check_size(file)
        if not _is_mlflow(file):
            continue
        rows = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
        kept = [row for row in rows if len(row) == 3]
        found[name] = ([int(step) for *_, step in kept], [float(value) for _, value, _ in kept])
    return LogTable.of("MLflow", found, has_steps=True) if found else None
