from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from curves import pure_noise, synthetic
from scripted import evidence, valley

from lrfinder import Curve, suggest
from lrfinder.choice import choose
from lrfinder.cli import main


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
    ("kind", "start"), [("html", b"<!DOCTYPE html>"), ("md", b"# Which"), ("png", b"\x89PNG"), ("PDF", b"%PDF-")]
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
        ("result.html -o ./result.html", "--out must not name a result, got ./result.html"),
        ("nothing.json", "cannot read nothing.json: No such file or directory"),
        ("bad.json", "bad.json: not valid JSON (Expecting value: line 1 column 1 (char 0))"),
        ("wrong.json", "wrong.json: steps_spent: must be a whole number of optimizer steps, at least 0, got 'many'"),
        ("result.json wrong.json", "wrong.json: steps_spent: must be"),
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
