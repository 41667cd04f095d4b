"""`lrfinder report`: its options, and what it writes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrfinder.errors import InputError
from lrfinder.files import SCHEMA_VERSION, check_writable, json_object, read_text, replace_file

if TYPE_CHECKING:
    from lrfinder.answer.suggestion import Suggestion

__all__ = ["add_parser", "read_results", "run"]

_KINDS = (".html", ".md", ".png")

_EXAMPLES = """\
examples:
  lrfinder suggest --out result.json                keep a result
  lrfinder report result.json                       its page: lrfinder-report.html
  lrfinder report result.json -o result.md          .html, .md or .png
  lrfinder report sgd.json adamw.json -o both.html  side by side, ranked if their losses compare

exit codes: 0 written (also if the result is a refusal), 2 bad input, 130 interrupted
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
    """Read the results, write the report, print its path; return the exit code."""
    kind = Path(options.out).suffix.lower()
    if kind not in _KINDS:
        raise InputError(f"--out must name a file that ends in {', '.join(_KINDS)}, got {options.out}")
    check_writable(options.out, "--out")
    if os.path.realpath(options.out) in map(os.path.realpath, options.results):
        raise InputError(f"--out must not name one of the results, got {options.out}")

    found = read_results(options.results)
    suggestion, *others = found.values()
    replace_file(options.out, _several(found, kind, command) if others else _one(suggestion, kind))
    print(f"Report    {options.out}")
    return 0


def _one(suggestion: Suggestion, kind: str) -> str | bytes:
    if kind == ".md":
        from lrfinder.report.markdown import report_markdown

        return report_markdown(suggestion)
    from lrfinder.report.page import report_html, report_png

    return report_png(suggestion) if kind == ".png" else report_html(suggestion)


def _several(suggestions: Mapping[str, Suggestion], kind: str, command: str) -> str | bytes:
    from lrfinder.answer.comparison import compare

    comparison = compare(suggestions)
    if kind == ".md":
        from lrfinder.report.markdown import comparison_markdown

        return comparison_markdown(comparison, command)
    from lrfinder.report.comparison_page import comparison_html, comparison_png

    return comparison_png(comparison) if kind == ".png" else comparison_html(comparison, command)


def read_results(paths: Sequence[str]) -> dict[str, Suggestion]:
    """Read suggestions from JSON documents, each of one suggestion or of a comparison of several.

    Returns:
        The suggestions in the order read, each by a label: the name of the file without its ending, the name of the
        optimizer in a comparison, or both if there are several files; a number follows a label that occurs twice.

    Raises:
        InputError: a file is missing, unreadable, no JSON or no result; the text names file, field and value.
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
    document = json_object(read_text(Path(path), "JSON written by lrfinder suggest --out"), path)
    if "comparison" not in document:
        yield "", _suggestion(document, path)
        return
    if document.get("schema_version") != SCHEMA_VERSION:
        raise InputError(f"{path}: schema_version must be {SCHEMA_VERSION}, got {document.get('schema_version')!r:.60}")
    entries = document["comparison"]
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: comparison must be a list of results, at least one, got {entries!r:.60}")
    for i, entry in enumerate(entries):
        yield _entry(entry, f"{path}: comparison[{i}]")


def _entry(entry: Any, name: str) -> tuple[str, Suggestion]:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("optimizer"), str):
        raise InputError(f"{name}: must be an object with the name of an optimizer, got {entry!r:.60}")
    return entry["optimizer"], _suggestion({"schema_version": SCHEMA_VERSION, **entry}, name)


def _suggestion(document: Mapping[str, Any], name: str) -> Suggestion:
    from lrfinder.answer.suggestion import Suggestion

    return Suggestion.from_dict(document, name)
