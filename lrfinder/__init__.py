"""Which learning rate, and how should it decay? Answered from short measured probes.

Names load on first use (PEP 562): importing lrfinder imports neither torch nor lightning.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrfinder.callback import LRFinder
    from lrfinder.choice import suggest
    from lrfinder.curve import Curve
    from lrfinder.detector import Detector
    from lrfinder.errors import InputError, LRFinderError, UnsupportedError
    from lrfinder.files import read_curve, write_curve_csv
    from lrfinder.forecast_plot import plot_forecast
    from lrfinder.forecasts import Forecast, forecast
    from lrfinder.log import TrainingLog
    from lrfinder.loop import find_lr, range_test
    from lrfinder.plateau import Plateau
    from lrfinder.plateau_callback import PlateauDetector
    from lrfinder.plateau_plot import plot_plateaus
    from lrfinder.plateau_scan import Scan, find_plateaus
    from lrfinder.plot import plot_curve
    from lrfinder.policies_plot import plot_policies
    from lrfinder.policy import Policy
    from lrfinder.policy_callback import PolicyCallback
    from lrfinder.probes_plot import plot_probes
    from lrfinder.read_log_file import read_log
    from lrfinder.reason import Reason
    from lrfinder.suggestion import Suggestion

__version__ = "0.1.0"

_HOMES = {
    "Curve": "curve",
    "Detector": "detector",
    "Forecast": "forecasts",
    "InputError": "errors",
    "LRFinder": "callback",
    "LRFinderError": "errors",
    "Plateau": "plateau",
    "PlateauDetector": "plateau_callback",
    "Policy": "policy",
    "PolicyCallback": "policy_callback",
    "Reason": "reason",
    "Scan": "plateau_scan",
    "Suggestion": "suggestion",
    "TrainingLog": "log",
    "UnsupportedError": "errors",
    "find_lr": "loop",
    "find_plateaus": "plateau_scan",
    "forecast": "forecasts",
    "plot_curve": "plot",
    "plot_forecast": "forecast_plot",
    "plot_plateaus": "plateau_plot",
    "plot_policies": "policies_plot",
    "plot_probes": "probes_plot",
    "range_test": "loop",
    "read_curve": "files",
    "read_log": "read_log_file",
    "suggest": "choice",
    "write_curve_csv": "files",
}

__all__ = [
    "Curve",
    "Detector",
    "Forecast",
    "InputError",
    "LRFinder",
    "LRFinderError",
    "Plateau",
    "PlateauDetector",
    "Policy",
    "PolicyCallback",
    "Reason",
    "Scan",
    "Suggestion",
    "TrainingLog",
    "UnsupportedError",
    "find_lr",
    "find_plateaus",
    "forecast",
    "plot_curve",
    "plot_forecast",
    "plot_plateaus",
    "plot_policies",
    "plot_probes",
    "range_test",
    "read_curve",
    "read_log",
    "suggest",
    "write_curve_csv",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lrfinder' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"lrfinder.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
