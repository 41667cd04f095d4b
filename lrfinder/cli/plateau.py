"""`lrfinder plateau`: its options, and what it prints."""

from __future__ import annotations

import argparse
import json
from typing import Any

from lrfinder.cli.options import count
from lrfinder.files import check_picture, replace_file

__all__ = ["add_parser", "run"]

_EXAMPLES = """\
examples:
  lrfinder plateau metrics.csv                           the plateaus of the training loss, and whether it ends on one
  lrfinder plateau lightning_logs/version_0              a folder with the log of one training
  lrfinder plateau metrics.csv --loss-column val_acc --mode max
  lrfinder plateau metrics.csv --ahead 10000 --delta 0.01   will 10,000 more steps gain less than 0.01?
  lrfinder plateau metrics.csv --plot plateaus.png --json

A log is a table (CSV, tabs, spaces), JSON or JSON lines, trainer_state.json, event files of TensorBoard
(pip install 'lrfinder[tensorboard]'), metrics of MLflow, lines such as "step 100: loss 2.31", or a folder with one of
these. The learning rate is read too if the log has it. The line "Read as" says which column was taken as what.

exit codes: 0 an answer, with or without plateaus, 2 bad input, 130 interrupted
"""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "plateau",
        help="find plateaus in a log",
        description="Find where a recorded training had too little left to gain at its learning rate.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("log", metavar="LOG", help="log of a training, in any format, or a folder that holds it")
    add("--loss-column", "--column", metavar="NAME", help="metric (default: the training loss)")
    add("--lr-column", metavar="NAME", help="column of the learning rate (default: the first)")
    add("--step-column", metavar="NAME", help="column of the steps (default: the one named like steps)")
    add("--mode", choices=("min", "max"), default="min", help="whether smaller or larger is better")
    add("--ahead", type=count, metavar="N", help="coming steps that must gain less (default: half of those so far)")
    add(
        "--delta",
        type=float,
        metavar="D",
        help="tolerance for that gain, in its units (default: 1%% of the gain so far)",
    )
    add("--alpha", type=float, default=0.05, metavar="A", help="maximum rate of false alarms (%(default)s)")
    add("--min-rows", type=count, default=24, metavar="N", help="rows needed at one rate, at least 24 (%(default)s)")
    add("--plot", metavar="PATH.png", help="also draw the log and its plateaus")
    add("--json", action="store_true", help="print only the JSON document")


def run(options: argparse.Namespace) -> int:
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
