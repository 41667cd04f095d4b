"""`Curve`: the raw record of a range test, learning rate by learning rate."""

from __future__ import annotations

import csv
import dataclasses
import math
import re
from array import array as numbers_of
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrfinder.errors import InputError
from lrfinder.files import (
    SCHEMA_VERSION,
    json_object,
    list_reader,
    number_reader,
    number_to_json,
    optional,
    read_any_number,
    read_record,
    read_string,
    read_text,
    replace_file,
)

_FAILED_SHARE = 0.1
"""Maximum share of the losses of a recorded curve that may be left out because they are not finite."""

_MANY = 1000
"""Points to which a longer curve is thinned: a fit of six numbers and a chart gain nothing from more."""

MIN_POINTS = 10
"""Fewest points a curve may have: with fewer, the six parameters of the fit have no degrees of freedom to err with."""


class Stage(str, Enum):
    """The part of a search that a curve or a probe belongs to; each member equals its text in JSON."""

    RANGE = "range"
    UNTRAINED = "untrained"
    PROBE = "probe"

    # Without it Python 3.12 formats a member as "Stage.RANGE", while 3.10 and 3.11 format it as "range".
    __str__ = str.__str__

    @classmethod
    def _missing_(cls, value: object) -> Stage | None:
        """Read the stages of earlier versions, which told several kinds of probes apart."""
        return cls.PROBE if value in ("rung 1", "rung 2", "trunk", "branch", "warmup") else None


@dataclass(frozen=True, eq=False)
class Curve:
    """Loss against learning rate, exactly as measured: never smoothed, clipped or normalised.

    Point ``i`` holds the learning rate of optimizer step ``i`` and the loss of the batch of that step, computed
    *before* the update, as every range-finder records it. What ``lr[i]`` did is therefore seen in ``loss[i + 1]``;
    `lrfinder.evidence.range_fit` pairs them so.

    Attributes:
        lr: (n,) float64, strictly increasing, > 0: the learning rate of the reference param group.
        loss: (n,) float64, raw; the last values may be inf or NaN where training blew up.
        step: (n,) int64, strictly increasing: optimizer steps since the start of the test.
        stage: what was run, normally `Stage.RANGE`; any other text is kept as it was read.
        seconds: wall time of the recording, >= 0; None where unknown.
        group_ratios: each param group's learning rate divided by ``lr``, >= 0.
        caveats: what the recording could not do, in sentences.

    Raises:
        InputError: lengths differ, fewer than ten points, a learning rate is not positive and finite, they do not
            increase, or another field breaks the rule stated with it.
    """

    lr: NDArray[np.float64]
    loss: NDArray[np.float64]
    step: NDArray[np.int64]
    stage: str = Stage.RANGE.value
    seconds: float | None = None
    group_ratios: tuple[float, ...] = (1.0,)
    caveats: tuple[str, ...] = ()

    def __init__(
        self,
        lr: ArrayLike,
        loss: ArrayLike,
        step: ArrayLike | None = None,
        *,
        stage: str = Stage.RANGE,
        seconds: float | None = None,
        group_ratios: Sequence[float] = (1.0,),
        caveats: Sequence[str] = (),
    ) -> None:
        lrs, losses = np.array(lr, dtype=np.float64), np.array(loss, dtype=np.float64)
        steps = np.arange(lrs.size) if step is None else _whole(step)
        _check(lrs, losses, steps)
        for ratio in group_ratios:
            if not (math.isfinite(ratio) and ratio >= 0):
                raise InputError(f"group_ratios must be finite and at least 0, got {ratio:g}")
        if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
            raise InputError(f"seconds must be finite and at least 0, got seconds = {seconds:g}")
        for array in (lrs, losses, steps):
            array.setflags(write=False)
        for name, value in (
            ("lr", lrs),
            ("loss", losses),
            ("step", steps),
            ("stage", str(stage)),
            ("seconds", seconds),
            ("group_ratios", tuple(float(ratio) for ratio in group_ratios)),
            ("caveats", tuple(caveats)),
        ):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return int(self.lr.size)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Curve) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # holds arrays, like numpy.ndarray itself

    def __repr__(self) -> str:
        return f"Curve({self.stage}: {len(self)} points, lr {self.lr[0]:.3g} to {self.lr[-1]:.3g})"

    def thinned(self) -> Curve:
        """Return a view of a long curve, at most 1,000 points; a shorter curve is returned as it is.

        Each point is the median of learning rate and loss over as many neighbours, with the first of their steps.
        """
        size = -(-len(self) // _MANY)
        if size == 1:
            return self
        starts = np.arange(0, len(self), size)
        lr, loss = (
            np.array([np.median(values[start : start + size]) for start in starts]) for values in (self.lr, self.loss)
        )
        return dataclasses.replace(self, lr=lr, loss=loss, step=self.step[starts])

    def without_failures(self) -> Curve:
        """Return the curve without the losses that are not finite although training went on; a caveat counts them.

        Those at the end stay, since training blew up there. If more than a tenth failed, all stay.
        """
        finite = np.isfinite(self.loss)
        last = int(np.max(np.flatnonzero(finite), initial=-1))
        kept = finite | (np.arange(len(self)) > last)
        count = len(self) - int(kept.sum())
        if not 0 < count <= _FAILED_SHARE * (last + 1) or len(self) - count < MIN_POINTS:
            return self
        fields = {name: getattr(self, name)[kept] for name in ("lr", "loss", "step")}
        return dataclasses.replace(self, **fields, caveats=(*self.caveats, tell_failures(count, len(self), "recorded")))

    def to_dict(self) -> dict[str, Any]:
        """Return the curve as JSON-ready data; non-finite losses become the strings NaN, Infinity and -Infinity."""
        return {
            "stage": self.stage,
            "lr": self.lr.tolist(),
            "loss": [number_to_json(value) for value in self.loss.tolist()],
            "step": self.step.tolist(),
            "seconds": self.seconds,
            "group_ratios": list(self.group_ratios),
            "caveats": list(self.caveats),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], name: str = "curve") -> Curve:
        """Rebuild a curve from `to_dict`, or from any mapping with the lists ``lr`` and ``loss``.

        Raises:
            InputError: a field is missing or has the wrong type; the text begins with ``name``.
        """
        try:
            fields = read_record(data, _READERS, _DEFAULTS)
            return cls(fields.pop("lr"), fields.pop("loss"), fields.pop("step"), **fields)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None


def tell_failures(count: int, of: int, kind: str) -> str:
    """Return the caveat that losses which are not finite were left out, ``count`` of so many of a kind."""
    verb = "is not finite and was" if count == 1 else "are not finite and were"
    return f"{count} of the {of} {kind} losses {verb} left out."


_READERS = {
    "lr": list_reader(number_reader(1e-100, 1e100)),
    "loss": list_reader(read_any_number),
    "step": optional(list_reader(read_any_number)),
    "stage": read_string,
    "seconds": optional(number_reader(0.0)),
    "group_ratios": list_reader(number_reader(0.0)),
    "caveats": list_reader(read_string),
}

_DEFAULTS = {"step": None, "stage": Stage.RANGE.value, "seconds": None, "group_ratios": [1.0], "caveats": []}
"""What a recording by another tool may lack."""


def _check(lr: NDArray[np.float64], loss: NDArray[np.float64], step: NDArray[np.int64]) -> None:
    for name, array in (("lr", lr), ("loss", loss), ("step", step)):
        if array.ndim != 1 or array.size != lr.size:
            raise InputError(
                f"lr, loss and step must be lists of one length, got {name} of shape {array.shape} with lr {lr.shape}"
            )
    if lr.size < MIN_POINTS:
        raise InputError(f"a curve needs at least {MIN_POINTS} points, got {lr.size}: record more steps")
    bad = np.flatnonzero(~((lr > 1e-100) & (lr < 1e100)))
    if bad.size:
        raise InputError(
            f"every lr must be positive and finite, got lr = {lr[bad[0]]:g} at point {bad[0] + 1} (1e-100 to 1e100)"
        )
    for name, array in (("lr", lr), ("step", step)):
        falls = np.flatnonzero(np.diff(array) <= 0)
        if falls.size:
            i = int(falls[0])
            raise InputError(
                f"{name} must be strictly increasing, got {array[i + 1]:g} after {array[i]:g} at point {i + 2}"
            )


def _whole(step: ArrayLike) -> NDArray[np.int64]:
    exact = np.array(step, dtype=np.float64)
    bad = np.flatnonzero(~((np.abs(exact) < 2**53) & (exact == np.floor(exact))))
    if bad.size:
        raise InputError(f"every step must be a whole number, got step = {exact.flat[bad[0]]:g} at point {bad[0] + 1}")
    return exact.astype(np.int64)


def read_curve(path: str | Path) -> tuple[Curve, Mapping[str, Any]]:
    """Read a recorded curve from CSV (columns ``lr,loss``, optional ``step,stage``) or from JSON.

    JSON may be the document written by ``lrfinder suggest --out``, or any object with the lists ``lr`` and ``loss``
    (torch-lr-finder's ``history`` is one).

    Returns:
        The curve, and the JSON document around it (empty for CSV).

    Raises:
        InputError: the file is missing, unreadable, or breaks a rule; the text names file, field and value.
    """
    path = Path(path)
    text = read_text(path, "CSV with columns lr,loss or JSON")
    if path.suffix.lower() == ".json" or text.lstrip().startswith("{"):
        return _curve_from_json(text, str(path))
    try:
        return _curve_from_csv(text, str(path)), {}
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV file ({error})") from None


def write_curve_csv(curve: Curve, path: str | Path) -> None:
    """Write ``step,lr,loss,stage`` with every digit, so that `read_curve` gives back equal numbers."""
    columns = zip(curve.step.tolist(), curve.lr.tolist(), curve.loss.tolist(), strict=True)
    rows = [f"{step},{lr!r},{loss!r},{curve.stage}\n" for step, lr, loss in columns]
    replace_file(path, "step,lr,loss,stage\n" + "".join(rows))


def _curve_from_json(text: str, name: str) -> tuple[Curve, Mapping[str, Any]]:
    document = json_object(text, name)
    if "comparison" in document:
        raise InputError(f"{name}: must hold one result, got a comparison of several: lrfinder report shows those")
    if "curves" not in document:
        return Curve.from_dict(document, name), {}
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise InputError(f"{name}: schema_version must be {SCHEMA_VERSION}, got {version!r}")
    curves = document["curves"]
    if not isinstance(curves, list) or not all(isinstance(curve, dict) for curve in curves):
        raise InputError(f"{name}: curves must be a list of objects")
    ranges = [curve for curve in curves if curve.get("stage") == Stage.RANGE]
    if len(ranges) != 1:
        raise InputError(f"{name}: curves must hold one curve with stage 'range', got {len(ranges)}")
    return Curve.from_dict(ranges[0], name), document


def _curve_from_csv(text: str, name: str) -> Curve:
    lines = (match[0] for match in re.finditer(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+$", text))  # a list would be large
    reader = csv.reader(lines, skipinitialspace=True)
    columns = [column.strip().lower() for column in next(reader, [])]
    missing = [column for column in ("lr", "loss") if column not in columns]
    if missing:
        raise InputError(f"{name}: needs the columns lr and loss, got {','.join(columns)!r:.60}")
    values = {column: numbers_of("d") for column in ("lr", "loss", "step") if column in columns}
    places = [(columns.index(column), numbers) for column, numbers in values.items()]
    stage = columns.index("stage") if "stage" in columns else None
    for row in filter(None, reader):
        if stage is not None and (row[stage : stage + 1] or [""])[0] not in ("", Stage.RANGE):
            raise InputError(f"{name}, line {reader.line_num}: stage must be 'range', got {row[stage]!r:.60}")
        try:
            for place, numbers in places:
                numbers.append(float(row[place]))
        except (IndexError, ValueError):
            got = repr(row[place] if place < len(row) else None)[:60]
            message = f"{name}, line {reader.line_num}: {columns[place]} must be a number, got {got}"
            raise InputError(message) from None
    try:
        return Curve(*(np.asarray(numbers) for numbers in values.values()))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
