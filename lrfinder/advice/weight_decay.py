"""How long weights remember under weight decay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lrfinder.errors import positive

_DECOUPLED = {"AdamW": 1e-2}
"""Classes of `torch.optim` whose decay is decoupled from the gradient, and their default."""


@dataclass(frozen=True)
class DecayTime:
    """The steps, at the peak rate, after which weights hold 1/e of what they held before.

    Attributes:
        steps: ``1 / (lr * weight_decay)``; of SGD with momentum ``(1 - momentum) / (lr * weight_decay)``.
        steps_low: lower end, at the upper end of the interval for the rate.
        steps_high: upper end.
        weight_decay: the decay that is set.
        source: paper and section.
    """

    steps: float
    steps_low: float
    steps_high: float
    weight_decay: float
    source: str


def decay_time(kind: str, settings: Mapping[str, Any], lr: float, lr_low: float, lr_high: float) -> DecayTime | None:
    """Return the time scale of the weight decay, with its interval.

    If layers are normalised, the product ``lr * weight_decay`` is what counts for coupled decay too: the scale of their
    weights has no effect, so that the decay sets their effective rate (Li & Arora 2020).

    Args:
        kind: name of a class of `torch.optim`.
        settings: of the optimizer, as far as they differ from torch's defaults.
        lr: peak learning rate.
        lr_low: lower end of its interval.
        lr_high: upper end.

    Returns:
        None without decay, and for optimizers that rescale a coupled decay with the gradient, such as Adam.

    Raises:
        InputError: a rate is not positive.
    """
    name = kind.rpartition(".")[2]
    decay = float(settings.get("weight_decay", _DECOUPLED.get(name, 0.0)))
    if decay <= 0 or name not in ("SGD", *_DECOUPLED):
        return None
    kept = 1 - float(settings.get("momentum", 0.0)) if name == "SGD" else 1.0
    steps, low, high = (kept / (positive("lr", rate) * decay) for rate in (lr, lr_high, lr_low))
    source = "Li & Arora 2020, section 2 (arXiv 1910.07454)" if name == "SGD" else _WANG
    return DecayTime(steps, low, high, decay, source)


_WANG = "Wang & Aitchison 2024, section 2 (arXiv 2405.13698)"
