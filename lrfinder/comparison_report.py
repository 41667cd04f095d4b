"""Several suggestions as one page, or as one picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lrfinder.comparison_plot import draw_comparison, text_of
from lrfinder.comparison_view import Entry, SideBySide
from lrfinder.plot import Palette
from lrfinder.report import render
from lrfinder.svg import SERIES, STAND_INS, drawn, figure_style, label, picture_of

if TYPE_CHECKING:
    from lrfinder.suggestion import Suggestion

__all__ = ["comparison_commands", "comparison_html", "comparison_png", "comparison_rows"]


def comparison_html(suggestions: Mapping[str, Suggestion], command: str | None = None) -> str:
    """Return a self-contained HTML page with several suggestions side by side, by their labels.

    They are ranked only where they are for trainings of one length, by probes of one length, from one state and on the
    same held-out batches; else the page says why not.

    Args:
        suggestions: what to show, by label; every string in it is escaped.
        command: the command line that made them, where it was one.

    Raises:
        InputError: there are none, or the probes of one do not belong together.
    """
    view = SideBySide.of(suggestions)
    size = (4.8, 4.0 + 0.34 * len(view.entries))
    chart = drawn(lambda figure: draw_comparison(view, figure, STAND_INS, SERIES), size, text_of(view))
    commands = comparison_commands(view, command)
    values = {"view": view, "rows": comparison_rows(view), "chart": chart, "command": command, "commands": commands}
    return render("comparison.html", values, title=f"Learning rates: {len(view.entries)} results side by side")


def comparison_png(suggestions: Mapping[str, Suggestion]) -> bytes:
    """Return the chart of the comparison as a PNG picture."""
    from matplotlib.figure import Figure

    view = SideBySide.of(suggestions)
    with figure_style():
        figure = Figure(figsize=(7.2, 5.2 + 0.34 * len(view.entries)), layout="constrained")
        lowest = f"{label(view.entries[0].label)} ended lowest" if view.comparable else "Not ranked"
        figure.suptitle(lowest, fontsize="x-large")
        draw_comparison(view, figure, Palette())
        return picture_of(figure, "png", dpi=130)


def comparison_commands(view: SideBySide, command: str | None) -> list[tuple[str, str]]:
    """Return what made the results, beside ``command``: labels, and the command line that is theirs."""
    found: dict[str, list[str]] = {}
    for entry in view.entries:
        made_by = entry.suggestion.environment.get("command")
        if made_by and made_by != command:
            found.setdefault(str(made_by), []).append(entry.label)
    return [(", ".join(labels), made_by) for made_by, labels in found.items()]


def comparison_rows(view: SideBySide) -> list[tuple[str, list[str]]]:
    """Return the rows of the table: a name, and a text per entry."""
    rows = [
        ("peak learning rate", [_lr(entry) for entry in view.entries]),
        ("90% interval", [_interval(entry) for entry in view.entries]),
        ("policy", [_policy(entry) for entry in view.entries]),
        ("for", [_steps(entry.suggestion.horizon) for entry in view.entries]),
        ("held-out loss of the best of the longest probes", [_loss(entry) for entry in view.entries]),
    ]
    if view.comparable:
        rows.append(("behind, paired", [_behind(entry) for entry in view.entries]))
    rows += [
        ("longest probes", [_steps(None if one.rung is None else one.rung.steps, "none") for one in view.entries]),
        ("spent", [f"{entry.suggestion.steps_spent:,} steps" for entry in view.entries]),
    ]
    return rows + [(name, ["" if value is None else str(value) for value in values]) for name, values in view.differing]


def _lr(entry: Entry) -> str:
    return "refused" if entry.suggestion.lr is None else f"{entry.suggestion.lr:.3g}"


def _interval(entry: Entry) -> str:
    low, high = entry.suggestion.lr_low, entry.suggestion.lr_high
    return "" if low is None or high is None else f"{low:.2g} to {high:.2g}"


def _policy(entry: Entry) -> str:
    return "" if entry.suggestion.policy is None else entry.suggestion.policy.text


def _steps(steps: int | None, unknown: str = "unknown length") -> str:
    return unknown if steps is None else f"{steps:,} steps"


def _loss(entry: Entry) -> str:
    if entry.best is None:
        return "not measured" if entry.rung is None else "all blew up"
    error = entry.loss_error
    return f"{entry.best.mean:.4g}" + ("" if error is None else f" ± {error:.2g}")


def _behind(entry: Entry) -> str:
    if entry.behind is None:
        return ""
    if entry.behind == 0.0:
        return "lowest"
    told = ", no detectable difference" if entry.tied else ""
    error = "" if entry.behind_error is None else f" ± {entry.behind_error:.1g}"
    return f"{entry.behind:+.2g}{error}{told}"
