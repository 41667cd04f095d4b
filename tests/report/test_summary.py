from __future__ import annotations

import dataclasses
import math

import pytest
from support.curves import pure_noise, synthetic
from support.scripted import evidence, valley

from lrfinder import Policy, Reason, suggest
from lrfinder.answer.choose import choose
from lrfinder.report.summary import Findings, Verdict, list_courses

LOSSES = valley(-6.0, lengths=(40,))
ANSWER = choose(evidence(LOSSES, noise=0.001), steps=500)


def verdict(suggestion):
    return Verdict.of(Findings.of(suggestion))


def test_an_answer_in_words():
    found = verdict(ANSWER)
    assert found.answer == f"{ANSWER.lr:.3g}"
    assert found.interval == f"{ANSWER.lr_low:.2g} to {ANSWER.lr_high:.2g}"
    assert found.policy == ANSWER.policy.text
    assert found.because == ANSWER.chosen.reason
    assert (found.reason, found.remedy) == ("", "")
    assert found.confidence[0].lower() in f"{dict(ANSWER.lines())['How sure']}.".lower()
    assert f"{ANSWER.lr_high / ANSWER.lr:.2g} times higher." in found.confidence[0]
    assert "The probes took 40 steps, training takes 500, 12.5 times as many" in found.confidence[1]


@pytest.mark.parametrize(("factor", "grade"), [(1.9, "Sharp"), (3.9, "Fair"), (9.9, "Rough"), (11.0, "Weak")])
def test_the_grade_goes_by_the_width(factor, grade):
    narrow = dataclasses.replace(ANSWER, lr_low=ANSWER.lr / factor, lr_high=ANSWER.lr * factor)
    assert verdict(narrow).grade == grade


def test_costs_are_shares_of_what_was_gained():
    found = verdict(ANSWER)
    gained = 2.0 - min(o.mean for o in ANSWER.evidence.rung)
    assert [cost.words for cost in found.costs] == ["a tenth of it", "half of it", "twice as much", "ten times as much"]
    for cost, (_, rise) in zip(found.costs, ANSWER.cost_of_error, strict=True):
        assert cost.share == pytest.approx(rise / gained, abs=0.01)
        assert cost.text == f"{rise:.2g} higher, {cost.share:.0%} of what training gained"
    blown = dataclasses.replace(ANSWER, cost_of_error=((10.0, math.inf),))
    assert verdict(blown).costs[0].text == "training blows up"


def test_a_refusal_says_why_what_was_seen_and_what_to_do():
    found = verdict(suggest(pure_noise("normal", 0), steps=1000))
    assert f"{found.reason} {found.remedy}" == Reason.FLAT.value
    assert (found.answer, found.grade, found.confidence, found.costs) == ("Refused", "", (), ())
    assert found.seen[0].startswith("The range test tried 100 rates from 1e-07 to 10; its loss began at ")


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_remedy(reason):
    refused = dataclasses.replace(suggest(pure_noise("normal", 0)), reason=reason)
    assert len(verdict(refused).remedy) > 20


def test_what_was_seen_counts_the_probes_and_what_blew_up():
    losses = {key: math.inf if key[1] > -5 else value for key, value in LOSSES.items()}
    seen = verdict(choose(evidence(losses, noise=0.001), steps=500)).seen
    assert seen[1].startswith("6 probes of 40 steps, from 0.002 to 0.062: the best ended at 1.05")
    assert seen[1].endswith("; 1 blew up.")
    assert seen[2] == "The untrained model's held-out loss was 2."
    assert verdict(choose(evidence(dict.fromkeys(LOSSES, math.inf)), steps=500)).seen[1] == (
        "6 probes of 40 steps, from 0.002 to 0.062; 6 blew up."
    )


def test_a_range_test_says_no_more_than_it_knows():
    found = verdict(suggest(synthetic()))
    assert (found.because, found.costs, len(found.confidence)) == ("", (), 1)


COURSES = list_courses(ANSWER)


def test_the_one_suggested_comes_first_and_a_constant_rate_is_there():
    names = [course.alternative.policy.name for course in COURSES]
    assert names[0] == ANSWER.policy.name
    assert "constant" in names
    assert len(names) == len(set(names)) == 6
    assert [course.taken for course in COURSES] == [True] + [False] * 5


def test_the_others_come_in_the_order_of_their_gain_on_other_trainings():
    gains = [course.alternative.gain for course in COURSES[1:]]
    assert gains == sorted(gains, reverse=True)


def test_the_rates_are_those_of_the_policies_at_their_own_peaks():
    for course in COURSES:
        one = course.alternative
        assert (course.step[0], course.step[-1]) == (0, 500)
        assert course.lr == pytest.approx([one.lr * one.policy(int(step)) for step in course.step])


def test_a_range_test_has_the_same_courses():
    shown = list_courses(suggest(synthetic(), steps=1000))
    assert len(shown) == 6
    assert shown[0].taken
    assert shown[0].lr.max() == pytest.approx(suggest(synthetic(), steps=1000).lr)


def test_without_alternatives_there_is_the_policy_alone():
    (course,) = list_courses(dataclasses.replace(ANSWER, alternatives=()))
    assert course.taken
    assert course.lr.max() == pytest.approx(ANSWER.lr)


def test_a_policy_of_ones_own_is_shown_first():
    own = ANSWER.with_policy(Policy("wsd", 500, params={"cooldown": 0.1}))
    shown = list_courses(own)
    assert shown[0].alternative.policy == own.policy
    assert shown[0].taken
    assert shown[0].lr.max() == pytest.approx(own.lr)


@pytest.mark.parametrize("change", [{"horizon": None}, {"policy": None}, {"lr": None}])
def test_without_a_schedule_there_are_no_courses(change):
    assert list_courses(dataclasses.replace(ANSWER, **change)) == ()


def test_a_long_training_is_quick_to_draw():
    answer = choose(evidence(valley(-6.0, lengths=(40,))), steps=10_000_000)
    assert all(course.step.size <= 201 for course in list_courses(answer))
    assert list_courses(answer)[0].step[-1] == 10_000_000
