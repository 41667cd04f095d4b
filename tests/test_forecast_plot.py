from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from losslogs import made
from matplotlib.figure import Figure

from lrfinder import forecast, plot_forecast
from lrfinder.forecast_plot import forecast_png, forecast_view, plot_forecast_lr


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


def test_it_is_drawn_where_asked(found):
    ax = Figure().subplots()
    assert plot_forecast(found, ax) is ax
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts[:3] == ["logs", "fits", f"late predicted, mean error {found.targets[0].mae:.4f}"]
    low, top = ax.get_ylim()
    assert low < found.optimal.final_loss < top
    rates = plot_forecast_lr(found, Figure().subplots())
    assert rates.get_ylabel() == "learning rate"
    assert len(rates.lines) == len(forecast_view(found)) - 2


def test_a_new_figure_is_made_when_none_is_given(found):
    ax = plot_forecast(found)
    assert ax.figure.get_axes() == [ax]
    plt.close(ax.figure)


def test_the_picture_is_a_png(found):
    assert forecast_png(found).startswith(b"\x89PNG")


def test_at_most_five_schedules_are_drawn():
    found = forecast([made("cosine"), made("two-stage")])
    assert sum(line.kind == "prediction" for line in forecast_view(found)) == 5
