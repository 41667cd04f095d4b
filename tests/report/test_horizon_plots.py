"""Tests."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from support.curves import synthetic
from support.scripted import evidence, valley

from lrfinder import InputError, Policy, plot_policies, suggest
from lrfinder.answer.choose import choose
from lrfinder.report.figure import Palette
from lrfinder.report.horizon_plots import courses, draw_drift, draw_losses, draw_rates, drift_view

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


def answer(steps=500, losses=None):
    return choose(evidence(losses or valley(-6.0, -0.5), noise=0.001), steps=steps)


def view(suggestion):
    return drift_view(suggestion)


def test_what_was_measured_is_where_it_was():
    found = view(answer())
    assert [place.steps for place in found.measured] == [10, 40]
    assert found.measured[1].lr == pytest.approx(2**-6.0, rel=0.1)
    assert found.measured[0].lr == pytest.approx(2**-5.0, rel=0.15)  # half an octave higher per halving
    assert len(found.tried) == 12
    assert found.blown_up.shape == (0, 2)


def test_the_band_widens_and_ends_at_the_horizon():
    found = view(answer())
    widths = [math.log(place.high / place.low) for place in found.carried]
    assert widths == sorted(widths)
    assert (found.carried[0].steps, found.carried[-1].steps) == (40, pytest.approx(500))
    assert all(place.low < place.lr < place.high for place in (*found.carried, *found.measured))


def test_the_last_step_leads_to_the_suggestion():
    suggestion = answer()
    found, landscape = view(suggestion), suggestion.landscape
    assert landscape.belief(500).best() * 2**found.octaves == pytest.approx(suggestion.lr)
    assert -1 < found.octaves < 0  # a constant rate first wants a lower peak than linear decay


def test_without_a_horizon_nothing_is_carried_on():
    found = view(answer(None))
    assert (found.carried, found.octaves) == ((), 0.0)
    assert draw_drift(found, answer(None), Figure().subplots(), Palette()).get_yscale() == "log"


def test_what_blew_up_is_apart():
    losses = {key: math.inf if key[1] > -5 else value for key, value in valley(-6.0).items()}
    found = view(answer(losses=losses))
    assert len(found.blown_up) == 2
    assert np.all(found.blown_up[:, 1] > found.tried[:, 1].max())


@pytest.mark.parametrize(
    "suggestion", [suggest(synthetic(), steps=100), answer(losses=dict.fromkeys(valley(-6.0), 2.0))]
)
def test_without_probes_or_answer_there_is_none(suggestion):
    assert view(suggestion) is None


def test_everything_drawn_is_named_and_the_answer_is_marked():
    suggestion = answer()
    ax = draw_drift(view(suggestion), suggestion, Figure().subplots(), Palette())
    names = ax.get_legend_handles_labels()[1]
    assert {"a probe", "carried on, 90%", "best of the probes, 90%", f"suggested {suggestion.lr:.3g}"} == set(names)
    ax.figure.canvas.draw()


COURSES_COURSE_PLOT = courses(choose(evidence(valley(-6.0)), steps=500))


def test_every_policy_has_its_axes_on_one_scale_the_one_taken_in_its_colour():
    axes = Figure().subplots(3, 2).ravel()
    draw_rates(COURSES_COURSE_PLOT, axes, Palette())
    assert len({ax.get_ylim() for ax in axes}) == 1
    assert [ax.lines[0].get_color() == Palette().answer for ax in axes] == [True] + [False] * 5
    for ax, course in zip(axes, COURSES_COURSE_PLOT, strict=True):
        assert ax.get_title(loc="left").startswith(course.alternative.policy.name)
        assert ax.lines[0].get_ydata() == pytest.approx(course.lr)


def test_the_ends_are_marked_with_their_intervals_beside_the_lines():
    ax = draw_losses(COURSES_COURSE_PLOT, Figure().subplots(), Palette())
    ends = [container for container in ax.containers if container.has_yerr]
    assert len(ends) == 4
    for end, course in zip(ends, COURSES_COURSE_PLOT, strict=False):
        one = course.alternative
        assert end[0].get_xdata()[0] > 500
        assert end[0].get_ydata() == pytest.approx([1 - one.gain])
        low, high = sorted(end[2][0].get_segments()[0][:, 1])
        assert (low, high) == pytest.approx((1 - one.gain_high, 1 - one.gain_low))
    assert max(ax.get_xticks()) == 500


ANSWER_POLICIES_PLOT = choose(evidence(valley(-6.0)), steps=500)


def test_every_predicted_policy_has_its_gain_the_best_on_top():
    axes = Figure().subplots()
    assert plot_policies(ANSWER_POLICIES_PLOT, axes) is axes
    shown = [one for one in ANSWER_POLICIES_PLOT.alternatives if one.gain is not None]
    names = {label.get_text(): place for label, place in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)}
    assert sorted(names, key=lambda name: -names[name]) == [one.policy.name for one in shown]
    drawn = {y: x for line in axes.lines[:2] for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)}
    assert {names[one.policy.name]: pytest.approx(100 * one.gain) for one in shown} == drawn


def test_the_one_taken_stands_out():
    axes = plot_policies(ANSWER_POLICIES_PLOT, Figure().subplots())
    taken = [line for line in axes.lines if line.get_color() == Palette().answer]
    assert len(taken) == 1
    assert taken[0].get_xdata() == pytest.approx([100 * ANSWER_POLICIES_PLOT.chosen.gain])


def test_where_none_were_compared_there_is_nothing_to_draw():
    with pytest.raises(InputError, match="suggestion must have alternatives to plot, got none: method = 'range'"):
        plot_policies(suggest(synthetic(), steps=100))
