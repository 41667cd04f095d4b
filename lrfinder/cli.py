"""The command line: parse, call, print, exit. 0: an answer, 1: refused, 2: bad input, 130: interrupted."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from lrfinder import __version__, cli_forecast, cli_plateau, cli_report
from lrfinder.errors import InputError, LRFinderError
from lrfinder.files import check_writable, read_curve, replace_file
from lrfinder.options import budget, count, seed

if TYPE_CHECKING:
    from lrfinder.suggestion import Suggestion

__all__ = ["main"]

_EXAMPLES = """\
examples:
  lrfinder suggest                          tune a small network on the bundled handwritten digits
  lrfinder suggest --curve curve.csv        the answer from a recorded curve (columns lr,loss)
  lrfinder suggest --steps 5000 --budget 5%   the best rate for 5,000 steps, spending 250
  lrfinder suggest --json --seed 1          only the JSON document on stdout

exit codes: 0 suggestion, 1 refused, 2 bad input, 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        print(end="", flush=True)  # notices a closed pipe now; unlike sys.stdout.flush, minds no missing stdout
    except LRFinderError as error:
        print(f"lrfinder: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("lrfinder: interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:  # the reader left; keep Python from complaining once more at shutdown
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
    options = _parser().parse_args(arguments)
    if options.command == "forecast":
        return cli_forecast.run(options)
    if options.command == "plateau":
        return cli_plateau.run(options)
    if options.command == "report":
        return cli_report.run(options, "lrfinder " + shlex.join(arguments))
    return _suggest(options, "lrfinder " + shlex.join(arguments))


def _suggest(options: argparse.Namespace, command: str) -> int:
    for name in ("report", "plot", "out", "journal"):
        if getattr(options, name) is not None:
            check_writable(getattr(options, name), f"--{name}")
    named = {name: getattr(options, name) for name in ("curve", "report", "plot", "out", "journal")}
    paths = [os.path.abspath(path) for path in named.values() if path]
    if len(set(paths)) < len(paths):
        raise InputError(
            f"--curve, --report, --plot, --out and --journal must name different files, got {', '.join(paths)}"
        )
    if options.curve is not None:
        for name in ("method", "budget", "journal", "min_lr", "max_lr", "seed"):
            if getattr(options, name) != _DEFAULTS[name]:
                flag = name.replace("_", "-")
                raise InputError(
                    f"--{flag} is for training and may not be given with --curve, got {getattr(options, name)}"
                )
    if options.plot is not None and not options.plot.lower().endswith(".png"):
        raise InputError(f"--plot must name a .png file, got {options.plot}")
    suggestion = _from_demo(options) if options.curve is None else _from_curve(options)
    suggestion = suggestion.with_environment(command=command)
    _write_files(suggestion, options, command)
    if options.json:
        print(json.dumps(suggestion.to_dict(), indent=2, allow_nan=False))
    else:
        print(suggestion)
    if not options.quiet:
        print(f"Report    {options.report}", file=sys.stderr if options.json else sys.stdout)
    if suggestion.interrupted and options.curve is None:
        return 130
    return 0 if suggestion.lr is not None else 1


def _from_curve(options: argparse.Namespace) -> Suggestion:
    from lrfinder.bracket import suggest
    from lrfinder.choice import choose, evidence_of
    from lrfinder.suggestion import Suggestion

    curve, document = read_curve(options.curve)
    horizon = document.get("horizon")
    if horizon is not None and (isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1):
        raise InputError(f"{options.curve}: horizon must be a positive whole number or null, got {horizon!r:.60}")
    steps = options.steps if options.steps is not None else horizon
    if document.get("probes"):
        suggestion = Suggestion.from_dict(document, options.curve)
        if (evidence := evidence_of(suggestion)) is not None:
            again = choose(evidence, steps=steps)
            environment = {**again.environment, **suggestion.environment}
            return dataclasses.replace(again, interrupted=suggestion.interrupted, environment=environment)
    return suggest(curve, steps=steps)


def _from_demo(options: argparse.Namespace) -> Suggestion:
    from lrfinder.journal import Journal
    from lrfinder.settings import Settings

    # Complain before torch is loaded; 430 steps are what the example trains.
    settings = Settings(options.method, options.steps or 430, options.budget, options.min_lr, options.max_lr)
    if not options.quiet:
        print("No target given: tuning a small network on the bundled handwritten digits.", file=sys.stderr)

    import torch

    from lrfinder.demo import digits_demo
    from lrfinder.loop import find_lr
    from lrfinder.progress import progress_bar

    torch.set_num_threads(1)  # for a network this small, more threads only wait for each other
    demo = digits_demo(options.seed)
    journal = None
    if options.journal is not None:
        journal = Journal(options.journal, {**settings.to_dict(), "seed": options.seed, "torch": torch.__version__})
        if journal.resumed and not options.quiet:
            print(f"Going on from {options.journal}: {journal.resumed} results.", file=sys.stderr)
    with progress_bar(not options.quiet) as bar:
        suggestion = find_lr(
            demo.model, demo.optimizer, demo.loss_fn, demo.loader, demo.val_loader,
            steps=settings.horizon, method=settings.method, budget=options.budget, min_lr=options.min_lr,
            max_lr=options.max_lr, progress=bar, journal=journal,
        )  # fmt: skip
    return suggestion.with_environment(device=str(demo.images.device), seed=options.seed)


def _write_files(suggestion: Suggestion, options: argparse.Namespace, command: str) -> None:
    from lrfinder.findings import Findings
    from lrfinder.report import report_html, report_png

    if options.out is not None:
        replace_file(options.out, json.dumps(suggestion.to_dict(), indent=2, allow_nan=False) + "\n")
    findings = Findings.of(suggestion)
    if options.plot is not None:
        replace_file(options.plot, report_png(suggestion, findings))
    replace_file(options.report, report_html(suggestion, command, findings))


class _Parser(argparse.ArgumentParser):
    """Leaves in the two ways that `main` knows: bad input is one line, a closed pipe is no fault."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        print(end="", flush=True)
        super().exit(status, message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="lrfinder",
        description="Which learning rate, and how should it decay?",
        epilog="Each has its own: lrfinder suggest --help, and forecast, plateau, report.",
    )
    parser.add_argument("--version", action="version", version=f"lrfinder {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    suggest = commands.add_parser(
        "suggest",
        help="suggest a learning rate",
        description="Suggest a peak learning rate from short measured probes.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    suggest.add_argument("--curve", metavar="FILE", help="use this recorded curve (CSV or JSON) instead of training")
    suggest.add_argument("--steps", type=count, metavar="N", help="optimizer steps you will train for")
    suggest.add_argument(
        "--method", choices=("probe", "range"), default=_DEFAULTS["method"], help="%(default)s, or range test only"
    )
    suggest.add_argument("--budget", type=budget, metavar="B", help="steps (300), share (5%%) or time (60s) to spend")
    suggest.add_argument(
        "--min-lr", type=float, default=_DEFAULTS["min_lr"], metavar="LR", help="lowest rate tried (%(default)g)"
    )
    suggest.add_argument("--max-lr", type=float, metavar="LR", help="highest rate tried (100; range test: 10)")
    suggest.add_argument("--journal", metavar="FILE", help="record as it goes; a killed search goes on from there")
    suggest.add_argument(
        "--seed", type=seed, default=_DEFAULTS["seed"], metavar="N", help="of weights and batches (%(default)s)"
    )
    suggest.add_argument("--report", default="lrfinder-report.html", metavar="PATH", help="HTML page (%(default)s)")
    suggest.add_argument("--plot", metavar="PATH.png", help="also write the curve as a picture")
    suggest.add_argument("--out", metavar="PATH.json", help="also write the JSON document")
    suggest.add_argument("--json", action="store_true", help="print only the JSON document")
    suggest.add_argument("--quiet", action="store_true", help="no progress, no notes")
    cli_forecast.add_parser(commands)
    cli_plateau.add_parser(commands)
    cli_report.add_parser(commands)
    return parser


_DEFAULTS = {"method": "probe", "budget": None, "journal": None, "min_lr": 1e-7, "max_lr": None, "seed": 0}
"""Of the options that decide how to train."""
