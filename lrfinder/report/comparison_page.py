"""A `Comparison` as one page, or as one picture: valleys above, suggested rates with their intervals below."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lrfinder.report.figure import (
    SERIES,
    STAND_INS,
    Palette,
    draw_png,
    draw_svg,
    set_rate_axis,
    shorten,
    strip_frame,
)
from lrfinder.report.page import render
from lrfinder.report.search_plots import Rung, rung_view

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lrfinder.answer.comparison import Comparison, Entry


COLOURS = ("#1f6f54", "#c4532d", "#3556a8", "#85479a", "#80660a", "#0f7583")
"""Colours of the entries in a picture; a page has its own."""

_MARKS = "osD^vP"

_LONG = 16
"""Minimum number of characters of a name that does not fit beside another one in the legend."""

_TITLE = 92
"""Characters in a line of a picture's title."""


def comparison_html(comparison: Comparison, command: str | None = None) -> str:
    """Return a self-contained HTML page of the comparison; every string in it is escaped."""
    size = (4.8, 4.0 + 0.34 * len(comparison.entries))
    chart = draw_svg(
        lambda figure: draw_comparison(comparison, figure, STAND_INS, SERIES), size, describe_chart(comparison)
    )
    commands = list_commands(comparison, command)
    values = {"comparison": comparison, "chart": chart, "command": command, "commands": commands}
    title = f"Learning rates: {len(comparison.entries)} results side by side"
    return render("comparison.html", values, title=title)


def comparison_png(comparison: Comparison) -> bytes:
    """Return the chart of the comparison, with the verdict as its title, as a PNG picture."""
    verdict = " ".join(comparison.verdict.encode("utf-8", "replace").decode("utf-8").split())

    def draw(figure: Figure) -> None:
        figure.suptitle(textwrap.fill(verdict, _TITLE), fontsize="medium", parse_math=False)
        draw_comparison(comparison, figure, Palette())

    return draw_png(draw, (7.2, 5.4 + 0.34 * len(comparison.entries)), dpi=130)


def list_commands(comparison: Comparison, command: str | None) -> list[tuple[str, str]]:
    """Return the command lines that made the results, other than ``command``, as (names of results, command)."""
    names: dict[str, list[str]] = {}
    for entry in comparison.entries:
        made_by = entry.suggestion.environment.get("command")
        if made_by and made_by != command:
            names.setdefault(str(made_by), []).append(entry.name)
    return [(", ".join(those), made_by) for made_by, those in names.items()]


def describe_chart(comparison: Comparison) -> str:
    """Return what the chart shows, in words and numbers, for those who cannot see it."""
    texts = []
    for entry in comparison.entries:
        text = f"{entry.name}: {entry.suggestion.headline()}"
        if entry.best is not None:
            text += f"; its best probe of {entry.steps} steps ended at {entry.best.mean:.4g}"
        texts.append(text)
    return f"The probes of each result, and each suggested rate, against learning rate. {'. '.join(texts)}."


class _Series(NamedTuple):
    """One entry as it is drawn; ``rung`` is None without probes."""

    entry: Entry
    rung: Rung | None
    colour: str
    mark: str


def draw_comparison(comparison: Comparison, figure: Figure, palette: Palette, colours: Sequence[str] = COLOURS) -> None:
    """Draw the probes of each entry with their fit, and below them each suggested rate with its interval.

    The upper axis is the held-out loss if the entries are ranked. Otherwise losses do not compare, and it is the share
    lost of what training gained. ``colours`` are those of the entries, in turn.
    """
    entries, count = comparison.entries, len(comparison.entries)
    upper, lower = figure.subplots(2, 1, height_ratios=(3.2, 0.25 * count + 0.35), sharex=True)
    rungs = [rung_view(one.suggestion.evidence, one.suggestion.valley) if one.probes else None for one in entries]
    series = [
        _Series(entry, rungs[i], colours[i % len(colours)], _MARKS[i // len(colours) % len(_MARKS)])
        for i, entry in enumerate(entries)
    ]
    tops = [_draw_valley(one, comparison.ranked, upper) for one in series]
    for row, one in enumerate(series):
        _draw_answer(one, row, lower)
    set_rate_axis(lower, *_lr_range(series))
    upper.set_ylabel("held-out loss" if comparison.ranked else "share lost of what was gained")
    finite = [top for top in tops if math.isfinite(top)]
    if finite:
        upper.set_ylim(top=max(finite))
    lower.set_ylim(count - 0.4, -0.6)
    lower.set_yticks([])
    for ax in (upper, lower):
        strip_frame(ax, palette)
    lower.spines["left"].set_visible(False)
    columns = 2 if all(len(shorten(entry.name)) < _LONG for entry in entries) else 1
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, labelcolor=palette.ink, columnspacing=1.2)


def _lr_range(series: Sequence[_Series]) -> tuple[float, float]:
    lrs = [lr for one in series for lr in (one.entry.suggestion.lr_low, one.entry.suggestion.lr_high) if lr]
    lrs += [float(lr) for one in series if one.rung is not None for lr in one.rung.lr]
    if not lrs:
        lrs = [float(lr) for one in series for lr in one.entry.suggestion.curves[0].lr[[0, -1]]]
    return min(lrs) / 1.5, max(lrs) * 1.5


def _draw_valley(series: _Series, ranked: bool, ax: Axes) -> float:
    """Draw the probes of one entry; return how high the axis must reach to show them, NaN if that does not matter."""
    entry, rung = series.entry, series.rung
    if rung is None or entry.best is None or entry.suggestion.lr is None:
        return math.nan  # a refused result is not compared, and has no scale of its own
    gained = entry.untrained - entry.best.mean
    unit = 1.0 if ranked or not (math.isfinite(gained) and gained > 0) else gained
    zero = 0.0 if ranked else entry.best.mean
    loss, fit = (rung.loss - zero) / unit, (rung.fit_loss - zero) / unit
    most = min((entry.untrained - zero) / unit, float(fit.max(initial=-math.inf)))
    top = most if math.isfinite(most) else float(loss[np.isfinite(loss)].max())
    top = max(top, float(loss[rung.best]))
    inside = loss <= top
    ax.plot(rung.lr[inside], loss[inside], series.mark, color=series.colour, markersize=5)
    ax.plot(rung.fit_lr, np.where(fit <= top, fit, np.nan), color=series.colour, linewidth=1.3)
    return top + 0.03 * (top - float(loss[rung.best]))


def _draw_answer(series: _Series, row: int, ax: Axes) -> None:
    suggestion, name = series.entry.suggestion, shorten(series.entry.name)
    if suggestion.lr is None:
        ax.plot([], [], "x", color=series.colour, label=f"{name}: refused")
        return
    low, high = suggestion.lr_low or suggestion.lr, suggestion.lr_high or suggestion.lr
    ax.hlines(row, low, high, color=series.colour, linewidth=2)
    ax.plot([suggestion.lr], [row], series.mark, color=series.colour, label=f"{name}: {suggestion.lr:.3g}")
