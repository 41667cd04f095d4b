from __future__ import annotations

import pytest
from targets import fresh, write

from lrfinder import InputError
from lrfinder.blame import blame
from lrfinder.comparison import compare
from lrfinder.errors import TargetError
from lrfinder.target import Target

__all__ = ["fresh"]

CODE = """
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
    write("their_code.py", CODE)

    def run(name):
        with pytest.raises(TargetError) as error:
            Target.parse(f"their_code.py:{name}").build({}, "--init")
        return str(error.value)

    return run


def test_the_traceback_begins_in_their_code_and_goes_on_below_it(run):
    text = run("shapes")
    assert text.startswith("their_code.py:shapes cannot be built:\nTraceback (most recent call last):\n  File ")
    first, *below = [line for line in text.splitlines() if line.startswith("  File")]
    assert "their_code.py" in first
    assert below
    assert all("torch" in line for line in below)
    assert text.splitlines()[-1].startswith("RuntimeError: mat1 and mat2")


def test_the_error_before_it_is_shown_as_briefly(run):
    text = run("caused")
    assert text.index("RuntimeError: mat1") < text.index("direct cause") < text.index("ValueError: mine")
    assert "lrfinder" not in text


def test_an_error_that_says_what_it_follows_from_shows_that(fresh):
    write("their_code.py", CODE)
    shapes = Target.parse("their_code.py:shapes").find()

    def refuse():
        try:
            shapes()
        except RuntimeError as error:
            raise InputError("a rule was broken") from error

    with pytest.raises(TargetError, match=r"(?s)^a rule was broken:\nTraceback.*their_code.*RuntimeError"), blame("x"):
        refuse()


def test_ours_pass_through():
    with pytest.raises(InputError, match=r"^as it is$"), blame("It broke"):
        raise InputError("as it is")


def test_an_error_of_torch_alone_is_a_line(fresh):
    write("their_code.py", "import torch\nmodel = torch.nn.Linear(3, 1)\nclass Model(torch.nn.Linear): pass")
    with pytest.raises(InputError) as error:
        Target.parse("their_code.py:Model").build({"in_features": "-1", "out_features": "x"}, "--init")
    assert str(error.value) == "--init.out_features must be int, got 'x'"
    with pytest.raises(InputError, match=r"^their_code.py:Model cannot be built: \w+Error: [^\n]*negative[^\n]*$"):
        Target.parse("their_code.py:Model").build({"in_features": "-1", "out_features": "2"}, "--init")


def test_a_mistake_of_lrfinder_itself_is_not_blamed_on_anybody():
    with pytest.raises(AttributeError), blame("It broke"):
        compare([("sgd", None)])
