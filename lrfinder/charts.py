"""The charts of a report: which there are, how large, and what each shows in words for those who cannot see it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from lrfinder.course_plot import draw_losses, draw_rates
from lrfinder.drift_plot import Place, draw_drift
from lrfinder.plot import Palette, draw_curve
from lrfinder.policies_plot import plot_policies
from lrfinder.probes_plot import Rung, draw_probes
from lrfinder.svg import STAND_INS, Chart, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

    from lrfinder.detector import Detector
    from lrfinder.findings import Findings
    from lrfinder.plateau import Plateau
    from lrfinder.plateau_scan import Scan
    from lrfinder.suggestion import Suggestion

__all__ = ["TITLES", "Drawing", "charts", "drawings", "texts_of", "training_chart", "with_legend"]


class Drawing(Protocol):
    """How to draw a chart on an empty figure, or on a part of one."""

    def __call__(self, figure: Figure | SubFigure, colours: Palette) -> None:
        """Draw it."""


_WIDTH = 4.4
"""Inches: wide enough for a legend of two columns, small enough that its text is read on a phone."""
TITLES = {
    "probes": "The probes",
    "drift": "From the probes to the training",
    "curve": "The range test",
    "rates": "The learning rate, step by step",
    "losses": "The loss, as far as it can be predicted",
    "gains": "Every policy",
}
"""Of the charts, in the order in which they are shown."""
_HEIGHTS = {"probes": 4.1, "curve": 3.9, "drift": 4.0, "rates": 4.2, "losses": 3.7, "gains": 3.6}


def charts(findings: Findings) -> dict[str, Chart]:
    """Return the charts of a page by name: those of `drawings`."""
    texts = texts_of(findings)
    return {
        name: drawn(functools.partial(draw, colours=STAND_INS), (_WIDTH, _height(name, findings)), texts[name])
        for name, draw in drawings(findings).items()
    }


def training_chart(training: Detector | Scan, plateaus: Sequence[Plateau]) -> Chart:
    """Return the chart of a training and its plateaus."""
    from lrfinder.plateau_plot import plot_plateaus

    def draw(figure: Figure) -> None:
        plot_plateaus(training, figure.subplots(), palette=STAND_INS)

    told = "; ".join(map(str, plateaus)) or "no plateau was found"
    return drawn(draw, (2 * _WIDTH, 3.6), f"Loss of the training against steps: {told}.")


def _height(name: str, findings: Findings) -> float:
    return 2.6 if name == "rates" and len(findings.courses) < 3 else _HEIGHTS[name]


def drawings(findings: Findings) -> dict[str, Drawing]:
    """Return how to draw what there is to draw: probes, curve, drift, rates, losses and gains, each on a figure."""
    suggestion = findings.suggestion
    found: dict[str, Drawing] = {}
    probes, drift = findings.probes, findings.drift
    if probes is not None:
        found["probes"] = with_legend(lambda ax, colours: draw_probes(probes, suggestion, ax, colours))
    if drift is not None:
        found["drift"] = with_legend(lambda ax, colours: draw_drift(drift, suggestion, ax, colours))
    marked = None if probes is not None else suggestion
    found["curve"] = with_legend(lambda ax, colours: draw_curve(findings.curve, marked, ax, colours))
    if findings.courses:
        found["rates"] = functools.partial(_small_multiples, findings)
        if any(course.loss.size for course in findings.courses):
            found["losses"] = with_legend(lambda ax, colours: draw_losses(findings.courses, ax, colours))
    if any(one.gain is not None for one in suggestion.alternatives):
        found["gains"] = functools.partial(_gains, suggestion)
    return found


def with_legend(draw: Callable[..., object]) -> Drawing:
    """Return how to draw on a figure's only Axes, with a legend below them."""

    def on(figure: Figure | SubFigure, colours: Palette) -> None:
        draw(figure.subplots(), colours)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, labelcolor=colours.ink, columnspacing=1.2)

    return on


def _small_multiples(findings: Findings, figure: Figure | SubFigure, colours: Palette) -> None:
    count = len(findings.courses)
    columns = min(count, 2)
    axes = figure.subplots(math.ceil(count / columns), columns, squeeze=False, sharey=True).ravel().tolist()
    draw_rates(findings.courses, axes, colours)
    for ax in axes[count:]:
        ax.set_axis_off()
    figure.supxlabel("optimizer steps", fontsize="medium", color=colours.ink)
    figure.supylabel("learning rate", fontsize="medium", color=colours.ink)


def _gains(suggestion: Suggestion, figure: Figure | SubFigure, colours: Palette) -> None:
    plot_policies(suggestion, figure.subplots(), palette=colours)


def texts_of(findings: Findings) -> dict[str, str]:
    """Return what each chart shows, in words and numbers."""
    suggestion, curve, probes, drift = findings.suggestion, findings.curve, findings.probes, findings.drift
    answer = f"{suggestion.headline()[:1].upper()}{suggestion.headline()[1:]}"
    below = curve.loss[~curve.above]
    texts = {
        "curve": (
            f"Training loss of the range test at {curve.lr.size} learning rates from {curve.lr[0]:.2g} to"
            f" {curve.lr[-1]:.2g}, logarithmic axis"
            + (f"; lowest loss {below.min():.4g}" if below.size else "")
            + ("" if curve.lr_limit is None else f"; training gets worse above {curve.lr_limit:.2g}")
            + f". {answer}"
        )
    }
    if probes is not None:
        texts["probes"] = (
            "Held-out loss against learning rate, logarithmic axis. "
            + " ".join(_of_rung(rung) for rung in probes.rungs)
            + (f" Untrained: {probes.untrained:.4g}." if math.isfinite(probes.untrained) else "")
            + f" {answer}"
        )
    if drift is not None:
        texts["drift"] = (
            "Best learning rate against optimizer steps, both axes logarithmic. Measured: "
            + ", ".join(map(_of_place, drift.measured))
            + (f". Carried on: {_of_place(drift.carried[-1])}" if drift.carried else "")
            + f". {answer}"
        )
    texts["rates"] = "Learning rate over the steps of the training. " + "; ".join(
        f"{one.policy.name}: {one.policy.text}, from {one.lr:.3g}"
        for one in (course.alternative for course in findings.courses)
    )
    predicted = [one for one in suggestion.alternatives if one.gain is not None]
    texts["gains"] = "Predicted gain over a constant rate, share of the final loss, with 90% interval. " + "; ".join(
        f"{one.policy.name} {one.gain:+.1%} ({one.gain_low:+.0%} to {one.gain_high:+.0%})" for one in predicted
    )
    ends = (f"{course.alternative.policy.name} {1 - (course.alternative.gain or 0):.3g}" for course in findings.courses)
    texts["losses"] = f"Predicted loss over the steps, 1: the final loss of a constant rate. End: {'; '.join(ends)}"
    return texts


def _of_rung(rung: Rung) -> str:
    survived = int((rung.loss < math.inf).sum())
    text = f"{rung.loss.size} probes of {rung.steps} steps from {rung.lr[0]:.2g} to {rung.lr[-1]:.2g}"
    if not survived:
        return f"{text}, all blew up."
    return f"{text}, the lowest {rung.loss.min():.4g} at {rung.lr[rung.best]:.2g}."


def _of_place(place: Place) -> str:
    return f"{place.lr:.2g} ({place.low:.2g} to {place.high:.2g}) after {place.steps:.0f} steps"
