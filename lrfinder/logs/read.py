"""`read_log`: a `TrainingLog` from the files that loggers leave behind."""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrfinder.errors import InputError
from lrfinder.files import excerpt, read_text
from lrfinder.logs.log import TrainingLog

__all__ = ["CsvTable", "Series", "drop_rewound_steps", "event_files", "is_lr_name", "read_events", "read_log"]

_MAX_BYTES = 2**29
"""Maximum size of a log: a million rows of a dozen columns take half of it."""

_FIRST = ("train_loss_step", "train_loss", "loss")
"""Columns preferred to any other, in this order; "/" and "-" count as "_"."""

_NO_METRICS = ("epoch", "step", "global_step", "hp_metric", "time", "wall_time", "timestamp")
"""Columns that loggers write beside metrics."""

_BOUNDS = ("__min", "__max")
"""Endings of the columns that Weights & Biases exports beside each metric."""

_NOT_RATES = ("momentum", "weight_decay")
"""Endings of columns that Lightning's LearningRateMonitor writes beside the learning rates."""

_EVENTS = "tfevents"
"""Part of the name of every event file of TensorBoard."""


class Series(NamedTuple):
    """The cells of a column that are not empty: (n,) steps and their (n,) values."""

    step: NDArray[np.int64]
    value: NDArray[np.float64]


def read_log(
    path: str | Path, column: str | None = None, *, lr_column: str | None = None, for_forecast: bool = False
) -> TrainingLog:
    """Read one metric of a training, and its learning rate if that was logged.

    From a CSV file: the ``metrics.csv`` of Lightning's CSVLogger, or any with a header line; its cells may be separated
    by commas, semicolons or tabs. A single column of numbers needs no header. From TensorBoard: an event file
    (``events.out.tfevents…``; needs the package tensorboard). From a folder: the event files in it, or its
    ``metrics.csv``. Empty cells are skipped. If a step goes back (a restart from a checkpoint), the later part counts
    from there on; of a step that was logged twice, the last row counts.

    Args:
        path: the file or folder.
        column: the metric; by default ``train_loss_step``, ``train_loss``, ``loss``, the only one with "train" and
            "loss" in its name, the only one with "loss" in it, or the only one.
        lr_column: the learning rate; by default the only one named ``lr``, or the first whose name begins with "lr" or
            has "learning_rate" in it.
        for_forecast: whether the log will be given to `forecast`. Rows of a CSV file without a column ``step`` are then
            refused instead of counted from 1, and a metric without "loss" in its name has to be chosen; a log without
            any loss is read with its learning rates alone.

    Raises:
        InputError: the file is missing or no log, the column is missing or not the only candidate, a cell is no
            number, or a rule of `TrainingLog` is broken; the text names the file, and the columns it has.
    """
    name, caveats = os.fspath(path), list[str]()  # as given: Path would drop a leading "./"
    table = read_events(path) if event_files(path) else CsvTable(path)
    columns, step = list(table if isinstance(table, dict) else table.columns), None
    if isinstance(table, CsvTable):
        steps = [c for c in columns if c.lower() == "step"]
        step = _choose(name, columns, None, "step", steps, "") if steps or for_forecast else None
    metric = _choose_metric(name, columns, column, for_forecast)
    rate = _choose_lr(name, columns, lr_column, caveats)
    if metric is None and rate is None:
        raise InputError(f"{name}: needs a loss or a learning rate, got the columns {', '.join(columns):.200}")
    chosen = [c for c in (metric, rate) if c is not None]
    read = [table[c] for c in chosen] if isinstance(table, dict) else table.read(step, chosen)
    found = {c: drop_rewound_steps(series, caveats) for c, series in zip(chosen, read, strict=True) if series.step.size}
    values, rates = (found.get(c) if c is not None else None for c in (metric, rate))
    if for_forecast and values is None and rates is not None:
        values = Series(rates.step, np.full(rates.step.shape, np.nan))
    if values is None:
        raise InputError(f"{name}: column {metric or rate!r} must hold numbers, got only empty cells")
    lr_step, lr = (None, None) if rates is None else rates
    return TrainingLog(
        name, *values, lr, lr_step=lr_step, column=metric or "loss", caveats=list(dict.fromkeys(caveats))
    )


def _choose_metric(name: str, columns: Sequence[str], chosen: str | None, for_forecast: bool) -> str | None:
    known = [c for c in columns if c and not _is_beside(c)]
    plain = {c: c.lower().replace("/", "_").replace("-", "_") for c in known}
    losses = [c for c in known if "loss" in plain[c]]
    if for_forecast:
        known = losses
        if chosen is None and not losses:
            return None
    training = [c for c in losses if "train" in plain[c]]
    named = [[c for c in losses if plain[c] == first] for first in _FIRST]
    groups = [*named, [c for c in training if not plain[c].endswith("_epoch")], training, losses, known]
    candidates = next((group for group in groups if len(group) == 1), known)
    if chosen is None and not candidates:
        raise InputError(
            f"{name}: needs a column of numbers beside steps and rates, got {', '.join(columns) or 'none':.200}"
        )
    option = "--loss-column" if for_forecast else "--column"
    return _choose(name, columns, chosen, "loss" if for_forecast else "metric", candidates, option)


def _is_beside(column: str) -> bool:
    plain = column.lower().replace(" ", "_")
    return plain in _NO_METRICS or plain.endswith(_BOUNDS) or plain.startswith("lr") or is_lr_name(column)


def _choose_lr(name: str, columns: Sequence[str], chosen: str | None, caveats: list[str]) -> str | None:
    if chosen is not None:
        return _choose(name, columns, chosen, "lr", [], "--lr-column")
    rates = [c for c in columns if is_lr_name(c)]
    exact = [c for c in rates if c.lower() == "lr"]
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
    if not candidates:
        raise InputError(f"{name}: needs a column {kind!r}, got the columns {listed:.200}")
    if len(candidates) > 1:
        choose = f": choose with {option}" if option else ""
        raise InputError(f"{name}: must have one {kind} column, got {', '.join(candidates):.200}{choose}")
    return candidates[0]


def is_lr_name(column: str) -> bool:
    """Return whether a column is named like a learning rate."""
    name = column.lower()
    return (name.startswith("lr") or "learning_rate" in name) and not name.endswith(_NOT_RATES)


def drop_rewound_steps(series: Series, caveats: list[str]) -> Series:
    """Return the last value of each step, without what a restart went back behind, so that steps increase strictly.

    Args:
        series: in the order of the file.
        caveats: gets a sentence for what was dropped.
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


class CsvTable:
    """A CSV file whose cells are separated by commas, semicolons or tabs.

    A file of one column of numbers, without a name, has the column "value".

    Attributes:
        name: the path as given; of a folder, its ``metrics.csv`` is read.
        columns: names, in the order of the file.
    """

    def __init__(self, path: str | Path, *, max_bytes: int = _MAX_BYTES) -> None:
        """Read the file.

        Raises:
            InputError: the file is missing, unreadable, larger than ``max_bytes`` or no text, or its columns have no
                names; or the folder has no ``metrics.csv``.
        """
        self.name, file = os.fspath(path), Path(path)
        if file.is_dir():
            file /= "metrics.csv"
            if not file.is_file():
                raise InputError(f"{path}: a folder must hold event files of TensorBoard or metrics.csv, got neither")
        lines = read_text(file, "a CSV log or an event file of TensorBoard", max_bytes).splitlines()
        head = next(filter(str.strip, lines), "")
        delimiter = next((mark for mark in ",;\t" if mark in head), ",")
        self._reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
        with self._errors_named():
            first = next((row for row in self._reader if row), [])
        self.columns = [column.strip() for column in first]
        if first and all(map(_is_text_of_number, first)):
            if len(first) > 1:
                raise InputError(f"{self.name}: the first line must name the columns, got {excerpt(head)}")
            self.columns = ["value"]
            self._reader = csv.reader(lines)

    @contextlib.contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except csv.Error as error:
            raise InputError(f"{self.name}: not a CSV file ({error})") from None

    def read(self, step: str | None, wanted: Sequence[str]) -> list[Series]:
        """Return the cells of each wanted column that are not empty, in the order of the file; call it once only.

        Args:
            step: column of the steps; None for the number of the row, from 1.
            wanted: names of columns.

        Raises:
            InputError: a cell is no number, or a step no whole number of at least 0; the text names the line.
        """
        at = None if step is None else self.columns.index(step)
        series: list[tuple[str, int, list[int], list[float]]] = [(c, self.columns.index(c), [], []) for c in wanted]
        rows = 0
        with self._errors_named():
            for row in self._reader:
                rows += bool(row)
                number = rows if at is None else None
                for column, i, steps, values in series:
                    if i < len(row) and row[i].strip():
                        if number is None:
                            number = self._step(step or "", row[at or 0] if (at or 0) < len(row) else "")
                        steps.append(number)
                        values.append(self._number(column, row[i]))
        return [Series(np.array(steps, dtype=np.int64), np.array(values)) for _, _, steps, values in series]

    def _step(self, column: str, cell: str) -> int:
        value = self._number(column, cell)
        if not (0 <= value < 2**53 and value.is_integer()):
            raise InputError(f"{self._line}: {column} must be a whole number of at least 0, got {excerpt(cell)}")
        return int(value)

    def _number(self, column: str, cell: str) -> float:
        try:
            return float(cell)
        except ValueError:
            raise InputError(f"{self._line}: {column} must be a number, got {excerpt(cell)}") from None

    @property
    def _line(self) -> str:
        return f"{self.name}, line {self._reader.line_num}"


def _is_text_of_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def event_files(path: str | Path) -> list[Path]:
    """Return the event files that a path names: itself, or those in the folder, the oldest first.

    Their names begin with the time at which they were made, so that the part after a restart comes later.
    """
    path = Path(path)
    if path.is_dir():
        return sorted(file for file in path.iterdir() if _EVENTS in file.name and file.is_file())
    return [path] if _EVENTS in path.name else []


def read_events(path: str | Path) -> dict[str, Series]:
    """Return every scalar by its tag, in the order written; of a file that is still being written, what is there.

    Args:
        path: an event file, or a folder with some.

    Raises:
        InputError: the package tensorboard is not installed, a file cannot be read, or there are no scalars.
    """
    try:
        from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
    except ImportError:
        raise InputError(
            f"{os.fspath(path)}: reading event files needs tensorboard: pip install 'lrfinder[tensorboard]'"
        ) from None
    found: dict[str, tuple[list[int], list[float]]] = {}
    for file in event_files(path):
        try:
            with file.open("rb"):  # the loader would wait for a file that is not there
                pass
            for event in LegacyEventFileLoader(os.fspath(file)).Load():
                for entry in event.summary.value:
                    if (number := _scalar(entry)) is not None:
                        steps, values = found.setdefault(entry.tag, ([], []))
                        steps.append(event.step)
                        values.append(number)
        except OSError as error:
            raise InputError(f"cannot read {file}: {error.strerror or error}") from None
    if not found:
        raise InputError(f"{os.fspath(path)}: an event file must hold scalars, got none")
    return {tag: Series(np.array(steps, dtype=np.int64), np.array(values)) for tag, (steps, values) in found.items()}


def _scalar(entry: Any) -> float | None:
    """Return the number in a summary, in the old style or, as of TensorFlow 2, in a tensor; None if there is none."""
    if entry.HasField("simple_value"):
        return float(entry.simple_value)
    if not entry.HasField("tensor") or entry.metadata.plugin_data.plugin_name not in ("scalars", ""):
        return None
    from tensorboard.util.tensor_util import make_ndarray

    value = make_ndarray(entry.tensor)
    return float(value) if value.ndim == 0 and value.dtype.kind in "fiu" else None
