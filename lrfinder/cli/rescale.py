"""`lrfinder rescale`: its options, and what it prints."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from lrfinder.cli.file_commands import add_command, read_results
from lrfinder.cli.options import count
from lrfinder.cli.terminal import render
from lrfinder.errors import InputError

_EXAMPLES = """\
examples:
  lrfinder rescale result.json --batch-size 512                       as many examples
  lrfinder rescale result.json --batch-size 64:512 --steps 100000      where the search did not record its own
  lrfinder rescale result.json --batch-size 64 --devices 8           on eight devices
  lrfinder rescale result.json --steps 100000 --json

exit codes: 0 rescaled, 2 bad input (also if the result is a refusal), 130 interrupted
"""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = add_command(
        commands, "rescale", _run,
        "move a saved result to another batch size or length",
        "Say how the rate of a saved result moves with the batch size and the length of the training.",
        _EXAMPLES,
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


def _run(options: argparse.Namespace, command: str) -> int:
    """Read the result, print the rescaled rate; return the exit code."""
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
