"""Every error that lrfinder raises on purpose.

    LRFinderError
    ├── InputError        (also ValueError)    an argument, a file or a loader breaks a rule; the CLI exits with 2
    ├── UnsupportedError  (also RuntimeError)  a set-up that cannot be probed exactly; nothing stays changed
    └── TargetError       (also RuntimeError)  the code that the command line was pointed at raised; nothing is changed

A curve that does not support a suggestion is not an error: `suggest` returns a refused `Suggestion`.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from numbers import Real

__all__ = [
    "InputError",
    "LRFinderError",
    "TargetError",
    "UnsupportedError",
    "checked_horizon",
    "is_number",
    "one_of",
    "whole_number",
]


class LRFinderError(Exception):
    """Base of the tree: catch it to catch everything lrfinder raises on purpose."""


class InputError(LRFinderError, ValueError):
    """An argument, file or loader breaks a rule; the text names it, the rule and the value got."""


class UnsupportedError(LRFinderError, RuntimeError):
    """A set-up that lrfinder cannot probe without leaving a trace; nothing has been touched, or all is put back."""


class TargetError(LRFinderError, RuntimeError):
    """Code that the command line was pointed at raised; the text ends in its traceback."""


def is_number(value: object) -> bool:
    """Return whether a value is a real number; a bool is none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def whole_number(name: str, value: object, minimum: int = 1, of: str = "") -> int:
    """Return an argument as an int.

    Args:
        name: name of the argument.
        value: what was given; whole numbers of NumPy count too, a bool does not.
        minimum: smallest value allowed.
        of: what is counted, such as "optimizer steps".

    Raises:
        InputError: the value is not a whole number of at least ``minimum``.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = minimum - 1
    if isinstance(value, bool) or number < minimum:
        rule = "a positive whole number" if minimum == 1 else f"a whole number of at least {minimum}"
        raise InputError(f"{name} must be {rule}{of and f' of {of}'}, got {name} = {value!r}")
    return number


def one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    """Check that an argument is one of a few texts.

    Raises:
        InputError: it is none of them.
    """
    if value not in allowed:
        raise InputError(f"{name} must be {' or '.join(allowed)}, got {value!r}")


def checked_horizon(steps: object) -> int | None:
    """Return the number of optimizer steps of the training in question, as an int; None if it is unknown.

    Raises:
        InputError: ``steps`` is neither None nor a positive whole number.
    """
    return None if steps is None else whole_number("steps", steps, of="optimizer steps")
