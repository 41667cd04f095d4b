from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from curves import pure_noise, synthetic

from lrfinder import Curve, plot_curve, suggest
from lrfinder.fit import fit_range
from lrfinder.plot import Palette, curve_view

LRS = np.geomspace(1e-9, 1e2, 12)


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


def test_a_fit_made_already_is_not_made_again(monkeypatch):
    curve = synthetic()
    fit = fit_range(curve)
    monkeypatch.setattr("lrfinder.plot.fit_range", None)
    np.testing.assert_allclose(curve_view(curve, fit).fit_loss, fit(curve_view(curve, fit).fit_lr))
