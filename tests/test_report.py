from __future__ import annotations

import dataclasses
import functools
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from curves import pure_noise, synthetic
from scripted import evidence, valley

from lrfinder import Curve, Reason, suggest
from lrfinder.choice import choose
from lrfinder.report import report_html, report_png

EVIL = '<script>alert("1")</script><img src="https://evil.example/x.png" onerror=alert(1)>\'&'


@functools.cache
def suggestion(kind="ok"):
    return suggest(synthetic() if kind == "ok" else pure_noise("normal", 0), steps=1000)


@functools.cache
def page(kind="ok"):
    return report_html(suggestion(kind), "lrfinder suggest --seed 3")


class Page(HTMLParser):
    """What a browser makes of a page: its tags, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def fetched(parsed: Page, text: str) -> list[str]:
    """Addresses that a browser would fetch for the page."""
    names = ("src", "srcset", "href", "xlink:href", "data", "poster", "action")
    addresses = [value for _, attrs in parsed.tags for name, value in attrs.items() if name in names]
    addresses += re.findall(r"url\(([^)]*)\)", text) + re.findall(r"@import\s*(\S+)", text)
    return [address for address in addresses if not address.strip("\"'").startswith(("#", "data:"))]


@pytest.mark.parametrize("kind", ["ok", "refused"])
def test_a_page_needs_nothing_else(kind):
    parsed = Page(page(kind))
    assert fetched(parsed, page(kind)) == []
    assert {"script", "iframe", "object"}.isdisjoint(tag for tag, _ in parsed.tags)
    assert not [name for _, attrs in parsed.tags for name in attrs if name.startswith("on")]
    assert len(page(kind).encode()) < 300_000


def test_the_check_for_fetching_can_fail():
    bad = '<link href="https://x/y.css"><img src=z.png><style>@import "https://a"; b { cursor: url(https://c) }</style>'
    assert len(fetched(Page(bad), bad)) == 4


def test_a_page_shows_answer_curve_caveats_numbers_and_how_to_repeat_it():
    text = Page(page()).text
    for _, line in suggestion().lines():
        assert line in text
    assert "lrfinder suggest --seed 3" in text
    assert suggestion().environment["python"] in text
    assert page().count("<svg") == 1
    assert page().count("<tr><td>") == 100
    assert f"<td>99</td><td>10</td><td>{suggestion().curves[0].loss[-1]:.6g}</td>" in page()


def test_a_refused_page_shows_reason_and_remedy_and_no_rate():
    text = Page(page("refused")).text
    assert Reason.FLAT.value in text
    assert "Peak LR" not in text
    assert "suggested" not in text


def test_every_string_is_escaped():
    evil = dataclasses.replace(suggestion(), caveats=(EVIL,), environment={EVIL: EVIL}, method=EVIL)
    text = report_html(evil, f"lrfinder {EVIL}")
    parsed = Page(text)
    assert fetched(parsed, text) == []
    assert {"script", "img"}.isdisjoint(tag for tag, _ in parsed.tags)
    assert parsed.text.count(EVIL) == 4  # caveat, command, and a row of the environment


def test_an_infinite_loss_is_reported():
    curve = synthetic()
    loss = np.append(curve.loss[:-2], [np.inf, np.nan])
    text = report_html(suggest(Curve(curve.lr, loss)), "lrfinder")
    assert "<td>inf</td>" in text
    assert "<td>nan</td>" in text


def test_equal_suggestions_make_equal_pages():
    assert report_html(suggestion(), "lrfinder suggest --seed 3") == page()


def test_the_colours_follow_the_reader():
    assert "prefers-color-scheme: dark" in page()
    svg = page()[page().index("<svg") : page().index("</svg>")]
    for variable in ("--ink", "--data", "--fit", "--answer"):
        assert f"var({variable})" in svg
    assert not re.search("#0[1-4]0[1-4]0[1-4]", page())


def test_the_chart_is_described_for_those_who_cannot_see_it():
    descriptions = [attrs["aria-label"] for _, attrs in Page(page()).tags if attrs.get("role") == "img"]
    assert len(descriptions) == 1
    assert suggestion().headline() in descriptions[0]


@pytest.mark.parametrize("kind", ["ok", "refused"])
def test_a_notebook_shows_a_fragment_with_answer_and_curve(kind):
    fragment = suggestion(kind)._repr_html_()
    parsed = Page(fragment)
    assert {"html", "body", "script", "link"}.isdisjoint(tag for tag, _ in parsed.tags)
    assert "svg" in [tag for tag, _ in parsed.tags]
    assert dict(suggestion(kind).lines())["Peak LR" if kind == "ok" else "Refused"] in parsed.text


def test_a_picture_is_a_png():
    assert report_png(suggestion()).startswith(b"\x89PNG\r\n")


def test_every_probe_is_in_the_page_also_those_that_blew_up():
    losses = {key: float("inf") if key[1] > -5 else value for key, value in valley(-6.0).items()}
    answer = choose(evidence(losses, noise=0.01), steps=500)
    text = Page(report_html(answer, "lrfinder suggest")).text
    assert text.count("rung 40") == sum(outcome.probe.steps == 40 for outcome in answer.probes)
    assert "blew up" in text
    assert "untrained" in text
    for outcome in answer.probes[1:]:
        assert f"{outcome.probe.lr:.3g}" in text
    assert "A range test raised the learning rate step by step, to see where to look." in text


def test_a_refused_search_has_a_page_and_a_picture():
    answer = choose(evidence(dict.fromkeys(valley(-6.0), 2.0)), steps=500)
    assert Reason.FLAT.value in Page(report_html(answer, "lrfinder suggest")).text
    assert report_png(answer).startswith(b"\x89PNG")


def test_a_search_without_any_probe_shows_its_range_test():
    answer = choose(evidence({}), steps=500)
    assert answer.reason is Reason.TRUNCATED
    assert "Refused" in Page(report_html(answer, "lrfinder suggest")).text
