from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfinder.evidence.probe import Outcome, Probe
from lrfinder.probing.plan import ProbePlan, next_probes

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
