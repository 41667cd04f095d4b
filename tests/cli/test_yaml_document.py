"""YAML documents: the value is there, all other values are as they were, and comments stand where they stood."""

from __future__ import annotations

import difflib

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfinder import InputError
from lrfinder.cli.config_read import value_at
from lrfinder.cli.yaml_document import YamlDocument

DOCUMENT = """\
# top
model:  # the model
  class_path: lit.Lit   # two spaces more
  init_args:
    hidden: 0x10
    lr: 1e-3  # rate

    name: "x: # not a comment"
    text: |
      lr: 7

      end
  # end of model

data: {class_path: lit.Data, init_args: {size: 8}}  # data
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


def put(text, place, value):
    document = YamlDocument(text, "c.yaml")
    document.put(place, value)
    return document.text()


def changed(new, old=DOCUMENT):
    """The lines that went and came."""
    return [line for line in difflib.ndiff(old.splitlines(), new.splitlines()) if line[:2] in ("- ", "+ ")]


def test_a_document_of_a_usual_layout_is_written_as_it_was_read():
    assert YamlDocument(DOCUMENT, "c.yaml").text() == DOCUMENT


DATA = "data: {class_path: lit.Data, init_args: {size: 8}}  # data"


@pytest.mark.parametrize(
    ("place", "value", "lines"),
    [
        (("model", "init_args", "lr"), 1e-5, ["-     lr: 1e-3  # rate", "+     lr: 1.0e-05  # rate"]),
        (("model", "init_args", "new"), [1, {"b": 2}], ["+     new:", "+     - 1", "+     - b: 2"]),
        (
            ("data", "init_args", "lr"),
            0.1,
            [f"- {DATA}", "+ data: {class_path: lit.Data, init_args: {size: 8, lr: 0.1}} # data"],
        ),
        (("empty", "lr"), 0.1, ["- empty:   # nothing yet", "+ empty:  # nothing yet", "+   lr: 0.1"]),
        (("lr_scheduler",), None, ["+ lr_scheduler: null"]),
        (("model", "init_args", "text"), "a", ["-     text: |", "+     text: a", "-       lr: 7", "- ", "-       end"]),
        (("model", "init_args", "name"), 0.1, ['-     name: "x: # not a comment"', "+     name: 0.1"]),
        (("trainer", "callbacks", 0), {"x": {"y": 1}}, ["-   - class_path: one.One", "+   - x:", "+       y: 1"]),
        (("trainer", "last"), "yes", ["+   last: 'yes'"]),
        (("data",), {"class_path": "Z"}, [f"- {DATA}", "+ data:  # data", "+   class_path: Z"]),
    ],
)
def test_a_value_is_put_in_and_nothing_else_changes(place, value, lines):
    new = put(DOCUMENT, place, value)
    assert value_at(yaml.safe_load(new), place) == value
    assert changed(new) == lines


def test_items_are_added_and_removed_with_their_lines():
    place = ("trainer", "callbacks")
    document = YamlDocument(DOCUMENT, "c.yaml")
    document.append(place, {"class_path": "X", "init_args": {"y": 1}})
    assert changed(document.text()) == ["+   - class_path: X", "+     init_args:", "+       y: 1"]
    document = YamlDocument(DOCUMENT, "c.yaml")
    document.append(place, {"class_path": "X", "init_args": {"y": 1}})
    document.remove((*place, 2))
    assert document.text() == DOCUMENT
    document = YamlDocument(DOCUMENT, "c.yaml")
    document.remove((*place, 0))
    assert changed(document.text()) == ["-   - class_path: one.One"]
    document = YamlDocument(DOCUMENT, "c.yaml")
    document.remove((*place, 1))
    document.remove((*place, 0))
    none = document.text()
    assert value_at(yaml.safe_load(none), place) == []
    assert "  callbacks: []  # mine\n  # before the second\n" in none


def test_items_of_a_list_on_one_line():
    place = ("trainer", "plugins")
    for change, line in (
        (lambda document: document.append(place, 3), "[{a: 1}, {b: 2}, 3]"),
        (lambda document: document.remove((*place, 0)), "[{b: 2}]"),
        (lambda document: document.remove((*place, 1)), "[{a: 1}]"),
    ):
        document = YamlDocument(DOCUMENT, "c.yaml")
        change(document)
        assert changed(document.text())[-1] == f"+   plugins: {line}"


def test_comments_below_values_in_brackets_stay():
    text = "a:\n  - {x: 1}\n  # the second\n  - [y]\n# About b.\nb: {z: [2]}\n\n# About c.\nc: 1\n"
    assert YamlDocument(text, "c.yaml").text() == text
    assert put(text, ("a", 0), 1) == text.replace("{x: 1}", "1")
    assert put(text, ("b",), 1) == text.replace("{z: [2]}", "1")


def test_comments_between_sections_stay_between_them():
    text = "a:\n  x: 1\n\n# About b.\nb:\n  - y: 1  # one\n  # after one\n  - 2\n# the end\n"
    assert put(text, ("a", "z"), 2) == text.replace("  x: 1\n", "  x: 1\n  z: 2\n")
    document = YamlDocument(text, "c.yaml")
    document.append(("b",), 3)
    document.remove(("b", 0))
    assert document.text() == text.replace("  - y: 1  # one\n", "").replace("  - 2\n", "  - 2\n  - 3\n")


@pytest.mark.parametrize(
    ("text", "new"),
    [
        ("", "a:\n  b: 1.0e-05\n"),
        ("# only this\n", "# only this\na:\n  b: 1.0e-05\n"),
        ("{}", '{"a": {"b": 1e-05}}\n'),
        ('{"a": {"x": "y"}}', '{"a": {"x": "y", "b": 1e-05}}\n'),
        ('{\n  "a": {\n    "x": 2\n  }\n}', '{\n  "a": {\n    "x": 2,\n    "b": 1e-05\n  }\n}\n'),
        ("{a: {x: 1}}", "{a: {x: 1, b: 1.0e-05}}\n"),
        ("a: {x: 1}", "a: {x: 1, b: 1.0e-05}\n"),
        ("x: 1", "x: 1\na:\n  b: 1.0e-05\n"),
        ("a: null  # c\nx: 2\n", "a:  # c\n  b: 1.0e-05\nx: 2\n"),
        ("a: word\n", "a:\n  b: 1.0e-05\n"),
        ("---\na:\n    c: ~\n", "---\na:\n    c: ~\n    b: 1.0e-05\n"),
        ("a:\r\n  c: 2\r\nx: 1\r\n", "a:\r\n  c: 2\r\n  b: 1.0e-05\r\nx: 1\r\n"),
        ("a:\n  c: &c 3\nd: *c\n", "a:\n  c: &c 3\n  b: 1.0e-05\nd: *c\n"),
        ("d: &d {b: 1}\na:\n  <<: *d\nx: 1\n", "d: &d {b: 1}\na:\n  <<: *d\n  b: 1.0e-05\nx: 1\n"),
        ("d: &d 1\na: {c: *d}\n", "d: &d 1\na: {c: *d, b: 1.0e-05}\n"),
        ("d: 2020-01-01\ne: yes\na: {c: 0x10, f: 010}\n", "d: 2020-01-01\ne: yes\na: {c: 0x10, f: 010, b: 1.0e-05}\n"),
    ],
)
def test_documents_of_every_kind(text, new):
    assert put(text, ("a", "b"), 1e-5) == new


@pytest.mark.parametrize(
    "text", ["d: &d {b: 1}\na: *d\n", "a: {b: &b 1}\nd: *b\n", "a: &d {b: 1}\nd: *d\n", "a: &d {b: 1}\nd: {<<: *d}\n"]
)
def test_what_is_shared_is_not_set_for_one(text):
    with pytest.raises(InputError, match=r"a\.b must be a value of its own, .* shared by an anchor"):
        put(text, ("a", "b"), 2)


def test_a_merged_mapping_is_not_changed_in_one_place():
    with pytest.raises(InputError, match=r"a\.m\.b must be a value of its own"):
        put("d: &d {m: {b: 1}}\na: {<<: *d}\n", ("a", "m", "b"), 2)


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "a: {x: , y: 1}\n"])
def test_what_ruamel_yaml_would_change_is_refused(text):
    with pytest.raises(InputError, match=r"^c\.yaml must be YAML that ruamel\.yaml can rewrite, got "):
        put(text, ("c",), 2)


keys = st.sampled_from(["a", "b", "lr", "init_args", "x y"])
scalars = st.one_of(st.integers(-5, 5), st.booleans(), st.none(), st.text("ab #:'\n-", max_size=5), st.floats())
trees = st.recursive(scalars, lambda inner: st.one_of(st.dictionaries(keys, inner), st.lists(inner)), max_leaves=12)
places = st.lists(keys, min_size=1, max_size=3)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(keys, trees, min_size=1), st.booleans(), places, st.floats(1e-9, 10))
def test_any_document_takes_a_rate_anywhere_and_gives_it_back(data, flow, place, lr):
    text = yaml.safe_dump(data, default_flow_style=flow, sort_keys=False) + "# the end\n"
    if any(isinstance(value_at(data, place[:depth]), list) for depth in range(1, len(place))):
        return
    new = put(text, place, lr)
    assert value_at(yaml.safe_load(new), place) == lr
    assert "# the end\n" in new
    again = put(new, place, 0.5)
    assert put(again, place, lr) == new


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(keys, trees, min_size=1), st.sampled_from([False, None]))
def test_every_comment_of_any_document_stays(data, flow):
    lines = yaml.safe_dump(data, default_flow_style=flow, sort_keys=False, width=10**6).splitlines(True)
    scalars = [token for token in yaml.scan("".join(lines)) if isinstance(token, yaml.ScalarToken)]
    if all(scalar.start_mark.line == scalar.end_mark.line for scalar in scalars):
        text = "".join(f"{line}# {number}\n" for number, line in enumerate(lines))
        new = put(text, ("new", "value"), 1)
        assert [line for line in new.splitlines() if line.startswith("# ")] == [f"# {n}" for n in range(len(lines))]
