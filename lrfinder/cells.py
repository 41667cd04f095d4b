"""The cells of a CSV log: columns found by name, those that are not empty read, what a restart repeats left out."""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrfinder.errors import InputError
from lrfinder.files import excerpt, read_text

__all__ = ["Sheet", "Steps", "cleaned", "is_rate", "only_column"]

_MAX_BYTES = 2**29
"""Of a log: a million rows of a dozen columns are half of that."""
_NOT_RATES = ("momentum", "weight_decay")
"""Endings of columns that Lightning's LearningRateMonitor writes beside the learning rates."""


class Steps(NamedTuple):
    """The cells of a column that are not empty: (n,) steps and their (n,) values."""

    step: NDArray[np.int64]
    value: NDArray[np.float64]


class Sheet:
    """A CSV file whose cells are separated by commas, semicolons or tabs.

    A file of one column of numbers, without a name, has the column "value".

    Attributes:
        name: the path as given.
        columns: names, in the order of the file.
    """

    def __init__(self, path: str | Path, expected: str) -> None:
        """Read the file.

        Args:
            path: the file.
            expected: what it should have been, for the errors.

        Raises:
            InputError: it is missing, unreadable, too large or no text, or its columns have no names.
        """
        self.name = os.fspath(path)  # as given: Path would drop a leading "./"
        self._lines = read_text(Path(path), expected, _MAX_BYTES).splitlines()
        head = next(filter(str.strip, self._lines), "")
        self._delimiter = "," if "," in head else ";" if ";" in head else "\t" if "\t" in head else ","
        self._reader = csv.reader(self._lines, delimiter=self._delimiter, skipinitialspace=True)
        with self._named():
            first = next((row for row in self._reader if row), [])
        self.columns = [column.strip() for column in first]
        if first and all(map(_is_number, first)):
            if len(first) > 1:
                raise InputError(f"{self.name}: the first line must name the columns, got {excerpt(head)}")
            self.columns = ["value"]
            self._reader = csv.reader(self._lines)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except csv.Error as error:
            raise InputError(f"{self.name}: not a CSV file ({error})") from None

    def read(self, step: str | None, wanted: Sequence[str]) -> list[Steps]:
        """Return the cells of each column wanted that are not empty, in the order of the file; to be called once.

        Args:
            step: column of the steps; None for the number of the row, from 1.
            wanted: columns.

        Raises:
            InputError: a cell is no number, or a step no whole number of at least 0; the text names the line.
        """
        at = None if step is None else self.columns.index(step)
        series: list[tuple[str, int, list[int], list[float]]] = [(c, self.columns.index(c), [], []) for c in wanted]
        rows = 0
        with self._named():
            for row in self._reader:
                rows += bool(row)
                number = rows if at is None else None
                for column, i, steps, values in series:
                    if i < len(row) and row[i].strip():
                        if number is None:
                            number = self._step(step or "", row[at or 0] if (at or 0) < len(row) else "")
                        steps.append(number)
                        values.append(self._number(column, row[i]))
        return [Steps(np.array(steps, dtype=np.int64), np.array(values)) for _, _, steps, values in series]

    def _step(self, column: str, cell: str) -> int:
        value = self._number(column, cell)
        if not (0 <= value < 2**53 and value.is_integer()):
            raise InputError(
                f"{self.name}, line {self._reader.line_num}: {column} must be a whole number of at least 0,"
                f" got {excerpt(cell)}"
            )
        return int(value)

    def _number(self, column: str, cell: str) -> float:
        try:
            return float(cell)
        except ValueError:
            raise InputError(
                f"{self.name}, line {self._reader.line_num}: {column} must be a number, got {excerpt(cell)}"
            ) from None


def only_column(
    name: str, columns: Sequence[str], chosen: str | None, kind: str, candidates: Sequence[str], option: str
) -> str:
    """Return the column chosen, that named ``kind``, or the only candidate.

    Args:
        name: of the log.
        columns: those it has.
        chosen: by the caller; must be there once.
        kind: what is looked for.
        candidates: columns that may be it.
        option: with which to choose; "" where there is no choice.

    Raises:
        InputError: there is none, or more than one.
    """
    found = ", ".join(columns) or "none"
    if chosen is not None:
        if list(columns).count(chosen) > 1:
            raise InputError(f"{name}: {option} must name one column, got {chosen!r}, which the file has twice")
        if chosen not in columns:
            raise InputError(f"{name}: {option} must be a column of the file ({found:.200}), got {chosen!r}")
        return chosen
    named = [column for column in columns if column.lower() == kind]
    fitting = named or candidates
    if not fitting:
        raise InputError(f"{name}: needs a column {kind!r}, got the columns {found:.200}")
    if len(fitting) > 1:
        choose = f": choose with {option}" if option else ""
        raise InputError(f"{name}: must have one {kind} column, got {', '.join(fitting):.200}{choose}")
    return fitting[0]


def is_rate(column: str) -> bool:
    """Return whether a column is named like a learning rate."""
    name = column.lower()
    return (name.startswith("lr") or "learning_rate" in name) and not name.endswith(_NOT_RATES)


def cleaned(cells: Steps, caveats: list[str]) -> Steps:
    """Return the last cell of each step, without what a later one goes back behind; so steps rise strictly."""
    change = np.diff(cells.step)
    back = cells.step[1:][change < 0]
    if back.size == 1:
        caveats.append(f"The log goes back to step {back[0]} (a restart?); what it had from there on was left out.")
    elif back.size:
        caveats.append(
            f"The log goes back {back.size} times, first to step {back[0]}, last to step {back[-1]} (restarts?); each"
            " time what it had from there on was left out."
        )
    if (change == 0).any():
        caveats.append("Some steps stand in the log twice; the last row of each counts.")
    later = np.minimum.accumulate(cells.step[::-1])[::-1]  # the least step from this cell on
    kept = np.append(cells.step[:-1] < later[1:], True) if cells.step.size else np.empty(0, dtype=bool)
    return Steps(cells.step[kept], cells.value[kept])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
