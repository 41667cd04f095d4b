from __future__ import annotations

import dataclasses
import math
import re

import pytest
from matplotlib.figure import Figure
from support.curves import synthetic
from support.pages import EVIL, Page, fetched
from support.scripted import evidence, valley

from lrfinder import suggest
from lrfinder.answer.choose import choose
from lrfinder.answer.comparison import compare
from lrfinder.report.comparison_page import COLOURS, comparison_html, comparison_png, draw_comparison, list_commands
from lrfinder.report.figure import Palette

FAST = choose(evidence(valley(-6.0, lengths=(40,)), noise=0.001), steps=500).with_environment(
    command="lrfinder suggest --seed 1"
)
SLOW = choose(evidence(valley(-3.0, shift=0.1, lengths=(40,)), noise=0.001), steps=500)
THREE = {"slow": SLOW, "fast": FAST, "range": suggest(synthetic(), steps=500)}


def test_a_page_has_a_column_per_result_the_lowest_first():
    text = comparison_html(compare(THREE), "lrfinder report slow.json fast.json range.json")
    words = " ".join(Page(text).text.split())
    assert "After 40 of 500 steps fast ended lowest" in words
    cells = re.findall(r"<t[hd](?: [^>]*)?>(.*?)</t[hd]>", text)
    names = ["fast", "slow", "range"]
    assert cells[:8] == ["", *names, "peak learning rate", *(f"{THREE[name].lr:.3g}" for name in names)]
    assert cells[cells.index("behind") + 1] == "lowest"
    assert cells[cells.index("behind") + 2].startswith("+0.1 (")
    assert "lrfinder report slow.json fast.json range.json" in words
    assert "lrfinder suggest --seed 1" in words
    for one in THREE.values():
        for caveat in one.caveats:
            assert caveat in words


def test_what_one_command_made_is_told_once():
    comparison = compare({"a": FAST, "b": FAST, "c": SLOW, "d": SLOW.with_environment(command="x")})
    assert list_commands(comparison, "x") == [("a, b", "lrfinder suggest --seed 1")]


def test_a_page_needs_nothing_else_and_escapes_everything():
    evil = dataclasses.replace(FAST, caveats=(EVIL,), environment={EVIL: EVIL, "command": EVIL})
    text = comparison_html(compare({EVIL: evil, "other": SLOW}), EVIL)
    parsed = Page(text)
    assert fetched(parsed, text) == []
    assert {"script", "img", "iframe"}.isdisjoint(tag for tag, _ in parsed.tags)
    assert parsed.text.count(EVIL) >= 5
    assert len(text.encode()) < 150_000


def test_the_chart_is_described():
    (described,) = (
        a["aria-label"] for _, a in Page(comparison_html(compare(THREE), "")).tags if a.get("role") == "img"
    )
    for name, one in THREE.items():
        assert f"{name}: {one.headline()}" in described


def test_equal_suggestions_make_equal_pages():
    assert comparison_html(compare(THREE), "x") == comparison_html(compare(dict(THREE)), "x")


def test_a_picture_is_a_png():
    assert comparison_png(compare(THREE)).startswith(b"\x89PNG\r\n")


def found(*, shift=0.0, place=-6.0, untrained=2.0):
    losses = valley(place, shift=shift, lengths=(40,))
    return choose(evidence(losses, noise=0.001, untrained=untrained), steps=500)


def drawn(suggestions):
    figure = Figure(layout="constrained")
    draw_comparison(compare(suggestions), figure, Palette())
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
