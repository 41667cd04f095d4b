"""Which decay, at which peak, after how much warmup: every policy ranked by the final loss it is predicted to give."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfinder.answer.annealing import (
    PRIOR,
    AnnealingEffect,
    AnnealingMeasurement,
    WarmupMeasurement,
    estimate_effect,
    measure_annealing,
    measure_warmup,
)
from lrfinder.errors import InputError
from lrfinder.evidence.probe import Evidence
from lrfinder.schedules.policy import ENDLESS, POLICIES, Policy
from lrfinder.schedules.theory import Features, features, octaves_to_own_best

__all__ = ["MATERIAL", "Alternative", "Ranking", "named_policy", "peak_for", "peak_for_schedule", "rank"]


def named_policy(name: str, alternatives: Sequence[Alternative], own: Policy, steps: int | None) -> Policy:
    """Return the policy that a person asks for by its name.

    Args:
        name: of the policy.
        alternatives: the policies considered; one of this name is taken as it stands.
        own: the policy suggested; another takes the same steps of warmup.
        steps: optimizer steps of the training; None if unknown.

    Raises:
        InputError: there is no such policy, or it needs ``steps`` and there are none.
    """
    for alternative in alternatives:
        if alternative.policy.name == name:
            return alternative.policy
    if steps is None and name in POLICIES and name not in ENDLESS:
        raise InputError(f"steps must be given for policy {name!r}, which ends after so many, got steps = None")
    return Policy(name, steps, 0 if name == "plateau" else own.warmup_steps)


def peak_for(policy: Policy, alternatives: Sequence[Alternative], lr: float) -> float:
    """Return the best peak learning rate of a policy, as far as it is known.

    Args:
        policy: the policy to follow.
        alternatives: the policies considered; the peak is that of the same policy, else of the first of its name.
        lr: peak of the policy suggested, which any other policy gets too.
    """
    namesakes = [alternative for alternative in alternatives if alternative.policy.name == policy.name]
    namesakes.sort(key=lambda alternative: alternative.policy != policy)
    return namesakes[0].lr_at(policy.warmup_steps > 0) if namesakes else lr


def peak_for_schedule(
    rates: NDArray[np.float64], alternatives: Sequence[Alternative], lr: float, steps: int | None
) -> float:
    """Return the best peak learning rate of any schedule, moved there from that of "linear" by the convex bound.

    Args:
        rates: (k,) learning rates >= 0 in any unit, evenly spaced over the training.
        alternatives: the policies considered.
        lr: peak of the policy suggested, which stands if "linear" was not considered.
        steps: optimizer steps of the training; None if unknown.

    Raises:
        InputError: this is no schedule, see `lrfinder.theory.Bound.of`.
    """
    octaves = octaves_to_own_best(rates / max(rates.max(initial=0.0), 1e-300), steps or 1000)
    linear = next((one for one in alternatives if one.policy.name == "linear"), None)
    return lr if linear is None else linear.lr_at(warmed=bool(rates[0] < 0.5 * rates.max())) * 2.0**octaves


MATERIAL = 0.005
"""Minimum difference of the final loss, as a share of it, that decides between policies."""

_SIGMAS = 2.0

_WARMUP_SHARE = 0.1

_MAX_WARMUP = 2_000
"""Maximum number of warmup steps: twice the memory 1 / (1 - beta2) of Adam's second moment, Ma and Yarats 2021
(arXiv 1910.04209)."""

_NORMAL_90 = NormalDist().inv_cdf(0.95)


@dataclass(frozen=True)
class Alternative:
    """A policy that was considered, at its own best peak learning rate.

    Attributes:
        policy: the policy.
        lr: its own best peak learning rate.
        gain: predicted share of the final loss that it saves over a constant rate, that one at its own best peak: 0.08
            is a loss 8% lower; None if it cannot be predicted.
        gain_low: lower end of the 90% interval.
        gain_high: upper end.
        reason: why it ranks where it does, one sentence.
        lr_unwarmed: its best peak without warmup; None if that is ``lr``.
    """

    policy: Policy
    lr: float
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    reason: str
    lr_unwarmed: float | None = None

    def lr_at(self, warmed: bool) -> float:
        """Return its best peak with warmup if ``warmed``, else without."""
        return self.lr if warmed or self.lr_unwarmed is None else self.lr_unwarmed

    def to_dict(self) -> dict[str, Any]:
        """Return the alternative as JSON-ready data."""
        return {
            **self.policy.to_dict(),
            "lr": self.lr,
            "lr_unwarmed": self.lr_unwarmed,
            "predicted_gain": self.gain,
            "predicted_gain_low": self.gain_low,
            "predicted_gain_high": self.gain_high,
            "reason": self.reason,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Alternative:
        """Rebuild an alternative from `to_dict`.

        Raises:
            InputError: a value breaks a rule; KeyError, TypeError or ValueError if one is missing or malformed.
        """
        gains = [data[f"predicted_gain{end}"] for end in ("", "_low", "_high")]
        gain, low, high = (None if value is None else float(value) for value in gains)
        if len({value is None for value in gains}) > 1 or not all(map(math.isfinite, filter(None, (gain, low, high)))):
            raise InputError(f"predicted_gain, _low and _high must be three numbers or three nulls, got {gains!r:.60}")
        unwarmed = data.get("lr_unwarmed")
        unwarmed = None if unwarmed is None else float(unwarmed)
        lr = float(data["lr"])
        if not (math.isfinite(lr) and lr > 0):
            raise InputError(f"lr of a policy must be positive, got lr = {lr!r}")
        return cls(Policy.from_dict(data), lr, gain, low, high, str(data["reason"]), unwarmed)


@dataclass(frozen=True)
class Ranking:
    """The policies for one training.

    Attributes:
        alternatives: all policies, the one predicted to end lowest first, those without a prediction last.
        chosen: the policy to take: the simplest among those that do not differ materially from the first.
        octaves: from the best peak rate of "linear" without warmup to that of the chosen policy.
        caveats: what limits the ranking, a sentence each.
    """

    alternatives: tuple[Alternative, ...]
    chosen: Alternative
    octaves: float
    caveats: tuple[str, ...]


def rank(
    evidence: Evidence,
    horizon: int,
    lr: float,
    *,
    blow_up: float = math.inf,
    prior: AnnealingEffect = PRIOR,
    policies: type[Policy] = Policy,
) -> Ranking:
    """Rank every policy for a training of ``horizon`` steps.

    Args:
        evidence: of the search, with the branches that the budget allowed.
        horizon: T, optimizer steps.
        lr: best peak rate of linear decay after T steps.
        blow_up: lowest rate above the best at which a probe blew up.
        prior: the belief about annealing before anything is measured.
        policies: the class whose table is ranked.
    """
    positive = all(outcome.mean > 0 for outcome in (evidence.untrained, *evidence.outcomes, *evidence.branches))
    measured, warming = measure_annealing(evidence) if positive else (), measure_warmup(evidence)
    effect = estimate_effect(horizon, measured, prior)
    pays = warming is not None and warming.rise < -max(_SIGMAS * warming.error, MATERIAL)
    some = min(round(_WARMUP_SHARE * horizon), _MAX_WARMUP)
    higher = warming.octaves if warming is not None and pays else 0.0
    rows: list[tuple[float, float, Alternative]] = []
    for name, shape in policies.shapes.items():
        plain = features(policies(name, horizon), horizon)
        warms = shape.warms_up and (pays or lr * 2**plain.lr >= blow_up)
        policy = policies(name, horizon, some if warms else 0)
        of = features(policy, horizon) if policy.warmup_steps else plain
        octaves = plain.lr + (higher if policy.warmup_steps else 0.0)
        mean, deviation = effect.predict_rise(of)
        gain, low, high = (
            1 - math.exp(mean + z * deviation) if shape.ranked else None for z in (0.0, _NORMAL_90, -_NORMAL_90)
        )
        unwarmed = lr * 2**plain.lr if policy.warmup_steps else None
        rows.append(
            (mean, octaves, Alternative(policy, lr * 2**octaves, gain, low, high, _reason(policy, of), unwarmed))
        )
    rows.sort(key=lambda row: (row[2].gain is None, row[0]))
    near = [row for row in rows if row[2].gain is not None and row[0] < rows[0][0] + MATERIAL]
    _, octaves, simplest = max(near, key=lambda row: row[2].policy.shape.simplicity)
    why = "Predicted to end lowest."
    if others := [row[2].policy.name for row in near if row[2] is not simplest]:
        why = f"No detectable difference from {', '.join(others)} (less than {MATERIAL:.1%}): the simplest of them."
    chosen = replace(simplest, reason=" ".join((why, _warmup_reason(evidence, simplest, warming, pays))))
    ordered = tuple(chosen if row[2] is simplest else row[2] for row in rows)
    return Ranking(ordered, chosen, octaves, (_basis(effect, measured, horizon, positive),))


def _reason(policy: Policy, of: Features) -> str:
    if not policy.shape.ranked:
        return "Not predicted: when it drops depends on losses to come. It needs no horizon."
    if policy.name == "constant":
        return "What the others are compared with: no progress given up, no noise removed."
    kept, removed = 2**-of.progress_lost, max(of.noise_removed, 0.0)
    return f"Keeps {kept:.0%} of the peak rate on average; by the convex bound it removes {removed:.0%} of the noise."


def _warmup_reason(evidence: Evidence, chosen: Alternative, warming: WarmupMeasurement | None, pays: bool) -> str:
    lr = chosen.lr
    if warming is not None and pays:
        return f"Warmup: with it a probe ended {-warming.rise:.1%} lower."
    if chosen.policy.warmup_steps:
        return "Warmup: the untrained model does not survive the peak."
    untrained = evidence.untrained.mean
    survived = max((o.probe.lr for o in evidence.outcomes if o.mean < untrained), default=lr)
    tried = "" if warming is None else f", and a probe with it ended {abs(warming.rise):.1%} {_side(warming.rise)}"
    return f"No warmup: the untrained model survived {survived:.2g}, {_times(survived / lr)} times the peak{tried}."


def _times(ratio: float) -> str:
    return f"{ratio:.2g}" if ratio < 10 else f"{ratio:.0f}"


def _side(rise: float) -> str:
    return "lower, within its noise" if rise < 0 else "higher"


def _basis(effect: AnnealingEffect, measured: Sequence[AnnealingMeasurement], horizon: int, positive: bool) -> str:
    if not measured:
        why = "the budget left no steps for it" if positive else "shares of what is not positive say nothing"
        return f"What annealing is worth was not measured on this model, {why}: the policy is what does best elsewhere."
    longest = measured[-1]
    error = f"standard error {longest.late_error:.1%}" if longest.late_error > 0 else "error unknown"
    return (
        f"Annealing over the last 40% changed the loss by {longest.late:+.1%} ({error}) after {longest.steps} steps;"
        f" what it is worth after {horizon} is extrapolated: {effect.measured:.0%} from branches, the rest from other"
        " tasks."
    )
