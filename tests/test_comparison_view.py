from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from curves import synthetic
from matplotlib.figure import Figure
from scripted import evidence, valley, with_probes

from lrfinder import InputError, suggest
from lrfinder.choice import choose
from lrfinder.comparison_plot import COLOURS, draw_comparison
from lrfinder.comparison_view import SideBySide
from lrfinder.plot import Palette


def found(*, shift=0.0, place=-6.0, steps=500, noise=0.001, untrained=2.0, lengths=(10, 40), seed=0):
    losses = valley(place, shift=shift, lengths=lengths)
    return choose(evidence(losses, noise=noise, untrained=untrained, seed=seed), steps=steps)


def test_what_started_alike_is_ranked_by_paired_differences():
    view = SideBySide.of({"slow": found(shift=0.1), "fast": found()})
    assert view.comparable
    assert [entry.label for entry in view.entries] == ["fast", "slow"]
    assert view.entries[0].behind == 0.0
    assert view.entries[1].behind == pytest.approx(0.1, abs=0.001)
    assert not view.entries[1].tied
    assert view.finding == "After 40 steps fast ended lowest, by more than 2 standard errors of the difference."


def noisier(suggestion, rise, swing):
    """The same, but every probe of 40 steps higher by ``rise`` on average, now more, now less from batch to batch."""
    swings = rise + swing * (-1.0) ** np.arange(8)
    probes = tuple(
        dataclasses.replace(one, loss=one.loss + swings) if one.probe.steps == 40 else one for one in suggestion.probes
    )
    return with_probes(suggestion, probes)


def test_a_difference_within_its_noise_is_no_difference():
    close, far = noisier(found(), 0.02, 0.1), noisier(found(), 0.9, 0.1)
    view = SideBySide.of({"one": close, "other": found(), "far": far})
    assert view.comparable
    assert [entry.tied for entry in view.entries] == [False, True, False]
    assert view.finding == (
        "After 40 steps other ended lowest, with no detectable difference from one"
        " (less than 2 standard errors, or 0.5%)."
        " far ended higher by more than that."
    )


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (found(steps=5000), "they are for trainings of different lengths (500 and 5000 steps)"),
        (found(steps=None), "they are for trainings of different lengths (500 and unknown steps)"),
        (found(lengths=(10, 30)), "their longest probes differ in length (30 and 40 steps)"),
        (found(untrained=3.0), "before training they differ in held-out loss (2.000 and 3.000 on average)"),
        (found(seed=1), "before training they differ in held-out loss"),
        (suggest(synthetic(), steps=500), "fewer than two of them have an answer from probes"),
    ],
)
def test_what_cannot_be_compared_is_not_ranked(other, why):
    view = SideBySide.of({"b": found(shift=0.1), "a": other})
    assert not view.comparable
    assert [entry.label for entry in view.entries] == ["b", "a"]
    assert all(entry.behind is None for entry in view.entries)
    assert view.finding.startswith("Not ranked: ")
    assert why.replace("2.000", "2").replace("3.000", "3") in view.finding.replace("2.000", "2").replace("3.000", "3")


def test_those_refused_or_without_probes_come_last_and_hinder_nobody():
    refused = choose(evidence(dict.fromkeys(valley(-6.0), 2.0), untrained=3.0), steps=50)
    others = {"range": suggest(synthetic(), steps=500), "refused": refused}
    view = SideBySide.of({**others, "b": found(shift=0.1), "a": found()})
    assert view.comparable
    assert [entry.label for entry in view.entries] == ["a", "b", "range", "refused"]
    assert [entry.behind is None for entry in view.entries] == [False, False, True, True]
    assert math.isnan(view.entries[2].untrained)


def test_facts_that_differ_are_shown_and_others_not():
    one = found().with_environment(batch_size=32, command="x")
    other = found().with_environment(batch_size=64, command="y")
    assert SideBySide.of({"a": one, "b": other}).differing == (("batch_size", (32, 64)),)


def test_the_standard_error_is_that_of_the_mean():
    (entry,) = SideBySide.of({"a": found()}).entries
    assert entry.loss_error == pytest.approx(entry.best.loss.std(ddof=1) / math.sqrt(8))


def test_nothing_to_compare_is_an_error():
    with pytest.raises(InputError, match="suggestions must hold at least one, got none"):
        SideBySide.of({})


def drawn(suggestions):
    figure = Figure(layout="constrained")
    draw_comparison(SideBySide.of(suggestions), figure, Palette())
    figure.canvas.draw()
    return figure


def test_every_result_has_its_valley_and_its_interval_in_one_colour():
    suggestions = {"a": found(), "b": found(shift=0.1, place=-3.0)}
    figure = drawn(suggestions)
    upper, lower = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        f"{name}: {one.lr:.3g}" for name, one in suggestions.items()
    ]
    for i, one in enumerate(suggestions.values()):
        points = upper.lines[2 * i]
        assert points.get_color() == lower.lines[i].get_color() == COLOURS[i]
        assert points.get_ydata().min() == pytest.approx(1.05 + 0.1 * i, abs=0.01)
        (interval,) = lower.collections[i].get_segments()
        assert interval[:, 0] == pytest.approx((one.lr_low, one.lr_high))


def test_what_does_not_compare_is_drawn_in_units_of_its_own():
    upper = drawn({"a": found(), "b": found(shift=10, untrained=12.0)}).axes[0]
    assert upper.get_ylabel() == "share lost of what was gained"
    assert [line.get_ydata().min() for line in (upper.lines[0], upper.lines[2])] == [0.0, 0.0]
    assert upper.get_ylim()[1] < 1.2


@pytest.mark.parametrize("count", [1, 9])
def test_any_number_is_drawn_whatever_they_are_called(count):
    names = ["_hidden", "$\\frac{1}{2}$", "漢字 🦔", "", "x" * 80, "<b>", "a\nb", "\ud800", "z"]
    refused = choose(evidence(dict.fromkeys(valley(-6.0), math.inf)), steps=500)
    suggestions = {name: refused if name == "z" else found() for name in names[:count]}
    assert len(drawn(suggestions).legends[0].get_texts()) == count


def test_refusals_alone_are_drawn_too():
    refused = dataclasses.replace(choose(evidence({}), steps=500))
    assert drawn({"a": refused, "b": refused}).axes
