from __future__ import annotations

import argparse

import pytest
from support.curves import answered, refused

from lrfinder.cli.options import DEFAULTS, add_parser, count, seed, steps, with_requested_policy
from lrfinder.probing.options import SearchOptions


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    return parser


def test_the_defaults_are_those_of_the_table(parser):
    options = vars(parser.parse_args(["suggest"]))
    assert {name: options[name] for name in DEFAULTS} == DEFAULTS
    assert options["optimizer"] == options["config"] == options["dotted"] == []


def test_help_has_a_line_for_every_option_but_those_of_the_trainer(parser, capsys):
    with pytest.raises(SystemExit):
        parser.parse_args(["suggest", "--help"])
    shown = capsys.readouterr().out
    hidden = {"devices", "precision", "strategy", "dotted"}
    for name in set(vars(parser.parse_args(["suggest"]))) - hidden - {"target"}:
        assert f"\n  --{name.replace('_', '-')}" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


@pytest.mark.parametrize(
    ("text", "value"), [("300", 300), ("0.05", 0.05), ("5%", "5%"), ("60s", "60s"), ("1e-1", 0.1), ("much", "much")]
)
def test_a_budget_is_a_number_or_a_text(parser, text, value):
    budget = parser.parse_args(["suggest", "--budget", text]).budget
    assert budget == value
    assert type(budget) is type(value)


@pytest.mark.parametrize(("read", "least"), [(count, 1), (steps, 0), (seed, 0)])
def test_whole_numbers_are_checked(read, least):
    assert read(str(least)) == least
    for text in (str(least - 1), "1.5", "many", "", "9" * 30):
        with pytest.raises(argparse.ArgumentTypeError, match=r"must be a whole number .*, got"):
            read(text)


def test_a_seed_may_be_as_large_as_torch_takes():
    assert seed(str(2**64 - 1)) == 2**64 - 1


def test_the_requested_policy_replaces_the_suggested_one():
    suggestion = answered(steps=1000)
    asked = with_requested_policy(suggestion, SearchOptions(policy="cosine", steps=1000))
    assert asked.policy is not None
    assert asked.policy.name == "cosine"
    for policy in (None, "auto", "keep"):
        assert with_requested_policy(suggestion, SearchOptions(policy=policy)) is suggestion
    none = refused("FLAT")
    assert with_requested_policy(none, SearchOptions(policy="cosine", steps=1000)) is none
