"""Reading a `LossLog` from the CSV file that a training left behind."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrfinder.errors import InputError
from lrfinder.files import excerpt, read_text
from lrfinder.losslog import LossLog

__all__ = ["read_loss_log"]

_NO_LR = ("momentum", "weight_decay")
"""Endings of columns that Lightning's LearningRateMonitor writes beside the learning rates."""


class _Series(NamedTuple):
    """The cells of a column that are not empty: (n,) steps and their (n,) values."""

    step: NDArray[np.int64]
    value: NDArray[np.float64]


def read_loss_log(path: str | Path, *, loss_column: str | None = None, lr_column: str | None = None) -> LossLog:
    """Read a log: columns ``step,lr,loss``, or the ``metrics.csv`` of Lightning's CSVLogger.

    Rows may hold a learning rate, a loss or both (empty cells are skipped); the learning rate is interpolated to the
    rows that lack it. Where a step goes back (a restart from a checkpoint), the later part counts from there on; of
    a step that stands twice, the last row. Cells may be separated by commas, semicolons or tabs.

    Args:
        path: the file.
        loss_column: which column is the loss; by default ``loss``, or the one that has "loss" in its name.
        lr_column: which one is the learning rate; by default ``lr``, or the one whose name begins with "lr" or has
            "learning_rate" in it.

    Raises:
        InputError: the file is missing, a column is missing or not the only candidate, a cell is no number, or a rule
            of `LossLog` is broken; the text names the file and what was found. A log may lack losses, as a target.
    """
    name = os.fspath(path)  # as given: Path would drop a leading "./"
    text = read_text(Path(path), "CSV with columns step,lr,loss")
    try:
        return _log(text.splitlines(), name, loss_column, lr_column)
    except csv.Error as error:
        raise InputError(f"{name}: not a CSV file ({error})") from None


def _log(lines: list[str], name: str, loss_column: str | None, lr_column: str | None) -> LossLog:
    reader = csv.reader(lines, delimiter=_delimiter(lines), skipinitialspace=True)
    columns = [column.strip() for column in next((row for row in reader if row), [])]
    step = _column(name, columns, None, "step", [])
    rates = [c for c in columns if (c.lower().startswith("lr") or "learning_rate" in c.lower())]
    rates = [c for c in rates if not c.lower().endswith(_NO_LR)]
    lr = _column(name, columns, lr_column, "lr", rates)
    losses = [c for c in columns if "loss" in c.lower()]
    loss = _column(name, columns, loss_column, "loss", losses) if losses or loss_column is not None else None

    read = _cells(name, reader, columns, step, [lr] if loss is None else [lr, loss])
    if not read[0].step.size:
        raise InputError(f"{name}: column {lr!r} must hold learning rates, got only empty cells")
    caveats: list[str] = []
    rate = _cleaned(read[0], caveats)
    bad = np.flatnonzero(~np.isfinite(rate.value))
    if bad.size:
        raise InputError(f"{name}: {lr} must be finite, got {rate.value[bad[0]]:g} at step {rate.step[bad[0]]}")
    known = _Series(np.empty(0, dtype=np.int64), np.empty(0))
    if loss is not None:
        finite = np.isfinite(read[1].value)
        known = _cleaned(_Series(read[1].step[finite], read[1].value[finite]), caveats)
        if not finite.all():
            caveats.append(f"{(~finite).sum()} of {finite.size} losses are not finite and were left out.")
    if known.step.size and known.step[-1] > rate.step[-1]:
        caveats.append(f"The last learning rate is of step {rate.step[-1]}; it is taken to stay until the last loss.")
    steps = np.union1d(rate.step, known.step)
    values = np.full(steps.size, np.nan)
    values[np.searchsorted(steps, known.step)] = known.value
    # Before its first row the rate rises from 0, as `LossLog.every_lr` has it.
    nodes = rate if rate.step[0] == 0 else _Series(np.r_[0, rate.step], np.r_[0.0, rate.value])
    return LossLog(name, steps, np.interp(steps, nodes.step, nodes.value), values, list(dict.fromkeys(caveats)))


def _delimiter(lines: list[str]) -> str:
    """Return the comma, or what stands in its place in the first line that is not empty."""
    head = next(filter(str.strip, lines), "")
    return "," if "," in head else ";" if ";" in head else "\t" if "\t" in head else ","


def _cells(name: str, reader: Any, columns: list[str], step: str, wanted: list[str]) -> list[_Series]:
    """Return the cells of each column wanted that are not empty, in the order of the file."""
    at = columns.index(step)
    series: list[tuple[str, int, list[int], list[float]]] = [(c, columns.index(c), [], []) for c in wanted]
    for row in reader:
        number = None
        for column, i, steps, values in series:
            if i < len(row) and row[i].strip():
                if number is None:
                    number = _step(name, reader, step, row[at] if at < len(row) else "")
                steps.append(number)
                values.append(_number(name, reader, column, row[i]))
    return [_Series(np.array(steps, dtype=np.int64), np.array(values)) for _, _, steps, values in series]


def _column(name: str, columns: list[str], chosen: str | None, kind: str, candidates: list[str]) -> str:
    """Return the column chosen, that named ``kind``, or the only candidate."""
    found = ", ".join(columns) or "none"
    if chosen is not None:
        if columns.count(chosen) > 1:
            raise InputError(f"{name}: --{kind}-column must name one column, got {chosen!r}, which the file has twice")
        if chosen not in columns:
            raise InputError(f"{name}: --{kind}-column must be a column of the file ({found:.200}), got {chosen!r}")
        return chosen
    named = [column for column in columns if column.lower() == kind]
    fitting = named or candidates
    if not fitting:
        raise InputError(f"{name}: needs a column {kind!r}, got the columns {found:.200}")
    if len(fitting) > 1:
        raise InputError(
            f"{name}: must have one {kind} column, got {', '.join(fitting):.200}"
            + (f": choose with --{kind}-column" if kind != "step" else "")
        )
    return fitting[0]


def _step(name: str, reader: Any, column: str, cell: str) -> int:
    value = _number(name, reader, column, cell)
    if not (0 <= value < 2**53 and value.is_integer()):
        raise InputError(
            f"{name}, line {reader.line_num}: {column} must be a whole number of at least 0, got {excerpt(cell)}"
        )
    return int(value)


def _number(name: str, reader: Any, column: str, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise InputError(f"{name}, line {reader.line_num}: {column} must be a number, got {excerpt(cell)}") from None


def _cleaned(cells: _Series, caveats: list[str]) -> _Series:
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
    return _Series(cells.step[kept], cells.value[kept])
