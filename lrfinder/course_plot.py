"""Learning rate and predicted loss over the steps, policy by policy, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lrfinder.course import Course
from lrfinder.plot import Palette, bare, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_losses", "draw_rates"]

_STYLES = ("-", "--", ":", "-.", (0, (1, 1, 4, 1)))
_MOST_LOSSES = 4
"""More lines than these cannot be told apart."""


def draw_rates(courses: Sequence[Course], axes: Sequence[Axes], colours: Palette) -> None:
    """Draw the learning rate over the steps, one policy per Axes, all on the same scale."""
    top = 1.08 * max(float(course.lr.max()) for course in courses)
    for course, ax in zip(courses, axes, strict=False):
        colour = colours.answer if course.taken else colours.data
        ax.fill_between(course.step, course.lr, color=colour, alpha=0.15, linewidth=0)
        ax.plot(course.step, course.lr, color=colour, linewidth=2 if course.taken else 1.4)
        ax.set_title(_title(course), fontsize="medium", color=colour if course.taken else colours.ink, loc="left")
        ax.set_ylim(0, top)
        ax.set_xlim(0, course.step[-1])
        ax.set_xticks([0, course.step[-1]], ["0", f"{course.step[-1]:,.0f}"])
        ax.locator_params(axis="y", nbins=3)
        ax.yaxis.set_major_formatter(plain)
        bare(ax, colours)
        first, last = ax.get_xticklabels()
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")


def _title(course: Course) -> str:
    gain = course.alternative.gain
    return course.alternative.policy.name + (f"  {-gain:+.1%}" if gain is not None and gain != 0 else "")


def draw_losses(courses: Sequence[Course], ax: Axes, colours: Palette) -> Axes:
    """Draw the predicted loss over the steps, and at the end the predicted final loss with its 90% interval.

    Only the first few policies are drawn, the suggested one first.
    """
    from matplotlib.ticker import MaxNLocator

    shown = [course for course in courses if course.loss.size][:_MOST_LOSSES]
    for i, (course, style) in enumerate(zip(shown, _STYLES, strict=False)):
        one, last = course.alternative, float(course.loss_step[-1])
        colour = colours.answer if course.taken else (colours.fit, colours.data, colours.ink)[i % 3]
        ax.plot(course.loss_step, course.loss, linestyle=style, color=colour, linewidth=1.4, label=one.policy.name)
        if one.gain is None or one.gain_low is None or one.gain_high is None:
            continue
        end, low, high = 1 - one.gain, 1 - one.gain_high, 1 - one.gain_low
        at = last * (1.03 + 0.035 * i)
        bar = [[max(end - low, 0.0)], [max(high - end, 0.0)]]
        ax.errorbar([at], [end], bar, fmt="o", color=colour, markersize=5, elinewidth=1.6)
    ax.axhline(1.0, color=colours.soft, linewidth=0.8, linestyle=":")
    end = float(shown[0].loss_step[-1])
    tops = [float(np.interp(0.5 * end, course.loss_step, course.loss)) for course in shown]
    tops += [1 - course.alternative.gain_low for course in shown if course.alternative.gain_low is not None]
    ax.set_ylim(top=1.03 * max(tops))
    ax.set_xticks([*(tick for tick in MaxNLocator(9).tick_values(0.0, end) if 0.5 * end <= tick < 0.9 * end), end])
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.set_xlabel("optimizer steps")
    ax.set_ylabel("predicted loss,\nfinal loss of a constant rate = 1")
    bare(ax, colours)
    return ax
