from __future__ import annotations

import json
import math

import numpy as np
import pytest
from support.scripted import evidence, valley

from lrfinder import Policy, Suggestion
from lrfinder.answer.choose import choose
from lrfinder.answer.ranking import rank
from lrfinder.evidence.probe import Outcome, Probe
from lrfinder.schedules.policy import POLICIES
from lrfinder.schedules.theory import features


def search(*branches, losses=None):
    """A search with the best rate at 2**-6, and outcomes of branches: (stage, octave, steps, loss)."""
    base = evidence(losses or valley(-6.0), batches=4)
    found = [
        Outcome(Probe(2.0**x, n, 0.0, stage, n // 5 if stage == "warmup" else 0), np.zeros(n), np.full(4, loss), 0.1)
        for stage, x, n, loss in branches
    ]
    return type(base)(**{**vars(base), "branches": tuple(found)})


def names(ranking):
    return [alternative.policy.name for alternative in ranking.alternatives]


def test_losses_that_are_not_positive_leave_annealing_unmeasured():
    branches = (("trunk", -6.5, 40, -1.5), ("branch", -6.5, 40, -1.3))
    ranking = rank(search(*branches), 50, 2**-6)
    assert ranking.alternatives == rank(search(), 50, 2**-6).alternatives
    assert "shares of what is not positive say nothing" in ranking.caveats[0]


def test_every_policy_is_ranked_with_its_own_rate_and_a_reason():
    ranking = rank(search(), 500, 2**-6)
    assert sorted(names(ranking)) == sorted(POLICIES)
    assert names(ranking)[-1] == "plateau"
    gains = [alternative.gain for alternative in ranking.alternatives[:-1]]
    assert gains == sorted(gains, reverse=True)
    for alternative in ranking.alternatives[:-1]:
        assert alternative.gain_low <= alternative.gain <= alternative.gain_high < 1
        assert alternative.reason.endswith(".")
        assert alternative.policy.total_steps == 500
    rates = {alternative.policy.name: alternative.lr for alternative in ranking.alternatives}
    assert rates["constant"] < rates["wsd"] < rates["linear"] == 2**-6 < rates["exponential"]
    assert rates[ranking.chosen.policy.name] == pytest.approx(2 ** (-6 + ranking.octaves))


def test_a_constant_rate_gains_nothing_over_itself():
    constant = next(a for a in rank(search(), 500, 2**-6).alternatives if a.policy.name == "constant")
    assert (constant.gain, constant.gain_low, constant.gain_high) == (0.0, 0.0, 0.0)


def test_the_simplest_of_those_that_do_not_differ_is_taken_and_said_to_be():
    ranking = rank(search(), 500, 2**-6)
    assert ranking.chosen.policy.name == "wsd"
    assert set(names(ranking)[:2]) == {"wsd", "wsd-sqrt"}
    assert ranking.chosen.reason.startswith("No detectable difference from wsd-sqrt (less than 0.5%): the simplest")
    assert ranking.chosen in ranking.alternatives


def test_where_annealing_only_costs_a_constant_rate_is_taken():
    trunk = 0.8  # below anything that annealed
    ranking = rank(search(("trunk", -6.5, 40, trunk), ("branch", -6.5, 40, trunk * 1.08)), 50, 2**-6)
    assert ranking.chosen.policy.name == "constant"
    assert "changed the loss by +7.4%" in ranking.caveats[0]


def test_where_annealing_throughout_pays_most_that_is_taken():
    ranking = rank(search(("trunk", -6.5, 40, 1.5), ("branch", -6.5, 40, 1.3)), 44, 2**-6)
    assert ranking.chosen.policy.name in ("linear", "cosine")


def test_what_was_not_measured_is_said():
    assert "not measured on this model" in rank(search(), 500, 2**-6).caveats[0]
    far = rank(search(("trunk", -6.5, 40, 1.5), ("branch", -6.5, 40, 1.3)), 10**6, 2**-6)
    assert "after 1000000 is extrapolated" in far.caveats[0]


@pytest.mark.parametrize(("loss", "warms"), [(0.9, True), (1.049, False), (1.2, False)])
def test_warmup_is_recommended_where_a_probe_with_it_ended_lower(loss, warms):
    ranking = rank(search(("warmup", -5.5, 40, loss)), 500, 2**-6)
    warmup = {alternative.policy.name: alternative.policy.warmup_steps for alternative in ranking.alternatives}
    assert (warmup.pop("one-cycle"), warmup.pop("plateau")) == (0, 0)
    assert set(warmup.values()) == {50 if warms else 0}
    plain = rank(search(), 500, 2**-6)
    assert ranking.octaves - plain.octaves == pytest.approx(0.5 if warms else 0.0)
    assert ("with it a probe ended" in ranking.chosen.reason) == (loss < 1.0) or not warms


def test_warmup_is_recommended_where_an_untrained_model_does_not_survive_the_peak():
    assert rank(search(), 500, 2**-6, blow_up=2**-7.5).chosen.policy.warmup_steps == 50
    assert rank(search(), 100_000, 2**-6, blow_up=2**-7.5).chosen.policy.warmup_steps == 2000
    near = rank(search(), 500, 2**-6, blow_up=2**-5.9)
    warms = {one.policy.name for one in near.alternatives if one.policy.warmup_steps}
    assert warms == {"polynomial", "exponential"}  # the others' peaks are lower
    assert "survived 0.062, 5.4 times the peak" in rank(search(), 500, 2**-6).chosen.reason


@pytest.mark.parametrize("horizon", [1, 2, 3, 10, 10**9])
def test_any_horizon_can_be_ranked(horizon):
    ranking = rank(search(("warmup", -5.5, 40, 0.9)), horizon, 2**-6)
    assert all(math.isfinite(alternative.lr) for alternative in ranking.alternatives)


def test_a_suggestion_carries_the_ranking_and_is_chosen_again_from_its_json():
    branches = (("trunk", -6.5, 40, 1.5), ("branch", -6.5, 40, 1.3))
    first = choose(search(*branches), steps=50)
    again = choose(Suggestion.from_dict(json.loads(json.dumps(first.to_dict()))).evidence, steps=50)
    assert again.alternatives == first.alternatives
    assert first.policy == first.chosen.policy
    assert first.lr == pytest.approx(first.chosen.lr)
    document = first.to_dict()["policy"]
    assert document["predicted_gain"] == first.chosen.gain > 0
    assert document["predicted_gain_low"] < document["predicted_gain"] < document["predicted_gain_high"]
    assert first.steps_spent == 12 + 6 * 10 + 6 * 40 + 2 * 40


def test_only_a_schedule_that_warms_up_gets_the_rate_that_warmup_allows():
    plain = choose(search(), steps=300)
    warm = choose(search(("warmup", -5.5, 40, 0.9)), steps=300)
    assert warm.policy.warmup_steps == 30
    assert warm.lr == pytest.approx(plain.lr * 2**0.5)
    cold = Policy("linear", 300)
    assert warm.with_policy(cold).lr == pytest.approx(plain.with_policy(cold).lr)
    assert warm.with_policy(Policy("linear", 300, 30)).lr == pytest.approx(plain.with_policy(cold).lr * 2**0.5)
    falling = [1 - step / 300 for step in range(300)]
    assert warm.with_schedule(falling).lr == pytest.approx(plain.with_schedule(falling).lr)
    again = Suggestion.from_dict(json.loads(json.dumps(warm.to_dict())))
    assert again.with_policy(cold).lr == warm.with_policy(cold).lr


def test_annealing_that_was_seen_to_hurt_never_ends_in_more_of_it():
    long = ("trunk", -6.5, 40, 0.9), ("branch", -6.5, 40, 0.94)
    short = ("trunk", -6.5, 10, 1.1), ("branch", -6.5, 10, 1.15)
    assert rank(search(*long, *short), 50, 2**-6).chosen.policy.name == "constant"


def test_the_suggested_rate_is_the_best_peak_of_the_suggested_policy():
    answer = choose(search(), steps=500)
    assert answer.policy.name == "wsd"
    assert answer.lr == pytest.approx(answer.chosen.lr)
    linear = next(one for one in answer.alternatives if one.policy.name == "linear")
    assert math.log2(answer.lr / linear.lr) == pytest.approx(features(Policy("wsd", 500), 500).lr)
    assert answer.lr_low < answer.lr < answer.lr_high


def test_the_peak_for_a_schedule_of_ones_own_is_that_of_the_policy_it_equals():
    answer = choose(search(), steps=500)
    for name in ("constant", "cosine", "wsd", "exponential"):
        rates = [0.3 * Policy(name, 500)(step) for step in range(500)]
        own = answer.with_schedule(rates, "mine", 0.3)
        assert own.lr == pytest.approx(answer.with_policy(name).lr), name
        assert own.lr_low / own.lr == pytest.approx(answer.lr_low / answer.lr)
        assert own.policy is None
        assert own.caveats[-1] == "The peak is the one for mine, moved there by the convex bound."
    doubled = answer.with_schedule([0.6, 0.6, 0.6], "mine", 0.3)
    assert doubled.lr == pytest.approx(answer.with_policy("constant").lr / 2)
    assert "peaks at 2 times the rate that is set" in doubled.caveats[-1]


def test_the_transfer_of_the_rate_follows_the_bound():
    ranking = rank(search(), 500, 1.0)
    for alternative in ranking.alternatives:
        expected = features(alternative.policy, 500).lr
        assert math.log2(alternative.lr) == pytest.approx(expected), alternative.policy.name
