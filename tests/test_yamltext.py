"""Splicing YAML: the value is there, and no other character has moved."""

from __future__ import annotations

import difflib

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfinder import InputError
from lrfinder.yamltext import append, drop, found, loaded, put

DOCUMENT = """\
# top
model:  # the model
  class_path:   lit.Lit   # two spaces more
  init_args:
    hidden: 0x10
    lr: 1e-3  # rate

    name: "x: # not a comment"
    text: |
      lr: 7

      end
  # end of model

data: {class_path: lit.Data, init_args: {size: 8,}}  # data
empty:   # nothing yet
trainer:
  callbacks:   # mine
  - class_path: one.One
  # before the second
  - class_path: a.B
    init_args: {x: 1}   # c

  max_epochs: 3
  plugins: [{a: 1}, {b: 2}]
"""


def changed(new, old=DOCUMENT):
    """The lines that went and came."""
    return [line for line in difflib.ndiff(old.splitlines(), new.splitlines()) if line[:2] in ("- ", "+ ")]


@pytest.mark.parametrize(
    ("place", "value", "lines"),
    [
        (("model", "init_args", "lr"), 1e-5, ["-     lr: 1e-3  # rate", "+     lr: 1.0e-05  # rate"]),
        (("model", "init_args", "new"), [1, {"b": 2}], ["+     new:", "+       - 1", "+       - b: 2"]),
        (
            ("data", "init_args", "lr"),
            0.1,
            [
                f"- {DOCUMENT.splitlines()[14]}",
                "+ data: {class_path: lit.Data, init_args: {size: 8, lr: 0.1,}}  # data",
            ],
        ),
        (("empty", "init_args", "lr"), 0.1, ["+   init_args:", "+     lr: 0.1"]),
        (("lr_scheduler",), None, ["+ lr_scheduler: null"]),
        (("model", "init_args", "text"), "a", ["-     text: |", "+     text: a", "-       lr: 7", "- ", "-       end"]),
        (("trainer", "callbacks", 0), {"x": {"y": 1}}, ["-   - class_path: one.One", "+   - x:", "+       y: 1"]),
        (
            ("data",),
            {"class_path": "Z"},
            [f"- {DOCUMENT.splitlines()[14]}", "+ data:  # data", "+   class_path: Z"],
        ),
    ],
)
def test_a_value_is_put_in_and_nothing_else_moves(place, value, lines):
    new = put(DOCUMENT, place, value)
    assert found(yaml.safe_load(new), place) == value
    assert changed(new) == lines


def test_items_are_added_and_removed_with_their_lines():
    place = ("trainer", "callbacks")
    added = append(DOCUMENT, place, {"class_path": "X", "init_args": {"y": 1}})
    assert changed(added) == ["+   - class_path: X", "+     init_args:", "+       y: 1"]
    assert drop(added, (*place, 2)) == DOCUMENT
    assert changed(drop(DOCUMENT, (*place, 0))) == ["-   - class_path: one.One"]
    none = drop(drop(DOCUMENT, (*place, 1)), (*place, 0))
    assert found(yaml.safe_load(none), place) == []
    assert "  callbacks: []   # mine\n  # before the second\n" in none


def test_items_of_a_list_on_one_line():
    place = ("trainer", "plugins")
    assert changed(append(DOCUMENT, place, 3))[-1] == "+   plugins: [{a: 1}, {b: 2}, 3]"
    assert changed(drop(DOCUMENT, (*place, 0)))[-1] == "+   plugins: [{b: 2}]"
    assert changed(drop(DOCUMENT, (*place, 1)))[-1] == "+   plugins: [{a: 1}]"


@pytest.mark.parametrize(
    ("text", "new"),
    [
        ("", "a:\n  b: 1.0e-05\n"),
        ("# only this\n", "# only this\na:\n  b: 1.0e-05\n"),
        ("{}", '{"a": {"b": 1.0e-05}}'),
        ('{"a": {"x": "y"}}', '{"a": {"x": "y", "b": 1.0e-05}}'),
        ("a: {x: 1}", "a: {x: 1, b: 1.0e-05}"),
        ("x: 1", "x: 1\na:\n  b: 1.0e-05\n"),
        ("a: null  # c\nx: 2\n", "a:  # c\n  b: 1.0e-05\nx: 2\n"),
        ("a: word\n", "a:\n  b: 1.0e-05\n"),
        ("a:\r\n  c: 2\r\nx: 1\r\n", "a:\r\n  c: 2\r\n  b: 1.0e-05\r\nx: 1\r\n"),
        ("a:\n  c: &c 3\nd: *c\n", "a:\n  c: &c 3\n  b: 1.0e-05\nd: *c\n"),
        ("d: &d {b: 1}\na:\n  <<: *d  # merged\nx: 1\n", "d: &d {b: 1}\na:\n  <<: *d  # merged\n  b: 1.0e-05\nx: 1\n"),
        ("d: &d 1\na: {c: *d}\n", "d: &d 1\na: {c: *d, b: 1.0e-05}\n"),
    ],
)
def test_documents_of_every_kind(text, new):
    assert put(text, ("a", "b"), 1e-5) == new


@pytest.mark.parametrize("text", ["d: &d {b: 1}\na: *d\n", "a: {b: &b 1}\nd: *b\n"])
def test_what_is_shared_is_not_set_for_one(text):
    with pytest.raises(InputError, match=r"a\.b must be a value of its own"):
        put(text, ("a", "b"), 2)


def test_places_that_are_no_list():
    with pytest.raises(InputError, match="empty must be a list that is not empty, to append to"):
        append(DOCUMENT, ("empty",), 1)
    with pytest.raises(InputError, match=r"model\.init_args must be an item of a list, to be removed"):
        drop(DOCUMENT, ("model", "init_args"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1\nb: 2", "got expected ',' or ']', but got ':' in line 2, column 2"),
        ("a: !!python/object/apply:os.getcwd []", "got could not determine a constructor .* in line 1, column 4"),
        ("a: 2020-13-45", "that can be read, got month must be in 1..12"),
        ("[" * 3000, "that can be read|that holds data only"),
    ],
)
def test_only_data_is_read(text, problem):
    with pytest.raises(InputError, match=f"^c.yaml must be YAML .*{problem}"):
        loaded(text, "c.yaml")


keys = st.sampled_from(["a", "b", "lr", "init_args", "x y"])
scalars = st.one_of(st.integers(-5, 5), st.booleans(), st.none(), st.text("ab #:'\n-", max_size=5), st.floats())
trees = st.recursive(scalars, lambda inner: st.one_of(st.dictionaries(keys, inner), st.lists(inner)), max_leaves=12)
places = st.lists(keys, min_size=1, max_size=3)


@settings(max_examples=50)
@given(st.dictionaries(keys, trees, min_size=1), st.booleans(), places, st.floats(1e-9, 10))
def test_any_document_takes_a_rate_anywhere_and_gives_it_back(data, flow, place, lr):
    text = yaml.safe_dump(data, default_flow_style=flow, sort_keys=False) + "# the end\n"
    if any(isinstance(found(data, place[:depth]), list) for depth in range(1, len(place))):
        return
    new = put(text, place, lr)
    assert found(yaml.safe_load(new), place) == lr
    assert "# the end\n" in new
    again = put(new, place, 0.5)
    assert put(again, place, lr) == new
