"""What every report shows of a suggestion: the views of it, and the verdict in words and round numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrfinder.answer.ranking import Alternative
from lrfinder.answer.suggestion import Suggestion
from lrfinder.report.moves import TITLE, list_moves, notes_on_moves
from lrfinder.report.search_plots import CurveView, ProbesView, curve_view, probes_view
from lrfinder.schedules.policy import RANKED, Policy

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Course:
    """What one policy does over the steps of the training.

    Attributes:
        alternative: the policy and its own best peak.
        taken: whether it is the one suggested.
        step: (n,) optimizer steps, increasing, the last one the end of training.
        lr: (n,) learning rate there.
    """

    alternative: Alternative
    taken: bool
    step: Array
    lr: Array


def list_courses(suggestion: Suggestion, most: int = 6) -> tuple[Course, ...]:
    """Return the policy suggested, a constant rate, and the best others, step by step.

    Args:
        suggestion: with or without alternatives; without a horizon, or a policy that ends, there are no courses.
        most: maximum number of policies.
    """
    horizon, policy, lr = suggestion.horizon, suggestion.policy, suggestion.lr
    if horizon is None or policy is None or lr is None:
        return ()
    chosen = suggestion.chosen or Alternative(policy, lr, None, None, None, "")
    ranked = [one for one in suggestion.alternatives if one.policy.name in RANKED and one is not chosen]
    constant = [one for one in ranked if one.policy.name == "constant"]
    others = [one for one in ranked if one not in constant][: max(most - 1 - len(constant), 0)]
    shown = [chosen, *(one for one in ranked if one in constant or one in others)]
    return tuple(Course(one, one is chosen, *_sample(one.policy, one.lr, horizon)) for one in shown)


def _sample(policy: Policy, peak: float, horizon: int) -> tuple[Array, Array]:
    """Return steps (n,), at most 201, and the learning rate of each; the last is the state after the last step."""
    total = policy.total_steps or horizon
    step = np.unique(np.round(np.linspace(0, total, min(total, 200) + 1)).astype(int))
    return step.astype(np.float64), np.array([peak * policy(int(at)) for at in step])


class Findings(NamedTuple):
    """A suggestion and the views of it.

    Attributes:
        suggestion: of which all this is.
        curve: the range test.
        probes: the probes; None where there were none.
        courses: policies over the steps of the training, the suggested one first; empty without a horizon.
    """

    suggestion: Suggestion
    curve: CurveView
    probes: ProbesView | None
    courses: tuple[Course, ...]

    @classmethod
    def of(cls, suggestion: Suggestion) -> Findings:
        """Work out everything that is shown."""
        return cls(
            suggestion,
            curve_view(suggestion.evidence.curve, suggestion.range_fit),
            probes_view(suggestion) if suggestion.evidence.outcomes else None,
            list_courses(suggestion),
        )


_FACTORS = {0.1: "a tenth of it", 0.5: "half of it", 2.0: "twice as much", 10.0: "ten times as much"}


class Cost(NamedTuple):
    """What another learning rate costs.

    Attributes:
        words: how it compares with the best one.
        rise: of the held-out loss of the probes; inf where it blows up.
        share: of what those probes had gained over the untrained model; None where that is unknown.
    """

    words: str
    rise: float
    share: float | None

    @property
    def text(self) -> str:
        """The cost in words."""
        if not math.isfinite(self.rise):
            return "training blows up"
        change = f"{abs(self.rise):.2g} {'lower' if self.rise < 0 else 'higher'}"
        return change + ("" if self.share is None else f", {self.share:.0%} of what training gained")


class Verdict(NamedTuple):
    """A suggestion in words.

    Attributes:
        answer: the learning rate, or that it was refused.
        interval: what holds the best rate with 90% probability; empty where refused.
        policy: the decay; empty if there is none.
        because: why this decay; empty if there are no alternatives.
        grade: one word for how sure it is; empty where refused.
        confidence: what that rests on, a sentence each.
        costs: what being off costs; empty where it was not measured.
        seen: what was measured, a sentence each.
        reason: why it was refused; empty where it was not.
        remedy: what to do then.
    """

    answer: str
    interval: str
    policy: str
    because: str
    grade: str
    confidence: tuple[str, ...]
    costs: tuple[Cost, ...]
    seen: tuple[str, ...]
    reason: str
    remedy: str

    @classmethod
    def of(cls, findings: Findings) -> Verdict:
        """Summarise a suggestion in words."""
        suggestion = findings.suggestion
        chosen, reason = suggestion.chosen, suggestion.reason
        grade, confidence = _confidence(findings)
        return cls(
            answer="Refused" if suggestion.lr is None else f"{suggestion.lr:.3g}",
            interval=_interval(suggestion.lr_low, suggestion.lr_high),
            policy="" if suggestion.policy is None else suggestion.policy.text,
            because="" if chosen is None else chosen.reason,
            grade=grade,
            confidence=confidence,
            costs=_costs(findings),
            seen=describe_evidence(findings),
            reason=reason.why if reason is not None else "",
            remedy=reason.remedy if reason is not None else "",
        )


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.2g} to {high:.2g}"


def _confidence(findings: Findings) -> tuple[str, tuple[str, ...]]:
    suggestion, valley = findings.suggestion, findings.suggestion.valley
    if suggestion.lr is None:
        return "", ()
    (_, sure), *_ = (row for row in suggestion.lines() if row[0] == "How sure")
    words = sure.partition(": ")[2]
    sentences = [f"{words[:1].upper()}{words[1:]}."]
    if valley is not None and suggestion.horizon is not None and suggestion.horizon > valley.steps:
        times = suggestion.horizon / valley.steps
        sentences.append(
            f"The probes took {valley.steps:,} steps, training takes {suggestion.horizon:,}, {times:.3g} times as many."
        )
    return suggestion.confidence.capitalize(), tuple(sentences)


def _costs(findings: Findings) -> tuple[Cost, ...]:
    probes = findings.probes
    gained = None if probes is None else probes.untrained - float(probes.rung.loss.min())
    known = gained is not None and math.isfinite(gained) and gained > 0
    return tuple(
        Cost(_FACTORS.get(factor, f"{factor:g} times as much"), rise, rise / gained if known and gained else None)
        for factor, rise in findings.suggestion.cost_of_error
    )


def describe_evidence(findings: Findings) -> tuple[str, ...]:
    """Return what was measured, a sentence each: the range test, the probes, the untrained model."""
    curve, probes = findings.curve, findings.probes
    finite = curve.loss[~curve.above]
    sentences = [
        f"The range test tried {len(findings.suggestion.curves[0])} rates from {curve.lr[0]:.2g} to {curve.lr[-1]:.2g}"
    ]
    if finite.size:
        sentences[0] += f"; its loss began at {curve.loss[0]:.4g} and got down to {finite.min():.4g}"
    sentences[0] += "."
    if probes is not None:
        rung = probes.rung
        blown_up = int((rung.loss == math.inf).sum())
        text = f"{rung.loss.size} probes of {rung.steps} steps, from {rung.lr[0]:.2g} to {rung.lr[-1]:.2g}"
        if blown_up < rung.loss.size:
            text += f": the best ended at {rung.loss.min():.4g}, at {rung.lr[rung.best]:.2g}"
        sentences.append(text + (f"; {blown_up} blew up." if blown_up else "."))
    if probes is not None and math.isfinite(probes.untrained):
        sentences.append(f"The untrained model's held-out loss was {probes.untrained:.4g}.")
    return tuple(sentences)


class Spent(NamedTuple):
    """What one part of a search took; seconds are None where unknown."""

    what: str
    trainings: int
    steps: int
    seconds: float | None


def report_values(findings: Findings, command: str | None) -> dict[str, Any]:
    """Return what every text form of the report shows."""
    suggestion = findings.suggestion
    environment = dict(suggestion.environment)
    made_by = environment.pop("command", None)
    curve = suggestion.curves[0].thinned()
    return {
        "suggestion": suggestion,
        "findings": findings,
        "verdict": Verdict.of(findings),
        "groups": ", ".join(f"{lr:.3g}" for lr in suggestion.param_group_lrs),
        "moves": list_moves(suggestion),
        "moves_notes": notes_on_moves(suggestion),
        "moves_title": TITLE,
        "command": command or made_by,
        "environment": list(environment.items()),
        "spent": _spent(suggestion),
        "measured": len(suggestion.curves[0]),
        "points": list(zip(*(getattr(curve, name).tolist() for name in ("step", "lr", "loss")), strict=True)),
        "probes": [
            {
                "stage": str(outcome.probe.stage),
                "steps": outcome.probe.steps,
                "lr": outcome.probe.lr,
                "loss": None if outcome.diverged else outcome.mean,
                "error": outcome.loss.std(ddof=1) / outcome.loss.size**0.5
                if outcome.loss.size > 1 and not outcome.diverged
                else 0.0,
            }
            for outcome in suggestion.probes
        ],
    }


def _spent(suggestion: Suggestion) -> list[Spent]:
    evidence = suggestion.evidence
    found = [Spent("range test", 1, max(evidence.range_steps, 0), evidence.curve.seconds)]
    if outcomes := evidence.outcomes:
        steps, seconds = sum(one.train_loss.size for one in outcomes), sum(one.seconds for one in outcomes)
        found.append(Spent("probes", len(outcomes), steps, seconds))
        found.append(Spent("all, evaluation included", 1 + len(outcomes), evidence.steps, evidence.seconds))
    return found
