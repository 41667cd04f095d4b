"""`read_log`: a `TrainingLog` from the files that training tools write."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lrfinder.errors import InputError
from lrfinder.logs.formats import event_files, log_in, read_events, read_json, read_mlflow, read_text_records
from lrfinder.logs.log import TrainingLog
from lrfinder.logs.table import LogTable, Series, check_size, first_lines, read_table

_STEPS = ("step", "global_step", "iteration", "iter", "n_iter", "num_updates", "update", "total_timesteps", "timesteps")
"""Columns of steps, the preferred first; "train/global_step" counts as "global_step"."""

_CALLS = "_step"
"""The column in which Weights & Biases counts its calls: it stands for the steps if there are no others."""

_EPOCHS = ("epoch", "epochs", "training_iteration")
"""Columns that count coarser than steps: they stand for the steps if each row has a whole number of its own."""

_LOSSES = ("train_loss_step", "train_loss", "loss", "total_loss", "epoch_loss")
"""Columns preferred to any other as the metric, in this order."""

_NO_METRICS = re.compile(
    r"(wall_|relative_|elapsed_)?time(stamp|_ms)?|_?(runtime|timestamp)|hp_metric|index|.*momentum|.*weight_decay"
)
"""Columns that loggers write beside metrics, steps and rates."""

_BOUNDS = ("__min", "__max")
"""Endings of the columns that Weights & Biases exports beside each metric."""

_SUMMARY = "train_train_loss"
"""Mean loss of the whole training, which the Hugging Face Trainer reports once, at the end."""

_NOT_RATES = ("momentum", "weight_decay", *_BOUNDS)
"""Endings of columns that stand beside learning rates under their names."""


def read_log(
    path: str | Path,
    column: str | None = None,
    *,
    step_column: str | None = None,
    lr_column: str | None = None,
    for_forecast: bool = False,
) -> TrainingLog:
    """Read one metric of a training, and its learning rate if that was logged.

    The formats are tables (CSV, tabs, semicolons or spaces between cells), JSON and JSON lines, lines of text such as
    "step 100: loss 2.31", event files of TensorBoard (these need the package tensorboard), ``trainer_state.json`` of
    the Hugging Face Trainer, and metrics of MLflow; or a folder with one of these. Empty cells are skipped. If a step
    goes back (a restart from a checkpoint), the later part counts from there on; of a step that was logged twice, the
    last row counts. `TrainingLog.read_as` says what was taken as what.

    Args:
        path: the file or folder.
        column: the metric; by default the training loss, known by its name, or the only column that can be meant.
        step_column: the steps; by default ``step``, ``global_step``, ``iteration`` and the like, then ``epoch``. Rows
            are counted from 1 if there is none.
        lr_column: the learning rate; by default the only one named ``lr``, or the first whose name has "lr" or
            "learning_rate" in it.
        for_forecast: whether the log will be given to `forecast`. A metric without "loss" in its name must then be
            chosen, and a log without any loss is read with its learning rates alone.

    Raises:
        InputError: the file is missing or no log, the column is missing or not the only candidate, a cell is no
            number, or a rule of `TrainingLog` is broken; the text names the file, and the columns it has.
    """
    name, caveats = os.fspath(path), list[str]()  # as given: Path would drop a leading "./"
    table = open_log(path)
    columns = table.columns
    steps = None if table.has_steps else _choose_steps(name, columns, step_column)
    metric = _choose_metric(name, columns, column, steps, for_forecast)
    rate = _choose_lr(name, columns, lr_column, caveats)
    if metric is None and rate is None:
        raise InputError(
            f"{name}: needs a loss or a learning rate, got the columns {', '.join(columns) or 'none':.200}"
        )
    chosen = [c for c in (metric, rate) if c is not None]
    read = dict(table.read([*chosen, *([steps] if steps else [])]))
    if steps is not None and steps.lower().split("/")[-1] in _EPOCHS and step_column is None:
        steps = steps if _counts(read[steps], [read[c] for c in chosen]) else None
    if steps is not None:
        read.update({c: _at_steps(name, read[steps], steps, read[c]) for c in chosen})
    found = {c: drop_rewound_steps(read[c], caveats) for c in chosen if read[c].step.size}
    values, rates = (found.get(c) if c is not None else None for c in (metric, rate))
    if for_forecast and values is None and rates is not None:
        values, metric = Series(rates.step, np.full(rates.step.shape, np.nan)), None
    if values is None:
        raise InputError(f"{name}: column {metric or rate!r} must hold numbers, got only empty cells")
    lr_step, lr = (None, None) if rates is None else rates
    taken = (
        "step as recorded" if table.has_steps else f"step = {steps!r}" if steps else "step = number of the row",
        "no loss" if metric is None else f"metric = {metric!r}",
        "no learning rate" if rates is None else f"learning rate = {rate!r}",
    )
    return TrainingLog(
        name, *values, lr, lr_step=lr_step, column=metric or "loss", caveats=list(dict.fromkeys(caveats)),
        read_as=f"{table.kind}; {', '.join(taken)}",
    )  # fmt: skip


def open_log(path: str | Path) -> LogTable:
    """Return a log as named columns of numbers, whatever its format."""
    log = log_in(path)
    if event_files(log):
        return read_events(log)
    if log.is_dir():
        table = read_mlflow(log)
        assert table is not None  # or it would be no log
        return table
    check_size(log)
    start = next(iter(first_lines(os.fspath(path), log)), "").lstrip()
    if re.match(r'\{\s*("|$|\})|\[\s*(\{|$)', start):
        return read_json(path, log)
    if (table := read_mlflow(log)) is not None:
        return table
    return read_table(path, log) or read_text_records(path, log)


def plain_name(column: str) -> str:
    """Return a column in lower case with "_" for "/", "-", "." and spaces, without the run before " - ".

    >>> plain_name("my run - train/loss"), plain_name("lr-AdamW")
    ('train_loss', 'lr_adamw')
    """
    return re.sub(r"[/\-.\s]+", "_", column.rpartition(" - ")[2].strip().lower())


def _choose_steps(name: str, columns: Sequence[str], chosen: str | None) -> str | None:
    if chosen is not None:
        return _choose(name, columns, chosen, "step", [], "--step-column")
    last = {c: plain_name(c.split("/")[-1]) for c in columns}
    groups = [[c for c in columns if last[c] == wanted] for wanted in (*_STEPS, _CALLS, *_EPOCHS)]
    candidates = next((group for group in groups if group), [])
    return _choose(name, columns, None, "step", candidates, "--step-column") if candidates else None


def _counts(steps: Series, others: Sequence[Series]) -> bool:
    """Return whether a column of epochs has a whole number of its own for every row of the others."""
    value, step = steps.value, steps.step
    for other in others:
        at = np.searchsorted(step, other.step)
        if (at >= step.size).any() or (step[np.minimum(at, step.size - 1)] != other.step).any():
            return False
        rows = value[at]
        if not ((rows >= 0) & (rows == np.floor(rows))).all() or (np.diff(rows) <= 0).any():
            return False
    return True


def _at_steps(name: str, steps: Series, column: str, series: Series) -> Series:
    """Return a series whose rows are replaced by their steps."""
    at = np.minimum(np.searchsorted(steps.step, series.step), max(steps.step.size - 1, 0))
    missing = np.ones(series.step.shape, dtype=bool) if not steps.step.size else steps.step[at] != series.step
    if missing.any():
        row = int(series.step[np.argmax(missing)])
        raise InputError(f"{name}, row {row}: {column} must be a number, got an empty cell")
    step = steps.value[at] if steps.step.size else np.empty(0)
    wrong = ~((step >= 0) & (step < 2**53) & (step == np.floor(step)))
    if wrong.any():
        i = int(np.argmax(wrong))
        raise InputError(
            f"{name}, row {series.step[i]}: {column} must be a whole number of at least 0, got {step[i]:g}"
        )
    return Series(step.astype(np.int64), series.value)


def _choose_metric(
    name: str, columns: Sequence[str], chosen: str | None, steps: str | None, for_forecast: bool
) -> str | None:
    plain = {c: plain_name(c) for c in columns}
    known = [c for c in columns if c and c != steps and not _is_beside(c, plain[c])]
    losses = [c for c in known if "loss" in plain[c]]
    if for_forecast:
        known = losses
        if chosen is None and not losses:
            return None
    training = [c for c in losses if "train" in plain[c]]
    named = [[c for c in losses if plain[c] == first] for first in _LOSSES]
    groups = [*named, [c for c in training if not plain[c].endswith("_epoch")], training, losses, known]
    candidates = next((group for group in groups if len(group) == 1), known)
    if chosen is None and not candidates:
        raise InputError(
            f"{name}: needs a column of numbers beside steps and rates, got {', '.join(columns) or 'none':.200}"
        )
    return _choose(name, columns, chosen, "loss" if for_forecast else "metric", candidates, "--loss-column")


def _is_beside(column: str, plain: str) -> bool:
    return (
        plain in (*_STEPS, _CALLS, *_EPOCHS, _SUMMARY)
        or plain.endswith(("_global_step", *_BOUNDS))
        or _NO_METRICS.fullmatch(plain) is not None
        or is_lr_name(column)
    )


def _choose_lr(name: str, columns: Sequence[str], chosen: str | None, caveats: list[str]) -> str | None:
    if chosen is not None:
        return _choose(name, columns, chosen, "lr", [], "--lr-column")
    rates = [c for c in columns if is_lr_name(c)]
    exact = [c for c in rates if plain_name(c) == "lr"]
    if len(exact) == 1:
        return exact[0]
    if len(rates) > 1:
        caveats.append(
            f"The log has {len(rates)} learning-rate columns; using {rates[0]} (choose another with --lr-column)."
        )
    return rates[0] if rates else None


def _choose(
    name: str, columns: Sequence[str], chosen: str | None, kind: str, candidates: Sequence[str], option: str
) -> str:
    """Return the column that was chosen with ``option``, or the only candidate; ``kind`` names it in the errors."""
    listed = ", ".join(columns) or "none"
    if chosen is not None:
        if list(columns).count(chosen) > 1:
            raise InputError(f"{name}: {option} must name one column, got {chosen!r}, which the file has twice")
        if chosen not in columns:
            raise InputError(f"{name}: {option} must be a column of the file ({listed:.200}), got {chosen!r}")
        return chosen
    if len(candidates) > 1:
        raise InputError(f"{name}: must have one {kind} column, got {', '.join(candidates):.200}: choose with {option}")
    return candidates[0]


def is_lr_name(column: str) -> bool:
    """Return whether a column is named like a learning rate.

    >>> [is_lr_name(name) for name in ("lr", "train/learning_rate", "run - lr-Adam/pg1", "lr-SGD-momentum", "lr loss")]
    [True, True, True, False, False]
    """
    name = plain_name(column)
    if name.endswith(_NOT_RATES) or "loss" in name:
        return False
    return name.startswith("lr") or "learning_rate" in name or "learningrate" in name or "lr" in name.split("_")


def drop_rewound_steps(series: Series, caveats: list[str]) -> Series:
    """Return the last value of each step, without what a restart went back behind, so that steps increase strictly.

    ``caveats`` gets a sentence for what was dropped.
    """
    change = np.diff(series.step)
    back = series.step[1:][change < 0]
    if back.size == 1:
        caveats.append(
            f"The log goes back to step {back[0]} (a restart?); its earlier rows from there on are left out."
        )
    elif back.size:
        caveats.append(
            f"The log goes back {back.size} times, first to step {back[0]}, last to step {back[-1]} (restarts?); its"
            " earlier rows from there on are left out each time."
        )
    if (change == 0).any():
        caveats.append("Some steps were logged twice; the last row of each counts.")
    later = np.minimum.accumulate(series.step[::-1])[::-1]  # the lowest step from this row on
    kept = np.append(series.step[:-1] < later[1:], True) if series.step.size else np.empty(0, dtype=bool)
    return Series(series.step[kept], series.value[kept])
