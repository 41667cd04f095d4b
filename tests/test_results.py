from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from curves import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import evidence, valley

from lrfinder import InputError, suggest
from lrfinder.choice import choose
from lrfinder.comparison import compare
from lrfinder.comparison_page import comparison_html
from lrfinder.markdown import report_markdown
from lrfinder.results import read_results

ANSWER = choose(evidence(valley(-6.0), noise=0.001), steps=500)
RANGE = suggest(synthetic(), steps=500)


def save(name, document):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(json.dumps(document), encoding="utf-8")
    return name


def compared(**entries):
    return {"schema_version": 1, "comparison": [{"optimizer": name, **one.to_dict()} for name, one in entries.items()]}


def test_files_are_called_by_their_names():
    paths = [save("a.json", ANSWER.to_dict()), save("b c.json", RANGE.to_dict()), save("x/a.json", RANGE.to_dict())]
    found = read_results(paths)
    assert list(found) == ["a", "b c", "a (2)"]
    assert [one.to_dict() for one in found.values()] == [ANSWER.to_dict(), RANGE.to_dict(), RANGE.to_dict()]


def test_a_comparison_is_several():
    path = save("both.json", compared(sgd=ANSWER, adamw=RANGE))
    assert list(read_results([path])) == ["sgd", "adamw"]
    assert list(read_results([path, save("c.json", RANGE.to_dict())])) == ["both sgd", "both adamw", "c"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "expected a JSON object, got list"),
        ({"comparison": []}, "schema_version must be 1, got None"),
        ({"schema_version": 1, "comparison": []}, r"comparison must be a list of results, at least one, got \[\]"),
        ({"schema_version": 1, "comparison": [3]}, r"comparison\[0\]: must be an object with the name of an optimizer"),
        (
            {"schema_version": 1, "comparison": [{"optimizer": "sgd"}]},
            r"comparison\[0\]: the field 'reason' is missing",
        ),
        ({"schema_version": 2}, "schema_version must be 1, got 2"),
        ({**ANSWER.to_dict(), "horizon": "long"}, "horizon: must be a whole number of optimizer steps, at least 1"),
    ],
)
def test_a_wrong_file_is_named_with_its_field(document, message):
    with pytest.raises(InputError, match=f"^r.json: {message}"):
        read_results([save("r.json", document)])


def test_what_is_no_json_is_named():
    Path("r.json").write_bytes(b"\x80\x04\x95")  # a pickle
    with pytest.raises(InputError, match=r"^r.json: not a text file, expected JSON written by lrfinder suggest --out"):
        read_results(["r.json"])


JUNK = [None, True, -1, 0, 3, 2.5, 1e-300, 1e300, "", "NaN", "x", [], [1], ["x"], [[]], {}, {"a": 1}, [None]]
PLACES = [
    *((name,) for name in ANSWER.to_dict()),
    *(("curves", 0, name) for name in ANSWER.curves[0].to_dict()),
    *(("probes", i, name) for i in (0, 7) for name in ANSWER.probes[0].to_dict()),
    *(("alternatives", 1, name) for name in ANSWER.alternatives[0].to_dict()),
    *(("policy", name) for name in ANSWER.policy.to_dict()),
    *(("fit", name) for name in ANSWER.fit),
]


def read_with(place, junk):
    """Read the document with junk in a place; return (result, None) or (None, what was complained of)."""
    document = copy.deepcopy(ANSWER.to_dict())
    parent = document
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = junk
    try:
        return read_results([save("r.json", document)])["r"], None
    except InputError as error:
        return None, str(error)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_junk_is_taken_or_named_with_its_file_and_field(place):
    for junk in JUNK:
        _, complaint = read_with(place, junk)
        if complaint is not None:
            assert complaint.startswith("r.json: ")
            assert any(str(key) in complaint for key in place), complaint


@settings(max_examples=20)
@given(place=st.sampled_from(PLACES), junk=st.sampled_from(JUNK))
def test_what_is_taken_can_be_shown(place, junk):
    found, _ = read_with(place, junk)
    if found is not None:
        assert report_markdown(found)
        assert comparison_html(compare({"a": ANSWER, "b": found}))
