from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from support.targets import fresh, write

from lrfinder import InputError
from lrfinder.answer.comparison import compare
from lrfinder.cli.code_ref import CodeRef, user_code_errors
from lrfinder.errors import TargetError

__all__ = ["fresh"]

pytestmark = pytest.mark.usefixtures("fresh")

CODE = """
    from pathlib import Path

    class Model:
        class Inner:
            pass
        def __init__(self, hidden: int, lr: float = 0.1):
            self.hidden, self.lr = hidden, lr

    def _private(): pass
    number = 3
"""


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("train.py:Model", ("train.py", "Model", True)),
        ("a b/my train.py:Model", ("a b/my train.py", "Model", True)),
        (r"C:\code\train.py:Model", (r"C:\code\train.py", "Model", True)),
        ("package.module:Outer.Inner", ("package.module", "Outer.Inner", False)),
    ],
)
def test_a_target_is_split_at_its_last_colon(text, parts):
    target = CodeRef.parse(text)
    assert (target.where, target.name, target.is_file, target.text) == (*parts, text)


@pytest.mark.parametrize("text", ["train.py", ":Model", "train.py:", r"C:\code\train.py", "train.py:a b", ""])
def test_what_is_no_target_is_refused(text):
    with pytest.raises(InputError, match=r"^--data must be FILE\.py:NAME or package\.module:NAME, got "):
        CodeRef.parse(text, "--data")


def test_a_file_without_a_name_is_told_what_it_defines_without_running_it():
    write("train.py", CODE + "\n    raise SystemExit")
    with pytest.raises(InputError, match=r"got 'train.py': one of train.py:Model, train.py:_private\?$"):
        CodeRef.parse("train.py")


def test_a_file_finds_what_stands_beside_it_and_is_known_by_its_name():
    write("a b/beside_it.py", "VALUE = 3")
    write("a b/the_model.py", "import sys\nfrom beside_it import VALUE\nclass Model: pass\nARGV = sys.argv")
    arguments = list(sys.argv)
    model = CodeRef.parse("a b/the_model.py:Model").find()
    module = sys.modules["the_model"]
    assert model is module.Model
    assert CodeRef.parse("a b/the_model.py:VALUE").find() == 3
    assert [str(Path("a b/the_model.py").resolve())] == module.ARGV
    assert sys.argv == arguments
    assert os.listdir("a b") == ["beside_it.py", "the_model.py"] or sorted(os.listdir("a b")) == [
        "beside_it.py",
        "the_model.py",
    ]


def test_a_module_is_found_from_the_working_folder():
    write("some_package/__init__.py", "")
    write("some_package/models.py", "from . import other\nclass Model: pass")
    write("some_package/other.py", "")
    assert CodeRef.parse("some_package.models:Model").find().__module__ == "some_package.models"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("trian_it.py:Model", "there is no file trian_it.py: did you mean train_it.py?"),
        ("wxwxwxwx.py:Model", "there is no file wxwxwxwx.py"),
        ("train_it.py:Modle", "train_it.py has no Modle, which has Model: did you mean Model?"),
        ("train_it.py:Model.Iner", "train_it.py has no Model.Iner, which has Inner: did you mean Inner?"),
        ("nowhere.at.all:Model", "there is no module nowhere: give FILE.py:NAME, or run where nowhere is"),
        ("os.nowhere:Model", "there is no module os.nowhere: give FILE.py:NAME, or run where os.nowhere is"),
        ("json.py:Model", "json.py must not be called as a module that is in use, json: rename it"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(text, told):
    write("train_it.py", CODE)
    write("json.py", "")
    Path("wxwxwxwx.py").mkdir()
    with pytest.raises(InputError) as error:
        CodeRef.parse(text).find()
    assert str(error.value) == told


def test_a_class_is_built_and_what_is_built_is_left():
    write("train_it.py", CODE)
    assert vars(CodeRef.parse("train_it.py:Model").build({"hidden": "3"}, "--init")) == {"hidden": 3, "lr": 0.1}
    assert CodeRef.parse("train_it.py:number").build({}, "--init") == 3
    with pytest.raises(InputError, match=r"^--init.x must be left out: train_it.py:number is built already$"):
        CodeRef.parse("train_it.py:number").build({"x": "3"}, "--init")
    with pytest.raises(InputError, match=r"^Model needs hidden: add --init.hidden VALUE$"):
        CodeRef.parse("train_it.py:Model").build({}, "--init")


def test_a_file_that_fails_shows_its_own_traceback_and_is_forgotten():
    write("fails_here.py", "def inner():\n    raise KeyError('no')\ninner()")
    with pytest.raises(TargetError) as error:
        CodeRef.parse("fails_here.py:Model").find()
    lines = str(error.value).splitlines()
    assert lines[0] == "fails_here.py cannot be imported:"
    files = [line.split(",")[0] for line in lines if line.startswith("  File")]
    assert files == [f'  File "{Path("fails_here.py").resolve()}"'] * 2
    assert lines[-1] == "KeyError: 'no'"
    assert "fails_here" not in sys.modules


def test_a_file_that_exits_or_cannot_be_read_is_told():
    write("exits_here.py", "raise SystemExit(3)")
    with pytest.raises(InputError, match="must not run anything when it is imported, and it exits"):
        CodeRef.parse("exits_here.py:Model").find()
    write("no_python.py", "def f(:")
    with pytest.raises(TargetError, match=r"(?s)^no_python.py cannot be imported:\n  File .*SyntaxError"):
        CodeRef.parse("no_python.py:Model").find()


def test_a_file_of_a_package_is_told_how_else_to_name_it():
    write("kept_package/__init__.py", "")
    write("kept_package/relative.py", "from . import nothing_there_is")
    with pytest.raises(TargetError, match=r"by its path; as part of its package: kept_package\.relative:NAME:"):
        CodeRef.parse("kept_package/relative.py:Model").find()


FAILING = """
    import torch

    def shapes():
        return torch.nn.Linear(3, 1)(torch.ones(1, 4))

    def caused():
        try:
            shapes()
        except RuntimeError as error:
            raise ValueError("mine") from error
"""


@pytest.fixture
def run(fresh):
    """Run a function of somebody's, from lrfinder; return what is told."""
    write("their_code.py", FAILING)

    def run(name):
        with pytest.raises(TargetError) as error:
            CodeRef.parse(f"their_code.py:{name}").build({}, "--init")
        return str(error.value)

    return run


def test_the_traceback_begins_in_their_code_and_goes_on_below_it(run):
    text = run("shapes")
    assert text.startswith("their_code.py:shapes cannot be built:\nTraceback (most recent call last):\n  File ")
    first, *below = [line for line in text.splitlines() if line.startswith("  File")]
    assert "their_code.py" in first
    assert below
    assert all("torch" in line for line in below)
    assert text.splitlines()[-1].startswith(("RuntimeError: mat1 and mat2", "RuntimeError: addmm: mat1 and mat2"))


def test_the_error_before_it_is_shown_as_briefly(run):
    text = run("caused")
    assert text.index("RuntimeError: ") < text.index("direct cause") < text.index("ValueError: mine")
    assert "lrfinder" not in text


def test_an_error_that_says_what_it_follows_from_shows_that(fresh):
    write("their_code.py", FAILING)
    shapes = CodeRef.parse("their_code.py:shapes").find()

    def refuse():
        try:
            shapes()
        except RuntimeError as error:
            raise InputError("a rule was broken") from error

    with (
        pytest.raises(TargetError, match=r"(?s)^a rule was broken:\nTraceback.*their_code.*RuntimeError"),
        user_code_errors("x"),
    ):
        refuse()


def test_errors_of_lrfinder_pass_through():
    with pytest.raises(InputError, match=r"^as it is$"), user_code_errors("It broke"):
        raise InputError("as it is")


def test_an_error_of_torch_alone_is_a_line(fresh):
    write("their_code.py", "import torch\nmodel = torch.nn.Linear(3, 1)\nclass Model(torch.nn.Linear): pass")
    with pytest.raises(InputError) as error:
        CodeRef.parse("their_code.py:Model").build({"in_features": "-1", "out_features": "x"}, "--init")
    assert str(error.value) == "--init.out_features must be int, got 'x'"
    with pytest.raises(InputError, match=r"^their_code.py:Model cannot be built: \w+Error: [^\n]*negative[^\n]*$"):
        CodeRef.parse("their_code.py:Model").build({"in_features": "-1", "out_features": "2"}, "--init")


def test_a_mistake_of_lrfinder_itself_is_not_reported_as_the_users():
    with pytest.raises(AttributeError), user_code_errors("It broke"):
        compare([("sgd", None)])
