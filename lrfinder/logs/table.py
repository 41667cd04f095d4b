"""Logs that are tables: CSV files and columns between spaces, read column by column."""

from __future__ import annotations

import array
import contextlib
import csv
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrfinder.errors import InputError
from lrfinder.files import is_device

_MAX_BYTES = 2**29
"""Maximum size of a log: a million rows of a dozen columns take half of it."""

_CHUNK = 8192
"""Number of rows that are turned into numbers at once."""

_LOOKED_AT = 50
"""Number of lines at the beginning of a file that tell its format."""

_EMPTY = {"", "none", "null", "n/a"}
"""Texts of a cell without a number."""

PAIR = re.compile(
    r"""['"]?\b((?:(?:train|training|val|valid|validation|test|eval)[ ])?[a-zA-Z_][\w/.-]*?)['"]?"""
    r"""\s*[:=\s]\s*[\[(]?([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf)\b)(?![\w-]|\.\d)""",
    re.IGNORECASE,
)
"""A name and its number in a line of text, as in "step 100: train loss 2.31, lr = 1e-3"."""


class Series(NamedTuple):
    """The cells of a column that are not empty: (n,) steps or numbers of rows, and their (n,) values."""

    step: NDArray[np.int64]
    value: NDArray[np.float64]


class LogTable(NamedTuple):
    """A log as named columns of numbers.

    Attributes:
        kind: what the file is, such as "CSV".
        columns: names, in the order of the file.
        read: returns the cells of the columns named that are not empty, in the order of the file.
        has_steps: whether the ``step`` of each series is a step; otherwise it is the number of the row, from 1.
    """

    kind: str
    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], Mapping[str, Series]]
    has_steps: bool = False

    @classmethod
    def of(cls, kind: str, columns: Mapping[str, tuple[ArrayLike, ArrayLike]], has_steps: bool = False) -> LogTable:
        """Return a table of columns that have been read already: steps or rows, and values."""
        series = {name: series_of(*column) for name, column in columns.items()}
        return cls(kind, tuple(series), lambda wanted: {name: series[name] for name in wanted}, has_steps)


def series_of(steps: ArrayLike, values: ArrayLike) -> Series:
    """Return a series as arrays."""
    return Series(np.asarray(steps, dtype=np.int64), np.asarray(values, dtype=np.float64))


def check_size(file: Path) -> None:
    """Check that a file can be read, more than once: that it is there, no pipe, and no larger than 512 MiB."""
    try:
        if is_device(file):
            raise InputError(f"{file}: a log must be a file on disk, which can be read again, got a pipe or device")
        if file.stat().st_size > _MAX_BYTES:
            raise InputError(f"{file}: larger than {_MAX_BYTES // 2**20} MiB, which no log is")
        with file.open("rb"):
            pass
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from None


@contextlib.contextmanager
def text_lines(name: str, file: Path) -> Iterator[IO[str]]:
    """Open a text file for reading, without a byte order mark."""
    try:
        with _csv_errors(name), file.open(encoding="utf-8-sig", newline="") as lines:
            yield lines
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(
            f"{name}: not a text file, expected a log (CSV, JSON, text, or an event file of TensorBoard)"
        ) from None


def first_lines(name: str, file: Path) -> list[str]:
    """Return the first lines that are not blank."""
    with text_lines(name, file) as lines:
        return list(itertools.islice((line.strip("\r\n") for line in lines if line.strip()), _LOOKED_AT))


class _Layout(NamedTuple):
    """How the lines of a table are cut into cells.

    Attributes:
        delimiter: what separates the cells; None for spaces.
        columns: names.
        header: whether the first line that is not blank or a comment names the columns.
    """

    delimiter: str | None
    columns: tuple[str, ...]
    header: bool


def read_table(path: str | Path, file: Path) -> LogTable | None:
    """Return the columns of a table, whose cells are separated by commas, semicolons, tabs or spaces.

    A file without a header line may have one column of numbers ("value") or two, of which the first rises ("step",
    "value"). Others are called "column 1", "column 2", ….

    Returns:
        The table; None if the lines are no table but text with names and numbers.
    """
    name = os.fspath(path)
    lines = first_lines(name, file)
    rows = [line for line in lines if not line.startswith("#")]
    head = rows[0] if rows else ""
    delimiter = next((mark for mark in ",;\t" if mark in head), None)
    if not _is_table(head, rows[1:6], delimiter) and any(PAIR.search(row) for row in rows):
        return None
    if delimiter is None and len(head.split()) > 1 and not _looks_split(head, rows[1:2]):
        delimiter = ","  # a single column with spaces in its name
    layout = _layout(name, lines, rows, delimiter)

    def read(wanted: Sequence[str]) -> Mapping[str, Series]:
        return _read(name, file, layout, wanted)

    kind = "columns between spaces" if layout.delimiter is None and len(layout.columns) > 1 else "CSV"
    return LogTable(kind, layout.columns, read)


def _is_table(head: str, others: Sequence[str], delimiter: str | None) -> bool:
    """Return whether the first line has as many cells as those after it, and none of them is a name with a number."""
    if delimiter is None:
        return _looks_split(head, others)
    if any(map(PAIR.search, others)) and any(PAIR.fullmatch(cell.strip()) for cell in head.split(delimiter)):
        return False
    return all(other.count(delimiter) == head.count(delimiter) for other in others)


def _looks_split(head: str, others: Sequence[str]) -> bool:
    cells = len(head.split())
    return all(len(other.split()) == cells and all(map(_is_number, other.split())) for other in others)


def _cells(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:
        return line.split()
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]


def _layout(name: str, lines: Sequence[str], rows: Sequence[str], delimiter: str | None) -> _Layout:
    if not rows:
        return _Layout(",", (), True)
    with _csv_errors(name):
        first = _cells(rows[0], delimiter)
    if not all(map(_is_number, first)):
        return _Layout(delimiter, tuple(first), True)
    comment = [line.lstrip("# ") for line in lines[: lines.index(rows[0])]]
    if comment and len(named := _cells(comment[-1], delimiter)) == len(first):  # as numpy.savetxt writes a header
        return _Layout(delimiter, tuple(named), False)
    numbers = [[float(cell) for cell in _cells(row, delimiter) if _is_number(cell)] for row in rows]
    return _Layout(delimiter, _unnamed(numbers), False)


def _unnamed(rows: Sequence[Sequence[float]]) -> tuple[str, ...]:
    count = len(rows[0])
    if count == 1:
        return ("value",)
    first = [row[0] for row in rows if row]
    if count == 2 and all(number.is_integer() and number >= 0 for number in first) and first == sorted(set(first)):
        return ("step", "value")
    return tuple(f"column {i + 1}" for i in range(count))


@contextlib.contextmanager
def _csv_errors(name: str) -> Iterator[None]:
    try:
        yield
    except csv.Error as error:
        raise InputError(f"{name}: not a CSV file ({error})") from None


def _rows(lines: Iterable[str], layout: _Layout) -> Iterator[list[str]]:
    """Return the rows below the header, blank lines and comments left out."""
    rows = (
        map(str.split, lines)
        if layout.delimiter is None
        else csv.reader(lines, delimiter=layout.delimiter, skipinitialspace=True)
    )
    kept = (row for row in rows if row and not row[0].startswith("#"))
    return itertools.islice(kept, 1 if layout.header else 0, None)


def _read(name: str, file: Path, layout: _Layout, wanted: Sequence[str]) -> dict[str, Series]:
    places = {column: layout.columns.index(column) for column in wanted}
    found = {column: (array.array("q"), array.array("d")) for column in places}
    before = 0
    with text_lines(name, file) as lines:
        rows = _rows(lines, layout)
        while chunk := list(itertools.islice(rows, _CHUNK)):
            for column, place in places.items():
                cells = [row[place] if place < len(row) else "" for row in chunk]
                at, values = found[column]
                try:
                    if not all(cells):
                        raise ValueError
                    values.extend(list(map(float, cells)))
                    at.extend(range(before + 1, before + 1 + len(cells)))
                except ValueError:
                    filled = [i for i, cell in enumerate(cells, before + 1) if cell.strip().lower() not in _EMPTY]
                    values.extend([_number(name, column, i, cells[i - before - 1]) for i in filled])
                    at.extend(filled)
            before += len(chunk)
    return {column: series_of(*cells) for column, cells in found.items()}


def _number(name: str, column: str, row: int, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise InputError(f"{name}, row {row}: {column} must be a number, got {cell!r:.60}") from None


def _is_number(cell: str) -> bool:
    """Return whether a cell holds a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True
