"""What goes to the terminal: wrapped and coloured lines, the names of options, and nothing of the user's code."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import TextIO

_INDENT = 10

_LEAST = 40
"""Minimum width of lines, in columns."""

_STYLES = {"Peak LR": "1;32", "Verdict": "1;32", "Refused": "1;33", "Caveat": "33", "Read too": "33"}
"""Style of each label: bold green for the answer, yellow for what weakens it."""


@contextlib.contextmanager
def answer_alone() -> Iterator[None]:
    """Send what the user's code, libraries and child processes print to stderr: stdout holds the answer alone."""
    with contextlib.ExitStack() as stack:
        print(end="", flush=True)
        with contextlib.suppress(OSError):  # a process may lack one of the two
            saved = os.dup(1)
            stack.callback(os.close, saved)
            os.dup2(2, 1)
            stack.callback(os.dup2, saved, 1)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


def name_options(text: str, names: Iterable[str]) -> str:
    """Return a message of the library with the options of the command line in place of arguments of Python.

    Args:
        names: arguments, each of which has an option of that name.

    >>> name_options("give method='range'; min_lr must be positive, got min_lr = -1", ["min_lr", "method"])
    'give --method range; --min-lr must be positive, got -1'
    """
    for name, option in {**{name: f"--{name.replace('_', '-')}" for name in names}, **_OF_TRAINER}.items():
        value = r"""=(?:(['"])(?P<quoted>[^'"]*)\1|(?P<bare>[\w.%]+))?(?=[\s,.:;)`]|$)"""
        text = re.sub(
            rf"(?<![\w.-])`?{name}{value}`?",
            functools.partial(_with_value, option),
            text,
        )
        text = re.sub(rf"\b(got|and|or|,) {name} = None\b", r"\1 none", text)
        text = re.sub(rf"\b(got|and|or|,) {name} = ", r"\1 ", text)
        text = re.sub(rf"(^|[.:] ){name} (?=must\b|needs\b)", rf"\1{option} ", text)
        text = re.sub(rf"\b([Gg]ive) {name}(?=[.,:;])", rf"\1 {option}", text)
        if "_" in name:
            text = re.sub(rf"(?<![\w./'\"-]){name}(?![\w/'\"(-]|\.\w)", option, text)
    return text


def _with_value(option: str, found: re.Match[str]) -> str:
    return " ".join(filter(None, (option, found["quoted"] or found["bare"])))


_OF_TRAINER = {"max_steps": "--steps", "max_epochs": "--epochs"}
"""Arguments of Lightning's Trainer that have options of other names."""


def render(lines: Iterable[tuple[str, str]], stream: TextIO | None) -> str:
    """Return (label, text) pairs as lines, which are wrapped and coloured on a terminal."""
    if stream is None or not stream.isatty():
        return "\n".join(f"{label:9s} {text}" for label, text in lines)
    colours, width = coloured(stream, os.environ), max(shutil.get_terminal_size().columns, _LEAST)
    return "\n".join(_wrapped(label, text, width, colours) for label, text in lines)


def coloured(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Return whether to use colours: on a terminal that has them, unless ``NO_COLOR`` is set (https://no-color.org)."""
    return stream.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def _wrapped(label: str, text: str, width: int, colours: bool) -> str:
    lines = textwrap.wrap(text, width - _INDENT, break_long_words=False, break_on_hyphens=False) or [""]
    style = _STYLES.get(label)
    if colours and style is not None:
        lines = [f"\x1b[{style}m{line}\x1b[0m" for line in lines]
    return "\n".join([f"{label:9s} {lines[0]}", *(" " * _INDENT + line for line in lines[1:])])
