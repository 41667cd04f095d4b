"""Logs that are records, each with the names of its numbers: JSON, JSON lines, and lines of text."""

from __future__ import annotations

import array
import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lrfinder.errors import InputError
from lrfinder.files import excerpt
from lrfinder.logs.table import PAIR, LogTable, Series, first_lines, text_lines

__all__ = ["read_json", "read_text_records"]

_SUMMARY = "train_runtime"
"""A field of the last record of the Hugging Face Trainer, which sums up the training and is no step of it."""


def read_json(path: str | Path, file: Path) -> LogTable:
    """Return the columns of a file of JSON.

    It may hold one object to a line; ``trainer_state.json`` of the Hugging Face Trainer; a list of objects; an object
    of lists, such as the ``history`` of Keras; or an object that holds one of these. Nested names are joined by "/".

    Raises:
        InputError: it cannot be read, is no JSON, or holds no such thing.
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
            f" {excerpt(document)}"
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
            raise InputError(f"{name}, line {number}: must be an object, got {excerpt(record)}")
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

    Raises:
        InputError: the file cannot be read.
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
    series = {
        name: Series(np.frombuffer(rows, dtype=np.int64), np.frombuffer(values, dtype=np.float64))
        for name, (rows, values) in found.items()
    }
    return LogTable(kind, tuple(series), lambda wanted: {name: series[name] for name in wanted})


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
