"""`lrfinder forecast`: its options, and what it prints."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from lrfinder.files import check_picture, replace_file
from lrfinder.options import count, steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrfinder.forecasts import Forecast

__all__ = ["add_parser", "run"]

_EXAMPLES = """\
examples:
  lrfinder forecast run1.csv run2.csv                         rank every schedule for as long as the longest log
  lrfinder forecast run1.csv run2.csv --schedule cosine --schedule wsd --steps 72000
  lrfinder forecast run1.csv run2.csv --steps 72000 --optimal --plot forecast.png
  lrfinder forecast run1.csv run2.csv --target run3.csv       predict a log from its learning rates, and score it

A log is a CSV file with the columns step,lr,loss, or Lightning's metrics.csv. The rate must fall in one of them.

exit codes: 0 forecast, 1 refused (in part, at least), 2 bad input, 130 interrupted
"""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "forecast",
        help="predict the loss of other schedules from logs",
        description="Fit the loss-curve law to recorded runs, and predict the loss of other schedules.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN.csv", help="the log of a training")
    parser.add_argument(
        "--schedule", action="append", metavar="NAME", help="policy to predict; may be repeated (default: all, ranked)"
    )
    parser.add_argument("--steps", type=count, metavar="N", help="length of the training (that of the longest log)")
    parser.add_argument("--peak-lr", type=float, metavar="LR", help="highest rate (the highest logged)")
    parser.add_argument("--warmup-steps", type=steps, metavar="N", help="linear from 0 (as logged)")
    parser.add_argument(
        "--end-lr", type=float, metavar="LR", help="no decay goes below it (the lowest rate logged after warmup)"
    )
    parser.add_argument("--optimal", action="store_true", help="also seek the best schedule that never rises")
    parser.add_argument(
        "--target", action="append", default=[], metavar="CSV", help="a log to predict and score; may be repeated"
    )
    parser.add_argument("--loss-column", metavar="NAME", help="where a log has several")
    parser.add_argument("--lr-column", metavar="NAME", help="where a log has several")
    parser.add_argument("--plot", metavar="PATH.png", help="also draw logs, fits and predictions")
    parser.add_argument("--json", action="store_true", help="print only the JSON document")


def run(options: argparse.Namespace) -> int:
    """Predict, draw, print; return the exit code."""
    check_picture(options.plot, [*options.runs, *options.target])

    from lrfinder.forecasts import forecast
    from lrfinder.logfile import read_loss_log

    columns = {"loss_column": options.loss_column, "lr_column": options.lr_column}
    runs, targets = ([read_loss_log(path, **columns) for path in paths] for paths in (options.runs, options.target))
    found = forecast(
        runs, options.schedule, options.steps, peak_lr=options.peak_lr, warmup_steps=options.warmup_steps,
        end_lr=options.end_lr, optimal=options.optimal, targets=targets,
    )  # fmt: skip
    if options.plot is not None:
        from lrfinder.forecast_plot import forecast_png

        replace_file(options.plot, forecast_png(found))
    if options.json:
        print(json.dumps(found.to_dict(), indent=2, allow_nan=False))
    else:
        print("\n".join(_lines(found)))
    return 0 if found.refused is None else 1


def _lines(found: Forecast) -> list[str]:
    lines = []
    if found.refused is not None:
        lines.append(f"Refused   {found.refused}")
    schedules = [*([found.optimal] if found.optimal else []), *found.schedules]
    if schedules:
        best = min(one.final_loss for one in schedules)
        rows = [
            (
                one.name,
                f"{one.final_loss:.4f}",
                f"{one.final_loss_low:.4f} to {one.final_loss_high:.4f}",
                "best" if one.final_loss == best else f"+{one.final_loss - best:.4f}",
                "; ".join((*(["within error"] if one.tied and one.final_loss > best else []), *one.caveats)),
            )
            for one in schedules
        ]
        lines += _table(("schedule", "final loss", "90% interval", "behind", ""), rows)
    if found.targets:
        scores = [
            (
                one.log.name,
                str(one.log.last_step),
                "-" if one.mae is None else f"{one.mae:.4f}",
                "-" if one.end_rel_error is None else f"{one.end_rel_error:.3%}",
            )
            for one in found.targets
        ]
        lines += _table(("target", "steps", "mean error", "end error"), scores)
    return [*lines, *(f"Caveat    {caveat}" for caveat in found.caveats)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows)]
