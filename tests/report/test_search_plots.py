from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from support.curves import pure_noise, synthetic
from support.scripted import evidence, measured, valley

from lrfinder import Curve, InputError, plot_curve, plot_probes, suggest
from lrfinder.answer.choose import choose
from lrfinder.evidence.range_fit import fit_range
from lrfinder.report.figure import Palette
from lrfinder.report.search_plots import curve_view, probes_view

LRS = np.geomspace(1e-9, 1e2, 12)
LOSSES = valley(-6.0, lengths=(40,))


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_the_view_holds_the_raw_curve_and_its_fit():
    curve = synthetic()
    view, fit = curve_view(curve), fit_range(curve)
    np.testing.assert_array_equal(view.lr, curve.lr)
    np.testing.assert_array_equal(view.loss, curve.loss)
    np.testing.assert_allclose(view.fit_loss, fit(view.fit_lr))
    assert view.fit_lr[0] == pytest.approx(1e-7)
    assert view.lr_limit == fit.lr_diverge


def test_a_blow_up_does_not_flatten_the_rest():
    view = curve_view(synthetic())
    assert synthetic().loss.max() > 1000
    assert view.bottom < 0.8 < 2.3 < view.top < 5
    assert np.all(view.fit_loss < view.top)
    np.testing.assert_array_equal(view.above, view.loss > view.top)
    assert 5 < view.above.sum() < 20


def test_what_is_not_finite_is_above():
    view = curve_view(Curve(LRS, [2.0] * 9 + [math.inf, math.nan, math.nan]))
    assert view.above.tolist() == [False] * 9 + [True] * 3


@pytest.mark.parametrize("losses", [[0.0] * 12, [-3.0] * 12, [math.nan] * 12, [1e30] * 12, [2.0] + [math.inf] * 11])
def test_every_curve_has_an_axis(losses):
    view = curve_view(Curve(LRS, losses))
    assert math.isfinite(view.bottom)
    assert math.isfinite(view.top)
    assert view.bottom < view.top
    assert view.lr_limit is None


def test_it_draws_on_the_axes_given_and_opens_no_figure(ax):
    assert plot_curve(synthetic(), ax=ax) is ax
    assert plt.get_fignums() == []
    assert ax.get_xscale() == "log"
    assert ax.get_xlim() == (1e-7, 10)


def test_without_axes_it_makes_a_figure():
    ax = plot_curve(synthetic())
    assert plt.get_fignums() == [ax.figure.number]
    plt.close(ax.figure)


def test_the_points_drawn_are_the_losses_measured(ax):
    curve = synthetic()
    plot_curve(curve, ax=ax)
    inside, beyond = (np.column_stack(line.get_data()) for line in ax.get_lines()[:2])
    view = curve_view(curve)
    np.testing.assert_array_equal(inside, np.column_stack([curve.lr, curve.loss])[~view.above])
    np.testing.assert_array_equal(beyond[:, 0], curve.lr[view.above])
    assert set(beyond[:, 1]) == {ax.get_ylim()[1]}


def test_a_suggestion_is_marked_at_its_learning_rate(ax):
    suggestion = suggest(synthetic())
    plot_curve(synthetic(), suggestion, ax)
    at = {line.get_label(): line.get_xdata()[0] for line in ax.get_lines()}
    assert at[f"suggested {suggestion.lr:.3g}"] == suggestion.lr
    assert at[f"training gets worse above {suggestion.fit['lr_diverge']:.2g}"] == suggestion.fit["lr_diverge"]
    assert f"90% interval {suggestion.lr_low:.2g} to {suggestion.lr_high:.2g}" in labels(ax)


def test_a_refused_suggestion_marks_nothing(ax):
    curve = pure_noise("normal", 0)
    plot_curve(curve, suggest(curve), ax)
    assert labels(ax) == ["measured loss", "fit"]


@pytest.mark.parametrize("finite", [0, 11])
def test_a_tail_of_nan_is_drawn_beyond_the_axis(ax, finite):
    curve = Curve(LRS, [2.0 - 0.1 * i for i in range(finite)] + [math.nan] * (12 - finite))
    plot_curve(curve, suggest(curve), ax)
    assert "beyond the axis" in labels(ax)
    ax.figure.canvas.draw()


def test_colours_can_be_chosen(ax):
    plot_curve(synthetic(), ax=ax, palette=Palette(data="#123456", ink="#654321"))
    assert ax.get_lines()[0].get_color() == "#123456"
    assert ax.xaxis.label.get_color() == "#654321"


def test_no_global_style_changes(ax):
    before = dict(plt.rcParams)
    plot_curve(synthetic(), ax=ax)
    assert dict(plt.rcParams) == before


def test_ticks_are_plain_numbers(ax):
    plot_curve(synthetic(), ax=ax)
    ax.figure.canvas.draw()
    texts = [tick.get_text() for tick in ax.get_xticklabels() if tick.get_text()]
    assert "0.001" in texts
    assert [float(text) for text in texts] == pytest.approx(list(ax.get_xticks())[: len(texts)])


@pytest.fixture
def ax():
    return Figure().subplots()


def probed(losses=None, *, noise=0.001, **options):
    return choose(evidence(losses or LOSSES, noise=noise, **options), steps=200)


def blown_up():
    return probed({key: math.inf if key[1] > -5 else value for key, value in LOSSES.items()})


def test_the_losses_are_those_measured_and_the_fit_goes_through_them():
    answer = probed()
    rung = probes_view(answer).rung
    assert rung.steps == 40
    assert rung.lr.tolist() == sorted(rung.lr)
    mine = sorted((o for o in answer.probes if o.probe.steps), key=lambda o: o.probe.lr)
    assert rung.loss.tolist() == [o.mean for o in mine]
    assert np.interp(np.log(rung.lr), np.log(rung.fit_lr), rung.fit_loss) == pytest.approx(rung.loss, abs=0.02)
    assert rung.fit_lr[np.argmin(rung.fit_loss)] == pytest.approx(rung.lr[rung.best], rel=0.3)


def test_a_document_with_probes_of_two_lengths_shows_the_longer_ones():
    view = probes_view(probed(valley(-6.0, lengths=(10, 40))))
    assert (view.rung.steps, view.rung.lr.size) == (40, 6)


@pytest.mark.parametrize("epoch", [None, 1000])  # with fresh batches the search judges by training losses, too
def test_errors_are_those_of_the_paired_differences_drawn(epoch):
    answer = probed(noise=0.1, epoch=epoch)
    rung = probes_view(answer).rung
    outcomes = answer.evidence.rung
    differences = [outcome.loss - outcomes[rung.best].loss for outcome in outcomes]
    assert rung.error == pytest.approx([np.std(one, ddof=1) / math.sqrt(8) for one in differences])
    assert rung.error.max() < 0.1  # batches share nine tenths of their noise


def test_one_held_out_batch_has_no_errors():
    assert set(probes_view(probed(batches=1)).rung.error) == {0.0}


def test_the_axis_holds_the_valleys_and_is_not_stretched_by_what_blew_up():
    view = probes_view(probed({**LOSSES, (40, 2.0): 1e9}))
    assert view.bottom < view.rung.loss.min() < view.top < 2.2
    assert view.blow_up == 4.0


def test_a_flat_search_shows_all_its_probes():
    refused = probed(dict.fromkeys(LOSSES, 2.0), noise=0.01)
    view = probes_view(refused)
    assert np.mean(view.rung.loss <= view.top) >= 0.75
    assert view.rung.fit_lr.size == 0


@pytest.mark.parametrize("loss", [0.0, -3.0, 1e30, math.inf])
def test_every_search_has_an_axis(ax, loss):
    view = probes_view(probed(dict.fromkeys(LOSSES, loss), noise=0.0))
    assert -math.inf < view.bottom < view.top < math.inf
    plot_probes(probed(dict.fromkeys(LOSSES, loss), noise=0.0), ax)
    ax.figure.canvas.draw()


def test_the_bracket_of_the_range_test_comes_with_its_fit():
    answer = probed()
    assert probes_view(answer).bracket is None  # the scripted range test is flat
    descended = measured(answer, curve=synthetic())
    low, high = probes_view(descended).bracket
    assert (low, high) == (descended.range_fit.lr_steepest, descended.range_fit.lr_diverge)
    assert low < high


def test_a_refused_search_is_drawn_without_rate(ax):
    plot_probes(probed(dict.fromkeys(LOSSES, 2.0)), ax)
    assert "probes of 40 steps" in labels(ax)
    assert "fit" not in labels(ax)
    assert not any(label.startswith("suggested") for label in labels(ax))


def test_blown_up_probes_are_triangles_at_the_edge(ax):
    plot_probes(blown_up(), ax)
    triangles = [line for line in ax.lines if line.get_marker() == "^"]
    assert triangles
    assert all(set(line.get_ydata()) == {ax.get_ylim()[1]} for line in triangles)
    assert "blew up at 0.062" in labels(ax)


def test_probes_are_drawn_on_a_new_figure_with_everything_named(ax):
    answer = measured(probed(), curve=synthetic())
    axes = plot_probes(answer)
    assert axes is not ax
    assert set(labels(axes)) == {
        "probes of 40 steps",
        "fit",
        "descent of the range test",
        f"90% interval {answer.lr_low:.2g} to {answer.lr_high:.2g}",
        f"suggested {answer.lr:.3g}",
    }
    assert axes.get_ylabel() == "held-out loss"
    plt.close(axes.figure)


def test_without_probes_there_is_nothing_to_plot():
    with pytest.raises(InputError, match="suggestion must have probes to plot, got method = 'range' with none"):
        plot_probes(suggest(synthetic()))
