"""The options of `lrfinder suggest`, and how the texts of values are read, also by type hints of code."""

from __future__ import annotations

import argparse
import ast
import functools
import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lrfinder.errors import MOST_STEPS, InputError, did_you_mean

if TYPE_CHECKING:
    from lrfinder.answer.suggestion import Suggestion
    from lrfinder.probing.options import SearchOptions


_USAGE = "lrfinder suggest [TARGET] [--data D] [--config F | --curve F] [options]"

_EXAMPLES = """\
examples:
  lrfinder suggest train.py:LitModel --data train.py:Data --steps 20000
  lrfinder suggest pkg.mod:factory --init.hidden 256 --epochs 10 --budget 60s
  lrfinder suggest train.py:LitModel --optimizer sgd --optimizer adamw
  lrfinder suggest --curve curve.csv --steps 5000

exit codes: 0 suggestion, 1 refused, 2 bad input, 130 interrupted
"""

DEFAULTS: dict[str, Any] = {
    "method": "probe",
    "min_lr": 1e-7,
    "mode": "min",
    "report": "lrfinder-report.html",
}


def _whole(least: int, most: int, text: str) -> int:
    try:
        number = int(text) if text.strip().isdecimal() else -1
    except ValueError:  # Python reads no number of thousands of digits
        number = -1
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most:,}, got {text:.60}")
    return number


count = functools.partial(_whole, 1, MOST_STEPS)
steps = functools.partial(_whole, 0, MOST_STEPS)
seed = functools.partial(_whole, 0, 2**64 - 1)  # what torch takes


def add_parser(commands: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add the command, and return its parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "suggest",
        help="suggest a learning rate",
        usage=_USAGE,
        description="Suggest a peak learning rate and its decay from short measured probes.",
        epilog=_EXAMPLES,
        formatter_class=_Formatter,
        add_help=False,
    )
    parser.set_defaults(dotted=[])
    what = parser.add_argument_group("what to tune (default: a small network on bundled digits)")
    _add_what(what)
    _add_training(parser.add_argument_group("the training to tune for"))
    _add_search(parser.add_argument_group("the search"))
    _add_answer(parser.add_argument_group("the answer"))
    return parser


_BESIDE_ACCELERATOR = ("devices", "precision", "strategy")
"""Options that the help describes in the line of --accelerator."""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help that fits a screen; it leaves out the options that the line of --accelerator names."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=22)

    def add_argument(self, action: argparse.Action) -> None:
        if action.dest not in _BESIDE_ACCELERATOR:
            super().add_argument(action)


def _add_what(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("target", nargs="?", metavar="TARGET", help="FILE.py:NAME or package.module:NAME; --init.NAME VALUE")
    add("--data", metavar="DATA", help="data module or loaders, as TARGET; --data.NAME VALUE")
    _file(
        add(
            "--config",
            action="append",
            default=[],
            metavar="FILE",
            help="LightningCLI configuration; --model.NAME VALUE overrides",
        )
    )
    _file(add("--curve", metavar="FILE", help="recorded curve in place of a training, CSV or JSON"))


def _add_training(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--steps", type=count, metavar="N", help="optimizer steps you will train for")
    add("--epochs", type=count, metavar="N", help="or passes over the data")
    add("--optimizer", action="append", default=[], metavar="NAME", help="sgd, adamw, pkg.Name; several are compared")
    add("--accelerator", metavar="A", help="also --devices, --precision, --strategy, --trainer.NAME")
    for name in _BESIDE_ACCELERATOR:
        add(f"--{name}", metavar=name[0].upper(), help="as for Lightning's Trainer")
    add("--seed", type=seed, metavar="N", help="seed of weights and batches (0, or that of --config)")


def _add_search(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--method",
        choices=("probe", "range"),
        default=DEFAULTS["method"],
        metavar="M",
        help="%(default)s, or range for a range test alone",
    )
    add("--budget", type=parse_literal, metavar="B", help="steps (300), share (5%%) or time (60s) to spend")
    add("--min-lr", type=float, default=DEFAULTS["min_lr"], metavar="LR", help="lowest rate tried (%(default)g)")
    add("--max-lr", type=float, metavar="LR", help="highest rate tried (100; range test: 10)")
    add("--monitor", metavar="NAME", help="judge by this metric of validation_step")
    add(
        "--mode",
        choices=("min", "max"),
        default=DEFAULTS["mode"],
        metavar="M",
        help="whether that metric is best at its min or max (%(default)s)",
    )
    _file(add("--journal", metavar="FILE", help="save results as they come; rerun to resume"))
    add("--dry-run", action="store_true", help="show the plan without training")


def _add_answer(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--policy", metavar="NAME", help="decay: wsd, cosine, ..., auto; keep for the module's")
    kind = group.add_mutually_exclusive_group()
    kind.add_argument("--json", action="store_true", help="print only the JSON document")
    kind.add_argument("--code", action="store_true", help="print only the code of a configure_optimizers")
    _file(add("--report", default=DEFAULTS["report"], metavar="PATH", help="HTML page (%(default)s)"))
    _file(add("--plot", metavar="PATH.png", help="also write the curve as a picture"))
    _file(add("--out", metavar="PATH.json", help="also write the JSON document"))
    _file(add("--write-config", metavar="OUT", help="also write a copy of --config with the answer"))
    add("--verbose", action="store_true", help="also print what the answer rests on, and every caveat")
    add("--quiet", action="store_true", help="show neither progress nor notes")
    add("-h", "--help", action="help", help="show this help")


def _file(action: argparse.Action) -> None:
    """Let shells complete the names of files; shtab reads this attribute."""
    action.complete = {"bash": "_shtab_compgen_files", "zsh": "_files"}  # type: ignore[attr-defined]  # argparse has no field for it


def with_requested_policy(suggestion: Suggestion, options: SearchOptions) -> Suggestion:
    """Return the suggestion with the requested policy; unchanged if it is refused or none is requested."""
    if options.policy in (None, "auto", "keep") or suggestion.lr is None:
        return suggestion
    return suggestion.with_policy(options.policy)


_SPELLINGS = {"0": "false", "1": "true", "inf": ".inf", "-inf": "-.inf", "nan": ".nan"}
"""Second spellings of a text, tried if jsonargparse rejects the first for a bool or a float."""


def arguments_for(function: Callable[..., Any], texts: Mapping[str, str], flag: str) -> dict[str, Any]:
    """Return keyword arguments, each read from its text by the type hint of its parameter.

    Args:
        function: a class or a function; it is not called.
        flag: option prefix of the parameters on the command line, such as ``--init``.
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
    plain = inspect.isclass(hint) and typing.get_origin(hint) is None  # Python 3.10 takes list[int] for a class
    rule = hint.__name__ if plain else str(hint).replace("typing.", "")
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
