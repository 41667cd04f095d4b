"""The best learning rate after a change of batch size or length, and how long weights remember under weight decay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from lrfinder.advice.gradients import NORMAL_90, NoiseScale
from lrfinder.errors import InputError, checked_horizon, one_of, positive, whole_number
from lrfinder.evidence.valley import ValleyFit

FAMILIES = {"sgd": 0.5, "adam": 0.25}
"""Of each family of optimizers: the octaves by which the best rate rises with every doubling of the batch size over the
same number of steps. These numbers are the multiples of 1/4 that fit the tasks of benchmarks/scaling.py best
(docs/advice.md)."""

BY_NOISE = 0.5
"""The same for both families, for doublings of ``1 / (1 / B + 1 / noise scale)``."""

BY_STEPS = 0.25
"""Octaves that are added for every doubling of the batch size for which the steps are halved in return."""

_ERROR = {"sgd": 0.2, "adam": 0.1}
"""Standard deviation of the shift per doubling of the batch size, octaves, on the same tasks."""

_TESTED = 16
"""Largest ratio of batch sizes on which the rules were tested."""

_KINDS = {"SGD": "sgd", "Adam": "adam", "AdamW": "adam"}

_DECOUPLED = {"AdamW": 1e-2}
"""Classes of `torch.optim` whose weight decay is decoupled from the gradient, and their default."""

_SAME = 0.1
"""Octaves by which rounding may change a number of steps."""

_OF_LENGTH = "docs/probes.md, to the horizon"

_OF_BATCH = {
    "sgd": "docs/advice.md; over as many steps also Bubeck 2015, section 6.2 (arXiv 1405.4980), if noise dominates",
    "adam": "docs/advice.md; over as many examples also Malladi et al. 2022, section 5 (arXiv 2205.10287)",
}


class Answer(NamedTuple):
    """What a search suggests: the rate and its 90% interval.

    With them the optimizer steps of the training and the examples per step over all devices, None if unknown.
    """

    lr: float
    lr_low: float
    lr_high: float
    steps: int | None
    batch_size: int | None = None


@dataclass(frozen=True, repr=False)
class Rescaled:
    """The best peak learning rate after a change.

    Attributes:
        lr: the rate.
        lr_low: lower end of its 90% interval: that of the suggestion, widened by what is unknown about the rule.
        lr_high: upper end.
        factor: the rate over that of the suggestion, by which the rates of all param groups move.
        steps: optimizer steps of the new training; None if unknown.
        batch_size: examples per optimizer step over all devices, before and after; None if it does not change.
        rule: what was done, in a sentence.
        source: where the rule comes from.
        valid: for what it was tested, in a sentence.
    """

    lr: float
    lr_low: float
    lr_high: float
    factor: float
    steps: int | None
    batch_size: tuple[int, int] | None
    rule: str
    source: str
    valid: str

    def lines(self) -> list[tuple[str, str]]:
        """Return (label, text) pairs for the terminal."""
        rows = [("Peak LR", f"{self.lr:.3g}"), ("Interval", f"{self.lr_low:.2g} to {self.lr_high:.2g} (90%)")]
        if self.batch_size is not None:
            rows.append(("Batch", "{:,} to {:,} examples per step".format(*self.batch_size)))
        if self.steps is not None:
            rows.append(("Steps", f"{self.steps:,}"))
        return [*rows, ("Rule", self.rule), ("Valid", self.valid), ("Source", self.source)]

    def __repr__(self) -> str:
        rate = f"lr={self.lr:.3g}, interval=({self.lr_low:.2g}, {self.lr_high:.2g})"
        return f"Rescaled({rate}, batch_size={self.batch_size}, steps={self.steps})"

    def __str__(self) -> str:
        return "\n".join(f"{label:9s} {text}" for label, text in self.lines())

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON-ready data."""
        return {**vars(self), "batch_size": None if self.batch_size is None else list(self.batch_size)}


def family_of(kind: str) -> str | None:
    """Return the family of a class of `torch.optim` by its name; None if no rule was measured for it."""
    return _KINDS.get(kind.rpartition(".")[2])


def decay_time(kind: str, settings: Mapping[str, Any], lr: float) -> tuple[float, float] | None:
    """Return the weight decay that is set, and the steps after which weights hold 1/e of what they held before.

    These are ``1 / (lr * weight_decay)``, of SGD with momentum ``(1 - momentum) / (lr * weight_decay)``. If layers are
    normalised, that product is what counts for coupled decay too: the scale of their weights has no effect, so that the
    decay sets their effective rate. None without decay, and for optimizers that rescale a coupled decay with the
    gradient, such as Adam.

    Args:
        kind: name of a class of `torch.optim`.
        settings: of the optimizer, as far as they differ from torch's defaults.
        lr: peak learning rate.

    Source: Li & Arora 2020, section 2 (arXiv 1910.07454); of AdamW, Wang & Aitchison 2024, section 2 (arXiv
    2405.13698).
    """
    name = kind.rpartition(".")[2]
    decay = float(settings.get("weight_decay", _DECOUPLED.get(name, 0.0)))
    if decay <= 0 or name not in ("SGD", *_DECOUPLED):
        return None
    kept = 1 - float(settings.get("momentum", 0.0)) if name == "SGD" else 1.0
    return decay, kept / (positive("lr", lr) * decay)


def batch_shift(
    sizes: tuple[int, int], offset: float, family: str, noise_scale: float | None = None
) -> tuple[float, float]:
    """Return by how many octaves the best rate rises with the batch size, and the standard deviation of that.

    With the batch sizes ``B`` before and ``B'`` after, and the offset ``o``:

        SGD                           octaves = 1/2 log2(B' / B) + o / 4
        Adam                          octaves = 1/4 log2(B' / B) + o / 4
        either, with noise scale N    octaves = 1/2 log2((1 + N / B) / (1 + N / B')) + o / 4

    For ``o = 0`` the last is the rate that the convex bound ``D**2 / (lr T) + lr (|G|**2 + tr(C) / B)`` puts best.

    Args:
        sizes: examples per optimizer step before and after.
        offset: how many doublings are offset by half as many steps each, from 0 to all of them.
        family: "sgd", with or without momentum, or "adam".
        noise_scale: the gradient noise scale after 5% of the training, in examples; None if it was not measured.

    Source: fitted to the tasks of benchmarks/scaling.py, batch sizes up to 16 times as large (docs/advice.md).
    """
    doublings = seen = math.log2(sizes[1] / sizes[0])
    by_batch = FAMILIES[family]
    if noise_scale is not None:
        by_batch = BY_NOISE
        seen = math.log2((1 + noise_scale / sizes[0]) / (1 + noise_scale / sizes[1]))
    return by_batch * seen + BY_STEPS * offset, _ERROR[family] * abs(doublings)


def rescale(
    answer: Answer,
    valley: ValleyFit,
    family: str | None,
    batch_size: int | tuple[int, int] | None = None,
    steps: int | None = None,
    devices: int | tuple[int, int] = 1,
    noise_scale: float | NoiseScale | None = None,
) -> Rescaled:
    """Return the best peak rate after a change; `lrfinder.Suggestion.rescale` documents the arguments.

    A change of length alone moves the rate as `ValleyFit.belief` says: on average not at all, down where the model
    goes over few data again and again.
    """
    sizes, horizon = _sizes(batch_size, devices, answer.batch_size), checked_horizon(steps)
    if sizes is None and horizon is None:
        raise InputError("steps must be given, or a batch_size or devices that change: nothing changes")
    old = answer.steps or valley.steps
    doublings = 0.0 if sizes is None else math.log2(sizes[1] / sizes[0])
    new = horizon or max(round(old * 2.0**-doublings), 1)
    # Halvings of the steps make up for doublings of the batch size; beyond these, they are a change of length.
    low, high = sorted((0.0, doublings))
    offset = min(max(math.log2(old / new), low), high) if horizon else doublings
    noise = noise_scale.value if isinstance(noise_scale, NoiseScale) else noise_scale
    octaves, error, sentences = 0.0, 0.0, []
    if sizes is not None:
        one_of("optimizer", family, list(FAMILIES))
        known = None if noise is None or noise == math.inf else positive("noise_scale", noise)
        octaves, error = batch_shift(sizes, offset, str(family), known)
        sentences.append(_of_batch(octaves, sizes, doublings, offset, noise))
    before, after = valley.belief(old), valley.belief(max(round(new * 2.0**offset), 1))
    moved = after.best() / before.best()
    if abs(math.log2(old / new) - offset) > _SAME:
        sentences.append(f"Another length: {moved:.3g} times the rate.")
    lr = answer.lr * moved * 2.0**octaves
    low, high = (
        math.hypot(
            math.log2(end / answer.lr * after.quantile(share) / before.quantile(share) / moved), NORMAL_90 * error
        )
        for end, share in ((answer.lr_low, 0.05), (answer.lr_high, 0.95))
    )
    known = horizon is not None or answer.steps is not None
    return Rescaled(
        lr=lr,
        lr_low=lr * 2.0**-low,
        lr_high=lr * 2.0**high,
        factor=lr / answer.lr,
        steps=new if known else None,
        batch_size=sizes,
        rule=" ".join(sentences),
        source=_OF_LENGTH if sizes is None else _OF_BATCH[str(family)],
        valid=_validity(doublings),
    )


def _of_batch(
    octaves: float, sizes: tuple[int, int], doublings: float, offset: float, noise_scale: float | None
) -> str:
    over = " over as many examples" if offset == doublings else "" if offset else " over as many steps"
    noise = "" if noise_scale is None else f", at a noise scale of {noise_scale:,.3g} examples"
    return f"A batch {sizes[1] / sizes[0]:.3g} times as large{over}{noise}: {2**octaves:.3g} times the rate."


def _validity(doublings: float) -> str:
    if not doublings:
        return "The length alone moves the rate only where a model goes over few data again and again."
    tested = f"Tested on batch sizes up to {_TESTED} times as large"
    return f"{tested}; this goes further." if 2 ** abs(doublings) > _TESTED else f"{tested}."


def _sizes(batch_size: Any, devices: Any, searched: Any) -> tuple[int, int] | None:
    """Return the examples per optimizer step before and after, over all devices; None if they do not change."""
    processes = devices if isinstance(devices, tuple) else (1, devices)
    if len(processes) != 2:
        raise InputError(f"devices must be a number, or numbers before and after, got devices = {devices!r:.60}")
    before, after = (whole_number("devices", count) for count in processes)
    if batch_size is None and before == after:
        return None
    pair = batch_size if isinstance(batch_size, tuple) else (searched, batch_size)
    if len(pair) != 2 or None in pair:
        raise InputError(
            f"batch_size must be a pair, before and after, or the one after if the search recorded its own, got"
            f" {batch_size!r:.60}"
        )
    old, new = (whole_number("batch_size", size, of="examples") for size in pair)
    sizes = (old if pair is not batch_size else old * before, new * after)
    return None if sizes[0] == sizes[1] else sizes
