"""Tests."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from support.losslogs import made

from lrfinder import Detector, find_plateaus, forecast, plot_forecast, plot_plateaus
from lrfinder.report.log_plots import forecast_png, forecast_view, plateau_png, plateau_view


@pytest.fixture(scope="module")
def values():
    """Two levels, with a spike now and then."""
    rng = np.random.default_rng(0)
    value = np.concatenate([1 + np.exp(-np.arange(1000) / 20), np.full(1000, 0.5)]) + 0.02 * rng.normal(size=2000)
    value[100::400] = 50
    value[300] = np.nan
    return value


@pytest.fixture(scope="module")
def scan(values):
    return find_plateaus(values, lr=np.repeat([0.1, 0.01], 1000))


def texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_the_view_of_a_scan(scan, values):
    view = plateau_view(scan)
    assert (view.label, view.plateaus, view.lr_changes) == ("value", scan.plateaus, (1001,))
    assert view.plateaus
    assert view.thinned
    assert view.step.size <= 1200
    assert (np.diff(view.step) > 0).all()
    np.testing.assert_array_equal(view.value, values[view.step - 1])
    assert {np.nanmin(values), np.nanmax(values)} <= set(view.value)
    np.testing.assert_array_equal(view.block_mean, scan.blocks.mean)
    np.testing.assert_array_equal(view.block_step, scan.block_step)
    assert view.block_length == scan.blocks.length > 1
    usual = values[values < 10]
    assert view.bottom < usual.min()
    assert view.top < 3


def test_every_value_of_a_short_log_is_drawn(values):
    view = plateau_view(find_plateaus(values[:60]))
    np.testing.assert_array_equal(view.value, values[:60])
    assert not view.thinned
    assert view.block_length == 1


def test_the_view_of_a_live_detector(values):
    detector = Detector(min_steps=24)
    for value in values:
        detector.update(value)
    view = plateau_view(detector)
    assert (view.step.size, view.lr_changes, view.plateaus) == (0, (), detector.events)
    np.testing.assert_array_equal(view.block_mean, detector.record().mean)
    length = view.block_length
    assert view.block_step[:2].tolist() == [(length + 1) / 2, (3 * length + 1) / 2]


@pytest.mark.parametrize("value", [[], [np.nan] * 40, [3.0] * 40])
def test_there_is_an_axis_even_without_a_curve(value):
    detector = Detector()
    for one in value:
        detector.update(one)
    view = plateau_view(detector)
    assert np.isfinite([view.bottom, view.top]).all()
    assert view.bottom < view.top
    plot_plateaus(detector, Figure().subplots())


def test_it_is_drawn_where_asked(scan):
    ax = Figure().subplots()
    assert plot_plateaus(scan, ax) is ax
    view = plateau_view(scan)
    assert texts(ax) == [
        "value, highest and lowest", "beyond the axis", f"means of {view.block_length} values", "window of its test",
        "plateau", "learning rate changes",
    ]  # fmt: skip
    assert [text.get_text() for text in ax.texts] == [f"step {one.step}" for one in scan.plateaus]
    assert ax.get_ylim() == (view.bottom, view.top)
    triangles = next(line for line in ax.lines if line.get_marker() == "^")
    assert triangles.get_xdata().tolist() == view.step[view.value > view.top].tolist()
    assert set(triangles.get_ydata()) == {view.top}


def test_what_is_below_the_axis_is_shown_there(values):
    ax = plot_plateaus(find_plateaus(-values, mode="max"), Figure().subplots())
    assert [line.get_marker() for line in ax.lines][:2] == [".", "v"]


def test_blocks_of_one_are_named_once(values):
    assert texts(plot_plateaus(find_plateaus(values[:60]), Figure().subplots())) == ["value, as logged"]
    detector = Detector()
    for value in values[:20]:
        detector.update(value)
    assert texts(plot_plateaus(detector, Figure().subplots())) == ["loss"]


def test_a_new_figure_is_made_when_none_is_given(scan):
    ax = plot_plateaus(scan)
    assert ax.figure.get_axes() == [ax]
    plt.close(ax.figure)


def test_the_picture_is_a_png(scan):
    assert plateau_png(scan).startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def found():
    runs = [made("cosine"), made("two-stage")]
    return forecast(runs, ["cosine", "wsd"], targets=[made("late")], optimal=True)


def test_the_view_holds_logs_fits_targets_and_predictions(found):
    lines = forecast_view(found)
    assert [line.kind for line in lines] == ["log", "fit"] * 2 + ["target"] + ["prediction"] * 4
    np.testing.assert_array_equal(lines[0].loss, found.runs[0].value)
    np.testing.assert_array_equal(lines[4].loss, found.targets[0].log.value)
    np.testing.assert_array_equal(lines[5].loss, found.targets[0].loss)
    assert lines[5].of == lines[4].of
    assert lines[6].label == f"optimal: {found.optimal.final_loss:.4f}"
    np.testing.assert_array_equal(lines[7].lr, found.schedules[0].lr)


def test_it_is_drawn_where_asked_of_forecast_plot(found):
    ax = Figure().subplots()
    assert plot_forecast(found, ax) is ax
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts[:3] == ["logs", "fits", f"late predicted, mean error {found.targets[0].mae:.4f}"]
    low, top = ax.get_ylim()
    assert low < found.optimal.final_loss < top


def test_a_new_figure_is_made_when_none_is_given_of_forecast_plot(found):
    ax = plot_forecast(found)
    assert ax.figure.get_axes() == [ax]
    plt.close(ax.figure)


def test_the_picture_is_a_png_of_forecast_plot(found):
    assert forecast_png(found).startswith(b"\x89PNG")


def test_at_most_five_schedules_are_drawn():
    found = forecast([made("cosine"), made("two-stage")])
    assert sum(line.kind == "prediction" for line in forecast_view(found)) == 5
