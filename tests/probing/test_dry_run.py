from __future__ import annotations

import json

import pytest
from support.scripted import Quadratic, find

from lrfinder.probing.dry_run import DryRun
from lrfinder.probing.options import SearchOptions


def test_it_tells_the_plan_of_the_search_that_follows():
    options = SearchOptions("probe", 2000, 300)
    told, done = DryRun.of(options).to_dict(), find(Quadratic(), options)
    steps = {outcome.probe.stage: outcome.probe.steps for outcome in done.probes}
    assert (told["short"], told["long"]) == (steps["rung 1"], steps["rung 2"])
    assert told["budget_steps"] == 300 >= done.steps_spent
    assert (told["horizon"], told["min_lr"], told["max_lr"]) == (2000, 1e-7, 100.0)


def test_a_plan_in_steps_in_words():
    assert DryRun.of(SearchOptions("probe", 2000)).lines() == [
        ("Plan", "250 steps for a training of 2,000 steps (dry run: nothing was trained)"),
        ("Range", "38 steps, from 1e-07 to 100"),
        ("Probes", "about 6 of 7 steps and 4 of 29"),
        ("Decay", "55 steps reserved to measure what annealing and warmup gain"),
    ]


def test_a_plan_in_seconds_says_that_it_may_grow():
    told = DryRun.of(SearchOptions("probe", None, "60s"))
    assert (told.to_dict()["budget_steps"], told.to_dict()["budget_seconds"]) == (None, 60.0)
    lines = dict(told.lines())
    assert lines["Plan"] == "60 s for a training of unknown length (dry run: nothing was trained)"
    assert lines["Probes"].endswith(" (more, if the time allows)")


def test_a_range_test_has_no_probes():
    told = DryRun.of(SearchOptions("range", 2000, 50))
    assert [label for label, _ in told.lines()] == ["Plan", "Range"]
    assert [told.to_dict()[name] for name in ("range_steps", "short", "long", "reserved")] == [50, 0, 0, 0]


@pytest.mark.parametrize("method", ["probe", "range"])
def test_the_document_is_json(method):
    told = DryRun.of(SearchOptions(method, 2000)).to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
