"""The commands that read files: `lrfinder report` and `rescale` read results, `forecast` and `plateau` read logs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrfinder.cli.options import count, steps
from lrfinder.cli.terminal import render
from lrfinder.errors import InputError
from lrfinder.files import SCHEMA_VERSION, check_picture, check_writable, json_object, read_text, replace_file

if TYPE_CHECKING:
    from lrfinder.answer.suggestion import Suggestion
    from lrfinder.logs.log import TrainingLog


_KINDS = (".html", ".md", ".png")

_REPORT = """\
examples:
  lrfinder suggest --out result.json                keep a result
  lrfinder report result.json                       its page: lrfinder-report.html
  lrfinder report result.json -o result.md          .html, .md or .png
  lrfinder report sgd.json adamw.json -o both.html  side by side, ranked if their losses compare

exit codes: 0 written (also if the result is a refusal), 2 bad input, 130 interrupted
"""


def add_command(
    commands: argparse._SubParsersAction[Any],
    name: str,
    run: Callable[[argparse.Namespace, str], int],
    summary: str,
    description: str,
    epilog: str,
) -> argparse.ArgumentParser:
    """Add a command, which is run with its options and the command line, and return its parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=description, epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(run=run)
    return parser


def add_report(commands: argparse._SubParsersAction[Any]) -> None:
    """Add `lrfinder report`."""
    parser = add_command(
        commands, "report", _run_report,
        "show saved results as a page, text or picture",
        "Make a page, text or picture of results that lrfinder suggest --out has written.",
        _REPORT,
    )  # fmt: skip
    parser.add_argument("results", nargs="+", metavar="RESULT.json", help="several are shown side by side")
    parser.add_argument(
        "-o", "--out", default="lrfinder-report.html", metavar="PATH", help=f"{', '.join(_KINDS)} (%(default)s)"
    )


def _run_report(options: argparse.Namespace, command: str) -> int:
    kind = Path(options.out).suffix.lower()
    if kind not in _KINDS:
        raise InputError(f"--out must name a file that ends in {', '.join(_KINDS)}, got {options.out}")
    check_writable(options.out, "--out")
    if os.path.realpath(options.out) in map(os.path.realpath, options.results):
        raise InputError(f"--out must not name one of the results, got {options.out}")

    replace_file(options.out, _rendered(read_results(options.results), kind, command))
    print(f"Report    {options.out}")
    return 0


def _rendered(found: Mapping[str, Suggestion], kind: str, command: str) -> str | bytes:
    from lrfinder.answer.comparison import compare

    suggestion, *others = found.values()
    comparison = compare(found) if others else None
    if kind == ".md":
        from lrfinder.report.markdown import comparison_markdown, report_markdown

        return report_markdown(suggestion) if comparison is None else comparison_markdown(comparison, command)
    if comparison is None:
        from lrfinder.report.page import report_html, report_png

        return report_png(suggestion) if kind == ".png" else report_html(suggestion)
    from lrfinder.report.comparison_page import comparison_html, comparison_png

    return comparison_png(comparison) if kind == ".png" else comparison_html(comparison, command)


def read_results(paths: Sequence[str]) -> dict[str, Suggestion]:
    """Read suggestions from JSON documents, each of one suggestion or of a comparison of several.

    Returns:
        The suggestions in the order read, each by a label: the name of the file without its ending, the name of the
        optimizer in a comparison, or both if there are several files; a number follows a label that occurs twice.
    """
    found: dict[str, Suggestion] = {}
    for path in paths:
        for optimizer, suggestion in _read(path):
            parts = (Path(path).stem if len(paths) > 1 or not optimizer else "", optimizer)
            label = unique = " ".join(filter(None, parts))
            number = 2
            while unique in found:
                unique, number = f"{label} ({number})", number + 1
            found[unique] = suggestion
    return found


def _read(path: str) -> Iterator[tuple[str, Suggestion]]:
    from lrfinder.answer.suggestion import Suggestion

    document = json_object(read_text(Path(path), "JSON written by lrfinder suggest --out"), path)
    if "comparison" not in document:
        yield "", Suggestion.from_dict(document, path)
        return
    if document.get("schema_version") != SCHEMA_VERSION:
        raise InputError(f"{path}: schema_version must be {SCHEMA_VERSION}, got {document.get('schema_version')!r:.60}")
    entries = document["comparison"]
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: comparison must be a list of results, at least one, got {entries!r:.60}")
    for i, entry in enumerate(entries):
        name = f"{path}: comparison[{i}]"
        if not isinstance(entry, Mapping) or not isinstance(entry.get("optimizer"), str):
            raise InputError(f"{name}: must be an object with the name of an optimizer, got {entry!r:.60}")
        yield entry["optimizer"], Suggestion.from_dict({"schema_version": SCHEMA_VERSION, **entry}, name)


_RESCALE = """\
examples:
  lrfinder rescale result.json --batch-size 512                       as many examples
  lrfinder rescale result.json --batch-size 64:512 --steps 100000      where the search did not record its own
  lrfinder rescale result.json --batch-size 64 --devices 8           on eight devices
  lrfinder rescale result.json --steps 100000 --json

exit codes: 0 rescaled, 2 bad input (also if the result is a refusal), 130 interrupted
"""


def add_rescale(commands: argparse._SubParsersAction[Any]) -> None:
    """Add `lrfinder rescale`."""
    parser = add_command(
        commands, "rescale", _run_rescale,
        "move a saved result to another batch size or length",
        "Say how the rate of a saved result moves with the batch size and the length of the training.",
        _RESCALE,
    )  # fmt: skip
    add = parser.add_argument
    add("result", metavar="RESULT.json", help="written by lrfinder suggest --out")
    add(
        "--batch-size",
        type=_pair_or_count,
        metavar="[OLD:]NEW",
        help="examples per step on one device (default: OLD as searched)",
    )
    add(
        "--devices", type=_pair_or_count, default=1, metavar="[OLD:]NEW", help="devices (default: one before and after)"
    )
    add("--steps", type=count, metavar="N", help="steps of the new training (default: as many examples)")
    add("--noise-scale", type=float, metavar="N", help="what measure_noise_scale returned, in examples")
    add("--optimizer", choices=("sgd", "adam"), help="family of the optimizer (default: as searched)")
    add("--json", action="store_true", help="print only the JSON document")


def _run_rescale(options: argparse.Namespace, command: str) -> int:
    suggestion, *others = read_results([options.result]).values()
    if others:
        raise InputError(f"{options.result}: must hold one result, got {1 + len(others)}")
    found = suggestion.rescale(
        options.batch_size, steps=options.steps, devices=options.devices, noise_scale=options.noise_scale,
        optimizer=options.optimizer,
    )  # fmt: skip
    print(json.dumps(found.to_dict(), indent=2) if options.json else render(found.lines(), sys.stdout))
    return 0


def _pair_or_count(text: str) -> int | tuple[int, int]:
    old, colon, new = text.partition(":")
    return (count(old), count(new)) if colon else count(text)


_LOGS = """\
A log is a table (CSV, tabs, spaces), JSON or JSON lines, trainer_state.json, event files of TensorBoard
(pip install 'lrfinder[tensorboard]'), metrics of MLflow, lines such as "step 100: loss 2.31, lr 1e-3", or a folder with
one of these."""

_FORECAST = f"""\
examples:
  lrfinder forecast run1.csv run2.csv                         rank every schedule for as long as the longest log
  lrfinder forecast run1.csv run2.csv --schedule cosine --schedule wsd --steps 72000
  lrfinder forecast run1.csv run2.csv --steps 72000 --optimal --plot forecast.png
  lrfinder forecast run1.csv run2.csv --target run3.csv       predict a log from its learning rates, and score it

{_LOGS} It needs steps, losses and learning rates, and the rate must fall in at least one log.

exit codes: 0 forecast, 1 refused (at least in part), 2 bad input, 130 interrupted
"""


def add_forecast(commands: argparse._SubParsersAction[Any]) -> None:
    """Add `lrfinder forecast`."""
    parser = add_command(
        commands, "forecast", _run_forecast,
        "predict the loss of other schedules from logs",
        "Fit the loss-curve law to recorded runs and predict the loss of other schedules.",
        _FORECAST,
    )  # fmt: skip
    add = parser.add_argument
    add("runs", nargs="+", metavar="LOG", help="log of a training, in any format, or a folder that holds it")
    add("--schedule", action="append", metavar="NAME", help="policy to predict; may be repeated (default: all)")
    add("--steps", type=count, metavar="N", help="length of the training (default: that of the longest log)")
    add("--peak-lr", type=float, metavar="LR", help="highest learning rate (default: the highest logged)")
    add("--warmup-steps", type=steps, metavar="N", help="steps of linear warmup from 0 (default: as logged)")
    add("--end-lr", type=float, metavar="LR", help="minimum learning rate (default: the lowest logged after warmup)")
    add("--optimal", action="store_true", help="also find the best schedule that never rises")
    add("--target", action="append", default=[], metavar="LOG", help="log to predict and score; may be repeated")
    _add_columns(parser, "--loss-column")
    add("--plot", metavar="PATH.png", help="also draw logs, fits and predictions")
    add("--json", action="store_true", help="print only the JSON document")


def _run_forecast(options: argparse.Namespace, command: str) -> int:
    check_picture(options.plot, [*options.runs, *options.target])

    from lrfinder.logs.forecast import forecast

    runs, targets = ([_read_log(path, options) for path in paths] for paths in (options.runs, options.target))
    found = forecast(
        runs, options.schedule, options.steps, peak_lr=options.peak_lr, warmup_steps=options.warmup_steps,
        end_lr=options.end_lr, optimal=options.optimal, targets=targets,
    )  # fmt: skip
    if options.plot is not None:
        from lrfinder.report.log_plots import forecast_png

        replace_file(options.plot, forecast_png(found))
    if options.json:
        print(json.dumps(found.to_dict(), indent=2, allow_nan=False))
    else:
        print(found)
    return 0 if found.refused is None else 1


_PLATEAU = f"""\
examples:
  lrfinder plateau metrics.csv                           the plateaus of the training loss, and whether it ends on one
  lrfinder plateau lightning_logs/version_0              a folder with the log of one training
  lrfinder plateau metrics.csv --loss-column val_acc --mode max
  lrfinder plateau metrics.csv --ahead 10000 --delta 0.01   will 10,000 more steps gain less than 0.01?
  lrfinder plateau metrics.csv --plot plateaus.png --json

{_LOGS} The learning rate is read too if the log has it. The line "Read as" says which column was taken as what.

exit codes: 0 an answer, with or without plateaus, 2 bad input, 130 interrupted
"""


def add_plateau(commands: argparse._SubParsersAction[Any]) -> None:
    """Add `lrfinder plateau`."""
    parser = add_command(
        commands, "plateau", _run_plateau,
        "find plateaus in a log",
        "Find where a recorded training had too little left to gain at its learning rate.",
        _PLATEAU,
    )  # fmt: skip
    add = parser.add_argument
    add("log", metavar="LOG", help="log of a training, in any format, or a folder that holds it")
    _add_columns(parser, "--loss-column", "--column")
    add("--mode", choices=("min", "max"), default="min", help="whether smaller or larger is better")
    add("--ahead", type=count, metavar="N", help="coming steps that must gain less (default: half of those so far)")
    add(
        "--delta",
        type=float,
        metavar="D",
        help="tolerance for that gain, in its units (default: from recent gain and noise)",
    )
    add("--alpha", type=float, default=0.05, metavar="A", help="maximum rate of false alarms (%(default)s)")
    add("--min-rows", type=count, default=24, metavar="N", help="rows needed at one rate, at least 24 (%(default)s)")
    add("--plot", metavar="PATH.png", help="also draw the log and its plateaus")
    add("--json", action="store_true", help="print only the JSON document")


def _run_plateau(options: argparse.Namespace, command: str) -> int:
    check_picture(options.plot, [options.log])

    log = _read_log(options.log, options)  # before torch is loaded

    from lrfinder.plateau.scan import find_plateaus

    scan = find_plateaus(
        log, delta=options.delta, alpha=options.alpha, min_rows=options.min_rows, ahead=options.ahead, mode=options.mode
    )
    if options.plot is not None:
        from lrfinder.report.log_plots import plateau_png

        replace_file(options.plot, plateau_png(scan))
    print(json.dumps(scan.to_dict(), indent=2, allow_nan=False) if options.json else scan)
    return 0


def _add_columns(parser: argparse.ArgumentParser, *loss: str) -> None:
    add = parser.add_argument
    add(*loss, metavar="NAME", help="column of the metric (default: the training loss)")
    add("--lr-column", metavar="NAME", help="column of the learning rate (default: the first)")
    add("--step-column", metavar="NAME", help="column of the steps (default: the one named like steps)")


def _read_log(path: str, options: argparse.Namespace) -> TrainingLog:
    from lrfinder.logs.read import read_log

    return read_log(
        path, options.loss_column, step_column=options.step_column, lr_column=options.lr_column,
        for_forecast=options.command == "forecast",
    )  # fmt: skip
