from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from support.curves import pure_noise, synthetic
from support.scripted import evidence, valley

from lrfinder import Curve, InputError, Reason, Suggestion, suggest
from lrfinder.answer.choose import choose, refusal
from lrfinder.evidence.probe import Evidence

LOSSES = valley(-6.0, lengths=(40,))


def test_a_valley_is_answered_with_an_interval_that_holds_it_and_what_being_off_costs():
    answer = choose(evidence(LOSSES, noise=0.01), steps=200)
    assert answer.reason is None
    assert answer.lr_low < 2**-6 < answer.lr_high
    assert answer.lr_low < answer.lr < answer.lr_high
    assert (answer.method, answer.horizon) == ("probe", 200)
    assert (answer.policy.name, answer.policy.total_steps, answer.policy.warmup_steps) == ("wsd", 200, 30)
    assert answer.param_group_lrs == (answer.lr,)
    costs = dict(answer.cost_of_error)
    assert 0 < costs[0.5] < costs[0.1]
    assert 0 < costs[2.0] < costs[10.0]
    assert "higher at twice the rate" in answer.details()
    assert answer.steps_spent == 12 + 6 * 40
    assert answer.seconds == pytest.approx(0.8)


def scaled(factor, shift):
    losses = {key: factor * value + shift for key, value in LOSSES.items()}
    return choose(evidence(losses, untrained=factor * 2 + shift, noise=factor * 0.01), steps=200)


@pytest.mark.parametrize(("factor", "shift"), [(10.0, 0.0), (0.01, 0.0), (1.0, -50.0), (3.0, 7.0)])
def test_scale_and_sign_of_the_loss_do_not_matter(factor, shift):
    assert scaled(factor, shift).lr == pytest.approx(scaled(1.0, 0.0).lr, rel=0.01)


def blown(losses, above):
    return {key: math.inf if key[1] > above else value for key, value in losses.items()}


REFUSED = {
    "FLAT": lambda: evidence(dict.fromkeys(LOSSES, 2.0), noise=0.05),
    "RISING": lambda: evidence({key: 2.0 + 0.2 * (key[1] + 10) for key in LOSSES}, noise=0.01),
    "DIVERGED": lambda: Evidence.of_range_test(Curve(np.geomspace(1e-7, 1, 12), [2.0, 9.0, *[math.nan] * 10])),
}


@pytest.mark.parametrize("name", [reason.name for reason in Reason])
def test_each_refusal_has_its_reason_and_no_number(name):
    answer = choose(REFUSED[name](), steps=200)
    assert answer.reason is Reason[name]
    assert (answer.lr, answer.lr_low, answer.lr_high, answer.policy) == (None, None, None, None)
    assert answer.param_group_lrs == answer.cost_of_error == ()
    assert f"{answer.reason.why} {answer.remedy}" in str(answer)
    document = json.loads(json.dumps(answer.to_dict(), allow_nan=False))
    assert Suggestion.from_dict(document) == answer


@pytest.mark.parametrize("kind", ["normal", "student", "autocorrelated"])
def test_a_range_test_of_noise_alone_is_mostly_refused(kind):
    assert sum(suggest(pure_noise(kind, seed), steps=1000).lr is not None for seed in range(20)) <= 3


def test_a_faint_descent_is_answered_weakly_and_told_what_helps():
    answer = suggest(synthetic(noise=0.9, seed=3), steps=1000)
    assert answer.confidence == "weak"
    assert "budget=400 would narrow the interval" in " ".join(answer.caveats)


def test_a_descent_up_to_the_last_rate_is_answered_and_said():
    descent = synthetic(rise=9)
    answer = suggest(Curve(descent.lr[:60], descent.loss[:60]), steps=1000)
    assert answer.lr is not None
    assert "still falling at the last learning rate" in " ".join(answer.caveats)


def test_probes_that_all_blew_up_are_answered_below_them_if_the_range_test_fell():
    curve = synthetic(noise=0.01)
    found = dataclasses.replace(evidence(dict.fromkeys(LOSSES, math.inf)), curve=curve)
    assert choose(found, steps=1000).lr < 2 ** min(octave for _, octave in LOSSES)


def test_probes_of_noise_alone_leave_a_wide_interval():
    rng = np.random.default_rng(0)
    answer = choose(evidence({key: 1.0 + 0.02 * rng.normal() for key in LOSSES}, noise=0.02), steps=200)
    assert answer.lr_high / answer.lr_low > 20


def test_exactly_constant_losses_are_flat():
    assert choose(evidence(dict.fromkeys(LOSSES, 2.0))).reason is Reason.FLAT


def test_one_batch_to_judge_by_is_enough_to_answer():
    assert choose(evidence(LOSSES, batches=1), steps=200).lr is not None


def test_doubts_are_said():
    texts = " ".join(choose(evidence(LOSSES), steps=None).caveats)
    assert "As scripted." in texts
    assert "number of training steps is unknown" in texts
    assert "extrapolated" in " ".join(choose(evidence(LOSSES), steps=10_000).caveats)
    assert "keep the checkpoint" in " ".join(choose(evidence(LOSSES, epoch=5), steps=1000).caveats)
    assert "memorise" not in " ".join(choose(evidence(LOSSES, epoch=500), steps=1000).caveats)


def test_it_can_be_chosen_again_from_what_was_kept():
    first = choose(evidence(blown(LOSSES, -5), noise=0.01, epoch=7, train=0.9), steps=400)
    again = choose(Suggestion.from_dict(json.loads(json.dumps(first.to_dict()))).evidence, steps=400)
    assert again == first
    assert choose(first.evidence, steps=4000).lr < first.lr


@pytest.mark.parametrize("steps", [0, -1, 2.5, True, "many"])
def test_a_bad_horizon_is_named(steps):
    with pytest.raises(InputError, match="steps must be a positive whole number of optimizer steps, got steps = "):
        choose(evidence(LOSSES), steps=steps)


def test_a_range_test_that_falls_has_an_answer_and_noise_has_none():
    assert refusal(Evidence.of_range_test(synthetic())) is None
    assert refusal(Evidence.of_range_test(pure_noise("normal", 0))) is Reason.FLAT


def test_a_range_test_that_blows_up_at_once_diverged():
    curve = Curve(np.geomspace(1e-7, 1, 12), [2.0, 9.0, *[math.nan] * 10])
    assert refusal(Evidence.of_range_test(curve)) is Reason.DIVERGED


def test_probes_that_gained_have_an_answer_whatever_the_range_test_showed():
    assert refusal(evidence(LOSSES)) is None


def test_probes_without_gain_are_outweighed_by_a_range_test_of_the_same_loss_alone():
    found = dataclasses.replace(evidence(dict.fromkeys(LOSSES, 2.0), noise=0.05), curve=synthetic())
    assert refusal(found) is None
    assert refusal(dataclasses.replace(found, comparable=False)) is Reason.FLAT


def test_a_refusal_after_probes_names_a_larger_budget_and_one_without_names_what_has_probes():
    found = choose(evidence(dict.fromkeys(LOSSES, 3.0), noise=0.01))
    assert f"Give more steps to spend (such as budget={found.evidence.larger_budget})" in found.remedy
    assert found.headline() == f"refused. {found.reason.why} {found.remedy}"
    assert found.evidence.larger_budget >= 3 * found.steps_spent
    found = choose(Evidence.of_range_test(pure_noise("normal", 0)))
    assert "budget=80 or more has probes" in found.remedy
    assert choose(evidence(LOSSES)).remedy == ""


def test_harm_at_every_rate_is_rising_and_the_end_of_all_probes_diverged():
    assert refusal(evidence(dict.fromkeys(LOSSES, 3.0), noise=0.01)) is Reason.RISING
    assert refusal(evidence(dict.fromkeys(LOSSES, math.inf))) is Reason.DIVERGED
