from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from curves import synthetic
from matplotlib.figure import Figure
from scripted import evidence, measured, valley

from lrfinder import InputError, plot_probes, suggest
from lrfinder.choice import choose
from lrfinder.probes_plot import probes_view


@pytest.fixture
def ax():
    return Figure().subplots()


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def probed(losses=None, *, noise=0.001, **options):
    return choose(evidence(losses or valley(-6.0, -0.5), noise=noise, **options), steps=200)


def blown_up():
    return probed({key: math.inf if key[1] > -5 else value for key, value in valley(-6.0).items()})


def test_the_losses_are_those_measured_and_the_fit_goes_through_them():
    answer = probed()
    short, long = probes_view(answer).rungs
    assert (short.steps, long.steps) == (10, 40)
    for rung in (short, long):
        assert rung.lr.tolist() == sorted(rung.lr)
        mine = sorted((o for o in answer.probes if o.probe.steps == rung.steps), key=lambda o: o.probe.lr)
        assert rung.loss.tolist() == [o.mean for o in mine]
        assert np.interp(np.log(rung.lr), np.log(rung.fit_lr), rung.fit_loss) == pytest.approx(rung.loss, abs=0.02)
        assert rung.fit_lr[np.argmin(rung.fit_loss)] == pytest.approx(rung.lr[rung.best], rel=0.3)
    assert short.loss.min() > long.loss.max() - 0.5


def test_errors_are_of_paired_differences():
    view = probes_view(probed(noise=0.1))
    own = 0.1 * 0.1 / math.sqrt(8)  # batches share nine tenths of their noise
    for rung in view.rungs:
        assert np.all((0.2 * own < rung.error) & (rung.error < 4 * own))


def test_the_axis_holds_the_valleys_and_is_not_stretched_by_what_blew_up():
    losses = {**valley(-6.0), (40, 2.0): 1e9}
    view = probes_view(probed(losses))
    best = min(float(rung.loss.min()) for rung in view.rungs)
    assert view.bottom < best < view.top < 2.2
    assert view.blow_up == 4.0


def test_a_flat_search_shows_all_its_probes():
    refused = probed(dict.fromkeys(valley(-6.0), 2.0), noise=0.01)
    view = probes_view(refused)
    losses = np.concatenate([rung.loss for rung in view.rungs])
    assert np.mean(losses <= view.top) >= 0.75
    assert all(rung.fit_lr.size == 0 for rung in view.rungs)


@pytest.mark.parametrize("loss", [0.0, -3.0, 1e30, math.inf])
def test_every_search_has_an_axis(ax, loss):
    view = probes_view(probed(dict.fromkeys(valley(-6.0), loss), noise=0.0))
    assert -math.inf < view.bottom < view.top < math.inf
    plot_probes(probed(dict.fromkeys(valley(-6.0), loss), noise=0.0), ax)
    ax.figure.canvas.draw()


def test_the_bracket_of_the_range_test_comes_with_its_fit():
    answer = probed()
    assert probes_view(answer).bracket is None  # the scripted range test is flat
    descended = measured(answer, curve=synthetic())
    low, high = probes_view(descended).bracket
    assert (low, high) == (descended.range_fit.lr_steepest, descended.range_fit.lr_diverge)
    assert low < high


def test_fits_made_already_are_not_made_again():
    answer = probed()
    assert answer.landscape is answer.landscape
    assert answer.range_fit is answer.range_fit


def test_a_refused_search_is_drawn_without_rate(ax):
    plot_probes(probed(dict.fromkeys(valley(-6.0), 2.0)), ax)
    assert {"probes of 10 steps", "probes of 40 steps"} <= set(labels(ax))
    assert not any(label.startswith("suggested") for label in labels(ax))


def test_blown_up_probes_are_triangles_at_the_edge(ax):
    plot_probes(blown_up(), ax)
    triangles = [line for line in ax.lines if line.get_marker() == "^"]
    assert triangles
    assert all(set(line.get_ydata()) == {ax.get_ylim()[1]} for line in triangles)
    assert "blew up at 0.062" in labels(ax)


def test_probes_are_drawn_on_a_new_figure_with_everything_named(ax):
    answer = probed()
    axes = plot_probes(answer)
    assert axes is not ax
    assert f"suggested {answer.lr:.3g}" in labels(axes)
    assert axes.get_ylabel() == "held-out loss"
    plt.close(axes.figure)


def test_without_probes_there_is_nothing_to_plot():
    with pytest.raises(InputError, match="suggestion must have probes to plot, got method = 'range' with none"):
        plot_probes(suggest(synthetic()))
