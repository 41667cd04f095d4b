"""A `Suggestion`, or several, as a PDF of A4 pages: text, charts as vectors, caveats."""

from __future__ import annotations

import io
import itertools
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lrfinder.charts import TITLES, Drawing, drawings
from lrfinder.comparison_page import commands_of, draw_comparison
from lrfinder.findings import Findings
from lrfinder.plot import Palette
from lrfinder.report import report_values
from lrfinder.svg import figure_style

if TYPE_CHECKING:
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    from lrfinder.comparison import Comparison
    from lrfinder.suggestion import Suggestion

__all__ = ["comparison_pdf", "report_pdf"]

_A4 = (8.27, 11.69)  # inches
_LEFT, _TOP = 0.1, 0.93
_COLUMNS, _LINE = 88, 0.0178  # characters in a line, and its height as a share of the page
_LINES = 48
_HEAD = 26
"""Most lines that leave room for a chart on the first page."""


def report_pdf(suggestion: Suggestion, command: str | None = None) -> bytes:
    """Return the report as a PDF.

    Raises:
        InputError: the probes of the suggestion do not belong together.
    """
    findings = Findings.of(suggestion)
    values = report_values(findings, command)
    verdict = values["verdict"]
    if verdict.reason:
        head = [verdict.reason, f"What to do: {verdict.remedy}", " ".join(verdict.seen)]
    else:
        costs = "; ".join(f"{cost.words}: {cost.text}" for cost in verdict.costs)
        head = [
            f"90% interval {verdict.interval}. {verdict.grade}: {' '.join(verdict.confidence)}",
            f"Policy: {verdict.policy or 'your own schedule'}. {verdict.because}",
            *([f"What being off costs. {costs}."] if costs else []),
            " ".join(verdict.seen),
        ]
    rest = ["Before you trust it", *(f"– {caveat}" for caveat in suggestion.caveats)] if suggestion.caveats else []
    seconds = "" if suggestion.seconds is None else f", {suggestion.seconds:.1f} s"
    rest += [
        f"Spent: {suggestion.steps_spent:,} steps{seconds}.",
        f"Made by: {values['command'] or 'a call from Python'}",
    ]
    rest.append("; ".join(f"{name} {value}" for name, value in values["environment"]))
    title = f"Learning rate {verdict.answer}" if not verdict.reason else "Refused"
    return _document(title, head, [(TITLES[name], draw) for name, draw in drawings(findings).items()], rest)


def comparison_pdf(comparison: Comparison, command: str | None = None) -> bytes:
    """Return a comparison as a PDF."""
    head = [comparison.verdict]
    for i, entry in enumerate(comparison.entries):
        facts = (f"{name} {texts[i]}" for name, texts in comparison.rows if texts[i])
        head.append(f"{entry.name}: {'; '.join(facts)}.")
    rest = ["Before you trust them", *(f"– {caveat}" for caveat in comparison.caveats)]
    for entry in comparison.entries:
        reason = entry.suggestion.reason
        told = [*([f"refused. {reason.value}"] if reason is not None else []), *entry.suggestion.caveats]
        rest += [f"{entry.name}: {text}" for text in told]
    rest += [f"Made by: {command}"] if command else []
    rest += [f"{labels}: {made_by}" for labels, made_by in commands_of(comparison, command)]

    def draw(figure: Any, colours: Palette) -> None:
        draw_comparison(comparison, figure, colours)

    return _document(f"{len(comparison.entries)} results side by side", head, [("Where each does best", draw)], rest)


def _document(title: str, head: Sequence[str], charts: Sequence[tuple[str, Drawing]], rest: Sequence[str]) -> bytes:
    from matplotlib import rc_context
    from matplotlib.backends.backend_pdf import PdfPages

    file, left = io.BytesIO(), list(charts)
    with figure_style(), rc_context({"pdf.fonttype": 42}), PdfPages(file, metadata={"CreationDate": None}) as pages:
        lines = _wrapped(head)
        first, others = lines[:_HEAD], [lines[at : at + _LINES] for at in range(_HEAD, len(lines), _LINES)]
        page = _page(title)
        _write(page, first, _TOP - 0.045)
        if not others and left:
            _draw(left.pop(0), _halves(page)[1])
        _save(page, pages)
        for chunk in others:
            _text_page(chunk, pages)
        for one, two in itertools.zip_longest(left[::2], left[1::2]):
            page = _page()
            for chart, half in zip((one, two), _halves(page), strict=True):
                if chart is not None:
                    _draw(chart, half)
            _save(page, pages)
        lines = _wrapped(rest)
        for at in range(0, len(lines), _LINES):
            _text_page(lines[at : at + _LINES], pages)
    return file.getvalue()


def _wrapped(paragraphs: Sequence[str]) -> list[str]:
    """Return lines of a page's width, an empty one after every paragraph."""
    lines: list[str] = []
    for paragraph in paragraphs:
        printable = "".join(c if c.isprintable() else " " for c in paragraph.encode("utf-8", "replace").decode("utf-8"))
        lines += [*textwrap.wrap(printable, _COLUMNS), ""]
    return lines


def _page(title: str = "") -> Figure:
    from matplotlib.figure import Figure

    page = Figure(figsize=_A4, layout="constrained")
    if title:
        page.text(_LEFT, _TOP, title, fontsize=22, color=Palette().answer, weight="bold", parse_math=False)
    return page


def _halves(page: Figure) -> tuple[Any, Any]:
    """Return the upper and the lower half of a page to draw charts on, within its margins."""
    parts: Any = page.subfigures(4, 3, height_ratios=(1, 9, 9, 1), width_ratios=(1, 7, 1))
    return parts[1, 1], parts[2, 1]


def _draw(chart: tuple[str, Drawing], part: Any) -> None:
    title, draw = chart
    part.suptitle(title, fontsize="large", weight="bold")
    draw(part, Palette())


def _write(page: Figure, lines: Sequence[str], top: float) -> None:
    for i, line in enumerate(lines):
        page.text(_LEFT, top - i * _LINE, line, fontsize=10, va="top", parse_math=False)


def _text_page(lines: Sequence[str], pages: PdfPages) -> None:
    page = _page()
    _write(page, lines, _TOP)
    _save(page, pages)


def _save(page: Figure, pages: PdfPages) -> None:
    pages.savefig(page)  # type: ignore[no-untyped-call]
