"""A `Suggestion` as a page that needs nothing else, as a notebook cell, or as a picture."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from lrfinder.charts import TITLES, charts, drawings, training_chart
from lrfinder.findings import Findings
from lrfinder.plot import Palette
from lrfinder.svg import figure_style, picture_of
from lrfinder.verdict import Verdict

if TYPE_CHECKING:
    from lrfinder.detector import Detector
    from lrfinder.plateau import Plateau
    from lrfinder.plateau_scan import Scan
    from lrfinder.suggestion import Suggestion

__all__ = ["Spent", "notebook_html", "render", "report_html", "report_png", "report_values"]

_IN_NOTEBOOK = ("probes", "curve", "gains")


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
        from lrfinder.plateau_plot import plateau_view

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
    rows, columns = -(-len(found) // 2), min(len(found), 2)
    with figure_style():
        figure = Figure(figsize=(5.2 * columns, 4.0 * rows + 0.5), layout="constrained")
        figure.suptitle(_title(suggestion), fontsize="x-large", parse_math=False)
        parts = figure.subfigures(rows, columns, squeeze=False).ravel()
        for (name, draw), part in zip(found.items(), parts, strict=False):
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
    curve = suggestion.curves[0]
    return {
        "suggestion": suggestion,
        "findings": findings,
        "verdict": Verdict.of(findings),
        "groups": ", ".join(f"{lr:.3g}" for lr in suggestion.param_group_lrs),
        "command": command or made_by,
        "environment": list(environment.items()),
        "spent": _spent(suggestion),
        "points": list(zip(*(getattr(curve, name).tolist() for name in ("step", "lr", "loss")), strict=True)),
        "probes": [
            {
                "stage": str(outcome.probe.stage),
                "steps": outcome.probe.steps,
                "lr": outcome.probe.lr,
                "loss": None if outcome.diverged else outcome.mean,
                "error": outcome.loss.std(ddof=1) / outcome.loss.size**0.5 if outcome.loss.size > 1 else 0.0,
            }
            for outcome in suggestion.probes
        ],
    }


def _spent(suggestion: Suggestion) -> list[Spent]:
    evidence = suggestion.evidence
    found = []
    for what, outcomes in (("probes for the rate", evidence.outcomes), ("probes for the decay", evidence.branches)):
        if outcomes:
            steps = sum(one.train_loss.size for one in outcomes)
            found.append(Spent(what, len(outcomes), steps, sum(one.seconds for one in outcomes)))
    trained = len(evidence.outcomes) + len(evidence.branches)
    found.insert(0, Spent("range test", 1, max(evidence.range_steps, 0), evidence.curve.seconds))
    if trained:
        total = 1 + trained, evidence.steps, evidence.seconds
        found.append(Spent("all, evaluation included", *total))
    return found


def render(template: str, values: Mapping[str, Any], **more: Any) -> str:
    """Fill in a template; all that it shows is escaped in HTML."""
    return _templates().get_template(template).render(values, **more)


@functools.cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("lrfinder"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
