"""Code to point the command line at, written to files, and the command line in this process."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from lrfinder.cli.main import main

EXAMPLE = Path(__file__).parents[2] / "examples" / "train.py"

PLAIN = """
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    X = torch.randn(256, 4, generator=torch.Generator().manual_seed(1))
    Y = (X.sum(1) > 0).long()
    MADE = []

    def parts(width: int = 8, lr: float = 0.1):
        model = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))
        MADE.append(model)
        loader = DataLoader(TensorDataset(X, Y), 16, shuffle=True)
        return model, torch.optim.SGD(model.parameters(), lr=lr), nn.CrossEntropyLoss(), loader, loader
"""


def write(path: str, code: str) -> str:
    """Write code to a file; return its path."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(textwrap.dedent(code), encoding="utf-8")
    return path


@pytest.fixture
def fresh():
    """Forget, afterwards, what a test imported from its own folder."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    here = str(Path.cwd())
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(here):
            del sys.modules[name]


@pytest.fixture
def lrfinder(capsys, fresh):
    """Run `lrfinder suggest` in this process; return ``(exit code, stdout, stderr)``."""

    def run(*words):
        with pytest.raises(SystemExit) as end:
            main(["suggest", *map(str, words)])
        return (end.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def unread(monkeypatch):
    """Write pages without drawing them, where a test is not about them."""
    monkeypatch.setattr("lrfinder.report.page.report_html", lambda suggestion, command: command)
    monkeypatch.setattr("lrfinder.report.comparison_page.comparison_html", lambda comparison, command: command)
