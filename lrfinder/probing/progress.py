"""The progress bar of a search: in a terminal and in a notebook."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lrfinder.probing.runner import Progress

__all__ = ["progress_bar"]


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
    live = sys.stderr.isatty() or _in_notebook()
    if not (live if shown is None else shown):
        yield None
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*IProgress not found", Warning)  # tqdm falls back to a bar of text
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
