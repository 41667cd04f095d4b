from __future__ import annotations

import dataclasses
import re

from curves import synthetic
from scripted import evidence, valley
from test_report import EVIL, Page, fetched

from lrfinder import suggest
from lrfinder.choice import choose
from lrfinder.comparison_report import comparison_commands, comparison_html, comparison_png
from lrfinder.comparison_view import SideBySide

FAST = choose(evidence(valley(-6.0), noise=0.001), steps=500).with_environment(command="lrfinder suggest --seed 1")
SLOW = choose(evidence(valley(-3.0, shift=0.1), noise=0.001), steps=500)
THREE = {"slow": SLOW, "fast": FAST, "range": suggest(synthetic(), steps=500)}


def test_a_page_has_a_column_per_result_the_lowest_first():
    text = comparison_html(THREE, "lrfinder report slow.json fast.json range.json")
    words = " ".join(Page(text).text.split())
    assert "After 40 steps fast ended lowest" in words
    cells = re.findall(r"<t[hd](?: [^>]*)?>(.*?)</t[hd]>", text)
    names = ["fast", "slow", "range"]
    assert cells[:8] == ["", *names, "peak learning rate", *(f"{THREE[name].lr:.3g}" for name in names)]
    assert cells[cells.index("behind, paired") + 1] == "lowest"
    assert cells[cells.index("behind, paired") + 2].startswith("+0.1 ± ")
    assert "lrfinder report slow.json fast.json range.json" in words
    assert "lrfinder suggest --seed 1" in words
    for one in THREE.values():
        for caveat in one.caveats:
            assert caveat in words


def test_what_one_command_made_is_told_once():
    view = SideBySide.of({"a": FAST, "b": FAST, "c": SLOW, "d": SLOW.with_environment(command="x")})
    assert comparison_commands(view, "x") == [("a, b", "lrfinder suggest --seed 1")]


def test_a_page_needs_nothing_else_and_escapes_everything():
    evil = dataclasses.replace(FAST, caveats=(EVIL,), environment={EVIL: EVIL, "command": EVIL})
    text = comparison_html({EVIL: evil, "other": SLOW}, EVIL)
    parsed = Page(text)
    assert fetched(parsed, text) == []
    assert {"script", "img", "iframe"}.isdisjoint(tag for tag, _ in parsed.tags)
    assert parsed.text.count(EVIL) >= 5
    assert len(text.encode()) < 150_000


def test_the_chart_is_described():
    (described,) = (a["aria-label"] for _, a in Page(comparison_html(THREE, "")).tags if a.get("role") == "img")
    for name, one in THREE.items():
        assert f"{name}: {one.headline()}" in described


def test_equal_suggestions_make_equal_pages():
    assert comparison_html(THREE, "x") == comparison_html(dict(THREE), "x")


def test_a_picture_is_a_png():
    assert comparison_png(THREE).startswith(b"\x89PNG\r\n")
