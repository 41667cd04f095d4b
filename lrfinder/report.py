"""A `Suggestion` as a page that needs nothing else, as a notebook cell, or as a picture."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lrfinder.plot import Palette, plot_curve, plot_probes
from lrfinder.policies_plot import plot_policies

if TYPE_CHECKING:
    from lrfinder.suggestion import Suggestion

__all__ = ["notebook_html", "report_html", "report_png"]

_VARIABLES = {"#010101": "var(--ink)", "#020202": "var(--data)", "#030303": "var(--fit)", "#040404": "var(--answer)"}
"""Stand-in colours for matplotlib, replaced in its SVG by the page's variables, so that one chart is light and dark."""


def report_html(suggestion: Suggestion, command: str) -> str:
    """Return a self-contained HTML page: answer, probes, curve, fits, caveats, raw numbers, how to repeat it.

    Args:
        suggestion: what to show; every string in it is escaped.
        command: the command line that made it.
    """
    return _templates().get_template("report.html").render(_view(suggestion), command=command)


def notebook_html(suggestion: Suggestion) -> str:
    """Return the answer and the curve as a fragment for a notebook cell."""
    return _templates().get_template("answer.html").render(_view(suggestion))


def report_png(suggestion: Suggestion) -> bytes:
    """Return the curve with the suggestion as a PNG picture."""
    return _picture(suggestion, "png", Palette())


def _view(suggestion: Suggestion) -> dict[str, Any]:
    svg = _picture(suggestion, "svg", Palette(*_VARIABLES)).decode("utf-8")
    svg = svg[svg.index("<svg") :]  # without the XML prologue, which HTML does not know
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, variable)
    lines = suggestion.lines()
    return {
        "suggestion": suggestion,
        "answer": [(label, text) for label, text in lines if label != "Caveat"],
        "caveats": suggestion.caveats,
        "svg": svg,
        "points": zip(*(getattr(suggestion.curves[0], name).tolist() for name in ("step", "lr", "loss")), strict=True),
        "probes": [
            {
                "stage": outcome.probe.stage,
                "steps": outcome.probe.steps,
                "lr": outcome.probe.lr,
                "loss": None if outcome.diverged else outcome.mean,
                "error": outcome.loss.std(ddof=1) / outcome.loss.size**0.5 if outcome.loss.size > 1 else 0.0,
            }
            for outcome in suggestion.probes
        ],
        "description": (
            ("Held-out loss of every probe, " if len(suggestion.probes) > 1 else "")
            + ("predicted gain of every policy, " if suggestion.alternatives else "")
            + f"training loss of the range test, against learning rate on a logarithmic axis. {suggestion.headline()}"
        ),
    }


def _picture(suggestion: Suggestion, kind: str, palette: Palette) -> bytes:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "lrfinder", "font.size": 10.0}):
        probed, ranked = len(suggestion.probes) > 1, bool(suggestion.alternatives)
        panels = 1 + probed + ranked
        figure = Figure(figsize=(7.2, 1.0 + 3.2 * panels), layout="constrained")
        axes = iter(figure.subplots(panels, 1, squeeze=False).ravel())
        if probed:
            plot_probes(suggestion, next(axes), palette=palette)
        if ranked:
            plot_policies(suggestion, next(axes), palette=palette)
        plot_curve(suggestion.curves[0], None if probed else suggestion, next(axes), palette=palette)
        file = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(file, format=kind, transparent=kind == "svg", dpi=150, metadata=metadata)
    return file.getvalue()


@functools.cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("lrfinder"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
