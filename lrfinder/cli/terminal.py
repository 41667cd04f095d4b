"""Labelled lines for a terminal: wrapped to its width, in colours where they are wanted."""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Iterable, Mapping
from typing import TextIO

__all__ = ["coloured", "render"]

_INDENT = 10

_LEAST = 40
"""Columns: a narrower terminal gets lines of this width."""

_STYLES = {"Peak LR": "1;32", "Verdict": "1;32", "Refused": "1;33", "Caveat": "33"}
"""By label: bold green for the answer, yellow for what weakens it."""


def render(lines: Iterable[tuple[str, str]], stream: TextIO | None) -> str:
    """Return (label, text) pairs as lines: wrapped and coloured on a terminal, else each on a line of its own.

    Args:
        lines: what to show.
        stream: where to.
    """
    if stream is None or not stream.isatty():
        return "\n".join(f"{label:9s} {text}" for label, text in lines)
    colours, width = coloured(stream, os.environ), max(shutil.get_terminal_size().columns, _LEAST)
    return "\n".join(_wrapped(label, text, width, colours) for label, text in lines)


def coloured(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether colours are wanted: on a terminal that has them, unless ``NO_COLOR`` is set (https://no-color.org)."""
    return stream.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def _wrapped(label: str, text: str, width: int, colours: bool) -> str:
    lines = textwrap.wrap(text, width - _INDENT, break_long_words=False, break_on_hyphens=False) or [""]
    style = _STYLES.get(label)
    if colours and style is not None:
        lines = [f"\x1b[{style}m{line}\x1b[0m" for line in lines]
    return "\n".join([f"{label:9s} {lines[0]}", *(" " * _INDENT + line for line in lines[1:])])
