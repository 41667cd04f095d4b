from __future__ import annotations

import io
import sys
import types

import pytest

from lrfinder import find_lr, range_test
from lrfinder.demo import digits_demo
from lrfinder.probing.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(shown, stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(shown) as update:
        if update is not None:
            update(3, 20)
    return stream.getvalue()


def test_by_default_a_bar_is_shown_in_a_terminal_alone(monkeypatch):
    assert "3/20" in shown(None, Terminal(), monkeypatch) or "LR search" in shown(None, Terminal(), monkeypatch)
    assert shown(None, io.StringIO(), monkeypatch) == ""


class Notebook:
    """Stands in for IPython in a kernel, with the outputs of a cell."""

    def __init__(self, kernel):
        self.kernel, self.outputs = kernel, []

    def get_ipython(self):
        return self

    def display(self, output, display_id):
        return types.SimpleNamespace(update=self.outputs.append)

    def HTML(self, text):  # noqa: N802
        return text


def test_in_a_notebook_the_bar_is_html_and_is_taken_away(monkeypatch):
    notebook = Notebook(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    monkeypatch.setitem(sys.modules, "IPython.display", notebook)
    assert shown(None, io.StringIO(), monkeypatch) == ""
    assert notebook.outputs == ['LR search: <progress value="3" max="20"></progress> 3 of 20 steps', ""]


def test_ipython_in_a_pipe_is_no_notebook(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", Notebook(kernel=None))
    assert shown(None, io.StringIO(), monkeypatch) == ""


def test_it_can_be_asked_for_and_declined(monkeypatch):
    assert "LR search" in shown(True, io.StringIO(), monkeypatch)
    assert shown(False, Terminal(), monkeypatch) == ""


@pytest.mark.parametrize("search", [find_lr, range_test])
def test_a_search_shows_it_or_reports_to_a_function(search, capfd):
    demo, seen = digits_demo(device="cpu"), []
    data = demo.model, demo.optimizer, demo.loss_fn, demo.loader
    budget = {"budget": 30} if search is find_lr else {"steps": 30}
    search(*data, **budget)
    assert capfd.readouterr() == ("", "")
    search(*data, progress=True, **budget)
    assert "LR search" in capfd.readouterr().err
    search(*data, progress=lambda done, planned: seen.append((done, planned)), **budget)
    assert capfd.readouterr() == ("", "")
    assert seen[-1] == (30, 30)
