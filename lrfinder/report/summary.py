"""What every report shows of a suggestion: the views of it, and what it means in words and round numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrfinder.advice.rescale import decay_time, family_of
from lrfinder.answer.ranking import Alternative
from lrfinder.answer.suggestion import Suggestion
from lrfinder.answer.suggestion_text import doubt_of, interval_of
from lrfinder.evidence.probe import standard_error
from lrfinder.report.search_plots import CurveView, ProbesView, curve_view, probes_view
from lrfinder.schedules.code import parse_optimizer
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


_SHOWN = 6
"""Maximum number of policies that are shown step by step."""


def list_courses(suggestion: Suggestion) -> tuple[Course, ...]:
    """Return the policy suggested, a constant rate, and the best others; empty without a horizon or a policy."""
    horizon, policy, lr = suggestion.horizon, suggestion.policy, suggestion.lr
    if horizon is None or policy is None or lr is None:
        return ()
    chosen = suggestion.chosen or Alternative(policy, lr, None, None, None, "")
    ranked = [one for one in suggestion.alternatives if one.policy.name in RANKED and one is not chosen]
    constant = [one for one in ranked if one.policy.name == "constant"]
    others = [one for one in ranked if one not in constant][: _SHOWN - 1 - len(constant)]
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


def describe_confidence(suggestion: Suggestion) -> tuple[str, ...]:
    """Return what is not known about the rate, a sentence each; empty if refused."""
    if suggestion.lr is None:
        return ()
    doubt, valley, horizon = doubt_of(suggestion), suggestion.valley, suggestion.horizon
    sentences = [f"{doubt[0].upper()}{doubt[1:]}."]
    if valley is not None and horizon is not None and horizon > valley.steps:
        times = f"{horizon / valley.steps:.3g} times as many"
        sentences.append(f"The probes took {valley.steps:,} steps, training takes {horizon:,}, {times}.")
    return tuple(sentences)


def list_costs(findings: Findings) -> tuple[Cost, ...]:
    """Return what other learning rates cost; empty where that was not measured."""
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
    finite, tried = curve.loss[~curve.above], len(findings.suggestion.curves[0])
    text = f"The range test tried {tried} rates from {curve.lr[0]:.2g} to {curve.lr[-1]:.2g}"
    if finite.size:
        text += f"; its loss began at {curve.loss[0]:.4g} and got down to {finite.min():.4g}"
    sentences = [f"{text}."]
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


MOVES_TITLE = "What would move this rate"

_BATCHES = (("4 times the batch", (1, 4)), ("16 times the batch", (1, 16)), ("a quarter of the batch", (4, 1)))


class Move(NamedTuple):
    """A change of the training, and the best peak rate after it, in words."""

    change: str
    lr: str
    interval: str


def list_moves(suggestion: Suggestion) -> tuple[Move, ...]:
    """Return the best rate at other batch sizes and lengths; empty if refused.

    Batch sizes appear if a rule was measured for the optimizer, lengths if that of the training is known.
    """
    if suggestion.lr is None:
        return ()
    made, horizon = parse_optimizer(suggestion.environment.get("optimizer")), suggestion.horizon
    asked: list[tuple[str, tuple[int, int] | None, int | None]] = []
    if made is not None and family_of(made[0]) is not None:
        for words, sizes in _BATCHES:
            asked.append((f"{words}, as many examples", sizes, None))
            if horizon is not None:
                asked.append((f"{words}, as many steps", sizes, horizon))
    if horizon is not None:
        asked += [("4 times the steps", None, 4 * horizon), ("a quarter of the steps", None, max(horizon // 4, 1))]
    moves = []
    for change, batch_size, steps in asked:
        scaled = suggestion.rescale(batch_size, steps=steps)
        moves.append(Move(change, f"{scaled.lr:.3g}", f"{scaled.lr_low:.2g} to {scaled.lr_high:.2g}"))
    return tuple(moves)


def notes_on_moves(suggestion: Suggestion) -> tuple[str, ...]:
    """Return where the rules come from, and the time scale of the weight decay if it has one; empty if refused."""
    if suggestion.lr is None:
        return ()
    made = parse_optimizer(suggestion.environment.get("optimizer"))
    if made is None or family_of(made[0]) is None:
        return ("No rule for the batch size was measured for this optimizer, or its settings are unknown.",)
    notes = [
        "The rules were measured on seven other tasks (docs/advice.md), nothing of them on this model."
        " lrfinder rescale answers for any batch size, number of devices and length."
    ]
    time = decay_time(*made, suggestion.lr)
    if time is not None:
        decay, steps = time
        passes = suggestion.evidence.epoch_steps
        least, most = (steps * suggestion.lr / rate for rate in reversed(suggestion.interval))
        of_passes = "" if passes is None else f", {_round(steps / passes)} passes over the data"
        notes.append(
            f"At this rate a weight decay of {decay:g} forgets over {_round(steps)} steps ({_round(least)} to"
            f" {_round(most)}){of_passes}. From a quarter to four times the decay, the best rate of these tasks moved"
            " by 0.5 octaves on average, in no direction."
        )
    return tuple(notes)


def _round(steps: float) -> str:
    return f"{float(f'{steps:.2g}'):,g}"


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
        "interval": interval_of(suggestion),
        "confidence": describe_confidence(suggestion),
        "costs": list_costs(findings),
        "seen": describe_evidence(findings),
        "groups": ", ".join(f"{lr:.3g}" for lr in suggestion.param_group_lrs),
        "moves": list_moves(suggestion),
        "moves_notes": notes_on_moves(suggestion),
        "moves_title": MOVES_TITLE,
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
                "error": 0.0 if outcome.diverged else standard_error(outcome.loss) or 0.0,
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
