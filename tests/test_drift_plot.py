from __future__ import annotations

import math

import numpy as np
import pytest
from curves import synthetic
from matplotlib.figure import Figure
from scripted import evidence, valley

from lrfinder import suggest
from lrfinder.choice import choose
from lrfinder.drift_plot import draw_drift, drift_view
from lrfinder.plot import Palette


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
