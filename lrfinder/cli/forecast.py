"""`lrfinder forecast`: its options, and what it prints."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from lrfinder.cli.options import count, steps
from lrfinder.files import check_picture, replace_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrfinder.logs.forecast import Forecast

__all__ = ["add_parser", "run"]

_EXAMPLES = """\
examples:
  lrfinder forecast run1.csv run2.csv                         rank every schedule for as long as the longest log
  lrfinder forecast run1.csv run2.csv --schedule cosine --schedule wsd --steps 72000
  lrfinder forecast run1.csv run2.csv --steps 72000 --optimal --plot forecast.png
  lrfinder forecast run1.csv run2.csv --target run3.csv       predict a log from its learning rates, and score it

A log is a table (CSV, tabs, spaces), JSON or JSON lines, trainer_state.json, event files of TensorBoard
(pip install 'lrfinder[tensorboard]'), metrics of MLflow, lines such as "step 100: loss 2.31, lr 1e-3", or a folder with
one of these. It needs steps, losses and learning rates, and the rate must fall in at least one log.

exit codes: 0 forecast, 1 refused (at least in part), 2 bad input, 130 interrupted
"""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "forecast",
        help="predict the loss of other schedules from logs",
        description="Fit the loss-curve law to recorded runs and predict the loss of other schedules.",
        epilog=_EXAMPLES,
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
    add("--loss-column", metavar="NAME", help="column of the loss (default: the training loss)")
    add("--lr-column", metavar="NAME", help="column of the learning rate (default: the first)")
    add("--step-column", metavar="NAME", help="column of the steps (default: the one named like steps)")
    add("--plot", metavar="PATH.png", help="also draw logs, fits and predictions")
    add("--json", action="store_true", help="print only the JSON document")


def run(options: argparse.Namespace) -> int:
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
