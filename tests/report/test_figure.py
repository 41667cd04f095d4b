from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from lrfinder.report.figure import SERIES, STAND_INS, draw_svg, shorten


def chart(text="x"):
    def draw(figure):
        ax = figure.subplots()
        for colour in (*STAND_INS, *SERIES):
            ax.plot([1.23456789, 2.0], [0.0175123, 1.0], color=colour)
        ax.set_title(text, parse_math=False)

    return draw_svg(draw, (3, 2), "what is seen")


def test_every_stand_in_becomes_a_variable_and_the_rest_stays():
    svg = chart("0.0175123").svg
    assert set(re.findall(r"var\((--[\w-]+)\)", svg)) == {
        *(f"--{name}" for name in STAND_INS._fields),
        *(f"--series-{i}" for i in range(1, 7)),
    }
    assert "#0101" not in svg
    assert "#0102" not in svg
    assert ">0.0175123</text>" in svg  # paths are rounded, numbers that are read are not
    assert chart().alt == "what is seen"


def test_it_is_xml_without_what_a_page_must_not_hold():
    svg = chart("<script>&</style> -->").svg
    ET.fromstring(svg)
    assert svg.startswith("<svg")
    assert "&lt;script&gt;&amp;&lt;/style&gt; --&gt;" in svg
    for gone in ("<?xml", "<!DOCTYPE", "<metadata", "<style", "<!--", "figure_1"):
        assert gone not in svg


def test_equal_charts_are_equal():
    assert chart() == chart()


def test_ids_are_its_own_and_all_are_found():
    svg = chart().svg
    ids = re.findall(r' id="([^"]*)"', svg)
    assert ids
    assert all(re.fullmatch(r"c[0-9a-f]+-\d+", name) for name in ids)
    assert set(re.findall(r"(?:href=\"#|url\(#)([\w-]+)", svg)) <= set(ids)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("adamw", "adamw"),
        ("_hidden", " _hidden"),
        ("cost $5", r"cost \$5"),
        ("", "?"),
        ("a\n b", "a b"),
        ("x" * 60, "x" * 14 + "…" + "x" * 13),
        ("\ud800", "?"),
    ],
)
def test_names_are_short_and_plain(name, shown):
    assert shorten(name) == shown
