"""`Forecast`: what recorded trainings say about the loss of other schedules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfinder.curve import SCHEMA_VERSION
from lrfinder.errors import InputError
from lrfinder.lawfit import NO_FALLS, fit_law
from lrfinder.losslaw import LossLaw
from lrfinder.losslog import LossLog
from lrfinder.plan import plan_for
from lrfinder.policy import RANKED
from lrfinder.scheduled import Scheduled, optimal_lr, ranked

__all__ = ["Forecast", "Target", "forecast"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Target:
    """The predicted loss of another log, from its learning rates.

    Attributes:
        log: the log.
        loss: (n,) predicted at each of its steps, finite. The law holds from the end of the warmup: steps before it
            get the value there.
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
            "loss": self.loss.tolist(),
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
    if not runs:
        raise InputError("runs must hold at least one log, got none")
    law = fit_law(runs)  # first: it says what is amiss with a log, from which the plan is made
    plan = plan_for(runs, steps, peak_lr, warmup_steps, end_lr) if names or optimal else None
    refused = None
    if not law.knows_falls:
        known = [target for target in targets if not _falls(target)]
        if optimal or len(known) < len(targets) or any(name != "constant" for name in names):
            refused = NO_FALLS
        names, targets, optimal = [name for name in names if name == "constant"], known, False
    caveats = [f"{log.name}: {caveat}" for log in (*runs, *targets) for caveat in log.caveats]
    caveats += [caveat for caveat in law.caveats if caveat != refused]
    found: tuple[Scheduled, ...] = ()
    if plan is not None:
        rates = {name: plan.every_lr(name) for name in names}
        if optimal:
            rates["optimal"] = optimal_lr(law, plan, rates)
        found = ranked(law, plan, rates, runs)
        caveats += plan.caveats(runs)
    return Forecast(
        tuple(runs),
        law,
        tuple(one for one in found if one.name != "optimal"),
        next((one for one in found if one.name == "optimal"), None),
        tuple(_scored(law, target) for target in targets),
        refused,
        tuple(dict.fromkeys(caveats)),
    )


def _falls(log: LossLog) -> bool:
    lr = log.every_lr()[log.warmup_steps :]
    return bool(lr.min() < 0.98 * lr[0])


def _scored(law: LossLaw, target: LossLog) -> Target:
    holds = max(target.warmup_steps, 1)
    loss = law(target.every_lr(), np.maximum(target.step, holds)).loss
    both = target.has_loss & (target.step >= holds)
    if not both.any():
        return Target(target, loss, None, None)
    off, last = np.abs(loss - target.loss)[both], abs(float(target.loss[both][-1]))
    return Target(target, loss, float(off.mean()), float(off[-1]) / last if last > 0 else None)
