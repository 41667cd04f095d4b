"""The learning rate of each policy over the steps of the training, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lrfinder.answer.ranking import Alternative
from lrfinder.report.figure import Palette, bare, plain
from lrfinder.schedules.policy import RANKED, Policy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lrfinder.answer.suggestion import Suggestion

__all__ = ["Course", "courses", "draw_rates"]

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


def courses(suggestion: Suggestion, most: int = 6) -> tuple[Course, ...]:
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
    return tuple(Course(one, one is chosen, *lrs(one.policy, one.lr, horizon)) for one in shown)


def lrs(policy: Policy, peak: float, horizon: int) -> tuple[Array, Array]:
    """Return steps (n,), at most 201, and the learning rate of each; the last is the state after the last step."""
    total = policy.total_steps or horizon
    step = np.unique(np.round(np.linspace(0, total, min(total, 200) + 1)).astype(int))
    return step.astype(np.float64), np.array([peak * policy(int(at)) for at in step])


def draw_rates(courses: Sequence[Course], axes: Sequence[Axes], colours: Palette) -> None:
    """Draw the learning rate over the steps, one policy per Axes, all on the same scale."""
    top = 1.08 * max(float(course.lr.max()) for course in courses)
    for course, ax in zip(courses, axes, strict=False):
        colour = colours.answer if course.taken else colours.data
        ax.fill_between(course.step, course.lr, color=colour, alpha=0.15, linewidth=0)
        ax.plot(course.step, course.lr, color=colour, linewidth=2 if course.taken else 1.4)
        ink = colour if course.taken else colours.ink
        ax.set_title(course.alternative.policy.name, fontsize="medium", color=ink, loc="left")
        ax.set_ylim(0, top)
        ax.set_xlim(0, course.step[-1])
        ax.set_xticks([0, course.step[-1]], ["0", f"{course.step[-1]:,.0f}"])
        ax.locator_params(axis="y", nbins=3)
        ax.yaxis.set_major_formatter(plain)
        bare(ax, colours)
        first, last = ax.get_xticklabels()
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")
