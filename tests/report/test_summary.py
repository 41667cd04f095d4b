from __future__ import annotations

import dataclasses
import math

import pytest
from support.curves import pure_noise, synthetic
from support.scripted import evidence, valley

from lrfinder import Policy, report_html, suggest
from lrfinder.answer.choose import choose
from lrfinder.report.markdown import report_markdown
from lrfinder.report.summary import MOVES_TITLE, Findings, list_courses, list_moves, notes_on_moves, report_values

LOSSES = valley(-6.0, lengths=(40,))
ANSWER = choose(evidence(LOSSES, noise=0.001), steps=500)


def shown(suggestion):
    return report_values(Findings.of(suggestion), None)


def test_what_is_not_known_of_an_answer():
    first, second = shown(ANSWER)["confidence"]
    assert first.lower() in f"{dict(ANSWER.lines())['How sure']}.".lower()
    assert f"{ANSWER.lr_high / ANSWER.lr:.2g} times higher." in first
    assert "The probes took 40 steps, training takes 500, 12.5 times as many" in second
    assert len(shown(suggest(synthetic()))["confidence"]) == 1


def test_costs_are_shares_of_what_was_gained():
    costs = shown(ANSWER)["costs"]
    gained = 2.0 - min(o.mean for o in ANSWER.evidence.rung)
    assert [cost.words for cost in costs] == ["a tenth of it", "half of it", "twice as much", "ten times as much"]
    for cost, (_, rise) in zip(costs, ANSWER.cost_of_error, strict=True):
        assert cost.share == pytest.approx(rise / gained, abs=0.01)
        assert cost.text == f"{rise:.2g} higher, {cost.share:.0%} of what training gained"
    blown = dataclasses.replace(ANSWER, cost_of_error=((10.0, math.inf),))
    assert shown(blown)["costs"][0].text == "training blows up"


def test_a_refusal_says_what_was_seen():
    found = shown(suggest(pure_noise("normal", 0), steps=1000))
    assert (found["interval"], found["confidence"], found["costs"]) == ("", (), ())
    assert found["seen"][0].startswith("The range test tried 100 rates from 1e-07 to 10; its loss began at ")


def test_what_was_seen_counts_the_probes_and_what_blew_up():
    losses = {key: math.inf if key[1] > -5 else value for key, value in LOSSES.items()}
    seen = shown(choose(evidence(losses, noise=0.001), steps=500))["seen"]
    assert seen[1].startswith("6 probes of 40 steps, from 0.002 to 0.062: the best ended at 1.05")
    assert seen[1].endswith("; 1 blew up.")
    assert seen[2] == "The untrained model's held-out loss was 2."
    assert shown(choose(evidence(dict.fromkeys(LOSSES, math.inf)), steps=500))["seen"][1] == (
        "6 probes of 40 steps, from 0.002 to 0.062; 6 blew up."
    )


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
    courses = list_courses(suggest(synthetic(), steps=1000))
    assert len(courses) == 6
    assert courses[0].taken
    assert courses[0].lr.max() == pytest.approx(suggest(synthetic(), steps=1000).lr)


def test_without_alternatives_there_is_the_policy_alone():
    (course,) = list_courses(dataclasses.replace(ANSWER, alternatives=()))
    assert course.taken
    assert course.lr.max() == pytest.approx(ANSWER.lr)


def test_a_policy_of_ones_own_is_shown_first():
    own = ANSWER.with_policy(Policy("wsd", 500, params={"cooldown": 0.1}))
    first = list_courses(own)[0]
    assert first.alternative.policy == own.policy
    assert first.taken
    assert first.lr.max() == pytest.approx(own.lr)


@pytest.mark.parametrize("change", [{"horizon": None}, {"policy": None}, {"lr": None}])
def test_without_a_schedule_there_are_no_courses(change):
    assert list_courses(dataclasses.replace(ANSWER, **change)) == ()


def test_a_long_training_is_quick_to_draw():
    answer = choose(evidence(valley(-6.0, lengths=(40,))), steps=10_000_000)
    assert all(course.step.size <= 201 for course in list_courses(answer))
    assert list_courses(answer)[0].step[-1] == 10_000_000


def answer(optimizer="torch.optim.AdamW(weight_decay=0.1)", steps=500):
    return choose(evidence(valley(-6.0)), steps=steps).with_environment(optimizer=optimizer)


def test_every_row_is_what_rescale_returns():
    suggestion = answer()
    rows = {move.change: move for move in list_moves(suggestion)}
    assert len(rows) == 8
    for change, scaled in (
        ("4 times the batch, as many examples", suggestion.rescale((64, 256))),
        ("16 times the batch, as many steps", suggestion.rescale((64, 1024), steps=500)),
        ("4 times the steps", suggestion.rescale(steps=2000)),
    ):
        assert rows[change].lr == f"{scaled.lr:.3g}"
        assert rows[change].interval == f"{scaled.lr_low:.2g} to {scaled.lr_high:.2g}"


def test_without_a_length_only_batches_of_as_many_examples_are_shown():
    assert {move.change.partition(", ")[2] for move in list_moves(answer(steps=None))} == {"as many examples"}


def test_an_optimizer_without_a_rule_shows_lengths_alone():
    suggestion = answer("torch.optim.Adagrad()")
    assert [move.change for move in list_moves(suggestion)] == ["4 times the steps", "a quarter of the steps"]
    assert notes_on_moves(suggestion) == notes_on_moves(answer(None))
    assert "No rule for the batch size" in notes_on_moves(suggestion)[0]


@pytest.mark.parametrize(("optimizer", "notes"), [("AdamW(weight_decay=0.1)", 2), ("SGD(momentum=0.9)", 1)])
def test_the_time_scale_of_the_decay_is_shown_where_there_is_one(optimizer, notes):
    suggestion = answer(f"torch.optim.{optimizer}")
    found = notes_on_moves(suggestion)
    assert len(found) == notes
    if notes == 2:
        assert f"forgets over {float(f'{1 / (0.1 * suggestion.lr):.2g}'):,g} steps" in found[1]


def test_a_refusal_has_no_section_on_what_would_move_it():
    refused = suggest(pure_noise("normal", 0))
    assert (list_moves(refused), notes_on_moves(refused)) == ((), ())
    assert MOVES_TITLE not in report_html(refused) + report_markdown(refused)


def test_page_and_text_hold_the_section_once():
    assert report_html(answer()).count(f"<h2>{MOVES_TITLE}</h2>") == 1
    assert report_markdown(answer()).count(f"## {MOVES_TITLE}") == 1
