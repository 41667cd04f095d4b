"""`Findings`: all that reports show of a suggestion, as numbers, worked out once."""

from __future__ import annotations

from typing import NamedTuple

from lrfinder.course import Course, courses
from lrfinder.drift_plot import DriftView, drift_view
from lrfinder.fits import Fits
from lrfinder.plot import CurveView, curve_view
from lrfinder.probes_plot import ProbesView, probes_view
from lrfinder.suggestion import Suggestion

__all__ = ["Findings"]


class Findings(NamedTuple):
    """A suggestion and the views of it.

    Attributes:
        suggestion: of which all this is.
        fits: what its raw numbers were fitted with.
        curve: the range test.
        probes: the probes; None where there were none.
        drift: how the best rate moves to the horizon; None where nothing was suggested, or without probes.
        courses: policies over the steps of the training, the suggested one first; empty without a horizon.
    """

    suggestion: Suggestion
    fits: Fits
    curve: CurveView
    probes: ProbesView | None
    drift: DriftView | None
    courses: tuple[Course, ...]

    @classmethod
    def of(cls, suggestion: Suggestion) -> Findings:
        """Work out everything.

        Raises:
            InputError: the probes of the suggestion do not belong together.
        """
        fits = Fits.of(suggestion)
        probed = fits.evidence is not None and bool(fits.evidence.outcomes)
        return cls(
            suggestion,
            fits,
            curve_view(suggestion.curves[0], fits.curve),
            probes_view(suggestion, fits) if probed else None,
            drift_view(suggestion, fits),
            courses(suggestion),
        )
