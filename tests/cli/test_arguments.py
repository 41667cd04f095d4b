from __future__ import annotations

from typing import Literal, Optional

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lrfinder import InputError
from lrfinder.cli.arguments import arguments_for, parse_literal, takes


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
