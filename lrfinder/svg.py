"""A figure of matplotlib as SVG inside a page: the page's variables are its colours, so that it is light and dark."""

from __future__ import annotations

import io
import re
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from lrfinder.plot import Palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SERIES", "STAND_INS", "Chart", "drawn", "figure_style", "label", "picture_of"]

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


def drawn(draw: Callable[[Figure], None], size: tuple[float, float], alt: str) -> Chart:
    """Return the chart that ``draw`` makes of an empty figure of ``size`` inches."""
    from matplotlib.figure import Figure

    with figure_style():
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        svg = picture_of(figure, "svg").decode("utf-8")
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


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw with the sizes of our charts, and without warnings of letters that a font does not have."""
    from matplotlib import rc_context

    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s)Glyph.*missing from", UserWarning)
        warnings.filterwarnings("ignore", r"(?s).*Matplotlib currently does not support", UserWarning)
        yield


def picture_of(figure: Figure, kind: str, dpi: int = 150) -> bytes:
    """Return a figure as the bytes of a file of this kind: svg or png."""
    file = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else None
    figure.savefig(file, format=kind, transparent=kind == "svg", dpi=dpi, metadata=metadata)
    return file.getvalue()


def label(name: str) -> str:
    """Return a name as a chart can show it: short, on one line, without mathematics and lone surrogates."""
    text = " ".join(name.encode("utf-8", "replace").decode("utf-8").split())
    if len(text) > _LABEL:
        text = f"{text[: _LABEL // 2]}…{text[-_LABEL // 2 + 1 :]}"
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text or "?"  # matplotlib hides what begins so
