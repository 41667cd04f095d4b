"""The tree is as docs/architecture.md and CONTRIBUTING.md describe it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import lrfinder

PACKAGE = Path(lrfinder.__file__).parent
ROOT = PACKAGE.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent == PACKAGE)
"""Every module; the one-line faces of the rooms are none."""

ANYWHERE = {"errors", "files", "__init__"}
UPWARDS = {("answer/suggestion.py", "report")}
"""The one import that points up: the plot and the notebook page of a suggestion."""


def rows(title: str) -> dict[str, list[str]]:
    """Return the table under a title of the page: first cell, and the others."""
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section[1].splitlines() if line[:1] == "|"
    ]
    return {first: others for first, *others in cells[2:]}


def names(cell: str) -> set[str]:
    """Return what stands in backticks."""
    return set(re.findall(r"`([^`]+)`", cell))


ROOMS = {name: imports for room, (_, imports) in rows("Rooms").items() for name in names(room)}
"""What each may import, in the words of the page."""


def imported(path: Path) -> set[str]:
    """Return the rooms and top modules that a module imports, in functions and for types too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    dotted = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            dotted += [f"{node.module}.{alias.name}" for alias in node.names]
    parts = [name.split(".") for name in dotted]
    tops = {*ROOMS, *(module.stem for module in PACKAGE.glob("*.py"))}
    return {name[1] for name in parts if name[0] == "lrfinder" and len(name) > 1 and name[1] in tops}


def short(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def test_the_rooms_of_the_page_are_the_folders_of_the_package():
    assert {path.parent.name for path in PACKAGE.glob("*/*.py")} == set(ROOMS)
    assert all(path.parent in (PACKAGE, PACKAGE / path.parent.name) for path in MODULES)  # no room within a room


def test_the_top_folder_holds_five_modules():
    assert {path.stem for path in PACKAGE.glob("*.py")} == {"__init__", "__main__", "demo", "errors", "files"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_its_line_says(room):
    found = {
        name
        for path in (PACKAGE / room).glob("*.py")
        for name in imported(path) - ANYWHERE - {room}
        if (short(path), name) not in UPWARDS
    }
    if ROOMS[room] == "everything":
        assert found <= {*ROOMS, "demo"}
    else:
        assert found == names(ROOMS[room])


@pytest.mark.parametrize("room", ROOMS)
def test_the_face_of_a_room_is_one_line(room):
    (line,) = (PACKAGE / room / "__init__.py").read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r'""".+\."""', line)


def test_only_two_rooms_know_lightning():
    lightning = re.compile(r"^\s*(?:import|from) (?:lightning|pytorch_lightning)\b", re.MULTILINE)
    knowing = {short(path) for path in MODULES if lightning.search(path.read_text(encoding="utf-8"))}
    assert {name.partition("/")[0] for name in knowing} <= {"lightning", "cli"}


def test_modules_are_few_and_short():
    lines = {short(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert [name for name, count in lines.items() if count > 350] == []
    assert len(MODULES) <= 82


def test_every_module_has_its_test():
    tested = [path for path in MODULES if not path.stem.startswith("__")]
    places = [ROOT / "tests" / path.relative_to(PACKAGE).with_name(f"test_{path.name}") for path in tested]
    assert [place.relative_to(ROOT).as_posix() for place in places if not place.exists()] == []


def test_every_test_in_a_room_is_that_of_a_module():
    tests = [path for room in ROOMS for path in (ROOT / "tests" / room).glob("test_*.py")]
    strays = [path for path in tests if not (PACKAGE / path.parent.name / path.name.removeprefix("test_")).exists()]
    assert [path.relative_to(ROOT).as_posix() for path in strays] == []


def test_the_words_of_the_page_are_used():
    source = "\n".join(path.read_text(encoding="utf-8") for path in MODULES)
    used = set(re.findall(r"\w+", source))
    words = {word for line in rows("Words").items() for word in names(line[0]) | names(line[1][0])}
    assert len(words) > 25
    assert words - used == set()


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_path_that_a_page_names_is_there(page):
    words = re.findall(r"[\w./-]+", (ROOT / page).read_text(encoding="utf-8"))
    paths = {word for word in words if re.fullmatch(r"([\w.-]+/)+([\w-]+\.\w+)?", word) and "ROOM" not in word}
    assert len(paths) >= 4
    missing = [path for path in sorted(paths) if not ((ROOT / path).exists() or (PACKAGE / path).exists())]
    assert missing == []
