from __future__ import annotations

import dataclasses

import pytest
from matplotlib.figure import Figure
from support.curves import synthetic
from support.scripted import evidence, valley

from lrfinder import Policy, suggest
from lrfinder.answer.choose import choose
from lrfinder.report.figure import Palette
from lrfinder.report.policy_plots import courses, draw_rates

ANSWER = choose(evidence(valley(-6.0, lengths=(40,))), steps=500)

COURSES = courses(ANSWER)


def test_the_one_suggested_comes_first_and_a_constant_rate_is_there():
    names = [course.alternative.policy.name for course in COURSES]
    assert names[0] == ANSWER.policy.name
    assert "constant" in names
    assert len(names) == len(set(names)) == 6
    assert [course.taken for course in COURSES] == [True] + [False] * 5


def test_the_others_come_in_the_order_of_their_gain_on_other_trainings():
    gains = [course.alternative.gain for course in COURSES[1:]]
    assert gains == sorted(gains, reverse=True)


def test_the_rates_are_those_of_the_policies_at_their_own_peaks():
    for course in COURSES:
        one = course.alternative
        assert (course.step[0], course.step[-1]) == (0, 500)
        assert course.lr == pytest.approx([one.lr * one.policy(int(step)) for step in course.step])


def test_a_range_test_has_the_same_courses():
    shown = courses(suggest(synthetic(), steps=1000))
    assert len(shown) == 6
    assert shown[0].taken
    assert shown[0].lr.max() == pytest.approx(suggest(synthetic(), steps=1000).lr)


def test_without_alternatives_there_is_the_policy_alone():
    (course,) = courses(dataclasses.replace(ANSWER, alternatives=()))
    assert course.taken
    assert course.lr.max() == pytest.approx(ANSWER.lr)


def test_a_policy_of_ones_own_is_shown_first():
    own = ANSWER.with_policy(Policy("wsd", 500, params={"cooldown": 0.1}))
    shown = courses(own)
    assert shown[0].alternative.policy == own.policy
    assert shown[0].taken
    assert shown[0].lr.max() == pytest.approx(own.lr)


@pytest.mark.parametrize("change", [{"horizon": None}, {"policy": None}, {"lr": None}])
def test_without_a_schedule_there_are_no_courses(change):
    assert courses(dataclasses.replace(ANSWER, **change)) == ()


def test_a_long_training_is_quick_to_draw():
    answer = choose(evidence(valley(-6.0, lengths=(40,))), steps=10_000_000)
    assert all(course.step.size <= 201 for course in courses(answer))
    assert courses(answer)[0].step[-1] == 10_000_000


def test_every_policy_has_its_axes_on_one_scale_the_one_taken_in_its_colour():
    axes = Figure().subplots(3, 2).ravel()
    draw_rates(COURSES, axes, Palette())
    assert len({ax.get_ylim() for ax in axes}) == 1
    assert [ax.lines[0].get_color() == Palette().answer for ax in axes] == [True] + [False] * 5
    for ax, course in zip(axes, COURSES, strict=True):
        assert ax.get_title(loc="left") == course.alternative.policy.name
        assert ax.lines[0].get_ydata() == pytest.approx(course.lr)
        assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "500"]
        assert course.lr.max() < ax.get_ylim()[1]
