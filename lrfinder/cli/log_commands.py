"""`lrfinder forecast` and `lrfinder plateau`, the commands that read logs: their options, and what they print."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from lrfinder.cli.options import count, steps
from lrfinder.files import check_picture, replace_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrfinder.logs.forecast import Forecast

__all__ = ["add_forecast", "add_plateau", "run_forecast", "run_plateau"]

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
    parser = commands.add_parser(
        "forecast",
        help="predict the loss of other schedules from logs",
        description="Fit the loss-curve law to recorded runs and predict the loss of other schedules.",
        epilog=_FORECAST,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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


def run_forecast(options: argparse.Namespace) -> int:
    """Read the logs, predict, draw, print; return the exit code."""
    check_picture(options.plot, [*options.runs, *options.target])

    from lrfinder.logs.forecast import forecast
    from lrfinder.logs.read import read_log

    runs, targets = (
        [
            read_log(
                path,
                options.loss_column,
                step_column=options.step_column,
                lr_column=options.lr_column,
                for_forecast=True,
            )
            for path in paths
        ]
        for paths in (options.runs, options.target)
    )
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
        print("\n".join(_lines(found)))
    return 0 if found.refused is None else 1


def _lines(found: Forecast) -> list[str]:
    logs = [*found.runs, *(target.log for target in found.targets)]
    lines = [f"Log       {log.name}: {log.read_as}" for log in logs if log.read_as]
    if found.refused is not None:
        lines.append(f"Refused   {found.refused}")
    schedules = [*([found.optimal] if found.optimal else []), *found.schedules]
    if schedules:
        best = min(schedule.final_loss for schedule in schedules)
        rows = [
            (
                schedule.name,
                f"{schedule.final_loss:.4f}",
                f"{schedule.final_loss_low:.4f} to {schedule.final_loss_high:.4f}",
                "best" if schedule.final_loss == best else f"+{schedule.final_loss - best:.4f}",
                "; ".join(["within error"] * (schedule.tied and schedule.final_loss > best) + [*schedule.caveats]),
            )
            for schedule in schedules
        ]
        lines += _table(("schedule", "final loss", "90% interval", "behind", ""), rows)
    if found.targets:
        scores = [
            (
                target.log.name,
                str(target.log.last_step),
                "-" if target.mae is None else f"{target.mae:.4f}",
                "-" if target.end_rel_error is None else f"{target.end_rel_error:.3%}",
            )
            for target in found.targets
        ]
        lines += _table(("target", "steps", "mean error", "end error"), scores)
    return [*lines, *(f"Caveat    {caveat}" for caveat in found.caveats)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows)]


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
    parser = commands.add_parser(
        "plateau",
        help="find plateaus in a log",
        description="Find where a recorded training had too little left to gain at its learning rate.",
        epilog=_PLATEAU,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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


def run_plateau(options: argparse.Namespace) -> int:
    """Read the log, find its plateaus, draw, print; return the exit code."""
    check_picture(options.plot, [options.log])

    from lrfinder.logs.read import read_log

    log = read_log(  # before torch is loaded
        options.log, options.loss_column, step_column=options.step_column, lr_column=options.lr_column
    )

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
