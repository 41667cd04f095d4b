from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scripted import Quadratic, find

from lrfinder import InputError
from lrfinder.evidence.probe import Outcome, Probe
from lrfinder.probing.options import Budget, ProbePlan, SearchOptions, next_probes
from lrfinder.schedules.policy import Policy


@pytest.mark.parametrize(
    ("budget", "horizon", "steps"),
    [
        (None, None, 200), (None, 20, 20), (None, 120, 60), (None, 500, 100), (None, 2500, 125),
        (None, 100_000, 5000), (300, None, 300),
        (300.0, 7, 300), (0.05, 10_000, 500), ("5%", 10_000, 500), ("0.05", 10_000, 500), ("300", 1, 300),
        (" 10 % ", 1000, 100), (np.int64(90), None, 90), (0.01, 1000, 20), (0.05, None, 200), ("5%", None, 200),
    ],
)  # fmt: skip
def test_a_budget_in_steps(budget, horizon, steps):
    assert Budget.parse(budget, horizon) == Budget(steps)


@pytest.mark.parametrize(("budget", "seconds"), [("60s", 60.0), ("1.5min", 90.0), ("2h", 7200.0), ("0.5 s", 0.5)])
def test_a_budget_in_time(budget, seconds):
    assert Budget.parse(budget, None) == Budget(None, seconds)


@pytest.mark.parametrize(
    ("budget", "horizon", "message"),
    [
        (19, 1000, "budget must come to at least 20 steps, got 19, which is 19"),
        (0.0, 1000, "got 0.0"),
        ("0%", 1000, "got '0%'"),
        (-3, 1000, "got -3"),
        (300.5, 1000, "budget must be a share of the horizon .* got 300.5"),
        ("much", 1000, "got 'much'"),
        ("", 1000, "got ''"),
        (True, 1000, "got True"),
        ([300], 1000, r"got \[300\]"),
        (float("nan"), 1000, "got nan"),
        (float("inf"), 1000, "got inf"),
        ("infs", 1000, "got 'infs'"),
        ("nan%", 1000, "got 'nan%'"),
        ("-5s", 1000, "budget as a time must be positive, got '-5s'"),
    ],
)
def test_a_bad_budget_is_named(budget, horizon, message):
    with pytest.raises(InputError, match=message):
        Budget.parse(budget, horizon)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "grid"}, "method must be probe or range, got 'grid'"),
        ({"steps": 0}, "steps must be a positive whole number of optimizer steps, got steps = 0"),
        ({"steps": 2.5}, "got steps = 2.5"),
        ({"min_lr": 0.0}, "min_lr must be positive and finite"),
        ({"min_lr": 1.0, "max_lr": 1.0}, "min_lr must be below max_lr"),
        ({"method": "range", "budget": "60s"}, "budget of a range test must be a whole number of steps, got '60s'"),
        ({"budget": 5}, "budget must come to at least 20 steps, got 5"),
        ({"mode": "least"}, "mode must be min or max, got 'least'"),
        (
            {"method": "range", "monitor": "x"},
            "monitor may be given with method probe only, got monitor = 'x', 'range'",
        ),
        ({"policy": "cosin"}, "policy must be auto, keep, one of constant, .* or a Policy, got 'cosin'"),
        ({"policy": ["cosine"]}, r"policy must be auto, keep, .* got \['cosine'\]"),
        ({"method": "range", "budget": 5}, "steps of the range test must be at least 10, got 5"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        SearchOptions(**options)


def test_numpy_counts_are_taken():
    assert SearchOptions(steps=np.int64(70)).steps == 70


@pytest.mark.parametrize("policy", [None, "auto", "keep", "cosine", "plateau", Policy("wsd", 100)])
def test_every_request_for_a_policy_is_taken(policy):
    assert SearchOptions(policy=policy).policy == policy


@pytest.mark.parametrize(
    ("options", "budget", "max_lr"),
    [
        ({"steps": 10_000}, {"budget_steps": 500, "budget_seconds": None}, 100.0),
        ({"budget": "60s"}, {"budget_steps": None, "budget_seconds": 60.0}, 100.0),
        ({"method": "range", "max_lr": 1.0}, {"budget_steps": 100, "budget_seconds": None}, 1.0),
        ({"method": "range", "budget": 50}, {"budget_steps": 50, "budget_seconds": None}, 10.0),
    ],
)
def test_the_header_of_a_journal_keeps_its_keys(options, budget, max_lr):
    header = SearchOptions(**options).journal_header()
    given = {"method": "probe", "steps": None, **options}
    expected = {"method": given["method"], "steps": given["steps"], **budget, "min_lr": 1e-7, "max_lr": max_lr}
    assert list(header.items()) == list(expected.items())


def test_a_search_for_a_time_plans_with_a_guess_first():
    assert SearchOptions(budget="60s").planned_steps == 300
    assert SearchOptions(budget=90).planned_steps == 90


def test_it_tells_the_plan_of_the_search_that_follows():
    options = SearchOptions("probe", 2000, 300)
    told, done = options.dry_run(), find(Quadratic(-7.0), options)
    assert told["probes"] == len(done.probes) - 1
    assert {told["probe_steps"]} == {outcome.probe.steps for outcome in done.probes[1:]}
    assert told["budget_steps"] == 300 >= done.steps_spent
    assert (told["horizon"], told["min_lr"], told["max_lr"]) == (2000, 1e-7, 100.0)


def test_a_plan_in_steps_in_words():
    assert SearchOptions("probe", 4000).dry_run_lines() == [
        ("Plan", "200 steps for a training of 4,000 steps (dry run: nothing was trained)"),
        ("Range", "40 steps, from 1e-07 to 100"),
        ("Probes", "5 of 32 steps"),
    ]


def test_a_plan_in_seconds_says_that_it_may_grow():
    options = SearchOptions("probe", None, "60s")
    told, lines = options.dry_run(), dict(options.dry_run_lines())
    assert (told["budget_steps"], told["budget_seconds"]) == (None, 60.0)
    assert lines["Plan"] == "60 s for a training of unknown length (dry run: nothing was trained)"
    assert lines["Probes"].endswith(" (more, if the time allows)")


def test_a_range_test_has_no_probes():
    options = SearchOptions("range", 2000, 50)
    assert [label for label, _ in options.dry_run_lines()] == ["Plan", "Range"]
    assert [options.dry_run()[name] for name in ("range_steps", "probes", "probe_steps")] == [50, 0, 0]


@pytest.mark.parametrize("method", ["probe", "range"])
def test_the_document_is_json(method):
    told = SearchOptions(method, 2000).dry_run()
    assert json.loads(json.dumps(told, allow_nan=False)) == told


PLAN = ProbePlan.of(300, 4000, 1e-7, 100.0)


@pytest.mark.parametrize(
    ("budget", "horizon", "expected"),
    [
        (20, 40, (20, 0, 0)),
        (79, 4000, (79, 0, 0)),
        (80, 4000, (40, 2, 20)),
        (100, 2000, (40, 3, 20)),
        (200, 4000, (40, 5, 32)),
        (800, 16_000, (40, 5, 152)),
        (200, 20, (40, 5, 20)),
        (200, None, (40, 5, 32)),
    ],
)
def test_a_budget_is_a_range_test_and_then_a_few_probes_of_one_length(budget, horizon, expected):
    plan = ProbePlan.of(budget, horizon, 1e-7, 100.0)
    assert (plan.range_steps, plan.probes, plan.probe_steps) == expected


def search(plan, centre, loss):
    """Run a whole search on a function from octaves to a loss; return the outcomes."""
    outcomes = []
    while probes := next_probes(plan, centre, outcomes):
        for probe in probes:
            value = loss(math.log2(probe.lr))
            held_out = np.empty(0) if math.isinf(value) else np.full(4, value)
            outcomes.append(Outcome(probe, np.full(probe.steps, 1.0), held_out, 0.0))
    return outcomes


@given(
    st.integers(20, 5000), st.one_of(st.none(), st.integers(1, 10**6)), st.floats(-18, 4), st.floats(-22, 6)
)  # fmt: skip
def test_no_search_overspends_or_leaves_its_limits_or_repeats_itself(budget, horizon, best, centre):
    plan = ProbePlan.of(budget, horizon, 1e-7, 100.0)
    outcomes = search(plan, centre, lambda x: abs(x - best) if x < best + 5 else math.inf)
    assert plan.range_steps + sum(o.probe.steps for o in outcomes) <= budget
    assert len(outcomes) <= plan.probes
    assert all(1e-7 * 0.999 <= o.probe.lr <= 100.1 for o in outcomes)
    assert len({round(math.log2(o.probe.lr), 3) for o in outcomes}) == len(outcomes)
    assert all(o.probe.steps <= (horizon or budget) for o in outcomes)


@pytest.mark.parametrize("best", [-8.3, -5.0, -2.4])
def test_the_probes_close_in_on_the_best_rate(best):
    octaves = sorted(math.log2(o.probe.lr) for o in search(PLAN, -5.5, lambda x: (x - best) ** 2))
    assert min(abs(x - best) for x in octaves) < 1.1
    assert octaves[0] < best < octaves[-1]


def test_it_goes_down_where_everything_blows_up():
    outcomes = search(PLAN, 0.0, lambda x: math.inf if x > -8 else (x + 10) ** 2)
    assert min(math.log2(o.probe.lr) for o in outcomes) < -8


def test_it_goes_on_from_what_is_known():
    whole = search(PLAN, -4.0, lambda x: (x + 5) ** 2)
    again = []
    while probes := next_probes(PLAN, -4.0, whole[: len(again)]):
        again += probes
    assert again == [outcome.probe for outcome in whole]


def test_a_probe_warms_up_and_anneals_to_nearly_zero():
    assert Probe(1.0, 10).lrs().tolist() == pytest.approx([1.0] * 7 + [0.75, 0.5, 0.25])
    assert Probe(0.5, 4, 0.0).lrs().tolist() == [0.5] * 4
    lrs = PLAN.probe(-3.0).lrs()
    assert lrs.size == 52
    assert lrs.max() == 2**-3
    assert np.all(np.diff(lrs[:11]) > 0)
    assert np.all(np.diff(lrs[31:]) < 0)
    assert lrs[-1] == pytest.approx(2**-3 / 20.8)
