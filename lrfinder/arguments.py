"""Arguments for somebody's class or function, from the texts of a command line."""

from __future__ import annotations

import ast
import difflib
import inspect
import json
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lrfinder.errors import InputError

__all__ = ["arguments_for", "did_you_mean", "literal", "takes"]


def arguments_for(function: Callable[..., Any], texts: Mapping[str, str], flag: str) -> dict[str, Any]:
    """Return the keyword arguments that the texts stand for, each read as its parameter is annotated.

    Args:
        function: a class or a function; it is not called.
        texts: by parameter, what was given.
        flag: what the parameters are given as on the command line, such as ``--init``.

    Raises:
        InputError: a parameter that there is not, one that is needed and not given, or a text that does not fit.
    """
    name = getattr(function, "__name__", type(function).__name__)
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # made in C: it will say itself what it minds
        return {key: literal(text) for key, text in texts.items()}
    hints = _hints(function)
    found: dict[str, Any] = {}
    for key, text in texts.items():
        if not takes(function, key):
            known = _named(parameters)
            raise InputError(
                f"{flag}.{key} must be a parameter of {name}, which has {', '.join(known) or 'none'}"
                + did_you_mean(key, known)
            )
        found[key] = _read(text, hints.get(key, Any), f"{flag}.{key}")
    missing = [one for one, p in parameters.items() if _needed(p) and one not in found]
    if missing:
        words = " ".join(f"{flag}.{one} VALUE" for one in missing)
        raise InputError(f"{name} needs {', '.join(missing)}: give {words}")
    return found


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a class or a function has a keyword parameter of this name."""
    parameters = inspect.signature(function).parameters
    return name in _named(parameters) or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def literal(text: str) -> Any:
    """Read JSON, else a Python literal, else return the text itself.

    >>> [literal(text) for text in ("3", "1e-3", "true", "None", "(0.9, 0.95)", "relu")]
    [3, 0.001, True, None, (0.9, 0.95), 'relu']
    """
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return text


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question to end an error with, empty where nothing is near."""
    folded = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    return f": did you mean {folded[near[0]]}?" if near else ""


def _named(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    return [one for one, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def _needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except Exception:  # a name that is only there for the type checker, say
        return {}


_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _read(text: str, hint: Any, flag: str) -> Any:
    """Read a text as the simple annotations ask for; anything else as a literal."""
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if type(None) in kinds and text.lower() in ("none", "null"):
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    # Of several kinds the narrowest that fits: "3" is a text too, where int | str is asked for.
    for kind in sorted(kinds, key=lambda kind: _NARROW.index(kind) if kind in _NARROW else -1):
        if kind not in _NARROW:
            if typing.get_origin(kind) is typing.Literal:
                if (value := _choice(text, typing.get_args(kind))) is not None:
                    return value[0]
                continue
            return literal(text)
        try:
            return _WORDS[text.lower()] if kind is bool else kind(text)
        except (KeyError, ValueError):
            continue
    raise InputError(f"{flag} must be {_spelled(hint)}, got {text!r}")


_NARROW = (bool, int, float, str)


def _choice(text: str, choices: tuple[Any, ...]) -> tuple[Any] | None:
    return next(((one,) for one in choices if text == one or (literal(text) == one and literal(text) != text)), None)


def _spelled(hint: Any) -> str:
    return str(getattr(hint, "__name__", hint)) if inspect.isclass(hint) else str(hint).replace("typing.", "")
