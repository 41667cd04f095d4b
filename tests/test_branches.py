from __future__ import annotations

import math

import numpy as np
import pytest
from scripted import evidence, valley

from lrfinder.branches import branch_probes

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
