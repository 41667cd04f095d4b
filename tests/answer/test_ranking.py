from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scripted import evidence, valley

from lrfinder import InputError, Policy, Suggestion
from lrfinder.answer.choose import choose
from lrfinder.answer.ranking import ConvexBound, features, octaves_to_own_best, rank, warmup_steps
from lrfinder.schedules.policy import POLICIES

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


CHOSEN = Policy("wsd", 500, 75)
RANKED = rank(CHOSEN, 500, 2**-6)


def answer():
    return choose(evidence(valley(-6.0, lengths=(40,))), steps=500)


@pytest.mark.parametrize(
    ("steps", "warmup"), [(1, 0), (100, 15), (1000, 150), (2500, 375), (4000, 400), (16_000, 400), (100_000, 1000)]
)
def test_warmup_is_15_percent_then_400_steps_then_a_hundredth(steps, warmup):
    assert warmup_steps(steps) == warmup


def test_every_policy_is_ranked_with_its_own_rate_and_a_reason():
    names = [alternative.policy.name for alternative in RANKED]
    assert sorted(names) == sorted(POLICIES)
    assert names[-1] == "plateau"
    gains = [alternative.gain for alternative in RANKED[:-1]]
    assert gains == sorted(gains, reverse=True)
    for alternative in RANKED[:-1]:
        assert alternative.gain_low <= alternative.gain <= alternative.gain_high < 1
        assert alternative.reason.endswith(".")
        assert alternative.policy.total_steps == 500
    rates = {alternative.policy.name: alternative.lr for alternative in RANKED}
    assert rates["constant"] < rates["wsd"] == 2**-6 < rates["linear"] < rates["exponential"]


def test_a_constant_rate_without_warmup_gains_nothing_over_itself():
    constant = next(one for one in rank(Policy("wsd", 500), 500, 2**-6) if one.policy.name == "constant")
    assert (constant.gain, constant.gain_low, constant.gain_high) == (0.0, 0.0, 0.0)


def test_the_policy_suggested_is_among_them_as_it_is():
    chosen = next(one for one in RANKED if one.policy == CHOSEN)
    assert chosen.lr == 2**-6
    assert "no search of this size tells policies apart" in chosen.reason


def test_all_that_may_warm_up_do_so_as_long():
    warmup = {one.policy.name: one.policy.warmup_steps for one in RANKED}
    assert (warmup.pop("one-cycle"), warmup.pop("plateau")) == (0, 0)
    assert set(warmup.values()) == {75}


@pytest.mark.parametrize("horizon", [1, 2, 3, 10, 10**9])
def test_any_horizon_can_be_ranked(horizon):
    ranked = rank(Policy("wsd", horizon, warmup_steps(horizon)), horizon, 2**-6)
    assert all(math.isfinite(alternative.lr) for alternative in ranked)


def test_a_suggestion_carries_the_policies_and_makes_them_again_from_its_json():
    first = answer()
    again = choose(Suggestion.from_dict(json.loads(json.dumps(first.to_dict()))).evidence, steps=500)
    assert again.alternatives == first.alternatives
    assert first.policy == first.chosen.policy == CHOSEN
    assert first.lr == pytest.approx(first.chosen.lr)
    document = first.to_dict()["policy"]
    assert document["predicted_gain"] == first.chosen.gain > 0
    assert document["predicted_gain_low"] < document["predicted_gain"] < document["predicted_gain_high"]
    assert first.steps_spent == 12 + 6 * 40


def test_a_schedule_without_warmup_gets_a_lower_peak():
    warm = answer()
    linear = next(one for one in warm.alternatives if one.policy.name == "linear")
    assert warm.with_policy(Policy("linear", 500)).lr == pytest.approx(linear.lr * 2**-0.5)
    assert warm.with_policy(Policy("linear", 500, 75)).lr == pytest.approx(linear.lr)
    falling = [1 - step / 500 for step in range(500)]
    assert warm.with_schedule(falling).lr == pytest.approx(linear.lr * 2**-0.5)
    again = Suggestion.from_dict(json.loads(json.dumps(warm.to_dict())))
    assert again.with_policy(Policy("linear", 500)).lr == pytest.approx(linear.lr * 2**-0.5)


def test_the_peak_for_a_schedule_of_ones_own_is_that_of_the_policy_it_equals():
    found = answer()
    # A policy without warmup is taken to lose half an octave whatever its decay is; the bound of exponential says less.
    for name, warmup, rel in [
        *((name, 75, 0.02) for name in ("constant", "cosine", "wsd", "exponential")),
        *((name, 0, 0.05) for name in ("constant", "cosine", "wsd")),
        ("exponential", 0, 0.11),
    ]:
        policy = Policy(name, 500, warmup)
        own = found.with_schedule([0.3 * policy(step) for step in range(500)], "mine", 0.3)
        assert own.lr == pytest.approx(found.with_policy(policy).lr, rel=rel), (name, warmup)
        assert own.lr_low / own.lr == pytest.approx(found.lr_low / found.lr)
        assert own.policy is None
        assert own.caveats[-1] == "The peak is the one for mine, moved there by the convex bound."
    doubled = found.with_schedule([0.6, 0.6, 0.6], "mine", 0.3)
    assert doubled.lr == pytest.approx(found.with_schedule([0.3] * 500, "mine", 0.3).lr / 2)
    assert "peaks at 2 times the rate that is set" in doubled.caveats[-1]


def test_the_transfer_of_the_rate_follows_the_bound():
    own = features(CHOSEN, 500)
    for alternative in RANKED:
        expected = features(alternative.policy, 500).lr - own.lr
        assert math.log2(alternative.lr) + 6 == pytest.approx(expected), alternative.policy.name
