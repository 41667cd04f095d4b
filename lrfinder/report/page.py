"""The page and the picture of a suggestion, and the charts on them, each described for those who cannot see it."""

from __future__ import annotations

import functools
import math
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from lrfinder.report.figure import STAND_INS, Palette, draw_png, draw_svg, format_number, strip_frame
from lrfinder.report.search_plots import draw_curve, draw_probes
from lrfinder.report.summary import Course, Findings, describe_evidence, report_values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from lrfinder.answer.suggestion import Suggestion
    from lrfinder.plateau.detector import Detector
    from lrfinder.plateau.gain_test import Plateau
    from lrfinder.plateau.scan import Scan


class PlannedChart(NamedTuple):
    """A chart that there is evidence for: its title, its height on a page in inches, and what it shows in words.

    ``draw`` draws it on a figure, or on a part of one, in ``colours``.
    """

    title: str
    height: float
    alt: str
    draw: Callable[..., None]


_WIDTH = 4.4
"""Inches: wide enough for a legend of two columns, small enough that its text is read on a phone."""


def plan_charts(findings: Findings) -> dict[str, PlannedChart]:
    """Return what there is to draw, in the order in which it is shown: probes, curve and rates."""
    suggestion, curve, probes, courses = findings
    tried, *probed = describe_evidence(findings)
    answer = suggestion.headline()
    answer = f"{answer[0].upper()}{answer[1:]}"
    found: dict[str, PlannedChart] = {}
    if probes is not None:
        alt = f"Held-out loss against learning rate, logarithmic axis. {' '.join(probed)} {answer}"
        draw = _with_legend(lambda ax, colours: draw_probes(probes, suggestion, ax, colours))
        found["probes"] = PlannedChart("The probes", 4.1, alt, draw)
    limit = "" if curve.lr_limit is None else f" Training gets worse above {curve.lr_limit:.2g}."
    alt = f"Training loss against learning rate, logarithmic axis. {tried}{limit} {answer}"
    marked = None if probes is not None else suggestion
    draw = _with_legend(lambda ax, colours: draw_curve(curve, marked, ax, colours))
    found["curve"] = PlannedChart("The range test", 3.9, alt, draw)
    if courses:
        taken = [course.alternative for course in courses]
        rates = [f"{one.policy.name}: {one.policy.text}, from {one.lr:.3g}" for one in taken]
        alt = f"Learning rate over the steps of the training. {'; '.join(rates)}"
        draw = functools.partial(_small_multiples, courses)
        found["rates"] = PlannedChart("The learning rate, step by step", 2.6 if len(courses) < 3 else 4.2, alt, draw)
    return found


def _with_legend(draw: Callable[..., object]) -> Callable[..., None]:
    """Return how to draw on a figure's only Axes, with a legend below them."""

    def on(figure: Figure | SubFigure, colours: Palette) -> None:
        draw(figure.subplots(), colours)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, labelcolor=colours.ink, columnspacing=1.2)

    return on


def _small_multiples(courses: Sequence[Course], figure: Figure | SubFigure, colours: Palette) -> None:
    count = len(courses)
    columns = min(count, 3 if figure.bbox.width > 2 * figure.bbox.height else 2)
    axes = figure.subplots(math.ceil(count / columns), columns, squeeze=False, sharey=True).ravel().tolist()
    draw_rates(courses, axes, colours)
    for ax in axes[count:]:
        ax.set_axis_off()
    figure.supxlabel("optimizer steps", fontsize="medium", color=colours.ink)
    figure.supylabel("learning rate", fontsize="medium", color=colours.ink)


def draw_rates(courses: Sequence[Course], axes: Sequence[Axes], colours: Palette) -> None:
    """Draw the learning rate over the steps, one policy per Axes, all on the same scale."""
    top = 1.08 * max(float(course.lr.max()) for course in courses)
    for course, ax in zip(courses, axes, strict=False):
        colour = colours.answer if course.taken else colours.data
        ax.fill_between(course.step, course.lr, color=colour, alpha=0.15, linewidth=0)
        ax.plot(course.step, course.lr, color=colour, linewidth=2 if course.taken else 1.4)
        ink = colour if course.taken else colours.ink
        ax.set_title(course.alternative.policy.name, fontsize="medium", color=ink, loc="left")
        ax.set_ylim(0, top)
        ax.set_xlim(0, course.step[-1])
        ax.set_xticks([0, course.step[-1]], ["0", f"{course.step[-1]:,.0f}"])
        ax.locator_params(axis="y", nbins=3)
        ax.yaxis.set_major_formatter(format_number)
        strip_frame(ax, colours)
        first, last = ax.get_xticklabels()
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")


def report_html(suggestion: Suggestion, command: str | None = None, *, training: Detector | Scan | None = None) -> str:
    """Return a self-contained HTML page: answer, evidence, policies, caveats, cost, how to repeat it, raw numbers.

    Args:
        suggestion: what to show; every string in it is escaped.
        command: the command line that made it; by default the one that the suggestion remembers, if any.
        training: what became of it, and its plateaus: `PlateauDetector.detector`, or a log that was looked through.

    Raises:
        InputError: the probes of the suggestion do not belong together.
    """
    findings = Findings.of(suggestion)
    charts = {
        name: draw_svg(functools.partial(chart.draw, colours=STAND_INS), (_WIDTH, chart.height), chart.alt)
        for name, chart in plan_charts(findings).items()
    }
    plateaus: tuple[Plateau, ...] = ()
    if training is not None:
        from lrfinder.report.log_plots import plateau_view, plot_plateaus

        plateaus = plateau_view(training).plateaus
        told = "; ".join(map(str, plateaus)) or "no plateau was found"
        charts["training"] = draw_svg(
            lambda figure: plot_plateaus(training, figure.subplots(), palette=STAND_INS),
            (2 * _WIDTH, 3.6),
            f"Loss of the training against steps: {told}.",
        )
    title = f"Learning rate: {suggestion.headline()}"
    return render("report.html", report_values(findings, command), charts=charts, plateaus=plateaus, title=title)


def notebook_html(suggestion: Suggestion) -> str:
    """Return the answer and its chart, of the probes or else of the range test, as a fragment for a notebook cell.

    Styles stand at each element, and the chart is a picture on white: notebooks restyle tables and lists, some filter
    style sheets and SVG, and their dark themes are unknown to a page.
    """
    chart = next(iter(plan_charts(Findings.of(suggestion)).values()))
    values = {
        "answer": [(label, text) for label, text in suggestion.lines() if label != "Read too"],
        "caveats": suggestion.caveats,
        "refused": suggestion.reason is not None,
        "picture": b64encode(draw_png(lambda figure: chart.draw(figure, Palette()), (5.2, 3.6), dpi=200)).decode(),
        "alt": chart.alt,
    }
    return render("notebook.html", values)


def report_png(suggestion: Suggestion) -> bytes:
    """Return the charts as one PNG picture, with the answer as its title."""
    found = plan_charts(Findings.of(suggestion))
    columns, heights = (2, (4.0, 3.0)) if len(found) > 2 else (len(found), (4.0,))

    def draw_all(figure: Figure) -> None:
        title = "refused." if suggestion.reason is not None else suggestion.headline()
        figure.suptitle(title, fontsize="x-large", parse_math=False)
        grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
        places = [grid[0, 0], grid[0, -1], grid[-1, :]]  # the third chart, if there is one, has a row of its own
        for chart, place in zip(found.values(), places, strict=False):
            part = figure.add_subfigure(place)
            part.suptitle(chart.title, fontsize="medium", weight="bold")
            chart.draw(part, Palette())

    return draw_png(draw_all, (5.2 * columns, sum(heights) + 0.5), dpi=110)


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
