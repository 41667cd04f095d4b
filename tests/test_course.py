from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from curves import synthetic
from scripted import evidence, valley

from lrfinder import Policy, suggest
from lrfinder.choice import choose
from lrfinder.course import courses

ANSWER = choose(evidence(valley(-6.0)), steps=500)
COURSES = courses(ANSWER)


def test_the_one_suggested_comes_first_and_the_yardstick_is_there():
    names = [course.alternative.policy.name for course in COURSES]
    assert names[0] == ANSWER.policy.name
    assert "constant" in names
    assert len(names) == len(set(names)) == 6
    assert [course.taken for course in COURSES] == [True] + [False] * 5


def test_the_rates_are_those_of_the_policies_at_their_own_peaks():
    for course in COURSES:
        one = course.alternative
        assert (course.step[0], course.step[-1]) == (0, 500)
        assert course.lr == pytest.approx([one.lr * one.policy(int(step)) for step in course.step])


def test_every_course_ends_where_it_was_predicted_to_end():
    for course in COURSES:
        assert course.loss_step[-1] == 500
        assert course.loss[-1] == pytest.approx(1 - course.alternative.gain, rel=1e-6)


def test_a_constant_rate_goes_on_falling_and_annealing_gains_when_it_anneals():
    by_name = {course.alternative.policy.name: course.loss for course in COURSES}
    assert np.all(np.diff(by_name["constant"]) < 0)
    assert by_name["constant"][-1] == pytest.approx(1)
    ahead = by_name["constant"] - by_name["wsd-sqrt"]  # which anneals over the last 20%, drawn from 50% on
    assert ahead[-1] > ahead[23] + 0.01
    assert np.all(np.diff(ahead[25:34]) > 0)
    assert np.all(np.diff(ahead[:23]) < 0)


def test_without_predictions_there_are_rates_alone():
    (course,) = courses(suggest(synthetic(), steps=1000))
    assert course.loss.size == 0
    assert course.taken
    assert course.lr.max() == pytest.approx(suggest(synthetic(), steps=1000).lr)


def test_a_policy_of_ones_own_is_shown_first():
    own = ANSWER.with_policy(Policy("wsd", 500, params={"cooldown": 0.1}))
    shown = courses(own)
    assert shown[0].alternative.policy == own.policy
    assert shown[0].loss.size == 0
    assert shown[1].loss.size > 0


@pytest.mark.parametrize("change", [{"horizon": None}, {"policy": None}, {"lr": None}])
def test_where_there_is_no_schedule_there_are_no_courses(change):
    assert courses(dataclasses.replace(ANSWER, **change)) == ()


def test_a_long_training_is_quick_to_draw():
    answer = choose(evidence(valley(-6.0)), steps=10_000_000)
    assert all(course.step.size <= 201 and course.loss.size == 40 for course in courses(answer))
    assert courses(answer)[0].loss[-1] == pytest.approx(1 - courses(answer)[0].alternative.gain, rel=0.02)
