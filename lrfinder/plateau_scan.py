"""`find_plateaus`: where a recorded training had too little left to gain, and how it stands at its end."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrfinder.errors import InputError
from lrfinder.metriclog import MetricLog
from lrfinder.plateau import LEAST_STEPS, Plateau, Record
from lrfinder.replay import Replay

__all__ = ["Scan", "find_plateaus"]

_SCHEMA_VERSION = 1
_UNEVEN = 0.1
"""Share of the distances between rows that may be off their median by half."""


@dataclass(frozen=True, eq=False)
class Scan:
    """The plateaus of a log. Steps are those of the log; its rows are taken to be evenly spaced.

    Attributes:
        log: what was looked through.
        plateaus: every plateau found, in order.
        ending: the test at the end of the log, in the form of a plateau whether it is one or not, so that its
            ``gain_high`` may be above ``delta``; None where none could be made.
        on_plateau: whether the log ends on the last of ``plateaus``.
        lr_changes: steps from which on the learning rate was another, so that the window began anew.
        blocks: means of blocks of rows, outliers pulled in.
        alpha: rate of false alarms.
        mode: "min" or "max".
        caveats: why there may be less to see than there is, in sentences.
    """

    log: MetricLog
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

    def __str__(self) -> str:
        log, lines = self.log, []
        lost = f", {log.skipped} of them not finite" if log.skipped else ""
        lines.append(
            f"Log       {log.name}: {log.column}, {len(log)} rows{lost}, steps {log.step[0]} to {log.step[-1]}"
        )
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
            rest = "" if shown else ", though the last rows alone do not show it"
            return f"on the plateau seen at step {self.plateaus[-1].step}{rest}"
        if self.ending is None:
            return "could not be tested, see the caveats"
        if 2 * self.ending.gain - self.ending.gain_high > self.ending.delta:  # as far down as the limit is up
            return "no plateau, more is expected than the tolerance"
        return "no plateau that is sure, more than the tolerance cannot be ruled out"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data; a number that is not finite is null."""
        log = self.log
        return {
            "schema_version": _SCHEMA_VERSION,
            "log": {
                "name": log.name,
                "column": log.column,
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
    log: MetricLog | ArrayLike,
    *,
    lr: ArrayLike | None = None,
    delta: float | None = None,
    alpha: float = 0.05,
    min_rows: int = LEAST_STEPS,
    ahead: int | None = None,
    mode: str = "min",
) -> Scan:
    """Replay a log through a `Detector`, row by row, and look once more at its end.

    Args:
        log: read with `read_metric_log`; or (n,) values, whose steps are counted from 1.
        lr: (n,) learning rates, or a single one, in place of those of the log. Where it changes by more than 1% the
            window begins anew.
        delta: gain that is not worth waiting for, in units of the values; by default a hundredth of what training has
            gained since its start.
        alpha: highest rate of false alarms, in (0, 0.5).
        min_rows: fewest rows since the learning rate last changed, at least 24.
        ahead: steps to come, as the log counts them, that must gain less; by default half as many again as so far.
        mode: "min" where smaller values are better, or "max".

    Raises:
        InputError: an argument breaks a rule.
    """
    log = _as_log(log, lr)
    for name, count, least in (("min_rows", min_rows, LEAST_STEPS), ("ahead", 1 if ahead is None else ahead, 1)):
        if isinstance(count, bool) or not isinstance(count, int) or count < least:
            raise InputError(f"{name} must be a whole number of at least {least}, got {name} = {count!r}")
    distance = float(log.step[-1] - log.step[0]) / max(len(log) - 1, 1) or 1.0
    rows = None if ahead is None else max(round(ahead / distance), 1)
    replay = Replay(delta=delta, alpha=alpha, min_steps=min_rows, ahead=rows, mode=mode)
    replay.extend(log.value, log.lr)
    ending = replay.ending()
    replay.look()

    def in_steps(one: Plateau) -> Plateau:
        coming = ahead or max(round(one.ahead * distance), 1)
        return dataclasses.replace(one, step=int(log.step[one.step - 1]), since=int(log.step[one.since]), ahead=coming)

    return Scan(
        log,
        tuple(in_steps(event) for event in replay.events),
        None if ending is None else in_steps(ending),
        replay.on_plateau,
        tuple(int(log.step[row]) for row in replay.lr_changes),
        replay.record(),
        replay.alpha,
        mode,
        (*log.caveats, *_caveats(log, replay, ending, mode)),
    )


def _as_log(log: MetricLog | ArrayLike, lr: ArrayLike | None) -> MetricLog:
    if isinstance(log, MetricLog):
        return log if lr is None else MetricLog(log.name, log.column, log.step, log.value, lr, log.caveats)
    try:
        values = np.array(log, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"log must be a MetricLog or a list of numbers, got log = {log!r:.60}") from None
    return MetricLog("values", "value", np.arange(1, values.size + 1), values, lr)


def _caveats(log: MetricLog, replay: Replay, ending: Plateau | None, mode: str) -> list[str]:
    found = []
    gaps = np.diff(log.step)
    if gaps.size and (np.abs(gaps / np.median(gaps) - 1) > 0.5).mean() > _UNEVEN:
        found.append(
            f"Rows are {gaps.min()} to {gaps.max()} steps apart; they were taken to be evenly spaced, so that steps to"
            " come are rough."
        )
    if replay.longest < replay.min_steps:
        if len(log) < replay.min_steps:
            found.append(f"Too few rows to test: {len(log)}, it takes {replay.min_steps}.")
        else:
            found.append(
                "The learning rate changes too often to test at any: the longest it stayed the same was"
                f" {replay.longest} rows, it takes {replay.min_steps}."
            )
    elif ending is None and replay.window_steps < replay.min_steps:
        what = "since the last plateau or change of the learning rate"
        found.append(f"Too few rows {what} to test at the end: {replay.window_steps}, it takes {replay.min_steps}.")
    elif ending is None:
        found.append("The end could not be tested: more than a tenth of its values are not finite.")
    worse = [one for one in (*replay.events, *([ending] if ending else [])) if one.gain_high < 0]
    if worse:
        better = "smaller" if mode == "max" else "larger"
        other = "min" if mode == "max" else "max"
        found.append(
            f"From step {log.step[worse[0].since]} to {log.step[worse[0].step - 1]} it got worse for sure, not only no"
            f" better. If {better} is better, say mode {other}."
        )
    return found


def _statistics(one: Plateau) -> list[str]:
    return [
        f"  window  steps {one.since} to {one.step}, level {one.level:.5g} ± {one.level_error:.1g}",
        # Adding nothing makes a zero of -0.
        f"  gain    {one.gain + 0:.2g} expected over the next {one.ahead} steps, upper limit {one.gain_high + 0:.2g}",
        f"  test    against a tolerance of {one.delta:.2g}: p = {one.p_value:.2g}",
    ]


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _finite(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
