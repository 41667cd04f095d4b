"""Arguments for the user's class or function, read from the texts of a command line."""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from lrfinder.errors import InputError, did_you_mean

__all__ = ["arguments_for", "parse_argument", "parse_literal", "takes"]

_SPELLINGS = {"0": "false", "1": "true", "inf": ".inf", "-inf": "-.inf", "nan": ".nan"}
"""Second spellings of a text, tried if jsonargparse rejects the first for a bool or a float."""


def arguments_for(function: Callable[..., Any], texts: Mapping[str, str], flag: str) -> dict[str, Any]:
    """Return keyword arguments, each read from its text by the type hint of its parameter.

    Args:
        function: a class or a function; it is not called.
        texts: the texts by parameter.
        flag: option prefix of the parameters on the command line, such as ``--init``.

    Raises:
        InputError: there is no such parameter, a required one is missing, or a text does not fit.
    """
    name = getattr(function, "__name__", type(function).__name__)
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # implemented in C: the call itself reports what does not fit
        return {key: parse_literal(text) for key, text in texts.items()}
    arguments: dict[str, Any] = {}
    for key, text in texts.items():
        if not takes(function, key):
            known = [one for one, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
            raise InputError(
                f"{flag}.{key} must be a parameter of {name}, which has {', '.join(known) or 'none'}"
                + did_you_mean(key, known)
            )
        arguments[key] = parse_argument(function, key, text, flag)
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = [one for one, p in parameters.items() if p.default is p.empty and p.kind not in variadic]
    if missing := [one for one in required if one not in arguments]:
        words = " ".join(f"{flag}.{one} VALUE" for one in missing)
        raise InputError(f"{name} needs {', '.join(missing)}: add {words}")
    return arguments


def parse_argument(function: Callable[..., Any], name: str, text: str, flag: str) -> Any:
    """Return the value that a text stands for, as jsonargparse reads it for the type hint of a parameter.

    `parse_literal` reads the text if there is no hint, if jsonargparse does not support it, or if it is an object for
    which jsonargparse wants a class path: the code may well make a ``torch.device`` from "cpu" itself.

    Args:
        function: a class or a function; it is not called.
        name: of the parameter.
        text: the text.
        flag: option prefix, for errors.

    Raises:
        InputError: the text does not fit the hint.
    """
    try:
        hint = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function).get(name, Any)
    except Exception:  # a name that is only there for the type checker, for example
        hint = Any
    import jsonargparse

    jsonargparse.set_loader("lrfinder", _load)
    parser = jsonargparse.ArgumentParser(exit_on_error=False, parser_mode="lrfinder", add_help=False)
    try:
        parser.add_argument("--value", type=_narrowest_first(hint))
    except ValueError:  # a hint that jsonargparse does not support
        return parse_literal(text)
    problem = ""
    for word in (text, *filter(None, [_SPELLINGS.get(text)])):
        try:
            value = parser.parse_args([f"--value={word}"]).value
        except argparse.ArgumentError as error:
            problem = problem or str(error)
        else:
            return parse_literal(text) if isinstance(value, jsonargparse.Namespace) else value
    if "dot import path" in problem:
        return parse_literal(text)
    rule = hint.__name__ if inspect.isclass(hint) else str(hint).replace("typing.", "")
    raise InputError(f"{flag}.{name} must be {rule}, got {text!r}")


def takes(function: Callable[..., Any], name: str) -> bool:
    """Return whether a class or a function has a keyword parameter of this name."""
    try:
        inspect.signature(function).bind_partial(**{name: None})
    except TypeError:
        return False
    return True


def parse_literal(text: str) -> Any:
    """Read JSON, else a Python literal, else return the text itself.

    >>> [parse_literal(text) for text in ("3", "1e-3", "true", "None", "(0.9, 0.95)", "relu")]
    [3, 0.001, True, None, (0.9, 0.95), 'relu']
    """
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return text


def _load(text: str) -> Any:
    return None if text.lower() == "none" else parse_literal(text)


def _narrowest_first(hint: Any) -> Any:
    """Return a union with its members in the order in which to try them: "3" is a text too, for ``str | int``."""
    kinds = typing.get_args(hint)
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint
    narrow = (bool, int, float, str)
    return typing.Union[tuple(sorted(kinds, key=lambda kind: narrow.index(kind) if kind in narrow else -1))]  # noqa: UP007
