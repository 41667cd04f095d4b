from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scripted import evidence, valley

from lrfinder import Suggestion
from lrfinder.choice import choose, evidence_of
from lrfinder.probe import Outcome, Probe
from lrfinder.ranking import rank
from lrfinder.schedules import POLICIES
from lrfinder.worth import features


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
    assert names(ranking)[0] == "wsd-sqrt"
    assert ranking.chosen.reason.startswith("No detectable difference from wsd-sqrt: the simplest of them.")
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
    assert warmup.pop("one-cycle") == 0
    assert set(warmup.values()) == {50 if warms else 0}
    plain = rank(search(), 500, 2**-6)
    assert ranking.octaves - plain.octaves == pytest.approx(0.5 if warms else 0.0)
    assert ("with it a probe ended" in ranking.chosen.reason) == (loss < 1.0) or not warms


def test_warmup_is_recommended_where_an_untrained_model_does_not_survive_the_peak():
    assert rank(search(), 500, 2**-6, blow_up=2**-6).chosen.policy.warmup_steps == 50
    assert rank(search(), 100_000, 2**-6, blow_up=2**-6).chosen.policy.warmup_steps == 2000
    assert "survived 0.062, 5.4 times the peak" in rank(search(), 500, 2**-6).chosen.reason


@pytest.mark.parametrize("horizon", [1, 2, 3, 10, 10**9])
def test_any_horizon_can_be_ranked(horizon):
    ranking = rank(search(("warmup", -5.5, 40, 0.9)), horizon, 2**-6)
    assert all(math.isfinite(alternative.lr) for alternative in ranking.alternatives)


def test_a_suggestion_carries_the_ranking_and_is_chosen_again_from_its_json():
    branches = (("trunk", -6.5, 40, 1.5), ("branch", -6.5, 40, 1.3))
    first = choose(search(*branches), steps=50)
    again = choose(evidence_of(Suggestion.from_dict(json.loads(json.dumps(first.to_dict())))), steps=50)
    assert again.alternatives == first.alternatives
    assert first.policy == first.chosen.policy
    assert first.lr == pytest.approx(first.chosen.lr)
    document = first.to_dict()["policy"]
    assert document["predicted_gain"] == first.chosen.gain > 0
    assert document["predicted_gain_low"] < document["predicted_gain"] < document["predicted_gain_high"]
    assert first.steps_spent == 12 + 6 * 10 + 6 * 40 + 2 * 40


def test_the_transfer_of_the_rate_follows_the_bound():
    ranking = rank(search(), 500, 1.0)
    for alternative in ranking.alternatives:
        expected = features(alternative.policy, 500).lr
        assert math.log2(alternative.lr) == pytest.approx(expected), alternative.policy.name
