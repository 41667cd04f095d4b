"""The charts of a report: which there are, how large, and what each shows in words for those who cannot see it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined

from lrfinder.report.figure import STAND_INS, Chart, Palette, draw_svg, figure_style, picture_of
from lrfinder.report.policy_plots import draw_rates
from lrfinder.report.search_plots import Rung, draw_curve, draw_probes
from lrfinder.report.summary import Findings, Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

    from lrfinder.answer.suggestion import Suggestion
    from lrfinder.plateau.detector import Detector
    from lrfinder.plateau.gain_test import Plateau
    from lrfinder.plateau.scan import Scan

__all__ = [
    "TITLES",
    "Drawing",
    "Spent",
    "charts",
    "drawings",
    "notebook_html",
    "render",
    "report_html",
    "report_png",
    "report_values",
    "texts_of",
    "training_chart",
    "with_legend",
]


class Drawing(Protocol):
    """How to draw a chart on an empty figure, or on a part of one."""

    def __call__(self, figure: Figure | SubFigure, colours: Palette) -> None:
        """Draw it."""


_WIDTH = 4.4
"""Inches: wide enough for a legend of two columns, small enough that its text is read on a phone."""

TITLES = {
    "probes": "The probes",
    "curve": "The range test",
    "rates": "The learning rate, step by step",
}
"""Of the charts, in the order in which they are shown."""

_HEIGHTS = {"probes": 4.1, "curve": 3.9, "rates": 4.2}


def charts(findings: Findings) -> dict[str, Chart]:
    """Return the charts of a page by name: those of `drawings`."""
    texts = texts_of(findings)
    return {
        name: draw_svg(functools.partial(draw, colours=STAND_INS), (_WIDTH, _height(name, findings)), texts[name])
        for name, draw in drawings(findings).items()
    }


def training_chart(training: Detector | Scan, plateaus: Sequence[Plateau]) -> Chart:
    """Return the chart of a training and its plateaus."""
    from lrfinder.report.log_plots import plot_plateaus

    def draw(figure: Figure) -> None:
        plot_plateaus(training, figure.subplots(), palette=STAND_INS)

    told = "; ".join(map(str, plateaus)) or "no plateau was found"
    return draw_svg(draw, (2 * _WIDTH, 3.6), f"Loss of the training against steps: {told}.")


def _height(name: str, findings: Findings) -> float:
    return 2.6 if name == "rates" and len(findings.courses) < 3 else _HEIGHTS[name]


def drawings(findings: Findings) -> dict[str, Drawing]:
    """Return how to draw what there is to draw: probes, curve and rates, each on a figure."""
    suggestion = findings.suggestion
    found: dict[str, Drawing] = {}
    probes = findings.probes
    if probes is not None:
        found["probes"] = with_legend(lambda ax, colours: draw_probes(probes, suggestion, ax, colours))
    marked = None if probes is not None else suggestion
    found["curve"] = with_legend(lambda ax, colours: draw_curve(findings.curve, marked, ax, colours))
    if findings.courses:
        found["rates"] = functools.partial(_small_multiples, findings)
    return found


def with_legend(draw: Callable[..., object]) -> Drawing:
    """Return how to draw on a figure's only Axes, with a legend below them."""

    def on(figure: Figure | SubFigure, colours: Palette) -> None:
        draw(figure.subplots(), colours)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, labelcolor=colours.ink, columnspacing=1.2)

    return on


def _small_multiples(findings: Findings, figure: Figure | SubFigure, colours: Palette) -> None:
    count = len(findings.courses)
    columns = min(count, 3 if figure.bbox.width > 2 * figure.bbox.height else 2)
    axes = figure.subplots(math.ceil(count / columns), columns, squeeze=False, sharey=True).ravel().tolist()
    draw_rates(findings.courses, axes, colours)
    for ax in axes[count:]:
        ax.set_axis_off()
    figure.supxlabel("optimizer steps", fontsize="medium", color=colours.ink)
    figure.supylabel("learning rate", fontsize="medium", color=colours.ink)


def texts_of(findings: Findings) -> dict[str, str]:
    """Return what each chart shows, in words and numbers."""
    suggestion, curve, probes = findings.suggestion, findings.curve, findings.probes
    answer = f"{suggestion.headline()[:1].upper()}{suggestion.headline()[1:]}"
    below = curve.loss[~curve.above]
    texts = {
        "curve": (
            f"Training loss of the range test at {len(suggestion.curves[0])} learning rates from {curve.lr[0]:.2g} to"
            f" {curve.lr[-1]:.2g}, logarithmic axis"
            + (f"; lowest loss {below.min():.4g}" if below.size else "")
            + ("" if curve.lr_limit is None else f"; training gets worse above {curve.lr_limit:.2g}")
            + f". {answer}"
        )
    }
    if probes is not None:
        texts["probes"] = (
            "Held-out loss against learning rate, logarithmic axis. "
            + _of_rung(probes.rung)
            + (f" Untrained: {probes.untrained:.4g}." if math.isfinite(probes.untrained) else "")
            + f" {answer}"
        )
    texts["rates"] = "Learning rate over the steps of the training. " + "; ".join(
        f"{one.policy.name}: {one.policy.text}, from {one.lr:.3g}"
        for one in (course.alternative for course in findings.courses)
    )
    return texts


def _of_rung(rung: Rung) -> str:
    survived = int((rung.loss < math.inf).sum())
    text = f"{rung.loss.size} probes of {rung.steps} steps from {rung.lr[0]:.2g} to {rung.lr[-1]:.2g}"
    if not survived:
        return f"{text}, all blew up."
    return f"{text}, the lowest {rung.loss.min():.4g} at {rung.lr[rung.best]:.2g}."


_IN_NOTEBOOK = ("probes", "curve")


class Spent(NamedTuple):
    """What one part of a search took; seconds are None where unknown."""

    what: str
    trainings: int
    steps: int
    seconds: float | None


def report_html(
    suggestion: Suggestion,
    command: str | None = None,
    findings: Findings | None = None,
    *,
    training: Detector | Scan | None = None,
) -> str:
    """Return a self-contained HTML page: answer, evidence, policies, caveats, cost, how to repeat it, raw numbers.

    Args:
        suggestion: what to show; every string in it is escaped.
        command: the command line that made it; by default the one that the suggestion remembers, if any.
        findings: those of the suggestion, where they were worked out already.
        training: what became of it, and its plateaus: `PlateauDetector.detector`, or a log that was looked through.

    Raises:
        InputError: the probes of the suggestion do not belong together.
    """
    values = report_values(findings or Findings.of(suggestion), command)
    title = f"Learning rate: {suggestion.headline()}"
    drawn = charts(values["findings"])
    plateaus: tuple[Plateau, ...] = ()
    if training is not None:
        from lrfinder.report.log_plots import plateau_view

        plateaus = plateau_view(training).plateaus
        drawn["training"] = training_chart(training, plateaus)
    return render("report.html", values, charts=drawn, plateaus=plateaus, title=title)


def notebook_html(suggestion: Suggestion) -> str:
    """Return the answer and the main charts as a fragment for a notebook cell."""
    found = charts(Findings.of(suggestion))
    kept = {name: found[name] for name in _IN_NOTEBOOK if name in found}
    answer = [(label, text) for label, text in suggestion.lines() if label != "Caveat"]
    return render("notebook.html", {"answer": answer, "caveats": suggestion.caveats, "charts": kept})


def report_png(suggestion: Suggestion, findings: Findings | None = None) -> bytes:
    """Return the charts as one PNG picture, with the answer as its title."""
    from matplotlib.figure import Figure

    found = drawings(findings or Findings.of(suggestion))
    columns, heights = (2, (4.0, 3.0)) if len(found) > 2 else (len(found), (4.0,))
    with figure_style():
        figure = Figure(figsize=(5.2 * columns, sum(heights) + 0.5), layout="constrained")
        figure.suptitle(_title(suggestion), fontsize="x-large", parse_math=False)
        grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
        places = [grid[0, 0], grid[0, -1], grid[-1, :]]  # the third chart, if there is one, has a row of its own
        for (name, draw), place in zip(found.items(), places, strict=False):
            part = figure.add_subfigure(place)
            part.suptitle(TITLES[name], fontsize="medium", weight="bold")
            draw(part, Palette())
        return picture_of(figure, "png", dpi=110)


def _title(suggestion: Suggestion) -> str:
    return "refused." if suggestion.reason is not None else suggestion.headline()


def report_values(findings: Findings, command: str | None) -> dict[str, Any]:
    """Return what every text form of the report shows."""
    suggestion = findings.suggestion
    environment = dict(suggestion.environment)
    made_by = environment.pop("command", None)
    curve = suggestion.curves[0].thinned()
    return {
        "suggestion": suggestion,
        "findings": findings,
        "verdict": Verdict.of(findings),
        "groups": ", ".join(f"{lr:.3g}" for lr in suggestion.param_group_lrs),
        "command": command or made_by,
        "environment": list(environment.items()),
        "spent": _spent(suggestion),
        "measured": len(suggestion.curves[0]),
        "points": list(zip(*(getattr(curve, name).tolist() for name in ("step", "lr", "loss")), strict=True)),
        "probes": [
            {
                "stage": str(outcome.probe.stage),
                "steps": outcome.probe.steps,
                "lr": outcome.probe.lr,
                "loss": None if outcome.diverged else outcome.mean,
                "error": outcome.loss.std(ddof=1) / outcome.loss.size**0.5
                if outcome.loss.size > 1 and not outcome.diverged
                else 0.0,
            }
            for outcome in suggestion.probes
        ],
    }


def _spent(suggestion: Suggestion) -> list[Spent]:
    evidence = suggestion.evidence
    found = [Spent("range test", 1, max(evidence.range_steps, 0), evidence.curve.seconds)]
    if outcomes := evidence.outcomes:
        steps, seconds = sum(one.train_loss.size for one in outcomes), sum(one.seconds for one in outcomes)
        found.append(Spent("probes", len(outcomes), steps, seconds))
        found.append(Spent("all, evaluation included", 1 + len(outcomes), evidence.steps, evidence.seconds))
    return found


def render(template: str, values: Mapping[str, Any], **more: Any) -> str:
    """Fill in a template; all that it shows is escaped in HTML."""
    return _templates().get_template(template).render(values, **more)


@functools.cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("lrfinder.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
