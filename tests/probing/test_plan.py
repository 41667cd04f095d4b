"""Tests."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scripted import evidence, valley

from lrfinder import Curve
from lrfinder.evidence.probe import Outcome, Probe
from lrfinder.probing.plan import ProbePlan, bracket_centre, branch_probes, next_probes

PLAN = ProbePlan.of(300, 500, 1e-7, 100.0)


@pytest.mark.parametrize("budget", [300, 500, 1000, 2500, 50_000])
def test_what_is_kept_for_branches_pays_for_a_long_trunk_and_its_branch(budget):
    plan = ProbePlan.of(budget, 10**6, 1e-7, 100.0)
    wanted = 2 * plan.long if budget < 500 else 3 * plan.long + 2 * plan.short
    assert plan.reserved >= 0.9 * wanted
    assert plan.range_steps + 6 * plan.short + 4 * plan.long + plan.reserved <= 1.02 * budget
    assert ProbePlan.of(budget, None, 1e-7, 100.0).reserved == 0


def search(plan, centre, loss):
    """Run a whole search on a function from (octave, steps) to a loss."""
    outcomes, spent = [], plan.range_steps
    while probes := next_probes(plan, centre, outcomes, spent):
        for probe in probes:
            value = loss(math.log2(probe.lr), probe.steps)
            held_out = np.empty(0) if math.isinf(value) else np.full(4, value)
            outcomes.append(Outcome(probe, np.full(probe.steps, 1.0), held_out, 0.0))
            spent += probe.steps
    return outcomes, spent


@given(
    st.integers(60, 5000), st.one_of(st.none(), st.integers(1, 10**6)), st.floats(-18, 4), st.floats(-22, 6),
    st.sampled_from([0.0, -0.5, -1.0, 0.3]),
)  # fmt: skip
def test_no_search_overspends_or_leaves_its_limits_or_repeats_itself(budget, horizon, best, centre, drift):
    plan = ProbePlan.of(budget, horizon, 1e-7, 100.0)
    outcomes, spent = search(
        plan, 2.0**centre, lambda x, n: abs(x - best - drift * math.log2(n / 10)) if x < best + 5 else math.inf
    )
    assert spent <= budget
    assert outcomes
    assert all(1e-7 * 0.999 <= o.probe.lr <= 100.1 for o in outcomes)
    assert len({(o.probe.steps, round(math.log2(o.probe.lr), 3)) for o in outcomes}) == len(outcomes)
    assert all(o.probe.steps <= (horizon or budget) for o in outcomes)


@pytest.mark.parametrize("centre", [-14.0, -6.0, 1.0])
@pytest.mark.parametrize("best", [-11.3, -5.0, 1.4])
def test_short_probes_find_the_best_rate_wherever_they_begin(best, centre):
    outcomes, _ = search(PLAN, 2.0**centre, lambda x, n: (x - best) ** 2)
    short = sorted(math.log2(o.probe.lr) for o in outcomes if o.probe.stage == "rung 1")
    assert min(abs(x - best) for x in short) < 1.1
    assert short[0] < best < short[-1]


def test_long_probes_close_in_on_the_drifted_place():
    outcomes, _ = search(PLAN, 2.0**-4, lambda x, n: (x + 5 + 0.6 * math.log2(n / 10)) ** 2)
    long = [math.log2(o.probe.lr) for o in outcomes if o.probe.stage == "rung 2"]
    best = -5 - 0.6 * math.log2(PLAN.long / 10)
    assert min(long) < best < max(long)


def test_it_goes_down_where_everything_blows_up():
    outcomes, _ = search(PLAN, 1.0, lambda x, n: math.inf if x > -8 else (x + 10) ** 2)
    assert min(math.log2(o.probe.lr) for o in outcomes) < -8


def test_it_gives_up_where_really_everything_blows_up():
    outcomes, _ = search(PLAN, 1.0, lambda x, n: math.inf)
    assert {o.probe.stage for o in outcomes} == {"rung 1"}
    assert len(outcomes) <= 9


def test_it_goes_on_from_what_is_known():
    whole, spent = search(PLAN, 2.0**-4, lambda x, n: (x + 5) ** 2)
    again, known = [], 0
    while probes := next_probes(PLAN, 2.0**-4, whole[:known], PLAN.range_steps + sum(p.steps for p in again)):
        again += probes
        known += len(probes)
    assert again == [o.probe for o in whole]
    assert sum(p.steps for p in again) + PLAN.range_steps == spent


def test_a_probe_anneals_to_nearly_zero():
    lrs = Probe(0.5, 10, 1.0).lrs()
    assert lrs.tolist() == pytest.approx([0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05])
    assert Probe(0.5, 4, 0.0).lrs().tolist() == [0.5] * 4
    assert Probe(1.0, 10, 0.4).lrs().tolist() == pytest.approx([1.0] * 7 + [0.75, 0.5, 0.25])


def test_a_flat_range_test_says_to_look_below_its_end():
    curve = Curve(np.geomspace(1e-6, 1.0, 40), np.random.default_rng(0).normal(2.3, 0.01, 40))
    assert bracket_centre(curve, PLAN) == pytest.approx(2**-5.5)


def test_a_clear_range_test_says_to_look_below_its_lowest_place():
    lr = np.geomspace(1e-6, 10, 60)
    loss = 2.3 - 1.5 / (1 + (lr / 1e-2) ** -2) + (lr / 1.0) ** 4
    assert 0.03 < bracket_centre(Curve(lr, loss), PLAN) < 0.6


SEARCH = evidence(valley(-6.0))  # lengths 10 and 40, the best rate 2**-6


def told(probe):
    return (probe.stage, probe.steps, math.log2(probe.lr), probe.anneal, probe.warmup)


def test_the_longest_probes_are_asked_first_and_below_them_the_shortest():
    assert [told(probe) for probe in branch_probes(SEARCH.outcomes, 1000)] == [
        ("trunk", 40, -6.5, 0.0, 0),
        ("branch", 40, -6.5, 0.4, 0),
        ("warmup", 40, -5.5, 1.0, 8),
        ("trunk", 10, -6.5, 0.0, 0),
        ("branch", 10, -6.5, 0.4, 0),
    ]


@pytest.mark.parametrize("left", range(0, 141, 10))
def test_no_more_is_spent_than_is_left_and_no_trunk_comes_without_its_branch(left):
    probes = branch_probes(SEARCH.outcomes, left)
    assert sum(probe.steps for probe in probes) <= left
    stages = [(probe.stage, probe.steps) for probe in probes]
    assert [n for stage, n in stages if stage == "trunk"] == [n for stage, n in stages if stage == "branch"]


def test_no_branch_goes_above_the_highest_rate_to_try():
    stages = [probe.stage for probe in branch_probes(SEARCH.outcomes, 1000, max_lr=2**-6)]
    assert stages == ["trunk", "branch", "trunk", "branch"]


def test_a_search_in_which_everything_blew_up_is_not_followed():
    assert branch_probes(evidence({(10, x): math.inf for x in (-3, -2, -1)}).outcomes, 1000) == []


def test_a_branch_takes_the_rates_of_its_trunk_up_to_where_it_leaves():
    trunk, branch = (probe.lrs() for probe in branch_probes(SEARCH.outcomes, 80))
    assert np.array_equal(trunk[:25], branch[:25])
    assert np.all(branch[25:] < trunk[25:])
