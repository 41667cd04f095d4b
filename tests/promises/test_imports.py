"""Heavy packages load where they are needed and not before."""

from __future__ import annotations

import pytest
from support.curves import synthetic, write_csv
from support.processes import loaded_by

import lrfinder

COMMAND = """
from lrfinder.cli.main import main
try:
    main("suggest {}".split())
except SystemExit as end:
    assert end.code == {}
"""


def test_importing_lrfinder_loads_nothing_heavy():
    assert loaded_by("import lrfinder; dir(lrfinder); lrfinder.InputError; lrfinder.Curve") == set()


def test_the_check_can_fail():
    assert {"torch"} <= loaded_by("import lrfinder; lrfinder.range_test")


def test_a_recorded_curve_needs_neither_torch_nor_lightning():
    write_csv("saved.csv", synthetic())
    assert loaded_by(COMMAND.format("--curve saved.csv --plot plot.png", 0)) == {"scipy", "matplotlib", "jinja2"}


def test_bad_input_is_found_before_torch_loads():
    assert loaded_by(COMMAND.format("--min-lr 5 --max-lr 1", 2)) == set()


def test_the_public_names_are_pinned():
    assert lrfinder.__all__ == [
        "Comparison",
        "CurvatureLimit",
        "Curve",
        "Detector",
        "Forecast",
        "InputError",
        "LRFinder",
        "LRFinderError",
        "NoiseScale",
        "POLICIES",
        "Plateau",
        "PlateauDetector",
        "Policy",
        "PolicyCallback",
        "Reason",
        "Rescaled",
        "Scan",
        "Suggestion",
        "TargetError",
        "TrainingLog",
        "UnsupportedError",
        "compare",
        "curvature_limit",
        "find_lr",
        "find_lr_hf",
        "find_plateaus",
        "forecast",
        "load_config",
        "lr_find",
        "measure_noise_scale",
        "plot_curve",
        "plot_forecast",
        "plot_plateaus",
        "plot_probes",
        "range_test",
        "read_curve",
        "read_log",
        "report_html",
        "suggest",
        "write_config",
        "write_curve_csv",
    ]


@pytest.mark.parametrize("name", lrfinder.__all__)
def test_every_public_name_resolves_and_is_listed(name):
    value = getattr(lrfinder, name)
    assert getattr(value, "__name__", name) == name  # a table such as POLICIES has none
    assert name in dir(lrfinder)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'lrfinder' has no attribute 'tune'"):
        lrfinder.tune


def test_the_errors_form_one_tree_within_pythons_own():
    assert set(lrfinder.InputError.__bases__) == {lrfinder.LRFinderError, ValueError}
    assert set(lrfinder.UnsupportedError.__bases__) == {lrfinder.LRFinderError, RuntimeError}
