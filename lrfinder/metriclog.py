"""`MetricLog`: one metric of a training, as it was logged, and reading it from the files that loggers leave behind."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrfinder.cells import Sheet, cleaned, is_rate, only_column
from lrfinder.errors import InputError
from lrfinder.eventfile import event_files, read_events

__all__ = ["MetricLog", "read_metric_log"]

_FIRST = ("train_loss_step", "train_loss", "loss")
"""Columns taken before any other, in this order; "/" and "-" count as "_"."""
_NO_METRICS = ("epoch", "step", "global_step", "hp_metric", "time", "wall_time", "timestamp")
"""What loggers write beside metrics."""
_BOUNDS = ("__min", "__max")
"""Endings of the columns that Weights & Biases exports beside each metric."""


@dataclass(frozen=True, eq=False)
class MetricLog:
    """One metric of one training. Row ``i`` was written after ``step[i]`` steps.

    Attributes:
        name: the file, say.
        column: what the metric is called there.
        step: (n,) int64, strictly increasing, n >= 1.
        value: (n,) float64; one that is not finite counts as skipped.
        lr: (n,) float64, finite: the learning rate of that step, given as one number where it never changed; None where
            it is not known.
        caveats: what was amiss with the log, in sentences.

    Raises:
        InputError: a field breaks the rule stated with it.
    """

    name: str
    column: str
    step: NDArray[np.int64]
    value: NDArray[np.float64]
    lr: NDArray[np.float64] | None
    caveats: tuple[str, ...]

    def __init__(
        self,
        name: str,
        column: str,
        step: ArrayLike,
        value: ArrayLike,
        lr: ArrayLike | None = None,
        caveats: Sequence[str] = (),
    ) -> None:
        steps, values = np.array(step), np.array(value, dtype=np.float64)
        lrs = None if lr is None else np.array(lr, dtype=np.float64)
        if lrs is not None and lrs.ndim == 0:
            lrs = np.full(values.shape, lrs)
        _check(name, steps, values, lrs)
        for array in (steps := steps.astype(np.int64), values, lrs):
            if array is not None:
                array.setflags(write=False)
        for field, given in zip(
            ("name", "column", "step", "value", "lr", "caveats"),
            (name, column, steps, values, lrs, tuple(caveats)),
            strict=True,
        ):
            object.__setattr__(self, field, given)

    def __len__(self) -> int:
        return int(self.step.size)

    def __repr__(self) -> str:
        return f"MetricLog({self.name}: {self.column}, {len(self)} rows, steps {self.step[0]} to {self.step[-1]})"

    @property
    def skipped(self) -> int:
        """Values that are not finite."""
        return int((~np.isfinite(self.value)).sum())


def read_metric_log(path: str | Path, column: str | None = None, *, lr_column: str | None = None) -> MetricLog:
    """Read one metric of a training, with its learning rate where that was logged.

    From a CSV file: the ``metrics.csv`` of Lightning's CSVLogger, or any with a header line; without a column ``step``
    rows are counted from 1. A single column of numbers needs no header. From TensorBoard: an event file
    (``events.out.tfevents…``; takes the package tensorboard). From a folder: the event files in it, or its
    ``metrics.csv``. Empty cells are no rows. Where a step goes back (a restart from a checkpoint), the later part
    counts from there on; of a step that stands twice, the last row. A learning rate holds until the next one logged.

    Args:
        path: the file or folder.
        column: the metric; by default ``train_loss_step``, ``train_loss``, ``loss``, the only one with "train" and
            "loss" in its name, the only one with "loss" in it, or the only one.
        lr_column: the learning rate; by default the first whose name begins with "lr" or has "learning_rate" in it.

    Raises:
        InputError: the file is missing or no log, the column is missing or not the only candidate, or a cell is no
            number; the text names the file, and the columns it has.
    """
    name, caveats = os.fspath(path), list[str]()
    if event_files(path):
        events = read_events(path)
        columns = list(events)
        chosen, rate = _metric(name, columns, column), _rate(name, columns, lr_column, caveats)
        read = [events[tag] for tag in (chosen, rate) if tag]
    else:
        sheet = Sheet(_file(Path(path)) or path, "a CSV log or an event file of TensorBoard")
        columns = sheet.columns
        steps = [c for c in columns if c.lower() == "step"]
        step = only_column(name, columns, None, "step", steps, "") if steps else None
        chosen, rate = _metric(name, columns, column), _rate(name, columns, lr_column, caveats)
        read = sheet.read(step, [one for one in (chosen, rate) if one])
    if not read[0].step.size:
        raise InputError(f"{name}: column {chosen!r} must hold numbers, got only empty cells")
    values = cleaned(read[0], caveats)
    rates = cleaned(read[1], caveats) if len(read) > 1 and read[1].step.size else None
    lr = None if rates is None else rates.value[np.maximum(np.searchsorted(rates.step, values.step, "right") - 1, 0)]
    return MetricLog(name, chosen, values.step, values.value, lr, list(dict.fromkeys(caveats)))


def _file(path: Path) -> Path | None:
    """Return the CSV file of a folder; None for what is no folder."""
    if not path.is_dir():
        return None
    if (path / "metrics.csv").is_file():
        return path / "metrics.csv"
    raise InputError(f"{path}: a folder must hold event files of TensorBoard or metrics.csv, got neither")


def _metric(name: str, columns: list[str], chosen: str | None) -> str:
    known = [c for c in columns if c and not _is_beside(c)]
    plain = {c: c.lower().replace("/", "_").replace("-", "_") for c in known}
    losses = [c for c in known if "loss" in plain[c]]
    training = [c for c in losses if "train" in plain[c]]
    named = [[c for c in losses if plain[c] == first] for first in _FIRST]
    groups = [*named, [c for c in training if not plain[c].endswith("_epoch")], training, losses, known]
    only = next((group for group in groups if len(group) == 1), known)
    if chosen is None and not only:
        raise InputError(
            f"{name}: needs a column of numbers beside steps and rates, got {', '.join(columns) or 'none':.200}"
        )
    return only_column(name, columns, chosen, "metric", only, "--column")


def _is_beside(column: str) -> bool:
    plain = column.lower().replace(" ", "_")
    return plain in _NO_METRICS or plain.endswith(_BOUNDS) or plain.startswith("lr") or is_rate(column)


def _rate(name: str, columns: list[str], chosen: str | None, caveats: list[str]) -> str | None:
    if chosen is not None:
        return only_column(name, columns, chosen, "lr", [], "--lr-column")
    rates = [c for c in columns if is_rate(c)]
    if len(rates) > 1:
        caveats.append(f"Of {len(rates)} learning rates {rates[0]} is followed; choose another with --lr-column.")
    return rates[0] if rates else None


def _check(name: str, step: NDArray[np.int64], value: NDArray[np.float64], lr: NDArray[np.float64] | None) -> None:
    if step.ndim != 1 or value.shape != step.shape or (lr is not None and lr.shape != step.shape):
        shapes = ", ".join(str(array.shape) for array in (step, value, lr) if array is not None)
        raise InputError(f"{name}: step, value and lr must be lists of one length, got shapes {shapes}")
    if not step.size:
        raise InputError(f"{name}: a log needs at least one row, got none")
    if not np.array_equal(step, np.floor(step)):
        raise InputError(f"{name}: every step must be a whole number, got {step[step != np.floor(step)][0]:g}")
    falls = np.flatnonzero(np.diff(step) <= 0)
    if falls.size:
        i = int(falls[0])
        raise InputError(f"{name}: step must be strictly increasing, got {step[i + 1]} after {step[i]}")
    if lr is not None and not np.isfinite(lr).all():
        i = int(np.argmax(~np.isfinite(lr)))
        raise InputError(f"{name}: every lr must be finite, got {lr[i]:g} at step {step[i]}")
