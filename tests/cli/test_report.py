"""Tests."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.curves import pure_noise, synthetic
from support.scripted import evidence, valley

from lrfinder import Curve, InputError, suggest
from lrfinder.answer.choose import choose
from lrfinder.answer.comparison import compare
from lrfinder.cli.main import main
from lrfinder.cli.report import read_results
from lrfinder.report.comparison_page import comparison_html
from lrfinder.report.markdown import report_markdown


@pytest.fixture
def lrfinder(capsys):
    """Run the command line in this process; return ``(exit code, stdout, stderr)``."""

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        return (end.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def result():
    return saved("result.json", suggest(synthetic(), steps=1000))


def saved(name, suggestion):
    Path(name).write_text(json.dumps(suggestion.to_dict()), encoding="utf-8")
    return name


@pytest.mark.parametrize(
    ("kind", "start"), [("html", b"<!DOCTYPE html>"), ("md", b"# Which"), ("png", b"\x89PNG"), ("PNG", b"\x89PNG")]
)
@pytest.mark.parametrize("count", [1, 2])
def test_every_kind_is_written_of_one_and_of_several(lrfinder, kind, start, count):
    paths = [saved(f"{i}.json", suggest(pure_noise("normal", i))) for i in range(count)]
    assert lrfinder("report", *paths, "-o", f"a b.{kind}") == (0, f"Report    a b.{kind}\n", "")
    assert Path(f"a b.{kind}").read_bytes().startswith(start)
    assert sorted(os.listdir()) == sorted([*paths, f"a b.{kind}"])


def test_a_page_is_what_is_written_by_default_and_an_old_one_is_replaced(lrfinder, result):
    Path("lrfinder-report.html").write_text("old")
    code, out, _ = lrfinder("report", result)
    assert (code, out) == (0, "Report    lrfinder-report.html\n")
    assert "old" not in Path("lrfinder-report.html").read_text()[:20]


def test_the_page_made_later_is_the_page_made_at_once(lrfinder):
    Path("curve.csv").write_text("lr,loss\n" + "".join(f"{10.0**k},1\n" for k in range(-9, 3)))
    assert lrfinder("suggest", "--curve", "curve.csv", "--out", "r.json", "--report", "at-once.html")[0] == 1
    assert lrfinder("report", "r.json", "-o", "later.html")[0] == 0
    assert Path("later.html").read_text() == Path("at-once.html").read_text()
    assert "lrfinder suggest --curve curve.csv --out r.json --report at-once.html" in Path("later.html").read_text()


def test_several_are_ranked_on_one_page_with_the_command_that_made_it(lrfinder):
    one, other = (choose(evidence(valley(-6.0, shift=shift), noise=0.001), steps=500) for shift in (0.0, 0.1))
    assert lrfinder("report", saved("b.json", other), saved("a.json", one), "-o", "both.md")[0] == 0
    text = Path("both.md").read_text()
    assert "After 40 of 500 steps a ended lowest" in text
    assert "lrfinder report b.json a.json -o both.md" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("result.json -o x.txt", "--out must name a file that ends in .html, .md, .png, got x.txt"),
        ("result.json -o result", "--out must name a file that ends in .html, .md, .png, got result"),
        ("result.json -o missing/x.md", "--out: the folder missing does not exist, create it first"),
        ("result.html -o ./result.html", "--out must not name one of the results, got ./result.html"),
        ("nothing.json", "cannot read nothing.json: No such file or directory"),
        ("bad.json", "bad.json: not valid JSON (Expecting value: line 1 column 1 (char 0))"),
        ("wrong.json", "wrong.json: steps_spent must be a whole number from 0 to 1,000,000,000, got 'many'"),
        ("result.json wrong.json", "wrong.json: steps_spent must be"),
        ("", "the following arguments are required: RESULT.json (see lrfinder report --help)"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(lrfinder, result, arguments, message):
    document = json.loads(Path(result).read_text())
    Path("wrong.json").write_text(json.dumps(document | {"steps_spent": "many"}))
    Path("bad.json").write_text("lr,loss")
    before = sorted(os.listdir())
    code, out, err = lrfinder("report", *arguments.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"lrfinder: {message}")
    assert err.count("\n") == 1
    assert sorted(os.listdir()) == before


def test_the_help_fits_on_a_screen(lrfinder):
    code, out, _ = lrfinder("report", "--help")
    assert code == 0
    assert len(out.splitlines()) < 25
    assert max(map(len, out.splitlines())) <= 100


def test_a_constant_curve_has_every_kind_of_report(lrfinder):
    saved("flat.json", suggest(Curve([10.0**k for k in range(-9, 3)], [1.0] * 12)))
    for kind in ("html", "md", "png"):
        assert lrfinder("report", "flat.json", "--out", f"flat.{kind}")[0] == 0


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
        ({**ANSWER.to_dict(), "horizon": "long"}, "horizon must be a whole number from 1 to 1,000,000,000"),
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
