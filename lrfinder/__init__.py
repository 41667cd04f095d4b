"""Which learning rate, and how should it decay? lrfinder answers both from short measured probes.

Every public name is loaded on first use (PEP 562), so `import lrfinder` imports neither torch nor Lightning.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrfinder.advice.gradients import CurvatureLimit as CurvatureLimit
    from lrfinder.advice.gradients import NoiseScale as NoiseScale
    from lrfinder.advice.rescale import Rescaled as Rescaled
    from lrfinder.answer.choose import suggest as suggest
    from lrfinder.answer.comparison import Comparison as Comparison
    from lrfinder.answer.comparison import compare as compare
    from lrfinder.answer.suggestion import Suggestion as Suggestion
    from lrfinder.answer.suggestion_text import Reason as Reason
    from lrfinder.cli.config_read import load_config as load_config
    from lrfinder.cli.config_write import write_config as write_config
    from lrfinder.errors import InputError as InputError
    from lrfinder.errors import LRFinderError as LRFinderError
    from lrfinder.errors import TargetError as TargetError
    from lrfinder.errors import UnsupportedError as UnsupportedError
    from lrfinder.evidence.curve import Curve as Curve
    from lrfinder.evidence.curve import read_curve as read_curve
    from lrfinder.evidence.curve import write_curve_csv as write_curve_csv
    from lrfinder.lightning.inside_fit import lr_find as lr_find
    from lrfinder.lightning.lr_finder import LRFinder as LRFinder
    from lrfinder.lightning.plateau_detector import PlateauDetector as PlateauDetector
    from lrfinder.lightning.schedule import PolicyCallback as PolicyCallback
    from lrfinder.logs.forecast import Forecast as Forecast
    from lrfinder.logs.forecast import forecast as forecast
    from lrfinder.logs.log import TrainingLog as TrainingLog
    from lrfinder.logs.read import read_log as read_log
    from lrfinder.plateau.detector import Detector as Detector
    from lrfinder.plateau.gain_test import Plateau as Plateau
    from lrfinder.plateau.scan import Scan as Scan
    from lrfinder.plateau.scan import find_plateaus as find_plateaus
    from lrfinder.probing.gradients import curvature_limit as curvature_limit
    from lrfinder.probing.gradients import measure_noise_scale as measure_noise_scale
    from lrfinder.probing.hugging_face import find_lr_hf as find_lr_hf
    from lrfinder.probing.torch_loop import find_lr as find_lr
    from lrfinder.probing.torch_loop import range_test as range_test
    from lrfinder.report.log_plots import plot_forecast as plot_forecast
    from lrfinder.report.log_plots import plot_plateaus as plot_plateaus
    from lrfinder.report.page import report_html as report_html
    from lrfinder.report.search_plots import plot_curve as plot_curve
    from lrfinder.report.search_plots import plot_probes as plot_probes
    from lrfinder.schedules.policy import POLICIES as POLICIES
    from lrfinder.schedules.policy import Policy as Policy

__version__ = "0.1.0"

_PUBLIC = {
    "advice.gradients": ("CurvatureLimit", "NoiseScale"),
    "advice.rescale": ("Rescaled",),
    "answer.choose": ("suggest",),
    "answer.comparison": ("Comparison", "compare"),
    "answer.suggestion": ("Suggestion",),
    "answer.suggestion_text": ("Reason",),
    "cli.config_read": ("load_config",),
    "cli.config_write": ("write_config",),
    "errors": ("InputError", "LRFinderError", "TargetError", "UnsupportedError"),
    "evidence.curve": ("Curve", "read_curve", "write_curve_csv"),
    "lightning.inside_fit": ("lr_find",),
    "lightning.lr_finder": ("LRFinder",),
    "lightning.plateau_detector": ("PlateauDetector",),
    "lightning.schedule": ("PolicyCallback",),
    "logs.forecast": ("Forecast", "forecast"),
    "logs.log": ("TrainingLog",),
    "logs.read": ("read_log",),
    "plateau.detector": ("Detector",),
    "plateau.gain_test": ("Plateau",),
    "plateau.scan": ("Scan", "find_plateaus"),
    "probing.gradients": ("curvature_limit", "measure_noise_scale"),
    "probing.hugging_face": ("find_lr_hf",),
    "probing.torch_loop": ("find_lr", "range_test"),
    "report.log_plots": ("plot_forecast", "plot_plateaus"),
    "report.page": ("report_html",),
    "report.search_plots": ("plot_curve", "plot_probes"),
    "schedules.policy": ("POLICIES", "Policy"),
}
"""Module -> the public names that it defines."""

_HOMES = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lrfinder' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"lrfinder.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
