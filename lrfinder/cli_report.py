"""`lrfinder report`: its options, and what it writes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrfinder.errors import InputError
from lrfinder.files import check_writable, replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lrfinder.suggestion import Suggestion

__all__ = ["add_parser", "run"]

_KINDS = (".html", ".md", ".png")

_EXAMPLES = """\
examples:
  lrfinder suggest --out result.json                keep a result
  lrfinder report result.json                       its page: lrfinder-report.html
  lrfinder report result.json -o result.md          .html, .md or .png
  lrfinder report sgd.json adamw.json -o both.html  side by side; ranked where that can be

exit codes: 0 written, also where the result is a refusal; 2 bad input, 130 interrupted
"""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "report",
        help="show saved results as a page, text or picture",
        description="Make a page, text or picture of results that lrfinder suggest --out has written.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", nargs="+", metavar="RESULT.json", help="several are shown side by side")
    parser.add_argument(
        "-o", "--out", default="lrfinder-report.html", metavar="PATH", help=f"{', '.join(_KINDS)} (%(default)s)"
    )


def run(options: argparse.Namespace, command: str) -> int:
    """Read, write, print where it went; return the exit code."""
    kind = Path(options.out).suffix.lower()
    if kind not in _KINDS:
        raise InputError(f"--out must name a file that ends in {', '.join(_KINDS)}, got {options.out}")
    check_writable(options.out, "--out")
    if os.path.realpath(options.out) in map(os.path.realpath, options.results):
        raise InputError(f"--out must not name a result, got {options.out}")

    from lrfinder.results import read_results

    found = read_results(options.results)
    suggestion, *others = found.values()
    replace_file(options.out, _several(found, kind, command) if others else _one(suggestion, kind))
    print(f"Report    {options.out}")
    return 0


def _one(suggestion: Suggestion, kind: str) -> str | bytes:
    if kind == ".md":
        from lrfinder.markdown import report_markdown

        return report_markdown(suggestion)
    from lrfinder.report import report_html, report_png

    return report_png(suggestion) if kind == ".png" else report_html(suggestion)


def _several(suggestions: Mapping[str, Suggestion], kind: str, command: str) -> str | bytes:
    from lrfinder.comparison import compare

    comparison = compare(suggestions)
    if kind == ".md":
        from lrfinder.markdown import comparison_markdown

        return comparison_markdown(comparison, command)
    from lrfinder.comparison_page import comparison_html, comparison_png

    return comparison_png(comparison) if kind == ".png" else comparison_html(comparison, command)
