"""The command line: parse, call, print, exit.

The exit code is 0 for an answer, 1 for a refusal, 2 for bad input or an error in the user's code, 130 for Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from lrfinder import __version__
from lrfinder.cli import file_commands, options, suggest
from lrfinder.cli.suggest_target import split_dotted
from lrfinder.cli.terminal import name_options
from lrfinder.errors import InputError, LRFinderError, UnsupportedError


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # escapes what the encoding of the terminal lacks
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        print(end="", flush=True)  # notices a closed pipe now; unlike sys.stdout.flush, it works without a stdout
    except LRFinderError as error:
        print(f"lrfinder: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("lrfinder: interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:  # the reader left; this keeps Python from reporting it once more at shutdown
        _discard_stdout()
        code = 0
    except OSError as error:  # a full disk, say
        print(f"lrfinder: cannot write the answer: {error.strerror or error}", file=sys.stderr)
        _discard_stdout()
        code = 2
    sys.exit(code)


def _discard_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> int:
    # Options named after parameters of the user's code are taken out first, because argparse does not know them.
    rest, dotted = split_dotted(arguments) if arguments[:1] == ["suggest"] else (arguments, [])
    chosen = _parser().parse_args(rest)
    chosen.dotted = dotted
    try:
        return int(chosen.run(chosen, "lrfinder " + shlex.join(arguments)))
    except (InputError, UnsupportedError) as error:
        raise type(error)(name_options(str(error), set(vars(chosen)) - _NO_OPTIONS)) from error


_NO_OPTIONS = {"target", "curve", "command", "dotted", "log", "run", "runs", "result", "results"}
"""Entries of the parsed options that are not options named like an argument of the library."""


class _Parser(argparse.ArgumentParser):
    """A parser that raises `InputError` for bad input, and notices a closed pipe before it exits."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        print(end="", flush=True)
        super().exit(status, message)


class _PrintCompletion(argparse.Action):
    """Print the completion script of a shell."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: Any = None) -> None:
        try:
            import shtab
        except ImportError:
            raise InputError("--print-completion needs shtab: pip install 'lrfinder[completion]'") from None
        print(shtab.complete(parser, shell=values))
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="lrfinder",
        description="Which learning rate, and how should it decay?",
        epilog="Every command has its own help, such as: lrfinder suggest --help",
    )
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=("bash", "zsh"),
        help="print the completion script of a shell",
    )
    parser.add_argument("--version", action="version", version=f"lrfinder {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    options.add_parser(commands).set_defaults(run=suggest.run)
    file_commands.add_forecast(commands)
    file_commands.add_plateau(commands)
    file_commands.add_report(commands)
    file_commands.add_rescale(commands)
    return parser
