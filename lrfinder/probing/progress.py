"""The progress bar of a search: in a terminal and in a notebook."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lrfinder.probing.runner import Progress

_REFRESH = 0.2
"""Minimum seconds between two updates of the bar in a notebook."""


@contextmanager
def progress_bar(shown: Progress | bool | None = True) -> Iterator[Progress | None]:
    """Show a bar while the block runs and take it away after; yield what reports to it.

    If stderr is neither a terminal nor a notebook, a line now and then replaces the moving bar.

    Args:
        shown: whether to show one; None to show it in a terminal and in a notebook; or what to report to in its place.
    """
    if callable(shown):
        yield shown
        return
    live = sys.stderr.isatty()
    if not (live or _in_notebook() if shown is None else shown):
        yield None
        return
    if _in_notebook():
        with _notebook_bar() as update:
            yield update
        return
    from tqdm.auto import tqdm

    with tqdm(
        desc="LR search", unit="step", leave=not live, dynamic_ncols=live, mininterval=0.1 if live else 5.0
    ) as bar:

        def update(done: int, planned: int) -> None:
            bar.total = planned
            bar.update(done - bar.n)

        yield update


def _in_notebook() -> bool:
    """Whether the code runs in the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


@contextmanager
def _notebook_bar() -> Iterator[Progress]:
    """Show a bar of HTML in the output of a cell: it needs no widgets, and nothing of it stays in the notebook."""
    shell: Any = importlib.import_module("IPython.display")
    handle, last = shell.display(shell.HTML(""), display_id=True), 0.0

    def update(done: int, planned: int) -> None:
        nonlocal last
        if time.monotonic() - last > _REFRESH:
            last = time.monotonic()
            bar = f'<progress value="{done}" max="{planned}"></progress>'
            handle.update(shell.HTML(f"LR search: {bar} {done} of {planned} steps"))

    try:
        yield update
    finally:
        handle.update(shell.HTML(""))
