"""The progress bar of a search, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lrfinder.executor import Progress

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(shown: bool = True) -> Iterator[Progress | None]:
    """Show a bar while the block runs and take it away after; yield what reports to it, None when not ``shown``.

    Where stderr is no terminal, a line now and then replaces the moving bar.
    """
    if not shown:
        yield None
        return
    from tqdm.auto import tqdm

    live = sys.stderr.isatty()
    with tqdm(
        desc="LR search", unit="step", leave=not live, dynamic_ncols=live, mininterval=0.1 if live else 5.0
    ) as bar:

        def update(done: int, planned: int) -> None:
            bar.total = planned
            bar.update(done - bar.n)

        yield update
