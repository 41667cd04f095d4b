"""Reading a `LossLog` from the CSV file that a training left behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lrfinder.cells import Sheet, Steps, cleaned, is_rate, only_column
from lrfinder.errors import InputError
from lrfinder.losslog import LossLog

__all__ = ["read_loss_log"]


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
    sheet, caveats = Sheet(path, "CSV with columns step,lr,loss"), list[str]()
    name, columns = sheet.name, sheet.columns
    step = only_column(name, columns, None, "step", [], "")
    lr = only_column(name, columns, lr_column, "lr", [c for c in columns if is_rate(c)], "--lr-column")
    losses = [c for c in columns if "loss" in c.lower()]
    loss = None
    if losses or loss_column is not None:
        loss = only_column(name, columns, loss_column, "loss", losses, "--loss-column")

    read = sheet.read(step, [lr] if loss is None else [lr, loss])
    if not read[0].step.size:
        raise InputError(f"{name}: column {lr!r} must hold learning rates, got only empty cells")
    rate = cleaned(read[0], caveats)
    bad = np.flatnonzero(~np.isfinite(rate.value))
    if bad.size:
        raise InputError(f"{name}: {lr} must be finite, got {rate.value[bad[0]]:g} at step {rate.step[bad[0]]}")
    known = Steps(np.empty(0, dtype=np.int64), np.empty(0))
    if loss is not None:
        finite = np.isfinite(read[1].value)
        known = cleaned(Steps(read[1].step[finite], read[1].value[finite]), caveats)
        if not finite.all():
            caveats.append(f"{(~finite).sum()} of {finite.size} losses are not finite and were left out.")
    if known.step.size and known.step[-1] > rate.step[-1]:
        caveats.append(f"The last learning rate is of step {rate.step[-1]}; it is taken to stay until the last loss.")
    steps = np.union1d(rate.step, known.step)
    values = np.full(steps.size, np.nan)
    values[np.searchsorted(steps, known.step)] = known.value
    # Before its first row the rate rises from 0, as `LossLog.every_lr` has it.
    nodes = rate if rate.step[0] == 0 else Steps(np.r_[0, rate.step], np.r_[0.0, rate.value])
    return LossLog(name, steps, np.interp(steps, nodes.step, nodes.value), values, list(dict.fromkeys(caveats)))
