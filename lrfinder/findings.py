"""`Findings`: all that reports show of a suggestion, as numbers, worked out once."""

from __future__ import annotations

from typing import NamedTuple

from lrfinder.course import Course, courses
from lrfinder.drift_plot import DriftView, drift_view
from lrfinder.plot import CurveView, curve_view
from lrfinder.probes_plot import ProbesView, probes_view
from lrfinder.suggestion import Suggestion

__all__ = ["Findings"]


class Findings(NamedTuple):
    """A suggestion and the views of it.

    Attributes:
        suggestion: of which all this is.
        curve: the range test.
        probes: the probes; None where there were none.
        drift: how the best rate moves to the horizon; None where nothing was suggested, or without probes.
        courses: policies over the steps of the training, the suggested one first; empty without a horizon.
    """

    suggestion: Suggestion
    curve: CurveView
    probes: ProbesView | None
    drift: DriftView | None
    courses: tuple[Course, ...]

    @classmethod
    def of(cls, suggestion: Suggestion) -> Findings:
        """Work out everything that is shown."""
        return cls(
            suggestion,
            curve_view(suggestion.evidence.curve, suggestion.range_fit),
            probes_view(suggestion) if suggestion.evidence.outcomes else None,
            drift_view(suggestion),
            courses(suggestion),
        )
