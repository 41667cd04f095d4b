from __future__ import annotations

import pytest
from curves import synthetic
from matplotlib.figure import Figure
from scripted import evidence, valley

from lrfinder import InputError, plot_policies, suggest
from lrfinder.choice import choose
from lrfinder.plot import Palette

ANSWER = choose(evidence(valley(-6.0)), steps=500)


def test_every_predicted_policy_has_its_gain_the_best_on_top():
    axes = Figure().subplots()
    assert plot_policies(ANSWER, axes) is axes
    shown = [one for one in ANSWER.alternatives if one.gain is not None]
    names = {label.get_text(): place for label, place in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)}
    assert sorted(names, key=lambda name: -names[name]) == [one.policy.name for one in shown]
    drawn = {y: x for line in axes.lines[:2] for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)}
    assert {names[one.policy.name]: pytest.approx(100 * one.gain) for one in shown} == drawn


def test_the_one_taken_stands_out():
    axes = plot_policies(ANSWER, Figure().subplots())
    taken = [line for line in axes.lines if line.get_color() == Palette().answer]
    assert len(taken) == 1
    assert taken[0].get_xdata() == pytest.approx([100 * ANSWER.chosen.gain])


def test_where_none_were_compared_there_is_nothing_to_draw():
    with pytest.raises(InputError, match="suggestion must have alternatives to plot, got none: method = 'range'"):
        plot_policies(suggest(synthetic(), steps=100))
