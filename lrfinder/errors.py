"""Every error that lrfinder raises on purpose.

    LRFinderError
    ├── InputError        (also ValueError)    an argument, a file or a loader breaks a rule; the CLI exits with 2
    ├── UnsupportedError  (also RuntimeError)  a set-up that cannot be probed exactly; nothing stays changed
    └── TargetError       (also RuntimeError)  the code that the command line was pointed at raised; nothing is changed

A curve that does not support a suggestion is not an error: `suggest` returns a refused `Suggestion`.
"""

from __future__ import annotations

import operator

__all__ = ["InputError", "LRFinderError", "TargetError", "UnsupportedError", "checked_horizon"]


class LRFinderError(Exception):
    """Base of the tree: catch it to catch everything lrfinder raises on purpose."""


class InputError(LRFinderError, ValueError):
    """An argument, file or loader breaks a rule; the text names it, the rule and the value got."""


class UnsupportedError(LRFinderError, RuntimeError):
    """A set-up that lrfinder cannot probe without leaving a trace; nothing has been touched, or all is put back."""


class TargetError(LRFinderError, RuntimeError):
    """Code that the command line was pointed at raised; the text ends in its traceback."""


def checked_horizon(steps: object) -> int | None:
    """Return the number of optimizer steps of the training asked about, as an int; None if it is unknown.

    Raises:
        InputError: ``steps`` is neither None nor a positive whole number.
    """
    if steps is None:
        return None
    try:
        number = operator.index(steps)  # type: ignore[arg-type]  # NumPy's whole numbers too
    except TypeError:
        number = 0
    if isinstance(steps, bool) or number < 1:
        raise InputError(f"steps must be a positive whole number of optimizer steps, got steps = {steps!r}")
    return number
