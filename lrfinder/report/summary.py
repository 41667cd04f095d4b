"""`Verdict`: what every report says of a suggestion in words and round numbers."""

from __future__ import annotations

import math
from typing import NamedTuple

from lrfinder.answer.suggestion import Suggestion
from lrfinder.report.policy_plots import Course, courses
from lrfinder.report.search_plots import CurveView, ProbesView, curve_view, probes_view

__all__ = ["Cost", "Findings", "Verdict"]


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
            courses(suggestion),
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
        return f"{self.rise:+.2g}" + ("" if self.share is None else f", {self.share:.0%} of what was gained")


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
            seen=_seen(findings),
            reason=reason.why if reason is not None else "",
            remedy=reason.remedy if reason is not None else "",
        )


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.2g} to {high:.2g}"


def _confidence(findings: Findings) -> tuple[str, tuple[str, ...]]:
    suggestion, valley = findings.suggestion, findings.suggestion.valley
    if suggestion.lr_low is None or suggestion.lr_high is None:
        return "", ()
    either_way = math.sqrt(suggestion.lr_high / suggestion.lr_low)
    sentences = [
        f"Nine times out of ten the best rate lies within a factor of {either_way:.2g} of the middle of the interval."
    ]
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


def _seen(findings: Findings) -> tuple[str, ...]:
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
