"""Several results over one axis of learning rates, drawn with matplotlib: valleys above, intervals below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lrfinder.plot import Palette, bare, rates
from lrfinder.svg import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lrfinder.comparison_view import Entry, SideBySide

__all__ = ["COLOURS", "draw_comparison", "text_of"]

COLOURS = ("#1f6f54", "#c4532d", "#3556a8", "#85479a", "#80660a", "#0f7583")
"""Of the series in a picture; a page has its own."""
_MARKS = "osD^vP"
_LONG = 16
"""Characters of a name from which on two do not fit beside each other."""


def draw_comparison(view: SideBySide, figure: Figure, palette: Palette, colours: Sequence[str] = COLOURS) -> None:
    """Draw the longest probes of each with their fit, and below them each suggested rate with its interval.

    The upper axis is the held-out loss where losses are comparable, else the share lost of what training gained.
    """
    upper, lower = figure.subplots(2, 1, height_ratios=(3.2, 0.25 * len(view.entries) + 0.35), sharex=True)
    low, high = _range(view.entries)
    tops = []
    for i, entry in enumerate(view.entries):
        colour, mark = colours[i % len(colours)], _MARKS[i // len(colours) % len(_MARKS)]
        tops.append(_valley(entry, view.comparable, upper, colour, mark))
        _answer(entry, i, lower, colour, mark)
    rates(lower, low, high)
    upper.set_ylabel("held-out loss" if view.comparable else "share lost of what was gained")
    finite = [top for top in tops if math.isfinite(top)]
    if finite:
        upper.set_ylim(top=max(finite))
    lower.set_ylim(len(view.entries) - 0.4, -0.6)
    lower.set_yticks([])
    for ax in (upper, lower):
        bare(ax, palette)
    lower.spines["left"].set_visible(False)
    columns = 2 if all(len(label(entry.label)) < _LONG for entry in view.entries) else 1
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, labelcolor=palette.ink, columnspacing=1.2)


def _range(entries: Sequence[Entry]) -> tuple[float, float]:
    seen = [rate for entry in entries for rate in (entry.suggestion.lr_low, entry.suggestion.lr_high) if rate]
    seen += [float(rate) for entry in entries if entry.rung is not None for rate in entry.rung.lr]
    if not seen:
        seen = [float(rate) for entry in entries for rate in entry.suggestion.curves[0].lr[[0, -1]]]
    return min(seen) / 1.5, max(seen) * 1.5


def _valley(entry: Entry, comparable: bool, ax: Axes, colour: str, mark: str) -> float:
    """Draw one; return how high the axis must reach to show it, NaN where it does not matter."""
    if entry.rung is None or entry.best is None or entry.suggestion.lr is None:
        return math.nan  # one that was refused is not compared, and has no scale of its own
    gained = entry.untrained - entry.best.mean
    unit = 1.0 if comparable or not (math.isfinite(gained) and gained > 0) else gained
    zero = 0.0 if comparable else entry.best.mean
    loss, fit = (entry.rung.loss - zero) / unit, (entry.rung.fit_loss - zero) / unit
    most = min((entry.untrained - zero) / unit, float(fit.max(initial=-math.inf)))
    top = most if math.isfinite(most) else float(loss[np.isfinite(loss)].max())
    top = max(top, float(loss[entry.rung.best]))
    inside = loss <= top
    ax.plot(entry.rung.lr[inside], loss[inside], mark, color=colour, markersize=5)
    ax.plot(entry.rung.fit_lr, np.where(fit <= top, fit, np.nan), color=colour, linewidth=1.3)
    return top + 0.03 * (top - float(loss[entry.rung.best]))


def _answer(entry: Entry, row: int, ax: Axes, colour: str, mark: str) -> None:
    suggestion, name = entry.suggestion, label(entry.label)
    if suggestion.lr is None:
        ax.plot([], [], "x", color=colour, label=f"{name}: refused")
        return
    ax.hlines(row, suggestion.lr_low or suggestion.lr, suggestion.lr_high or suggestion.lr, color=colour, linewidth=2)
    ax.plot([suggestion.lr], [row], mark, color=colour, label=f"{name}: {suggestion.lr:.3g}")


def text_of(view: SideBySide) -> str:
    """Return what the chart shows, in words and numbers."""
    found = []
    for entry in view.entries:
        text = f"{entry.label}: {entry.suggestion.headline()}"
        if entry.best is not None and entry.rung is not None:
            text += f"; its best probe of {entry.rung.steps} steps ended at {entry.best.mean:.4g}"
        found.append(text)
    return f"The longest probes of each result, and each suggested rate, against learning rate. {'. '.join(found)}."
