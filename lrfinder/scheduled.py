"""`Scheduled`: a schedule and the loss that a fitted law predicts for it; several of them, ranked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfinder.best_decay import best_decay
from lrfinder.losslaw import LossLaw
from lrfinder.losslog import LossLog, end_of_warmup
from lrfinder.plan import Plan, lowest_lr

__all__ = ["Scheduled", "optimal_lr", "ranked"]

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


def ranked(law: LossLaw, plan: Plan, rates: Mapping[str, Array], runs: Sequence[LossLog]) -> tuple[Scheduled, ...]:
    """Predict schedules, the lowest final loss first.

    Args:
        law: fitted to ``runs``.
        plan: what the schedules have in common.
        rates: (T + 1,) learning rate of every step, by name.
        runs: what was logged, to say where a schedule leaves it.
    """
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
                plan.warmup_of(name),
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
    return tuple(schedules)


def optimal_lr(law: LossLaw, plan: Plan, rates: Mapping[str, Array]) -> Array:
    """Return the (T + 1,) learning rates that never rise for which the law predicts least.

    Args:
        law: fitted to falls.
        plan: warmup, peak and lowest rate.
        rates: schedules to start from; none of those that never rise is predicted better.
    """
    end = np.array([plan.total])
    starts = [*rates.values(), *(plan.every_lr(name) for name in ("constant", "cosine", "wsd") if name not in rates)]
    starts = [lr for lr in starts if end_of_warmup(lr) <= plan.warmup]  # one-cycle goes on rising
    starts.sort(key=lambda lr: float(law(lr, end).loss[0]))
    return best_decay(law, plan.every_lr("constant"), plan.warmup, plan.end_lr, starts)
