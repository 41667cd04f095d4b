"""The pages in a real browser: no complaint, no request, no page wider than the screen."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from support import browser
from support.pages import EVIL
from support.scripted import evidence, valley

from lrfinder.answer.choose import choose
from lrfinder.answer.comparison import compare
from lrfinder.report.comparison_page import comparison_html
from lrfinder.report.page import report_html

pytestmark = pytest.mark.skipif(browser.FOUND is None, reason="needs Chromium")

WIDE = "Array.from(document.querySelectorAll('body *')).filter(e => e.getBoundingClientRect().right > innerWidth + 1 \
    && !e.closest('.wide, .tall')).map(e => e.tagName)"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    answer = choose(evidence(valley(-6.0), noise=0.01), steps=500)
    long = {EVIL: EVIL * 5, "y" * 60: "z" * 300}
    evil = dataclasses.replace(answer, caveats=(EVIL * 20, "x" * 500), environment=long)
    refused = choose(evidence(dict.fromkeys(valley(-6.0), 2.0)), steps=500)
    texts = {
        "answer": report_html(answer, "lrfinder suggest"),
        "evil": report_html(evil, f"lrfinder {'c' * 300}"),
        "refused": report_html(refused, "lrfinder suggest"),
        "comparison": comparison_html(compare({"n" * 60: evil, "a": answer, EVIL: refused}), "lrfinder report"),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


@pytest.fixture(scope="module")
def chromium():
    with browser.Browser() as opened:
        yield opened


@pytest.mark.parametrize("name", ["answer", "evil", "refused", "comparison"])
@pytest.mark.parametrize("width", [360, 1280])
def test_a_page_fits_is_silent_and_fetches_nothing(chromium, pages, name, width):
    assert chromium.open(pages[name], width=width) == ([], [])
    chromium.run("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert chromium.run("document.documentElement.scrollWidth") <= width
    assert chromium.run(WIDE) == []
    assert chromium.run("document.images.length + document.scripts.length") == 0


COLOURS = "['--paper', '--ink'].map(name => getComputedStyle(document.body).getPropertyValue(name))"


def test_it_is_dark_for_those_who_like_it_and_light_on_paper(chromium, pages):
    chromium.open(pages["answer"])
    light = chromium.run(COLOURS)
    chromium.open(pages["answer"], dark=True)
    dark = chromium.run(COLOURS)
    assert light[0] == "#ffffff"
    assert sum(bytes.fromhex(dark[0][1:])) < 100 < 600 < sum(bytes.fromhex(dark[1][1:]))
    chromium.open(pages["answer"], dark=True, media="print")
    assert chromium.run(COLOURS) == light
    assert chromium.run("getComputedStyle(document.querySelector('.raw')).display") == "none"


def test_it_can_be_printed(chromium, pages):
    chromium.open(pages["answer"], media="print")
    chromium.pdf("page.pdf")
    assert Path("page.pdf").read_bytes().count(b"/Type /Page\n") in range(3, 8)


def test_the_check_can_fail(chromium):
    Path("bad.html").write_text("<script>console.log(1)</script><img src='missing.png'><p style='width:2000px'>x</p>")
    complaints, asked = chromium.open("bad.html", width=360)
    assert complaints
    assert [address.rpartition("/")[2] for address in asked] == ["missing.png"]
    assert chromium.run("document.documentElement.scrollWidth") > 360
    assert chromium.run(WIDE) == ["P"]
