"""A figure of matplotlib as SVG inside a page: the page's variables are its colours, so that it is light and dark."""

from __future__ import annotations

import io
import math
import re
import warnings
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lrfinder.answer.suggestion import Suggestion


class Palette(NamedTuple):
    """Colours of a plot, as matplotlib reads them."""

    ink: str = "#333333"
    data: str = "#7a8ca5"
    fit: str = "#c4532d"
    answer: str = "#1f6f54"
    soft: str = "#9aa3ad"


def make_axes() -> Axes:
    """Return the Axes of a new figure of pyplot."""
    import matplotlib.pyplot as plt

    axes: Axes = plt.subplots(figsize=(7, 4), layout="constrained")[1]
    return axes


def mark_answer(ax: Axes, suggestion: Suggestion, colours: Palette) -> None:
    """Mark the suggested learning rate and its interval on the axis of learning rates; nothing where refused."""
    if suggestion.lr is None:
        return
    low, high = suggestion.lr_low or suggestion.lr, suggestion.lr_high or suggestion.lr
    ax.axvspan(low, high, color=colours.answer, alpha=0.12, linewidth=0, label=f"90% interval {low:.2g} to {high:.2g}")
    ax.axvline(suggestion.lr, color=colours.answer, linewidth=2, label=f"suggested {suggestion.lr:.3g}")


def set_rate_axis(ax: Axes, low: float, high: float) -> None:
    """Make the x axis one of learning rates, logarithmic, with plain numbers at its ticks."""
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

    ax.set_xscale("log")
    ax.set_xlim(low, high)
    if high > 1e3 * low:
        ax.xaxis.set_minor_locator(NullLocator())
    decades = math.log10(high / low)
    subs = (1,) if decades >= 3 else (1, 3) if decades >= 1.3 else (1, 2, 5)
    ax.xaxis.set_major_locator(LogLocator(subs=subs, numticks=7 if decades >= 3 else None))
    ax.xaxis.set_major_formatter(format_number)
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("learning rate")


def format_number(value: float, _: float = 0.0) -> str:
    """Write a number as a person would: 0.001, 1e-05."""
    return f"{value:g}"


def strip_frame(ax: Axes, colours: Palette) -> None:
    """Take away what frames a plot, and colour the rest."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        ax.spines[side].set_color(colours.soft)
    ax.tick_params(color=colours.soft, labelcolor=colours.ink, which="both")
    for text in (ax.xaxis.label, ax.yaxis.label):
        text.set_color(colours.ink)


STAND_INS = Palette("#010101", "#010102", "#010103", "#010104", "#010105")
"""Colours that stand for the variables of a page until its SVG is written."""

SERIES = tuple(f"#0102{i:02}" for i in range(1, 7))
"""Stand-ins for six series beside each other."""

_VARIABLES = {
    **{colour: f"var(--{name})" for name, colour in STAND_INS._asdict().items()},
    **{colour: f"var(--series-{i})" for i, colour in enumerate(SERIES, 1)},
}

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lrfinder",
    "font.size": 10.0,
    "axes.linewidth": 0.8,
    "legend.fontsize": 9.0,
}

_LABEL = 28
"""Characters of a name that a chart has room for."""


class Chart(NamedTuple):
    """A chart of a page: what is seen, and what is read out in its place."""

    svg: str
    alt: str


def draw_svg(draw: Callable[[Figure], object], size: tuple[float, float], alt: str) -> Chart:
    """Return the chart that ``draw`` makes of an empty figure of ``size`` inches."""
    svg = _picture(draw, size, format="svg", transparent=True, metadata={"Date": None}).decode("utf-8")
    svg = svg[svg.index("<svg") :]  # without the XML prologue, which HTML does not know
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)  # several charts share a page, where an id may be there once
    svg = re.sub(r"\s*\n\s*", " ", svg)
    # The solver of the layout leaves noise in the last digits, and in the ids, which are made of them.
    svg = re.sub("<[^>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), svg)
    for number, name in enumerate(dict.fromkeys(re.findall(r' id="([^"]*)"', svg))):
        svg = re.sub(rf'(?<=["#]){re.escape(name)}(?=[")])', f"c{zlib.crc32(alt.encode()):x}-{number}", svg)
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, variable)
    return Chart(svg, alt)


def draw_png(draw: Callable[[Figure], object], size: tuple[float, float], dpi: int = 150) -> bytes:
    """Return what ``draw`` makes of an empty figure of ``size`` inches as a PNG picture."""
    return _picture(draw, size, format="png", dpi=dpi)


def _picture(draw: Callable[[Figure], object], size: tuple[float, float], **options: Any) -> bytes:
    """Return a picture in the style of our charts, without warnings of letters that a font does not have."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s)Glyph.*missing from", UserWarning)
        warnings.filterwarnings("ignore", r"(?s).*Matplotlib currently does not support", UserWarning)
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        file = io.BytesIO()
        figure.savefig(file, **options)
        return file.getvalue()


def shorten(name: str) -> str:
    """Return a name as a chart can show it: short, on one line, without mathematics and lone surrogates."""
    text = " ".join(name.encode("utf-8", "replace").decode("utf-8").split())
    if len(text) > _LABEL:
        text = f"{text[: _LABEL // 2]}…{text[-_LABEL // 2 + 1 :]}"
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text or "?"  # matplotlib hides what begins so
