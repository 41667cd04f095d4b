"""`Reason`: why there is no suggestion."""

from __future__ import annotations

from enum import Enum

__all__ = ["Reason"]


class Reason(Enum):
    """Why there is no suggestion. The text is the sentence shown, remedy included."""

    FLAT = (
        "The loss did not change with the learning rate by more than its noise. Raise max_lr, take more steps or larger"
        " batches, and check that the optimizer holds the parameters that the loss depends on."
    )
    RISING = (
        "The loss rose without having fallen first. Lower min_lr or take more steps, and check the sign of the loss; a"
        " model that is trained already may have nothing left to gain."
    )
    NOISY = (
        "The noise from batch to batch hides which learning rate is better. Take more steps (a larger budget), larger"
        " batches, or more of them to judge by."
    )
    EDGE = (
        "The loss was still falling at the edge of the learning rates tried. Raise max_lr (or lower min_lr, where the"
        " best rate was the lowest), or give more steps to spend."
    )
    TRUNCATED = (
        "There was too little to judge by. Give more batches (a smaller batch size, a validation loader) or more steps"
        " to spend, and check that the first loss is finite, or lower min_lr."
    )
    DIVERGED = (
        "Training blew up at every learning rate tried. Lower min_lr, check that the untrained loss is finite, and"
        " scale the inputs."
    )
