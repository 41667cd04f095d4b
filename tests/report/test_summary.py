from __future__ import annotations

import dataclasses
import math

import pytest
from support.curves import pure_noise, synthetic
from support.scripted import evidence, valley

from lrfinder import Reason, suggest
from lrfinder.answer.choose import choose
from lrfinder.report.summary import Findings, Verdict

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
    factor = math.sqrt(ANSWER.lr_high / ANSWER.lr_low)
    assert f"within a factor of {factor:.2g} of" in found.confidence[0]
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
        assert cost.text == f"{rise:+.2g}, {cost.share:.0%} of what was gained"
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
