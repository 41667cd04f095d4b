"""Every error that lrfinder raises on purpose, and the argument checks that several modules share.

    LRFinderError
    ├── InputError        (also ValueError)    an argument, a file or a loader breaks a rule
    ├── UnsupportedError  (also RuntimeError)  the set-up cannot be probed and restored; nothing stays changed
    └── TargetError       (also RuntimeError)  the code that the command line was given raised; nothing stays changed

The command line exits with 2 on each of them. A curve that does not support a suggestion is not an error: `suggest`
then returns a refused `Suggestion`.
"""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import TypeGuard

MOST_STEPS = 10**9
"""Maximum number of optimizer steps of a training: a thousand times those of the longest that are published."""


class LRFinderError(Exception):
    """Base class of every error that lrfinder raises on purpose."""


class InputError(LRFinderError, ValueError):
    """An argument, a file or a loader breaks a rule; the message names it, the rule and the value."""


class UnsupportedError(LRFinderError, RuntimeError):
    """lrfinder cannot probe this set-up and restore it; nothing was changed, or everything was restored."""


class TargetError(LRFinderError, RuntimeError):
    """The code that the command line was given raised an error; the message ends with its traceback."""


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a real number; a bool is not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def whole_number(name: str, value: object, minimum: int = 1, of: str = "", maximum: float = math.inf) -> int:
    """Return an argument as an int.

    Args:
        value: its value; a whole number of NumPy is accepted, a bool is not.
        of: what the number counts, such as "optimizer steps".

    Raises:
        InputError: the value is not a whole number from ``minimum`` to ``maximum``.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # anything else raises
    except TypeError:
        number = minimum - 1
    if isinstance(value, bool) or number < minimum:
        what = f"whole number{of and f' of {of}'}"
        rule = f"a positive {what}" if minimum == 1 else f"a {what}, at least {minimum}"
        raise InputError(f"{name} must be {rule}, got {name} = {value!r:.60}")
    if number > maximum:
        raise InputError(f"{name} must be at most {maximum:,}, got {name} = {value!r:.60}")
    return number


def positive(name: str, value: object) -> float:
    """Return an argument as a float.

    Raises:
        InputError: the value is not a positive, finite number.
    """
    if not (is_number(value) and 0 < value < math.inf):
        raise InputError(f"{name} must be positive and finite, got {name} = {value!r:.60}")
    return float(value)


def one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    """Check that an argument is one of a few texts."""
    if value not in allowed:
        rule = " or ".join(allowed) if len(allowed) < 3 else f"one of {', '.join(allowed)}"
        hint = did_you_mean(value, allowed) if isinstance(value, str) else ""
        raise InputError(f"{name} must be {rule}, got {value!r:.60}{hint}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question to end an error message with; empty if no known name is similar."""
    folded = {known_name.lower(): known_name for known_name in known}
    similar = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    return f": did you mean {folded[similar[0]]}?" if similar else ""


def checked_horizon(steps: object) -> int | None:
    """Return the number of optimizer steps of a training as an int; None if it is unknown.

    Raises:
        InputError: ``steps`` is neither None nor a whole number from 1 to `MOST_STEPS`.
    """
    return None if steps is None else whole_number("steps", steps, of="optimizer steps", maximum=MOST_STEPS)
