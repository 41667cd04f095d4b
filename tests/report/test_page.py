from __future__ import annotations

import base64
import dataclasses
import functools
import html
import importlib
import re
import struct

import numpy as np
import pytest
from matplotlib.figure import Figure
from support.curves import pure_noise, synthetic
from support.pages import EVIL, Page, fetched
from support.scripted import evidence, measured, valley

from lrfinder import Curve, Detector, Reason, find_plateaus, suggest
from lrfinder.answer.choose import choose
from lrfinder.evidence.range_fit import fit_range
from lrfinder.evidence.valley import fit_valley
from lrfinder.report.figure import Palette
from lrfinder.report.page import draw_rates, plan_charts, report_html, report_png
from lrfinder.report.summary import Findings, report_values

LOSSES = valley(-6.0, lengths=(40,))


@functools.cache
def searched():
    return choose(evidence(LOSSES, noise=0.001), steps=500)


@functools.cache
def searched_page():
    return report_html(searched(), "lrfinder suggest")


@functools.cache
def suggestion(kind="ok"):
    return suggest(synthetic() if kind == "ok" else pure_noise("normal", 0), steps=1000)


@functools.cache
def page(kind="ok"):
    return report_html(suggestion(kind), "lrfinder suggest --seed 3")


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
    text = " ".join(Page(page()).text.split())
    answer = suggestion()
    for part in (f"{answer.lr:.3g}", f"{answer.lr_low:.2g} to {answer.lr_high:.2g}", answer.policy.text[1:]):
        assert part in text
    for caveat in answer.caveats:
        assert caveat in text
    assert "lrfinder suggest --seed 3" in text
    assert answer.environment["python"] in text
    assert page().count("<svg") == 2  # the range test, and the learning rate over the steps
    last = answer.curves[0].loss[-1]
    assert f'<td class="n">99</td><td class="n">10</td><td class="n">{last:.6g}</td>' in page()
    assert page().count('<tr><td class="n">') == 100


def test_the_sections_come_in_the_order_of_their_weight():
    found = re.findall(r"<h2>(.*?)</h2>", searched_page())
    assert found == [
        "Why this rate",
        "Which decay",
        "What would move this rate",
        "Before you trust it",
        "What was spent",
        "How to repeat it",
        "Raw numbers",
    ]
    assert "Peak learning rate" in searched_page()[: searched_page().index("<h2>")]


def test_the_command_that_made_it_is_remembered():
    made = suggestion("refused").with_environment(command="lrfinder suggest --seed 7")
    assert "<pre>lrfinder suggest --seed 7</pre>" in report_html(made)
    other = report_html(made, "lrfinder suggest --seed 8")
    assert "<pre>lrfinder suggest --seed 8</pre>" in other
    assert "--seed 7" not in other
    unknown = report_html(suggestion("refused"))
    assert "<pre>" not in unknown
    assert "It was made from Python" in unknown


def test_what_was_spent_adds_up():
    parts = report_values(Findings.of(searched()), None)["spent"]
    assert [part.what for part in parts] == ["range test", "probes", "all, evaluation included"]
    assert sum(part.steps for part in parts[:-1]) == parts[-1].steps == searched().steps_spent
    assert sum(part.trainings for part in parts[:-1]) == parts[-1].trainings == 7
    assert [part.what for part in report_values(Findings.of(suggestion()), None)["spent"]] == ["range test"]


def test_a_refused_page_shows_reason_and_remedy_and_no_rate():
    text = Page(page("refused")).text
    assert Reason.FLAT.remedy in text
    assert "Peak learning rate" not in text
    assert "suggested" not in text
    assert "Why it was refused" in text
    assert "What to do" in text
    assert "What was seen" in text


def test_every_string_is_escaped():
    evil = dataclasses.replace(suggestion(), caveats=(EVIL,), environment={EVIL: EVIL})
    evil = measured(evil, curve=dataclasses.replace(evil.curves[0], stage=EVIL))
    text = report_html(evil, f"lrfinder {EVIL}")
    parsed = Page(text)
    assert fetched(parsed, text) == []
    assert {"script", "img"}.isdisjoint(tag for tag, _ in parsed.tags)
    assert parsed.text.count(EVIL) == 4  # caveat, command, and a row of the environment


def test_an_infinite_loss_is_reported():
    curve = synthetic()
    loss = np.append(curve.loss[:-2], [np.inf, np.nan])
    text = report_html(suggest(Curve(curve.lr, loss)), "lrfinder")
    assert '<td class="n">inf</td>' in text
    assert '<td class="n">nan</td>' in text


def test_equal_suggestions_make_equal_pages():
    assert report_html(suggestion(), "lrfinder suggest --seed 3") == page()


def test_the_colours_follow_the_reader():
    text = searched_page()
    assert "prefers-color-scheme: dark" in text
    charts = "".join(re.findall("<svg.*?</svg>", text, re.DOTALL))
    for name in Palette._fields:
        assert f"var(--{name})" in charts
    assert not re.search("#0[1-4]0[1-4]0[0-9]", text)
    defined = set(re.findall(r"(--[\w-]+):", text))
    assert set(re.findall(r"var\((--[\w-]+)\)", text)) <= defined


def test_every_chart_is_described_for_those_who_cannot_see_it():
    described = [attrs["aria-label"] for _, attrs in Page(searched_page()).tags if attrs.get("role") == "img"]
    assert len(described) == 3 == searched_page().count("<svg")
    headline = searched().headline()
    assert all(headline[1:] in text for text in described[:2])
    assert "probes of 40 steps" in described[0]
    for name in ("wsd", "constant"):
        assert f"{name}: " in described[2]


def test_ids_are_there_once_and_whatever_refers_to_one_finds_it():
    ids = re.findall(r' id="([^"]*)"', searched_page())
    assert len(ids) == len(set(ids)) > 6
    assert set(re.findall(r"(?:href=\"#|url\(#)([\w-]+)", searched_page())) <= set(ids)


def test_the_shapes_are_fitted_once(monkeypatch):
    answer, calls = measured(searched()), []  # a copy, for which nothing is fitted yet
    for name, function in (("fit_range", fit_range), ("fit_valley", fit_valley)):
        for module in ("answer.suggestion", "evidence.range_fit", "report.search_plots"):
            if hasattr(importlib.import_module(f"lrfinder.{module}"), name):
                monkeypatch.setattr(
                    f"lrfinder.{module}.{name}", lambda *a, f=function: calls.append(f.__name__) or f(*a)
                )
    report_html(answer, "")
    report_png(answer)
    assert sorted(calls) == ["fit_range", "fit_valley"]


def test_a_long_search_makes_a_page_below_a_megabyte():
    losses = {(160, -6 + k / 24): 1 + 0.01 * k**2 / 576 for k in range(-60, 60)}
    answer = choose(evidence(losses, noise=0.001, batches=32), steps=100_000)
    curve = Curve(np.geomspace(1e-7, 10, 2000), np.linspace(3, 1, 2000))
    text = report_html(
        dataclasses.replace(measured(answer, curve=curve), caveats=("A caveat. " * 200,) * 20), "lrfinder"
    )
    assert len(text.encode()) < 1_000_000


@pytest.mark.parametrize("kind", ["ok", "refused"])
def test_a_notebook_shows_a_fragment_with_answer_and_curve(kind):
    fragment = suggestion(kind)._repr_html_()
    parsed = Page(fragment)
    # Notebooks restyle tables and lists, and filter style sheets and SVG.
    assert {tag for tag, _ in parsed.tags} == {"div", "img"}
    (picture,) = (dict(attributes) for tag, attributes in parsed.tags if tag == "img")
    assert base64.b64decode(picture["src"].removeprefix("data:image/png;base64,")).startswith(b"\x89PNG\r\n")
    assert picture["alt"].startswith("Training loss against learning rate, logarithmic axis.")
    assert len(fragment) < 200_000
    assert dict(suggestion(kind).lines())["Peak LR" if kind == "ok" else "Refused"] in parsed.text


@pytest.mark.parametrize("charts", [1, 2, 3])
def test_a_picture_is_a_png_that_holds_every_chart(charts):
    made = {1: suggest(synthetic()), 2: suggestion(), 3: searched()}[charts]
    assert len(plan_charts(Findings.of(made))) == charts
    picture = report_png(made)
    assert picture.startswith(b"\x89PNG\r\n")
    width, height = struct.unpack(">II", picture[16:24])
    assert (width > 800) is (charts > 1)
    assert (height > 600) is (charts > 2)  # the third has a row of its own


def test_every_probe_is_in_the_page_also_those_that_blew_up():
    losses = {key: float("inf") if key[1] > -5 else value for key, value in LOSSES.items()}
    answer = choose(evidence(losses, noise=0.01), steps=500)
    page = report_html(answer, "lrfinder suggest")
    text = Page(page).text
    assert page.count("<td>probe</td>") == 6
    assert "blew up" in text
    assert "untrained" in text
    for outcome in answer.probes[1:]:
        assert f"{outcome.probe.lr:.3g}" in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "the one suggested first, then the others"),
        ({"alternatives": ()}, "What the policy does from the first step to the last"),
        ({"horizon": None, "alternatives": ()}, "A decay needs the number of training steps, which is unknown"),
        ({"policy": None}, "Your own schedule is kept"),
    ],
)
def test_the_decay_is_explained_whatever_is_known_of_it(change, words):
    text = " ".join(Page(report_html(dataclasses.replace(searched(), **change))).text.split())
    assert words in text.partition("Which decay")[2].partition("Before you trust it")[0]


def test_probes_that_all_blew_up_leave_the_answer_to_the_range_test():
    found = dataclasses.replace(evidence(dict.fromkeys(LOSSES, float("inf"))), curve=synthetic())
    text = " ".join(Page(report_html(choose(found, steps=500))).text.split())
    assert "so the answer rests mostly on the range test" in text
    assert "The line is the fit" not in text
    assert "The line is the fit" in " ".join(Page(searched_page()).text.split())


def test_a_refused_search_has_a_page_and_a_picture():
    answer = choose(evidence(dict.fromkeys(LOSSES, 2.0)), steps=500)
    assert answer.remedy in Page(report_html(answer, "lrfinder suggest")).text
    assert report_png(answer).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "change",
    [
        {"horizon": None, "alternatives": ()},
        {"policy": None, "interrupted": True, "param_group_lrs": (0.1, 0.2)},
        {"outcomes": (), "cost_of_error": (), "horizon": 40},
    ],
    ids=", ".join,
)
def test_whatever_is_missing_there_is_a_page(change):
    of_evidence = {name: value for name, value in change.items() if name in ("interrupted", "outcomes")}
    of_answer = {name: value for name, value in change.items() if name not in of_evidence}
    changed = measured(dataclasses.replace(searched(), **of_answer), **of_evidence)
    text = Page(report_html(changed, "")).text.partition("Raw numbers")[0]
    assert f"{searched().lr:.3g}" in text
    assert "None" not in text
    assert ("interrupted" in text) is ("interrupted" in change)


def test_a_page_shows_the_plateaus_of_the_training():
    detector = Detector(min_steps=24)
    for i in range(600):
        detector.update(3 - 2 * min(i / 60, 1) + 0.001 * (i % 7))
    (found,) = detector.events
    page = report_html(suggest(synthetic()), training=detector)
    assert "How the training went" in page
    assert page.count(html.escape(str(found))) == 2  # in the list, and in the text alternative of the chart
    falling = find_plateaus([3 - i / 100 for i in range(100)])
    page = report_html(suggest(synthetic()), training=falling)
    assert "No plateau was found" in page
    assert "How the training went" not in report_html(suggest(synthetic()))


ANSWER = choose(evidence(LOSSES, noise=0.001), steps=500)


@pytest.mark.parametrize(
    ("suggestion", "names"),
    [
        (ANSWER, ["probes", "curve", "rates"]),
        (choose(evidence(LOSSES)), ["probes", "curve"]),
        (choose(evidence(dict.fromkeys(LOSSES, 2.0)), steps=500), ["probes", "curve"]),
        (choose(evidence({}), steps=500), ["curve"]),
        (suggest(synthetic(), steps=500), ["curve", "rates"]),
        (suggest(synthetic()), ["curve"]),
        (dataclasses.replace(ANSWER, alternatives=()), ["probes", "curve", "rates"]),
    ],
    ids=[
        "searched",
        "no horizon",
        "flat",
        "no probes",
        "range test",
        "range test, no horizon",
        "no alternatives",
    ],
)
def test_what_there_is_evidence_for_is_drawn_in_order_and_described(suggestion, names):
    found = plan_charts(Findings.of(suggestion))
    assert list(found) == names
    for chart in found.values():
        assert re.search(r"\d", chart.alt)
        figure = Figure()
        chart.draw(figure, Palette())
        assert figure.axes[0].has_data()


def test_the_descriptions_hold_the_numbers():
    texts = {name: chart.alt for name, chart in plan_charts(Findings.of(ANSWER)).items()}
    lowest = min(ANSWER.evidence.rung, key=lambda o: o.mean)
    assert (
        f"6 probes of 40 steps, from 0.002 to 0.062: the best ended at {lowest.mean:.4g}, at {lowest.probe.lr:.2g}."
        in texts["probes"]
    )
    assert f"wsd: {ANSWER.policy.text}, from {ANSWER.lr:.3g}" in texts["rates"]


def test_every_policy_has_its_axes_on_one_scale_the_one_taken_in_its_colour():
    courses = Findings.of(ANSWER).courses
    axes = Figure().subplots(3, 2).ravel()
    draw_rates(courses, axes, Palette())
    assert len({ax.get_ylim() for ax in axes}) == 1
    assert [ax.lines[0].get_color() == Palette().answer for ax in axes] == [True] + [False] * 5
    for ax, course in zip(axes, courses, strict=True):
        assert ax.get_title(loc="left") == course.alternative.policy.name
        assert ax.lines[0].get_ydata() == pytest.approx(course.lr)
        assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "500"]
        assert course.lr.max() < ax.get_ylim()[1]
