"""`Forecast`: what recorded trainings say about the loss of other schedules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfinder.best_decay import best_decay
from lrfinder.curve import SCHEMA_VERSION
from lrfinder.errors import InputError
from lrfinder.lawfit import NO_FALLS, fit_law
from lrfinder.losslaw import LossLaw
from lrfinder.losslog import LossLog, end_of_warmup
from lrfinder.plan import RANKED, Plan, lowest_lr, plan_for

__all__ = ["Forecast", "Scheduled", "Target", "forecast"]

Array = NDArray[np.float64]

_SHOWN = 500
"""Steps at which a predicted curve is given."""


@dataclass(frozen=True, eq=False)
class Scheduled:
    """A schedule and its predicted curve.

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
        tied: whether the law cannot tell it from the best: their difference is within its 90% interval.
        caveats: where the law is stretched, in sentences.
    """

    name: str
    peak_lr: float
    warmup_steps: int
    total_steps: int
    step: NDArray[np.int64]
    lr: Array
    loss: Array
    final_loss_low: float
    final_loss_high: float
    tied: bool
    caveats: tuple[str, ...]

    @property
    def final_loss(self) -> float:
        """The predicted loss at T."""
        return float(self.loss[-1])

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            "name": self.name,
            "peak_lr": self.peak_lr,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
            "final_loss": self.final_loss,
            "final_loss_low": self.final_loss_low,
            "final_loss_high": self.final_loss_high,
            "tied": self.tied,
            "steps": self.step.tolist(),
            "lr": self.lr.tolist(),
            "loss": self.loss.tolist(),
            "caveats": list(self.caveats),
        }


@dataclass(frozen=True, eq=False)
class Target:
    """The predicted loss of another log, from its learning rates.

    Attributes:
        log: the log.
        loss: (n,) predicted at each of its steps; NaN during warmup, where the law does not hold.
        mae: mean absolute difference to the losses logged after warmup; None without any.
        end_rel_error: absolute difference to the last loss logged, over that loss; None without any.
    """

    log: LossLog
    loss: Array
    mae: float | None
    end_rel_error: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            "file": self.log.name,
            "steps": self.log.step.tolist(),
            "loss": [value if math.isfinite(value) else None for value in self.loss.tolist()],
            "mae": self.mae,
            "end_rel_error": self.end_rel_error,
            "caveats": list(self.log.caveats),
        }


@dataclass(frozen=True, eq=False)
class Forecast:
    """A law fitted to logs, and what it predicts.

    Attributes:
        runs: the logs.
        law: fitted to them.
        schedules: the lowest predicted final loss first.
        optimal: the best non-increasing schedule, where it was asked for.
        targets: other logs, predicted.
        refused: why something asked for cannot be known, with the remedy; None where all is told.
        caveats: in sentences.
    """

    runs: tuple[LossLog, ...]
    law: LossLaw
    schedules: tuple[Scheduled, ...]
    optimal: Scheduled | None
    targets: tuple[Target, ...]
    refused: str | None
    caveats: tuple[str, ...]

    @property
    def best(self) -> str | None:
        """Name of the best of the schedules; None without any."""
        return self.schedules[0].name if self.schedules else None

    def to_dict(self) -> dict[str, Any]:
        """Return the forecast as JSON-ready data, ``schema_version`` 1."""
        return {
            "schema_version": SCHEMA_VERSION,
            "status": "ok" if self.refused is None else "refused",
            "reason": self.refused,
            "runs": [
                {
                    "file": run.name,
                    "points": int(run.has_loss.sum()),
                    "steps": run.last_step,
                    "peak_lr": run.peak_lr,
                    "warmup_steps": run.warmup_steps,
                    "caveats": list(run.caveats),
                }
                for run in self.runs
            ],
            "law": self.law.to_dict(),
            "schedules": [one.to_dict() for one in self.schedules],
            "best": self.best,
            "optimal": None if self.optimal is None else self.optimal.to_dict(),
            "targets": [target.to_dict() for target in self.targets],
            "caveats": list(self.caveats),
        }


def forecast(
    runs: Sequence[LossLog],
    schedules: Sequence[str] | None = None,
    steps: int | None = None,
    *,
    peak_lr: float | None = None,
    warmup_steps: int | None = None,
    end_lr: float | None = None,
    optimal: bool = False,
    targets: Sequence[LossLog] = (),
) -> Forecast:
    """Fit the loss-curve law to recorded runs and predict the loss of other schedules.

    Args:
        runs: what was recorded; one at least whose rate falls, to tell schedules apart.
        schedules: names of policies, at their default parameters; by default all but "plateau", and none where only
            ``targets`` are given.
        steps: length of the training; by default that of the longest run.
        peak_lr: by default the highest learning rate logged. The law cannot choose it.
        warmup_steps: by default the shortest warmup logged.
        end_lr: no decay goes below this rate; by default the lowest one logged after warmup, below which the law is not
            backed by anything.
        optimal: also seek the best schedule that never rises.
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
    plan = plan_for(runs, steps, peak_lr, warmup_steps, end_lr) if names or optimal else None
    law = fit_law(runs)
    refused = None
    if not law.knows_falls:
        known = [target for target in targets if not _falls(target)]
        if optimal or len(known) < len(targets) or any(name != "constant" for name in names):
            refused = NO_FALLS
        names, targets, optimal = [name for name in names if name == "constant"], known, False
    caveats = [f"{log.name}: {caveat}" for log in (*runs, *targets) for caveat in log.caveats]
    caveats += [caveat for caveat in law.caveats if caveat != refused]
    ranked: list[Scheduled] = []
    if plan is not None:
        rates = {name: plan.every_lr(name) for name in names}
        if optimal:
            rates["optimal"] = _optimal(law, plan, rates)
        ranked = _ranked(law, plan, rates, runs)
        caveats += plan.caveats(runs)
    return Forecast(
        tuple(runs),
        law,
        tuple(one for one in ranked if one.name != "optimal"),
        next((one for one in ranked if one.name == "optimal"), None),
        tuple(_scored(law, target) for target in targets),
        refused,
        tuple(dict.fromkeys(caveats)),
    )


def _optimal(law: LossLaw, plan: Plan, rates: dict[str, Array]) -> Array:
    end = np.array([plan.total])
    starts = [*rates.values(), *(plan.every_lr(name) for name in ("constant", "cosine", "wsd") if name not in rates)]
    starts = [lr for lr in starts if end_of_warmup(lr) <= plan.warmup]  # one-cycle goes on rising
    starts.sort(key=lambda lr: float(law(lr, end).loss[0]))
    return best_decay(law, plan.every_lr("constant"), plan.warmup, plan.end_lr, starts)


def _falls(log: LossLog) -> bool:
    lr = log.every_lr()[log.warmup_steps :]
    return bool(lr.min() < 0.98 * lr[0])


def _ranked(law: LossLaw, plan: Plan, rates: dict[str, Array], runs: Sequence[LossLog]) -> list[Scheduled]:
    ends = {name: law(lr, np.array([plan.total])) for name, lr in rates.items()}
    order = sorted(rates, key=lambda name: float(ends[name].loss[0]))
    lowest = lowest_lr(runs)
    schedules = []
    for name in order:
        lr, end = rates[name], ends[name]
        first = end_of_warmup(lr)
        step = np.unique(np.linspace(max(first, 1), plan.total, _SHOWN).round().astype(np.int64))
        width = law.half_width_of_loss(end.gradient[0])
        apart = end.gradient[0] - ends[order[0]].gradient[0]
        behind = float(end.loss[0] - ends[order[0]].loss[0])
        caveats = []
        if lr[first:].min() < 0.99 * lowest:
            caveats.append(f"extrapolated: falls to {lr[first:].min():.2g}, the logs to {lowest:.2g} only")
        if (np.diff(lr[first:]) > 1e-9 * plan.peak_lr).any():
            caveats.append("rises again, where the law has not been validated")
        if first > max(2 * plan.warmup, 0.1 * plan.total):
            caveats.append(f"rises for {first} steps, longer than any warmup logged")
        schedules.append(
            Scheduled(
                name,
                plan.peak_lr,
                0 if name == "one-cycle" else plan.warmup,
                plan.total,
                step,
                lr[step],
                law(lr, step).loss,
                float(end.loss[0]) - width,
                float(end.loss[0]) + width,
                behind <= law.half_width(apart),
                tuple(caveats),
            )
        )
    return schedules


def _scored(law: LossLaw, target: LossLog) -> Target:
    loss = law(target.every_lr(), target.step).loss
    loss[target.step < max(target.warmup_steps, 1)] = np.nan
    both = target.has_loss & np.isfinite(loss)
    if not both.any():
        return Target(target, loss, None, None)
    off, last = np.abs(loss - target.loss)[both], abs(float(target.loss[both][-1]))
    return Target(target, loss, float(off.mean()), float(off[-1]) / last if last > 0 else None)
