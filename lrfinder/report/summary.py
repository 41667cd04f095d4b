"""`Verdict`: what every report says of a suggestion in words and round numbers."""

from __future__ import annotations

import math
from typing import NamedTuple

from lrfinder.answer.suggestion import Suggestion
from lrfinder.report.horizon_plots import Course, DriftView, courses, drift_view
from lrfinder.report.search_plots import CurveView, ProbesView, curve_view, probes_view

__all__ = ["Cost", "Findings", "Verdict"]


class Findings(NamedTuple):
    """A suggestion and the views of it.

    Attributes:
        suggestion: of which all this is.
        curve: the range test.
        probes: the probes; None where there were none.
        drift: how the best rate moves to the horizon; None where nothing was suggested, or without probes.
        courses: policies over the steps of the training, the suggested one first; empty without a horizon.
    """

    suggestion: Suggestion
    curve: CurveView
    probes: ProbesView | None
    drift: DriftView | None
    courses: tuple[Course, ...]

    @classmethod
    def of(cls, suggestion: Suggestion) -> Findings:
        """Work out everything that is shown."""
        return cls(
            suggestion,
            curve_view(suggestion.evidence.curve, suggestion.range_fit),
            probes_view(suggestion) if suggestion.evidence.outcomes else None,
            drift_view(suggestion),
            courses(suggestion),
        )


_GRADES = ((2.0, "Sharp"), (4.0, "Fair"), (10.0, "Rough"), (math.inf, "Weak"))
"""By the factor, either way, within which the best rate lies nine times out of ten."""

_FACTORS = {0.1: "a tenth of it", 0.5: "half of it", 2.0: "twice as much", 10.0: "ten times as much"}


class Cost(NamedTuple):
    """What another learning rate costs.

    Attributes:
        words: how it compares with the best one.
        rise: of the held-out loss of the longest probes; inf where it blows up.
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
        policy: the decay; empty where there is none.
        because: why this decay; empty where none were compared.
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
    suggestion, drift = findings.suggestion, findings.drift
    if suggestion.lr is None or suggestion.lr_low is None or suggestion.lr_high is None:
        return "", ()
    either_way = math.sqrt(suggestion.lr_high / suggestion.lr_low)
    grade = next(word for most, word in _GRADES if either_way <= most)
    sentences = [
        f"Nine times out of ten the best rate lies within a factor of {either_way:.2g} of the middle of the interval."
    ]
    landscape = suggestion.landscape
    if drift is not None and len(drift.carried) > 1 and landscape is not None:
        first, last = drift.carried[0], drift.carried[-1]
        times = last.steps / first.steps
        if times > 1.05:
            share = math.log(first.high / first.low) / math.log(last.high / last.low)
            sentences.append(
                f"The longest probes took {landscape.steps} steps, training takes {suggestion.horizon}, {times:.3g}"
                f" times as many: {share:.0%} of the interval's width was there after the probes, the rest comes with"
                " the way from there."
            )
    if drift is not None and landscape is not None:
        sentences.append(
            f"The further a probe was from the best rate the worse it ended, with a rank correlation of"
            f" {landscape.order:.2f} (1: always; below 0.65 it would have been refused)."
        )
    return grade, tuple(sentences)


def _costs(findings: Findings) -> tuple[Cost, ...]:
    probes = findings.probes
    gained = None if probes is None else probes.untrained - float(probes.rungs[-1].loss.min())
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
    for rung in probes.rungs if probes is not None else ():
        blown_up = int((rung.loss == math.inf).sum())
        text = f"{rung.loss.size} probes of {rung.steps} steps, from {rung.lr[0]:.2g} to {rung.lr[-1]:.2g}"
        if blown_up < rung.loss.size:
            text += f": the best ended at {rung.loss.min():.4g}, at {rung.lr[rung.best]:.2g}"
        sentences.append(text + (f"; {blown_up} blew up." if blown_up else "."))
    if probes is not None and math.isfinite(probes.untrained):
        sentences.append(f"The untrained model's held-out loss was {probes.untrained:.4g}.")
    return tuple(sentences)
