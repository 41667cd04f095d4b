from __future__ import annotations

import dataclasses
import re

import pytest
from support.curves import pure_noise, synthetic
from support.pages import EVIL
from support.scripted import evidence, valley

from lrfinder import Reason, suggest
from lrfinder.answer.choose import choose
from lrfinder.answer.comparison import compare
from lrfinder.report.markdown import comparison_markdown, report_markdown

ANSWER = choose(evidence(valley(-6.0, lengths=(40,)), noise=0.001), steps=500)


def rows(text):
    return [line for line in text.splitlines() if line.startswith("|")]


def test_the_tables_stand_in_columns_and_hold_every_probe_and_policy():
    text = report_markdown(ANSWER, "lrfinder suggest")
    for line, following in zip(text.splitlines(), text.splitlines()[1:], strict=False):
        if line.startswith("|") and following.startswith("|"):
            assert len(line) == len(following)
    assert f"| peak learning rate        | {ANSWER.lr:.3g} " in text
    assert sum(line.startswith("| probe     | 40 ") for line in rows(text)) == 6
    assert sum(line.startswith("| untrained | 0 ") for line in rows(text)) == 1
    for one in ANSWER.alternatives:
        assert any(line.startswith(f"| {one.policy.name} ") and f"{one.lr:.3g}" in line for line in rows(text))
    assert "The loss saved is the share of the final loss of a constant rate" in text
    assert f"| confidence                | {ANSWER.confidence.capitalize()} " in text
    assert "```text\nlrfinder suggest\n```" in text


def test_a_refusal_says_why_and_what_to_do():
    text = report_markdown(suggest(pure_noise("normal", 0)))
    assert f"**Refused.** {Reason.FLAT.why}" in text
    assert f"What to do: {Reason.FLAT.remedy}" in text


def test_the_headings():
    found = re.findall(r"^#+ (.*)$", report_markdown(ANSWER), re.MULTILINE)
    assert found[1:] == [
        "Every probe",
        "Every policy",
        "What would move this rate",
        "Before you trust it",
        "What was spent",
        "How to repeat it",
    ]


@pytest.mark.parametrize("nasty", [EVIL, "a | b\n# c\n- d", "`x` ``` *y* [z](https://evil.example)", "_a_ \\", "~~s~~"])
def test_nothing_shown_is_markup(nasty):
    evil = dataclasses.replace(ANSWER, caveats=(nasty,), environment={nasty: nasty})
    plain = dataclasses.replace(ANSWER, caveats=("x",), environment={"x": "x"})
    text = report_markdown(evil, f"x {nasty}")
    shown = (report_markdown(plain, "x"), text)
    ours, theirs = (one.partition("```")[0] for one in shown)  # a fence shows what it holds as it is
    for mark in ("<", r"(?<!\\)\]\(", r"(?<!\\)[*`~]", r"\n#", r"\n- "):
        before, told = (len(re.findall(mark, one)) for one in (ours, theirs))
        assert told == before, mark
    assert all(len(re.findall(r"(?<!\\)\|", line)) in (3, 4, 5, 6) for line in rows(text))
    assert re.search(r"^(`{3,})text\n(?:(?!\1).*\n)+?\1$", text, re.MULTILINE)


def test_results_side_by_side():
    text = comparison_markdown(
        compare({"a|b": ANSWER, "range": suggest(synthetic(), steps=500)}), "lrfinder report x y"
    )
    assert rows(text)[0].split(" | ")[1].strip() == "a\\|b"
    assert "Not ranked: fewer than two of them have an answer from probes." in text
    assert f"| {ANSWER.lr:.3g} " in text
    assert "lrfinder report x y" in text
    one = comparison_markdown(
        compare({"a|b": ANSWER.with_environment(command="lrfinder suggest")}), "lrfinder report x"
    )
    assert one.endswith("### a\\|b\n\n```text\nlrfinder suggest\n```\n")
