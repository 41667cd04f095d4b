from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfinder import InputError, Policy
from lrfinder.schedules.policy import POLICIES
from lrfinder.schedules.theory import ConvexBound, features, octaves_to_own_best

MEASURED = {  # tuned losses of a 124M language model at 50,000 steps, runs of Schaipp et al. 2025 (arXiv 2501.18965)
    Policy("constant", 50_000): 3.067,
    **{
        Policy("wsd", 50_000, params={"cooldown": share / 100}): loss
        for share, loss in ((10, 2.946), (20, 2.931), (40, 2.918), (60, 2.912), (80, 2.914))
    },
    Policy("linear", 50_000): 2.916,
    Policy("cosine", 50_000): 2.916,
    Policy("cosine", 50_000, params={"end": 0.1}): 2.946,
}


def bound(policy):
    return ConvexBound.of([policy(step) for step in range(policy.total_steps)])


def literally(eta):
    """The three terms of the theorem, summed as they are written."""
    steps = len(eta)
    t1 = 1 / (2 * sum(eta))
    t2 = sum(x**2 for x in eta) / (2 * sum(eta))
    t3 = 0.5 * sum(
        eta[k] / sum(eta[k + 1 :]) * sum(x**2 for x in eta[k:]) / sum(eta[k:]) for k in range(steps - 1)
    )  # fmt: skip
    return t1, t2 + t3


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=20))
def test_the_terms_are_those_of_the_theorem(eta):
    found = ConvexBound.of(eta)
    assert (found.distance, found.noise) == pytest.approx(literally(eta))
    assert found.lr == pytest.approx(math.sqrt(found.distance / found.noise))
    assert found.value == pytest.approx(found.distance / found.lr + found.noise * found.lr)


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=20), st.floats(0.01, 100.0))
def test_scaling_a_schedule_scales_its_best_rate_and_nothing_else(eta, factor):
    one, other = ConvexBound.of(eta), ConvexBound.of([factor * x for x in eta])
    assert other.lr == pytest.approx(one.lr / factor)
    assert other.value == pytest.approx(one.value)


def test_steps_at_rate_zero_change_nothing():
    assert ConvexBound.of([1.0, 0.5, 0.0, 0.0]) == ConvexBound.of([1.0, 0.5])


def test_one_scale_predicts_the_measured_losses_of_nine_schedules():
    values = np.array([bound(policy).value for policy in MEASURED])
    losses = np.array(list(MEASURED.values()))
    scale, offset = np.polyfit(values, losses, 1)
    assert np.abs(scale * values + offset - losses).mean() < 0.0026
    assert scale > 0


@pytest.mark.parametrize("eta", [[], [0.0, 0.0], [1.0, -0.1], [1.0, math.nan], [[1.0]]])
def test_what_is_no_schedule_is_refused(eta):
    with pytest.raises(InputError, match="multipliers must be finite, at least 0, and some of them positive"):
        ConvexBound.of(eta)


def test_a_constant_rate_is_where_the_features_begin_and_linear_removes_all_the_noise():
    constant, linear = (features(Policy(name, 1000), 1000) for name in ("constant", "linear"))
    assert (constant.noise_removed, constant.progress_lost) == (0.0, 0.0)
    assert constant.lr < -0.7
    assert (linear.noise_removed, linear.lr) == (1.0, 0.0)
    assert linear.progress_lost == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_features_hardly_change_with_the_resolution(name):
    fine, coarse = features(Policy(name, 9_999), 9_999), features(Policy(name, 10**6), 10**6)
    assert fine.progress_lost == pytest.approx(coarse.progress_lost, abs=0.01)
    assert fine.noise_removed == pytest.approx(coarse.noise_removed, abs=0.05)


def test_features_of_a_single_step():
    assert features(Policy("linear", 1), 1).progress_lost == 0.0


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_the_octaves_of_a_schedule_are_those_of_the_policy_that_it_equals(name):
    policy = Policy(name, 500)
    multipliers = [policy(step) for step in range(500)]
    assert octaves_to_own_best(multipliers, 500) == pytest.approx(features(policy, 500).lr, abs=1e-12)
