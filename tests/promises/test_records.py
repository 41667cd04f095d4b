"""Every public record shows itself in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from support.losslogs import made

from lrfinder import Detector, NoiseScale, Policy, Suggestion, TrainingLog, compare, find_plateaus, forecast
from lrfinder.advice.gradients import limit_from

DOCUMENTS = sorted((Path(__file__).parents[1] / "golden" / "documents").glob("*.json"))


def records():
    suggestions = [Suggestion.from_dict(json.loads(path.read_text())) for path in DOCUMENTS]
    yield from suggestions
    for suggestion in suggestions:
        yield from (suggestion.evidence, *suggestion.curves, *suggestion.probes, *suggestion.alternatives)
    yield compare([(path.stem, suggestion) for path, suggestion in zip(DOCUMENTS, suggestions, strict=True)][:3])
    rng = np.random.default_rng(0)
    value = 1 + np.exp(-np.arange(2000) / 40) + 0.02 * rng.standard_normal(2000)
    scan = find_plateaus(TrainingLog("made.csv", np.arange(2000), value))
    yield from (scan, *scan.plateaus)
    found = forecast([made("cosine"), made("two-stage", seed=1)])
    yield from (found, found.law, *found.schedules)
    yield from (Detector(), Policy("wsd", 100))
    yield from (NoiseScale(110.0, 87.1, 148.0, 32, 32), limit_from([1.1, 1.3], "SGD", {"momentum": 0.9}))
    yield from (one.rescale((32, 256), optimizer="sgd") for one in suggestions if one.lr is not None)


def test_a_record_is_one_line():
    for record in records():
        assert "\n" not in repr(record)
        assert len(repr(record)) < 350, repr(record)


def test_the_line_of_a_suggestion_holds_its_rate():
    suggestion = Suggestion.from_dict(json.loads(DOCUMENTS[0].with_name("probe-ok.json").read_text()))
    assert repr(suggestion).startswith(f"Suggestion(lr={suggestion.lr:.3g}, interval=(")


def test_plot_draws_the_probes_of_a_search():
    from matplotlib.figure import Figure

    suggestion = Suggestion.from_dict(json.loads(DOCUMENTS[0].with_name("probe-ok.json").read_text()))
    ax = suggestion.plot(Figure().subplots())
    assert ax.get_ylabel() == "held-out loss"
