from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lrfinder.worth import PRIOR, features, worth_at

from lrfinder import Policy
from lrfinder.branches import Annealed
from lrfinder.policy import POLICIES


def measured(relief, cost, steps, error=0.001):
    """What branches say where the law holds exactly."""
    rises = []
    for name in ("wsd", "linear"):
        of = features(Policy(name, steps), steps)
        rises.append(-relief * of.relief + cost * of.octaves)
    return Annealed(steps, rises[0], error, rises[1], error)


def test_a_constant_rate_is_where_the_features_begin_and_linear_where_relief_is_one():
    constant, linear = (features(Policy(name, 1000), 1000) for name in ("constant", "linear"))
    assert (constant.relief, constant.octaves) == (0.0, 0.0)
    assert constant.lr < -0.7
    assert (linear.relief, linear.lr) == (1.0, 0.0)
    assert linear.octaves == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_features_hardly_change_with_the_resolution(name):
    fine, coarse = features(Policy(name, 9_999), 9_999), features(Policy(name, 10**6), 10**6)
    assert fine.octaves == pytest.approx(coarse.octaves, abs=0.01)
    assert fine.relief == pytest.approx(coarse.relief, abs=0.05)


def test_features_of_a_single_step():
    assert features(Policy("linear", 1), 1).octaves == 0.0


def test_without_measurement_the_prior_stands():
    worth = worth_at(1000, ())
    assert worth.mean == pytest.approx(PRIOR.mean)
    assert worth.covariance == pytest.approx(PRIOR.covariance)
    assert worth.measured == 0.0


@given(st.floats(-0.05, 0.15), st.floats(-0.02, 0.15))
def test_measurement_as_long_as_training_draws_the_prediction_towards_what_was_seen(relief, cost):
    seen = measured(relief, cost, 500)
    worth = worth_at(500, [seen])
    for name, rise in (("wsd", seen.late), ("linear", seen.throughout)):
        of = features(Policy(name, 500), 500)
        before, after = abs(PRIOR.rise(of)[0] - rise), abs(worth.rise(of)[0] - rise)
        assert after <= before + 0.01
    assert np.all(np.linalg.eigvalsh(PRIOR.covariance - worth.covariance) > 0)


def test_the_further_the_horizon_the_less_a_measurement_counts_and_the_wider_the_interval():
    of = features(Policy("wsd", 1000), 1000)
    worths = [worth_at(horizon, [measured(0.2, 0.0, 100)]) for horizon in (100, 1000, 10_000, 10**6)]
    shares = [worth.measured for worth in worths]
    assert shares == sorted(shares, reverse=True)
    deviations = [worth.rise(of)[1] for worth in worths]
    assert deviations[0] < deviations[-1]
    rises = [worth.rise(of)[0] for worth in worths]
    assert rises == sorted(rises)  # from the measured gain back to what is usual


def test_an_optimizer_that_decays_by_itself_is_recognised_by_its_branches():
    worth = worth_at(400, [measured(0.005, 0.06, 90), measured(0.005, 0.06, 200)])
    assert worth.rise(features(Policy("linear", 400), 400))[0] > 0.02
    noisy = worth_at(400, [measured(0.15, 0.02, 90), measured(0.15, 0.02, 200)])
    assert noisy.rise(features(Policy("linear", 400), 400))[0] < -0.05


def test_a_trunk_and_a_branch_alone_leave_the_other_direction_to_the_prior():
    worth = worth_at(500, [Annealed(500, -0.1, 0.001, None, 0.0)])
    assert np.all(np.isfinite(worth.mean))
    assert worth.rise(features(Policy("wsd", 500), 500))[0] < PRIOR.rise(features(Policy("wsd", 500), 500))[0]
