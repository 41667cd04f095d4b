"""README and docs: their Python runs, their links lead somewhere, their commands are those of CI."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.targets import fresh, unread

from lrfinder.cli.main import main

__all__ = ["fresh", "unread"]

ROOT = Path(__file__).parents[2]
NUMBER, SECONDS = re.compile(r"\d+(?:\.\d+)?"), r"\d+\.\d s"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_the_python_of_a_page_runs_as_printed(page, tmp_path):
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks(page, "python")), encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "Peak LR" in done.stdout or page.name != "README.md"


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "index.md"], ids=lambda page: page.name)
def test_the_answers_that_a_page_shows_are_true(page, tmp_path):
    """Seconds aside, and numbers to within a tenth: they depend on the processor, and on the version of torch."""
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks(page, "python")), encoding="utf-8")
    commands = [sys.executable, "-m", "lrfinder", "suggest"], [sys.executable, script]
    outputs = [
        subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=True).stdout for words in commands
    ]
    printed = "\n".join(outputs)
    shown = [block for block in blocks(page, "text") if "Peak LR" in block]
    assert len(shown) >= 2
    for block in shown:
        words = [re.escape(part) for part in NUMBER.split(re.sub(SECONDS, "", block))]
        found = re.findall(f"({NUMBER.pattern})".join(words), re.sub(SECONDS, "", printed))
        numbers = [float(number) for number in NUMBER.findall(re.sub(SECONDS, "", block))]
        assert any([float(number) for number in each] == pytest.approx(numbers, rel=0.1) for each in found), printed


def test_the_figures_of_the_readme_are_those_of_the_benchmark():
    readme, measured = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/measured.md"))
    section = readme[readme.index("## How it compares") : readme.index("## More")]
    figures = re.findall(r"\b\d+\.\d%", section)
    assert len(figures) > 20
    assert [figure for figure in figures if f"| {figure} |" not in measured] == []
    assert len(readme.splitlines()) < 150


def test_every_error_of_the_index_is_in_the_code():
    strings = " ".join(
        node.value
        for path in (ROOT / "lrfinder").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    texts = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert len(texts) > 15
    assert [text for text in texts if text not in strings] == []


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_the_examples_run(example, tmp_path):
    for package in re.findall(
        r"^(?:from|import) (transformers|accelerate|optuna)\b", example.read_text(), re.MULTILINE
    ):
        pytest.importorskip(package)
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "Peak LR" in done.stdout


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_notebooks_run(example, tmp_path):
    cells = json.loads(example.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert all(not cell.get("outputs") for cell in cells)  # they are made anew, here and by whoever opens it
    (tmp_path / "cells.py").write_text(re.sub(r"^%.*$", "", "\n".join(code), flags=re.MULTILINE), encoding="utf-8")
    plain = {**os.environ, "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "cells.py"], capture_output=True, text=True, cwd=tmp_path, env=plain, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "validation accuracy" in done.stdout


def test_the_examples_are_short():
    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "examples").glob("*.py")}
    assert {name for name, count in lines.items() if count >= 60} <= {"train.py"}  # three targets in one file


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_project_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, target


def test_the_readme_holds_the_two_commands_that_ci_runs():
    commands = re.findall(r"^pip install -c constraints.txt -e .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert commands == [
        "pip install -c constraints.txt -e . && lrfinder suggest",
        "pip install -c constraints.txt -e '.[test]' && pytest",
    ]


def command_lines(page):
    """The command lines of a page, on the example under a name that no other test imports it by."""
    code = "\n".join(blocks(page, "bash")).replace("train.py:", "their_train.py:")
    lines = [shlex.split(line, comments=True) for line in code.splitlines()]
    return [words[1:] for words in lines if words[:1] == ["lrfinder"]]


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "command-line.md"], ids=lambda page: page.name)
def test_the_command_lines_of_a_page_are_understood(page, fresh, unread, capsys):
    shutil.copy(ROOT / "examples" / "train.py", "their_train.py")
    Path("curve.csv").write_text(
        "lr,loss\n" + "".join(f"{10 ** (i / 9 - 5)},{2 - i / 40 if i < 36 else 2 + (i - 36)}\n" for i in range(45))
    )
    for name, end in (("run1", 1.0), ("run2", 0.1)):
        lrs = [1e-3 * (1 - (1 - end) * i / 400) for i in range(401)]
        rows = [f"{10 * i},{lr},{3 + (i + 1) ** -0.5 + 100 * lr}\n" for i, lr in enumerate(lrs)]
        Path(f"{name}.csv").write_text("step,lr,loss\n" + "".join(rows))
    lines = command_lines(page)
    assert len(lines) >= 4
    for words in lines:
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 0, (words, capsys.readouterr().err)


def test_the_changelog_begins_with_the_version():
    import lrfinder

    versions = re.findall(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions[0] == lrfinder.__version__


def test_malicious_releases_of_lightning_are_excluded_everywhere():
    for requirement in re.findall(r'"((?:pytorch-)?lightning\b[^"]*)"', (ROOT / "pyproject.toml").read_text()):
        if any(sign in requirement for sign in "<>=!"):
            assert "!= 2.6.2" in requirement, requirement
            assert "!= 2.6.3" in requirement, requirement


def test_every_public_name_is_in_the_api_page():
    import lrfinder

    page = (ROOT / "docs" / "api.md").read_text()
    errors = {"InputError", "LRFinderError", "TargetError", "UnsupportedError"}  # shown with their module
    assert {name for name in lrfinder.__all__ if f"::: lrfinder.{name}\n" not in page} == errors
    assert "::: lrfinder.errors" in page


def test_every_test_that_the_page_on_exactness_names_is_there(request):
    """By the ids of all that pytest collected; files left out of this run are looked for as files."""
    collected = {item.nodeid.removeprefix("tests/") for item in request.session.items}
    known = collected | {name.partition("[")[0] for name in collected} | {name.partition("::")[0] for name in collected}
    folders = "|".join(path.name for path in (ROOT / "tests").iterdir() if path.is_dir())
    named = re.findall(
        rf"`((?:(?:{folders})/)?test_[^`]+)`", (ROOT / "docs" / "exactness.md").read_text(encoding="utf-8")
    )
    assert len(named) > 60
    for name in named:
        file = name.partition("::")[0]
        assert name in known or (file not in known and (ROOT / "tests" / file).exists()), name


def test_every_test_of_exactness_is_on_its_page(request):
    page = (ROOT / "docs" / "exactness.md").read_text(encoding="utf-8")
    about = ("_as_by_hand", "_as_it_was", "_see_nothing", "_is_refused", "_are_refused")
    files = (
        "promises/test_exact.py",
        "promises/test_faults.py",
        "promises/test_again.py",
        "lightning/test_schedule.py",
    )
    for item in request.session.items:
        name = item.nodeid.removeprefix("tests/").partition("[")[0]
        if name.startswith(files) and name.endswith(about):
            assert name in page, name
