from __future__ import annotations

import json

import pytest
from support.scripted import Quadratic, find

from lrfinder.probing.dry_run import DryRun
from lrfinder.probing.options import SearchOptions


def test_it_tells_the_plan_of_the_search_that_follows():
    options = SearchOptions("probe", 2000, 300)
    told, done = DryRun.of(options).to_dict(), find(Quadratic(), options)
    assert told["probes"] == len(done.probes) - 1
    assert {told["probe_steps"]} == {outcome.probe.steps for outcome in done.probes[1:]}
    assert told["budget_steps"] == 300 >= done.steps_spent
    assert (told["horizon"], told["min_lr"], told["max_lr"]) == (2000, 1e-7, 100.0)


def test_a_plan_in_steps_in_words():
    assert DryRun.of(SearchOptions("probe", 4000)).lines() == [
        ("Plan", "200 steps for a training of 4,000 steps (dry run: nothing was trained)"),
        ("Range", "100 steps, from 1e-07 to 100"),
        ("Probes", "3 of 33 steps"),
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
    assert [told.to_dict()[name] for name in ("range_steps", "probes", "probe_steps")] == [50, 0, 0]


@pytest.mark.parametrize("method", ["probe", "range"])
def test_the_document_is_json(method):
    told = DryRun.of(SearchOptions(method, 2000)).to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
