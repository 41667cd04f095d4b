from __future__ import annotations

import io
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfinder.cli.terminal import answer_alone, coloured, name_options, render

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


NAMES = ("target", "steps", "min_lr", "max_lr", "monitor", "method", "budget")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("give monitor=, or method='range'", "give --monitor, or --method range"),
        ("budget=600 would help.", "--budget 600 would help."),
        ("Pass `steps=`.", "Pass --steps."),
        ("The length is unknown. Give steps.", "The length is unknown. Give --steps."),
        ("Give more steps to spend, or lower min_lr.", "Give more steps to spend, or lower --min-lr."),
        ("min_lr must be below max_lr, got min_lr = 1, max_lr = 0.1", "--min-lr must be below --max-lr, got 1, 0.1"),
        ("steps must be given for it, got steps = None", "--steps must be given for it, got none"),
        ("check max_steps, max_epochs and data", "check --steps, --epochs and data"),
        ("t.py:steps has no min_lr.py", "t.py:steps has no min_lr.py"),
        ("target must be a model; 40 steps", "target must be a model; 40 steps"),
    ],
)
def test_a_message_names_the_options(text, expected):
    assert name_options(text, [name for name in NAMES if name != "target"]) == expected


def test_only_the_answer_goes_to_stdout(capfd):
    with answer_alone():
        print("of the model")
        os.system("echo of a process")
    print("answer")
    out, err = capfd.readouterr()
    assert out == "answer\n"
    assert "of the model" in err
    assert "of a process" in err
