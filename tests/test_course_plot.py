from __future__ import annotations

import pytest
from matplotlib.figure import Figure
from scripted import evidence, valley

from lrfinder.choice import choose
from lrfinder.course import courses
from lrfinder.course_plot import draw_losses, draw_rates
from lrfinder.plot import Palette

COURSES = courses(choose(evidence(valley(-6.0)), steps=500))


def test_every_policy_has_its_axes_on_one_scale_the_one_taken_in_its_colour():
    axes = Figure().subplots(3, 2).ravel()
    draw_rates(COURSES, axes, Palette())
    assert len({ax.get_ylim() for ax in axes}) == 1
    assert [ax.lines[0].get_color() == Palette().answer for ax in axes] == [True] + [False] * 5
    for ax, course in zip(axes, COURSES, strict=True):
        assert ax.get_title(loc="left").startswith(course.alternative.policy.name)
        assert ax.lines[0].get_ydata() == pytest.approx(course.lr)


def test_the_ends_are_marked_with_their_intervals_beside_the_lines():
    ax = draw_losses(COURSES, Figure().subplots(), Palette())
    ends = [container for container in ax.containers if container.has_yerr]
    assert len(ends) == 4
    for end, course in zip(ends, COURSES, strict=False):
        one = course.alternative
        assert end[0].get_xdata()[0] > 500
        assert end[0].get_ydata() == pytest.approx([1 - one.gain])
        low, high = sorted(end[2][0].get_segments()[0][:, 1])
        assert (low, high) == pytest.approx((1 - one.gain_high, 1 - one.gain_low))
    assert max(ax.get_xticks()) == 500
