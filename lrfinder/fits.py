"""`Fits`: the shapes fitted to what a suggestion was made from, worked out once for all that is shown of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lrfinder.choice import evidence_of
from lrfinder.fit import RangeFit, fit_range
from lrfinder.landscape import Landscape, fit_landscape

if TYPE_CHECKING:
    from lrfinder.probe import Evidence
    from lrfinder.suggestion import Suggestion

__all__ = ["Fits"]


class Fits(NamedTuple):
    """The fits behind a suggestion.

    Attributes:
        evidence: what the search measured; None for a range test alone.
        landscape: fit of the probes; None where they could not be fitted.
        curve: fit of the range test; None where too few of its points are usable.
    """

    evidence: Evidence | None
    landscape: Landscape | None
    curve: RangeFit | None

    @classmethod
    def of(cls, suggestion: Suggestion) -> Fits:
        """Fit again what the suggestion's raw numbers were fitted with.

        Raises:
            InputError: its probes do not belong together.
        """
        evidence = evidence_of(suggestion)
        fitted = evidence is not None and suggestion.fit is not None and bool(evidence.outcomes)
        return cls(
            evidence,
            fit_landscape(evidence) if evidence is not None and fitted else None,
            fit_range(suggestion.curves[0]),
        )
