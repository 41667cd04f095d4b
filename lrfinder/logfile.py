"""Reading a `LossLog` from the CSV file that a training left behind."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrfinder.errors import InputError
from lrfinder.files import excerpt, read_text
from lrfinder.losslog import LossLog

__all__ = ["read_loss_log"]

_NO_LR = ("momentum", "weight_decay")
"""Endings of columns that Lightning's LearningRateMonitor writes beside the learning rates."""


class _Series(NamedTuple):
    """The cells of a column that are not empty: (n,) steps, strictly increasing, and their (n,) values."""

    step: NDArray[np.int64]
    value: NDArray[np.float64]


def read_loss_log(path: str | Path, *, loss_column: str | None = None, lr_column: str | None = None) -> LossLog:
    """Read a log: columns ``step,lr,loss``, or the ``metrics.csv`` of Lightning's CSVLogger.

    Rows may hold a learning rate, a loss or both (empty cells are skipped); the learning rate is interpolated to the
    rows that lack it. Where a step goes back (a restart from a checkpoint), the later part counts from there on; of
    a step that stands twice, the last row.

    Args:
        path: the file.
        loss_column: which column is the loss; by default ``loss``, or the one that has "loss" in its name.
        lr_column: which one is the learning rate; by default ``lr``, or the one whose name begins with "lr" or has
            "learning_rate" in it.

    Raises:
        InputError: the file is missing, a column is missing or not the only candidate, a cell is no number, or a rule
            of `LossLog` is broken; the text names the file and what was found. A log may lack losses, as a target.
    """
    path = Path(path)
    text = read_text(path, "CSV with columns step,lr,loss")
    try:
        return _log(csv.DictReader(text.splitlines(), skipinitialspace=True), str(path), loss_column, lr_column)
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV file ({error})") from None


def _log(reader: csv.DictReader[str], name: str, loss_column: str | None, lr_column: str | None) -> LossLog:
    columns = [column.strip() for column in reader.fieldnames or ()]
    reader.fieldnames = columns
    step = _column(name, columns, None, "step", [])
    rates = [c for c in columns if (c.lower().startswith("lr") or "learning_rate" in c.lower())]
    rates = [c for c in rates if not c.lower().endswith(_NO_LR)]
    lr = _column(name, columns, lr_column, "lr", rates)
    losses = [c for c in columns if "loss" in c.lower()]
    loss = _column(name, columns, loss_column, "loss", losses) if losses or loss_column is not None else None

    cells: dict[str, list[tuple[int, float]]] = {column: [] for column in (lr, loss) if column is not None}
    for row in reader:
        filled = [column for column in cells if (row[column] or "").strip()]
        if filled:
            at = _step(name, reader.line_num, step, row[step])
            for column in filled:
                cells[column].append((at, _number(name, reader.line_num, column, row[column])))
    if not cells[lr]:
        raise InputError(f"{name}: column {lr!r} must hold learning rates, got only empty cells")

    caveats: list[str] = []
    rate = _cleaned(cells[lr], caveats)
    bad = np.flatnonzero(~np.isfinite(rate.value))
    if bad.size:
        raise InputError(f"{name}: {lr} must be finite, got {rate.value[bad[0]]:g} at step {rate.step[bad[0]]}")
    known = _cleaned([cell for cell in cells[loss] if math.isfinite(cell[1])] if loss is not None else [], caveats)
    lost = len(cells[loss]) - sum(math.isfinite(value) for _, value in cells[loss]) if loss is not None else 0
    if lost:
        caveats.append(f"{lost} of {len(cells[loss or lr])} losses are not finite and were left out.")
    if known.step.size and known.step[-1] > rate.step[-1]:
        caveats.append(f"The last learning rate is of step {rate.step[-1]}; it is taken to stay until the last loss.")
    steps = np.union1d(rate.step, known.step)
    values = np.full(steps.size, np.nan)
    values[np.searchsorted(steps, known.step)] = known.value
    # Before its first row the rate rises from 0, as `LossLog.every_lr` has it.
    nodes = rate if rate.step[0] == 0 else _Series(np.r_[0, rate.step], np.r_[0.0, rate.value])
    return LossLog(name, steps, np.interp(steps, nodes.step, nodes.value), values, list(dict.fromkeys(caveats)))


def _column(name: str, columns: list[str], chosen: str | None, kind: str, candidates: list[str]) -> str:
    """Return the column chosen, that named ``kind``, or the only candidate."""
    found = ", ".join(columns) or "none"
    if chosen is not None:
        if chosen not in columns:
            raise InputError(f"{name}: --{kind}-column must be a column of the file ({found:.200}), got {chosen!r}")
        return chosen
    named = [column for column in columns if column.lower() == kind]
    fitting = named or candidates
    if not fitting:
        raise InputError(f"{name}: needs a column {kind!r}, got the columns {found:.200}")
    if len(fitting) > 1:
        raise InputError(
            f"{name}: must have one {kind} column, got {', '.join(fitting):.200}: choose with --{kind}-column"
        )
    return fitting[0]


def _step(name: str, line: int, column: str, cell: str | None) -> int:
    value = _number(name, line, column, cell)
    if not (0 <= value < 2**53 and value == math.floor(value)):
        raise InputError(f"{name}, line {line}: {column} must be a whole number of at least 0, got {excerpt(cell)}")
    return int(value)


def _number(name: str, line: int, column: str, cell: str | None) -> float:
    try:
        return float(cell or "")
    except ValueError:
        raise InputError(f"{name}, line {line}: {column} must be a number, got {excerpt(cell)}") from None


def _cleaned(cells: list[tuple[int, float]], caveats: list[str]) -> _Series:
    kept: list[tuple[int, float]] = []
    for cell in cells:
        if kept and cell[0] < kept[-1][0]:
            caveats.append(f"The log goes back to step {cell[0]} (a restart?); what it had from there on was left out.")
        elif kept and cell[0] == kept[-1][0]:
            caveats.append("Some steps stand in the log twice; the last row of each counts.")
        while kept and kept[-1][0] >= cell[0]:
            kept.pop()
        kept.append(cell)
    return _Series(np.array([s for s, _ in kept], dtype=np.int64), np.array([v for _, v in kept], dtype=np.float64))
