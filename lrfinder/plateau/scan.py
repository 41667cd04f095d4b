"""`find_plateaus`: where a recorded training had too little left to gain, and whether it ends on a plateau."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrfinder.errors import InputError, whole_number
from lrfinder.files import SCHEMA_VERSION
from lrfinder.logs.log import TrainingLog
from lrfinder.plateau.detector import Detector
from lrfinder.plateau.gain_test import LEAST_STEPS, Plateau, Record

_UNEVEN = 0.1
"""Maximum share of the distances between rows that differ from their median by more than half of it."""


@dataclass(frozen=True, eq=False, repr=False)
class Scan:
    """The plateaus of a log. Steps are those of the log; its rows are treated as evenly spaced.

    Attributes:
        log: the log that was scanned.
        plateaus: every plateau found, in order.
        ending: the test at the end of the log. It has the form of a plateau whether it is one or not, so its
            ``gain_high`` may be above ``delta``; None if the test could not be made.
        on_plateau: whether the log ends on the last of ``plateaus``.
        lr_changes: steps at which the learning rate changed, so that a new window began.
        blocks: means of blocks of rows, with outliers pulled in.
        alpha: maximum rate of false alarms.
        mode: "min" or "max".
        caveats: what may have hidden plateaus, in sentences.
    """

    log: TrainingLog
    plateaus: tuple[Plateau, ...]
    ending: Plateau | None
    on_plateau: bool
    lr_changes: tuple[int, ...]
    blocks: Record
    alpha: float
    mode: str
    caveats: tuple[str, ...]

    @property
    def block_step(self) -> NDArray[np.float64]:
        """(m,) step at the middle of each block."""
        rows = self.blocks.length * (np.arange(self.blocks.mean.size) + 0.5) - 0.5
        return np.asarray(np.interp(rows, np.arange(len(self.log)), self.log.step), dtype=np.float64)

    def __repr__(self) -> str:
        steps = ", ".join(str(plateau.step) for plateau in self.plateaus)
        found = f"plateaus at {steps}" if steps else "no plateau"
        return f"Scan({self.log.name}: {self.log.column}, {len(self.log)} rows, {found})"

    def __str__(self) -> str:
        log, lines = self.log, []
        lost = f", {log.skipped} of them not finite" if log.skipped else ""
        lines.append(
            f"Log       {log.name}: {log.column}, {len(log)} rows{lost}, steps {log.step[0]} to {log.step[-1]}"
        )
        if log.read_as:
            lines.append(f"Read as   {log.read_as}")
        for plateau in self.plateaus:
            rate = f", learning rate {plateau.lrs[0]:.3g}" if plateau.lrs else ""
            lines += [f"Plateau   seen at step {plateau.step}{rate}", *_statistics(plateau)]
        lines.append(f"End       step {log.step[-1]}: {self._end()}")
        if self.ending is not None:
            lines += _statistics(self.ending)
        return "\n".join([*lines, *(f"Caveat    {caveat}" for caveat in self.caveats)])

    def _end(self) -> str:
        if self.on_plateau:
            shown = self.ending is None or self.ending.p_value <= self.alpha
            rest = "" if shown else ", although the last rows alone do not show it"
            return f"on the plateau seen at step {self.plateaus[-1].step}{rest}"
        if self.ending is None:
            return "could not be tested, see the caveats"
        if 2 * self.ending.gain - self.ending.gain_high > self.ending.delta:  # as far down as the limit is up
            return "no plateau: the expected gain is above the tolerance"
        return "no plateau for certain: a gain above the tolerance cannot be ruled out"

    def to_dict(self) -> dict[str, Any]:
        """Return the scan as JSON-ready data; a number that is not finite is null."""
        log = self.log
        return {
            "schema_version": SCHEMA_VERSION,
            "log": {
                "name": log.name,
                "column": log.column,
                "read_as": log.read_as,
                "rows": len(log),
                "skipped": log.skipped,
                "first_step": int(log.step[0]),
                "last_step": int(log.step[-1]),
            },
            "mode": self.mode,
            "alpha": self.alpha,
            "plateaus": [_finite(plateau.to_dict()) for plateau in self.plateaus],
            "on_plateau": self.on_plateau,
            "ending": None if self.ending is None else _finite(self.ending.to_dict()),
            "lr_changes": list(self.lr_changes),
            "blocks": _finite({"step": self.block_step.tolist(), "mean": self.blocks.mean.tolist()}),
            "caveats": list(self.caveats),
        }


def find_plateaus(
    log: TrainingLog | ArrayLike,
    *,
    lr: ArrayLike | None = None,
    delta: float | None = None,
    alpha: float = 0.05,
    min_rows: int = LEAST_STEPS,
    ahead: int | None = None,
    mode: str = "min",
) -> Scan:
    """Replay a log through a `Detector`, row by row, and test once more at its end.

    Args:
        log: read with `read_log`; or (n,) values, whose steps are counted from 1.
        lr: (n,) learning rates, or a single one, in place of those of the log. A new window begins when the rate
            changes by more than 1%.
        delta: tolerance, in units of the values: a smaller gain is not worth waiting for. By default it follows
            from recent progress and from the noise, see docs/plateau.md.
        alpha: maximum rate of false alarms, in (0, 0.5).
        min_rows: minimum number of rows since the learning rate last changed, at least 24.
        ahead: number of coming steps, as the log counts them, that must gain less; by default half of those so far.
        mode: "min" if smaller values are better, or "max".

    Raises:
        InputError: an argument breaks a rule.
    """
    log = _as_log(log, lr)
    whole_number("min_rows", min_rows, LEAST_STEPS)
    whole_number("ahead", 1 if ahead is None else ahead)
    distance = float(log.step[-1] - log.step[0]) / max(len(log) - 1, 1) or 1.0
    rows = None if ahead is None else max(round(ahead / distance), 1)
    held = log.held_lr()
    starts, lr_changes = [0], list[int]()  # rows at which windows begin; steps
    rates: list[tuple[float, ...]] = [() if held is None else (float(held[0]),)]

    def note_restart(row: int) -> None:
        starts.append(row)
        if detector.lrs != rates[-1]:
            rates.append(detector.lrs)
            lr_changes.append(int(log.step[row]))

    detector = Detector(delta=delta, alpha=alpha, min_steps=min_rows, ahead=rows, mode=mode, on_restart=note_restart)
    detector.extend(log.value, held)
    ending = detector.outlook() if detector.window_steps >= min_rows else None
    detector.look()

    def in_steps(plateau: Plateau) -> Plateau:
        coming = ahead or max(round(plateau.ahead * distance), 1)
        since, step = (int(log.step[row]) for row in (plateau.since, plateau.step - 1))
        return dataclasses.replace(plateau, step=step, since=since, ahead=coming)

    return Scan(
        log,
        tuple(map(in_steps, detector.events)),
        None if ending is None else in_steps(ending),
        bool(detector.events) and starts[-1] < detector.events[-1].step,
        tuple(lr_changes),
        detector.record(),
        detector.alpha,
        mode,
        (*log.caveats, *_caveats(log, detector, int(np.diff([*starts, len(log)]).max()), ending)),
    )


def _as_log(log: TrainingLog | ArrayLike, lr: ArrayLike | None) -> TrainingLog:
    if isinstance(log, TrainingLog) and lr is None:
        return log
    if isinstance(log, TrainingLog):
        return TrainingLog(log.name, log.step, log.value, lr, column=log.column, caveats=log.caveats)
    try:
        values = np.array(log, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"log must be a TrainingLog or a list of numbers, got log = {log!r:.60}") from None
    return TrainingLog("values", np.arange(1, values.size + 1), values, lr, column="value")


def _caveats(log: TrainingLog, detector: Detector, longest: int, ending: Plateau | None) -> list[str]:
    """Return what may have hidden plateaus; ``longest`` is the length of the longest window, in rows."""
    caveats, least = [], detector.min_steps
    gaps = np.diff(log.step)
    if gaps.size and (np.abs(gaps / np.median(gaps) - 1) > 0.5).mean() > _UNEVEN:
        caveats.append(
            f"Rows are {gaps.min()} to {gaps.max()} steps apart but were treated as evenly spaced, so the number of"
            " coming steps is approximate."
        )
    rates = log.held_lr()
    never_rests = rates is not None and (np.diff(rates[-max(least, len(log) // 2) :]) != 0).mean() > 0.5
    if longest < least and len(log) < least:
        caveats.append(f"Too few rows to test: {len(log)}, at least {least} are needed.")
    elif never_rests and (longest < least or ending is None):
        caveats.append(
            "The learning rate changes from row to row, and a plateau is that of one rate: the longest stretch at one"
            f" rate has {longest} rows, at least {least} are needed. To compare this schedule with others, use"
            " lrfinder forecast; to find plateaus, use the log of a run at a constant rate."
        )
    elif longest < least:
        caveats.append(
            "The learning rate changes too often to test at any rate: the longest stretch at one rate has"
            f" {longest} rows, at least {least} are needed."
        )
    elif ending is None and detector.window_steps < least:
        caveats.append(
            "Too few rows since the last plateau or change of the learning rate to test at the end:"
            f" {detector.window_steps}, at least {least} are needed."
        )
    elif ending is None:
        caveats.append("The end could not be tested: more than a tenth of its values are not finite.")
    worse = [plateau for plateau in (*detector.events, *([ending] if ending else [])) if plateau.gain_high < 0]
    if worse:
        better, other = ("smaller", "min") if detector.mode == "max" else ("larger", "max")
        caveats.append(
            f"From step {log.step[worse[0].since]} to {log.step[worse[0].step - 1]} the metric got worse, not merely no"
            f" better. If {better} is better, use mode {other}."
        )
    return caveats


def _statistics(plateau: Plateau) -> list[str]:
    gain, high = plateau.gain + 0, plateau.gain_high + 0  # adding 0 makes 0 of -0
    return [
        f"  window  steps {plateau.since} to {plateau.step}, level {plateau.level:.5g} ± {plateau.level_error:.1g}",
        f"  gain    {gain:.2g} expected over the next {plateau.ahead} steps, upper limit {high:.2g}",
        f"  test    against a tolerance of {plateau.delta:.2g}: p = {plateau.p_value:.2g}",
    ]


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _finite(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
