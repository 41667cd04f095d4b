from __future__ import annotations

import math

import numpy as np
import pytest
from scripted import evidence, valley

from lrfinder.branches import annealed, branch_probes, warmed
from lrfinder.probe import Outcome, Probe

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


def with_branches(*told_):
    """The search with outcomes of branches: (stage, steps, losses)."""
    found = [
        Outcome(Probe(0.01, steps, 0.0, stage, 8 if stage == "warmup" else 0), np.zeros(steps), np.array(losses), 0.1)
        for stage, steps, losses in told_
    ]
    base = evidence(valley(-6.0), noise=0.0, batches=4)
    return type(base)(**{**vars(base), "branches": tuple(found)})


def test_annealing_is_measured_against_the_trunk_of_its_length_batch_by_batch():
    found = annealed(
        with_branches(
            ("trunk", 40, [1.0, 1.2, 1.4, 1.6]),
            ("branch", 40, [0.9, 1.1, 1.3, 1.5]),
            ("trunk", 10, [2.0, 2.0, 2.0, 2.0]),
            ("branch", 10, [2.1, 2.3, 2.1, 2.3]),
        )
    )
    assert [one.steps for one in found] == [10, 40]
    assert found[1].late == pytest.approx(-0.1 / 1.3)
    assert found[1].late_error == pytest.approx(0.0, abs=1e-12)  # the batches differ, their differences do not
    assert found[0].late == pytest.approx(0.2 / 2.2)
    assert found[0].late_error == pytest.approx(0.1 * math.sqrt(4 / 3) / 2 / 2.2)
    assert found[1].throughout == pytest.approx((1.05 - 1.3) / 1.3)  # the best probe of 40 steps annealed throughout


@pytest.mark.parametrize("gone", ["trunk", "branch"])
def test_what_blew_up_says_nothing(gone):
    losses = {"trunk": [1.0, 1.0], "branch": [1.0, 1.0], gone: []}
    assert annealed(with_branches(*((stage, 40, values) for stage, values in losses.items()))) == ()


def test_warmup_is_measured_against_the_best_probe_without():
    found = warmed(with_branches(("warmup", 40, [0.945, 0.945, 0.945, 0.945])))
    assert found.rise == pytest.approx(-0.1)
    assert (found.steps, found.octaves) == (8, pytest.approx(math.log2(0.01) + 6))
    assert warmed(with_branches()) is None
    assert warmed(with_branches(("warmup", 40, []))) is None
