from __future__ import annotations

import argparse
from typing import Literal, Optional

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.curves import answered, refused

from lrfinder import InputError
from lrfinder.cli.options import (
    DEFAULTS,
    add_parser,
    arguments_for,
    count,
    parse_literal,
    seed,
    steps,
    takes,
    with_requested_policy,
)
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


def test_help_fits_a_screen_and_has_a_line_for_every_option_but_those_of_the_trainer(parser, capsys):
    with pytest.raises(SystemExit):
        parser.parse_args(["suggest", "--help"])
    shown = capsys.readouterr().out
    hidden = {"devices", "precision", "strategy", "dotted"}
    for name in set(vars(parser.parse_args(["suggest"]))) - hidden - {"target"}:
        assert f"\n  --{name.replace('_', '-')}" in shown
    assert len(shown.splitlines()) <= 46
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


def every(  # noqa: PLR0913
    count: int,
    rate: float,
    flag: bool,
    name: str,
    maybe: Optional[int] = None,  # noqa: UP045  # the old spelling is what is read
    either: int | str = 0,
    kind: Literal["relu", "gelu", 3] = "relu",
    sizes: list[int] = (),
    wide: str | float | None = None,
    device: torch.device = None,
    shape: tuple[int, int] = (1, 1),
    anything=None,
):
    """Takes one of each."""


READ = {
    "count": [("3", 3), ("-3", -3)],
    "rate": [("1e-3", 1e-3), ("3", 3.0), ("inf", float("inf"))],
    "flag": [("true", True), ("False", False), ("1", True), ("no", False)],
    "name": [("3", "3"), ("none", "none"), ("a b", "a b")],
    "maybe": [("None", None), ("null", None), ("7", 7)],
    "either": [("3", 3), ("three", "three")],
    "kind": [("gelu", "gelu"), ("3", 3)],
    "sizes": [("[1, 2]", [1, 2]), ("(1, 2)", [1, 2])],
    "wide": [("3", 3.0), ("x", "x"), ("None", None), ("none", None)],
    "device": [("cpu", "cpu")],
    "shape": [("[1, 2]", (1, 2))],
    "anything": [("[1, 2]", [1, 2]), ("{'a': None}", {"a": None}), ("relu", "relu"), ("1e-3", 1e-3)],
}
NEEDED = {"count": "1", "rate": "1", "flag": "1", "name": "n"}


@pytest.mark.parametrize(("name", "text", "value"), [(name, *pair) for name, pairs in READ.items() for pair in pairs])
def test_a_text_is_read_as_its_parameter_is_annotated(name, text, value):
    read = arguments_for(every, {**NEEDED, name: text}, "--init")[name]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("count", "3.5", "int"),
        ("rate", "fast", "float"),
        ("flag", "maybe", "bool"),
        ("maybe", "x", "Optional[int]"),
        ("sizes", "['a']", "list[int]"),
        ("shape", "[1]", "tuple[int, int]"),
        ("kind", "tanh", "Literal['relu', 'gelu', 3]"),
    ],
)
def test_a_text_that_does_not_fit_is_named(name, text, told):
    with pytest.raises(InputError) as error:
        arguments_for(every, {**NEEDED, name: text}, "--init")
    assert str(error.value) in {
        f"--init.{name} must be {told}, got {text!r}",
        f"--init.{name} must be int | None, got 'x'",
    }


def test_what_is_missing_is_named_with_how_to_give_it():
    with pytest.raises(InputError) as error:
        arguments_for(every, {"count": "1", "flag": "1"}, "--init")
    assert str(error.value) == "every needs rate, name: add --init.rate VALUE --init.name VALUE"


def test_a_parameter_that_there_is_not_is_named_with_those_there_are():
    with pytest.raises(InputError) as error:
        arguments_for(lambda hidden, depth=1: None, {"hiden": "3"}, "--data")
    assert str(error.value) == (
        "--data.hiden must be a parameter of <lambda>, which has hidden, depth: did you mean hidden?"
    )


def test_keyword_arguments_take_any_name():
    assert arguments_for(lambda **options: None, {"x": "3"}, "--init") == {"x": 3}
    assert takes(lambda **options: None, "x")
    assert not takes(lambda x, /: None, "x")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text("abc"), st.lists))
def test_what_python_writes_is_read_again(value):
    assert parse_literal(repr(value)) == value
