from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfinder.cli.terminal import coloured, render

LINES = [
    ("Peak LR", "0.1"),
    ("Because", "No detectable difference from wsd-sqrt (less than 0.5%): the simplest of them, in many words."),
    ("Caveat", "The longest probes took 29 steps, training will take 2000: this is extrapolated."),
]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def plain(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "50")


def test_elsewhere_every_pair_is_a_line():
    expected = "\n".join(f"{label:9s} {text}" for label, text in LINES)
    assert render(LINES, io.StringIO()) == render(LINES, None) == expected


def test_on_a_terminal_lines_are_wrapped_under_their_text(plain, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert render(LINES, Terminal()).splitlines() == [
        "Peak LR   0.1",
        "Because   No detectable difference from wsd-sqrt",
        "          (less than 0.5%): the simplest of them,",
        "          in many words.",
        "Caveat    The longest probes took 29 steps,",
        "          training will take 2000: this is",
        "          extrapolated.",
    ]


def test_the_answer_is_green_and_doubts_are_yellow_line_by_line(plain):
    lines = render(LINES, Terminal()).splitlines()
    assert lines[0] == "Peak LR   \x1b[1;32m0.1\x1b[0m"
    assert "\x1b" not in "".join(lines[1:4])
    assert all(re.fullmatch(r".{10}\x1b\[33m[^\x1b]+\x1b\[0m", line) for line in lines[4:])
    assert len(lines) == 7


@given(st.lists(st.tuples(st.sampled_from(["Peak LR", "Caveat", "Others"]), st.text("ab \x20-%", max_size=200))))
def test_no_word_is_lost(lines):
    words = [word for label, text in lines for word in f"{label} {text}".split()]
    assert re.sub(r"\x1b\[[0-9;]*m", " ", render(lines, Terminal())).split() == words


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colours_are_for_terminals_that_want_them(environment, expected):
    assert coloured(Terminal(), environment) is expected
    assert coloured(io.StringIO(), environment) is False
