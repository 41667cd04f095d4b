"""What would move a rate: the section of a report on other batch sizes, lengths and the weight decay."""

from __future__ import annotations

from typing import NamedTuple

from lrfinder.advice.rescale import family_of
from lrfinder.advice.weight_decay import decay_time
from lrfinder.answer.suggestion import Suggestion
from lrfinder.schedules.code import parse_optimizer

TITLE = "What would move this rate"

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
    low, high = suggestion.interval
    time = decay_time(*made, suggestion.lr, low, high)
    if time is not None:
        passes = suggestion.evidence.epoch_steps
        of_passes = "" if passes is None else f", {_round(time.steps / passes)} passes over the data"
        notes.append(
            f"At this rate a weight decay of {time.weight_decay:g} forgets over {_round(time.steps)} steps"
            f" ({_round(time.steps_low)} to {_round(time.steps_high)}){of_passes}. From a quarter to four times the"
            " decay, the best rate of these tasks moved by 0.5 octaves on average, in no direction."
        )
    return tuple(notes)


def _round(steps: float) -> str:
    return f"{float(f'{steps:.2g}'):,g}"
