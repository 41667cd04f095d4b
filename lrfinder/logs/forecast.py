"""`forecast`: what recorded trainings say about the loss of other schedules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfinder.errors import InputError
from lrfinder.files import SCHEMA_VERSION
from lrfinder.logs.law_fit import NO_FALLS, fit_law
from lrfinder.logs.log import TrainingLog, end_of_warmup
from lrfinder.logs.loss_law import LossLaw
from lrfinder.logs.scenario import Scenario, best_decay, lowest_lr, make_scenario
from lrfinder.schedules.policy import RANKED

Array = NDArray[np.float64]

Steps = NDArray[np.int64]

IMPOSSIBLE = (
    "The law predicts losses of at most 0, although all logged losses are positive: the training is too far from what"
    " was logged. Ask for fewer steps or a lower peak."
)
"""The reason why some schedules are left out, with the remedy."""

_AS_GOOD = "wsd is as good as the optimal schedule within the error of the law. Use wsd: it is simpler."

_POINTS = 500
"""Number of steps at which a predicted curve is given."""


@dataclass(frozen=True, eq=False)
class Scheduled:
    """A schedule and its predicted loss.

    Attributes:
        name: a key of `POLICIES`, or "optimal".
        peak_lr: highest learning rate.
        warmup_steps: W.
        total_steps: T.
        step: (n,) from the first step of the decay to T.
        lr: (n,) learning rate there.
        loss: (n,) predicted loss there.
        final_loss_low: lower end of the 90% interval of the final loss.
        final_loss_high: upper end.
        tied: whether the law cannot tell it from the best: 0 is in the 90% interval of their difference.
        caveats: where the schedule leaves what was logged, in sentences.
    """

    name: str
    peak_lr: float
    warmup_steps: int
    total_steps: int
    step: Steps = field(repr=False)
    lr: Array = field(repr=False)
    loss: Array = field(repr=False)
    final_loss_low: float
    final_loss_high: float
    tied: bool
    caveats: tuple[str, ...]

    @property
    def final_loss(self) -> float:
        """The predicted loss at T."""
        return float(self.loss[-1])

    def to_dict(self) -> dict[str, Any]:
        """Return the schedule as JSON-ready data."""
        names = ("name", "peak_lr", "warmup_steps", "total_steps", "final_loss", "final_loss_low", "final_loss_high")
        return {
            **{name: getattr(self, name) for name in (*names, "tied")}, "steps": self.step.tolist(),
            "lr": self.lr.tolist(), "loss": self.loss.tolist(), "caveats": list(self.caveats),
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class ScoredLog:
    """A log, the loss predicted from its learning rates, and how far off the prediction is.

    Attributes:
        log: the log.
        step: (n,) every step of which the log has a row.
        loss: (n,) predicted loss there, finite. The law holds from the end of the warmup; earlier steps get its value.
        mae: mean absolute difference to the losses logged after warmup; None if there are none.
        end_rel_error: absolute difference to the last loss logged, as a share of that loss; None if there is none.
    """

    log: TrainingLog
    step: Steps = field(repr=False)
    loss: Array = field(repr=False)
    mae: float | None
    end_rel_error: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction as JSON-ready data."""
        return {
            "file": self.log.name, "steps": self.step.tolist(), "loss": self.loss.tolist(), "mae": self.mae,
            "end_rel_error": self.end_rel_error, "caveats": self.log.step_caveats(),
        }  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Forecast:
    """A law fitted to logs, and what it predicts.

    Attributes:
        runs: the logs.
        law: the law fitted to them.
        schedules: the predicted schedules, that with the lowest final loss first.
        optimal: the best schedule that never rises; None if it was not requested.
        targets: other logs, predicted.
        refused: why a part of the request cannot be answered, with the remedy; None if all of it is.
        caveats: in sentences.
    """

    runs: tuple[TrainingLog, ...]
    law: LossLaw
    schedules: tuple[Scheduled, ...]
    optimal: Scheduled | None
    targets: tuple[ScoredLog, ...]
    refused: str | None
    caveats: tuple[str, ...]

    def __repr__(self) -> str:
        logs = ", ".join(run.name for run in self.runs)
        if not self.schedules:
            return f"Forecast({logs}: {self.refused or 'no schedule predicted'})"
        best = self.schedules[0]
        return f"Forecast({logs}: {len(self.schedules)} schedules, the best {best.name} at {best.final_loss:.4g})"

    def __str__(self) -> str:
        logs = [*self.runs, *(target.log for target in self.targets)]
        lines = [f"Log       {log.name}: {log.read_as}" for log in logs if log.read_as]
        if self.refused is not None:
            lines.append(f"Refused   {self.refused}")
        if schedules := [*([self.optimal] if self.optimal else []), *self.schedules]:
            best = min(schedule.final_loss for schedule in schedules)
            rows = [
                (
                    schedule.name,
                    f"{schedule.final_loss:.4f}",
                    f"{schedule.final_loss_low:.4f} to {schedule.final_loss_high:.4f}",
                    "best" if schedule.final_loss == best else f"+{schedule.final_loss - best:.4f}",
                    "; ".join(["within error"] * (schedule.tied and schedule.final_loss > best) + [*schedule.caveats]),
                )
                for schedule in schedules
            ]
            lines += _table(("schedule", "final loss", "90% interval", "behind", ""), rows)
        if self.targets:
            scores = [
                (
                    target.log.name,
                    str(target.log.last_step),
                    "-" if target.mae is None else f"{target.mae:.4f}",
                    "-" if target.end_rel_error is None else f"{target.end_rel_error:.3%}",
                )
                for target in self.targets
            ]
            lines += _table(("target", "steps", "mean error", "end error"), scores)
        return "\n".join([*lines, *(f"Caveat    {caveat}" for caveat in self.caveats)])

    @property
    def best(self) -> str | None:
        """Name of the best of the schedules; None if there are none."""
        return self.schedules[0].name if self.schedules else None

    def to_dict(self) -> dict[str, Any]:
        """Return the forecast as JSON-ready data, ``schema_version`` 1."""
        runs = [
            {
                "file": run.name, "read_as": run.read_as, "points": int(run.has_loss.sum()), "steps": run.last_step,
                "peak_lr": run.peak_lr, "warmup_steps": run.warmup_steps, "caveats": run.step_caveats(),
            }
            for run in self.runs
        ]  # fmt: skip
        return {
            "schema_version": SCHEMA_VERSION,
            "status": "ok" if self.refused is None else "refused",
            "reason": self.refused,
            "runs": runs,
            "law": self.law.to_dict(),
            "schedules": [schedule.to_dict() for schedule in self.schedules],
            "best": self.best,
            "optimal": None if self.optimal is None else self.optimal.to_dict(),
            "targets": [target.to_dict() for target in self.targets],
            "caveats": list(self.caveats),
        }


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows)]


def forecast(
    runs: Sequence[TrainingLog],
    schedules: Sequence[str] | None = None,
    steps: int | None = None,
    *,
    peak_lr: float | None = None,
    warmup_steps: int | None = None,
    end_lr: float | None = None,
    optimal: bool = False,
    targets: Sequence[TrainingLog] = (),
) -> Forecast:
    """Fit the loss-curve law to recorded runs and predict the loss of other schedules.

    Args:
        runs: logs with learning rates and losses. Schedules can be told apart if the rate falls in at least one.
        schedules: names of policies, with their default parameters; by default all but "plateau", and none if only
            ``targets`` are given.
        steps: length of the training; by default that of the longest run.
        peak_lr: by default the highest learning rate logged. The law cannot choose it.
        warmup_steps: by default the shortest warmup logged.
        end_lr: minimum learning rate of every decay; by default the lowest one logged after warmup, because the logs do
            not show what happens below it.
        optimal: whether to search for the best schedule that never rises.
        targets: logs to predict from their learning rates, and to compare with their losses.

    Raises:
        InputError: an argument breaks a rule, or the runs cannot be fitted (`fit_law`).
    """
    names = list(dict.fromkeys(schedules or ()))
    if schedules is None and (steps is not None or not targets):
        names = list(RANKED)
    for name in names:
        if name not in RANKED:
            raise InputError(f"schedule must be one of {', '.join(RANKED)}, got {name!r}")
    if not runs:
        raise InputError("runs must hold at least one log, got none")
    law = fit_law(runs)  # first: it says what is wrong with a log, before the scenario is made from it
    scenario = make_scenario(runs, steps, peak_lr, warmup_steps, end_lr) if names or optimal else None
    refused = law.refused
    if refused is not None:
        names, targets, optimal = [], (), False
    elif not law.knows_falls:
        known = [log for log in targets if lowest_lr(log) >= 0.98 * log.every_lr()[log.warmup_steps]]
        if optimal or len(known) < len(targets) or any(name != "constant" for name in names):
            refused = NO_FALLS
        names, targets, optimal = [name for name in names if name == "constant"], known, False
    caveats = [f"{log.name}: {caveat}" for log in (*runs, *targets) for caveat in log.step_caveats()]
    caveats += [caveat for caveat in law.caveats if caveat != refused]
    ranked: list[Scheduled] = []
    if scenario is not None:
        rates = {name: scenario.every_lr(name) for name in names}
        if optimal:
            rates["optimal"] = _optimal_lr(law, scenario, rates)
        ranked = _rank(law, scenario, rates, min(map(lowest_lr, runs)))
        caveats += scenario.caveats
        positive = all(float(run.value[run.has_loss].min()) > 0 for run in runs)
        possible = [schedule for schedule in ranked if schedule.final_loss > 0 or not positive]
        if len(possible) < len(ranked):
            ranked, refused = possible, IMPOSSIBLE
        if {"optimal", "wsd"} <= {schedule.name for schedule in ranked if schedule.tied}:
            caveats.append(_AS_GOOD)
    return Forecast(
        tuple(runs),
        law,
        tuple(schedule for schedule in ranked if schedule.name != "optimal"),
        next((schedule for schedule in ranked if schedule.name == "optimal"), None),
        tuple(_score(law, target) for target in targets),
        refused,
        tuple(dict.fromkeys(caveats)),
    )


def _rank(law: LossLaw, scenario: Scenario, rates: Mapping[str, Array], lowest: float) -> list[Scheduled]:
    """Predict schedules, given the learning rate of every step, and sort them by final loss."""
    ends = {name: law(lr, np.array([scenario.total])) for name, lr in rates.items()}
    order = sorted(rates, key=lambda name: float(ends[name].loss[0]))
    schedules = []
    for name in order:
        lr, end, best = rates[name], ends[name], ends[order[0]]
        first, final = end_of_warmup(lr), float(end.loss[0])
        step = np.unique(np.linspace(max(first, 1), scenario.total, _POINTS).round().astype(np.int64))
        width = law.half_width_of_loss(end.gradient[0])
        tied = final - float(best.loss[0]) <= law.half_width(end.gradient[0] - best.gradient[0])
        caveats = []
        if lr[first:].min() < 0.99 * lowest:
            caveats.append(f"extrapolated: falls to {lr[first:].min():.2g}, the logs to {lowest:.2g} only")
        if (np.diff(lr[first:]) > 1e-9 * scenario.peak_lr).any():
            caveats.append("rises again, where the law has not been validated")
        if first > max(2 * scenario.warmup, 0.1 * scenario.total):
            caveats.append(f"rises for {first} steps, longer than any warmup logged")
        schedule = Scheduled(
            name, scenario.peak_lr, scenario.warmup_of(name), scenario.total, step, lr[step], law(lr, step).loss,
            final - width, final + width, tied, tuple(caveats),
        )  # fmt: skip
        schedules.append(schedule)
    return schedules


def _optimal_lr(law: LossLaw, scenario: Scenario, rates: Mapping[str, Array]) -> Array:
    """Return the (T + 1,) rates that never rise with the lowest predicted loss, starting the search from ``rates``."""
    end = np.array([scenario.total])
    others = [scenario.every_lr(name) for name in ("constant", "cosine", "wsd") if name not in rates]
    starts = [lr for lr in (*rates.values(), *others) if end_of_warmup(lr) <= scenario.warmup]  # not one-cycle
    starts.sort(key=lambda lr: float(law(lr, end).loss[0]))
    return best_decay(law, scenario.every_lr("constant"), scenario.warmup, scenario.end_lr, starts)


def _score(law: LossLaw, log: TrainingLog) -> ScoredLog:
    start, lr = max(log.warmup_steps, 1), log.every_lr()
    step = np.union1d(log.step, log.lr_step)
    loss = law(lr, np.maximum(step, start)).loss
    both = log.has_loss & (log.step >= start)
    if not both.any():
        return ScoredLog(log, step, loss, None, None)
    logged = log.value[both]
    off, last = np.abs(loss[np.searchsorted(step, log.step[both])] - logged), abs(float(logged[-1]))
    return ScoredLog(log, step, loss, float(off.mean()), float(off[-1]) / last if last > 0 else None)
