"""Probes as data: their rates, what came of them, and that documents of them are checked."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from support.curves import synthetic

from lrfinder import InputError
from lrfinder.evidence.curve import Stage
from lrfinder.evidence.probe import NOT_EVALUATED, Evidence, Outcome, Probe, without_failures

UNTRAINED = Outcome(Probe(0.0, 0, 0.0, Stage.UNTRAINED), np.empty(0), np.array([2.0, 2.2]), 0.1)


def outcome(lr=0.1, steps=4, loss=(1.0, 1.2), train_loss=(2.0, 1.8, 1.5, 1.3)) -> Outcome:
    return Outcome(Probe(lr, steps, 0.5), np.array(train_loss), np.array(loss, dtype=np.float64), 0.2)


def test_the_rate_warms_up_holds_and_falls():
    assert Probe(1.0, 4, 0.0).lrs().tolist() == [1.0] * 4
    assert Probe(2.0, 4, 0.5).lrs().tolist() == [2.0, 2.0, 2.0, 1.0]
    assert Probe(1.0, 4, 0.0, warmup=3).lrs().tolist() == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("loss", [(), (math.nan, 1.0), (math.inf, 1.0), (1e200, 1.0), (-1e200, 1.0)])
def test_a_loss_too_large_to_compute_with_counts_as_blown_up(loss):
    assert outcome(loss=loss).diverged
    assert outcome(loss=loss).mean == math.inf


def test_the_mean_is_that_of_the_held_out_batches():
    assert outcome().mean == pytest.approx(1.1)
    assert not outcome().diverged


def held_out(*failed, of=20):
    return outcome(loss=[math.nan if i in failed else 1.0 + i for i in range(of)])


@pytest.mark.parametrize(
    ("outcomes", "left"),
    [
        ([held_out(3), held_out(3), held_out(3)], [19, 19, 19]),
        ([held_out(), held_out(4), held_out(11)], [18, 18, 18]),
        ([held_out(3), held_out(*range(20)), outcome(loss=())], [19, 19, 0]),  # the second blew up
        ([held_out(3, 5), held_out(3, 5, 6)], [18, 18]),
        ([held_out(3, 5, 6), held_out(3, 5, 6)], [20, 20]),
        ([held_out(2, of=3), held_out(2, of=3)], [2, 2]),
        ([held_out(1, of=2), held_out(1, of=2)], [2, 2]),
        ([held_out(), held_out()], [20, 20]),
    ],
)
def test_single_batches_that_fail_are_left_out_of_all_outcomes_alike(outcomes, left):
    kept = without_failures(outcomes)
    assert [one.loss.size for one in kept] == left
    same = [one.loss for one in kept if not one.diverged]
    assert all(np.array_equal(loss, same[0]) for loss in same)


@pytest.mark.parametrize("made", [UNTRAINED, outcome(), outcome(loss=(math.nan, math.inf))])
def test_json_gives_the_outcome_back(made):
    assert Outcome.from_dict(json.loads(json.dumps(made.to_dict(), allow_nan=False))) == made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": -0.1}, "lr must be a number from 0 to"),
        ({"lr": 0.0}, "a probe must have a positive lr and steps unless it is the untrained model"),
        ({"steps": 10**30}, "steps must be a whole number from 0 to 1,000,000,000"),
        ({"steps": 3}, "at least as many steps as warmup and training losses"),
        ({"warmup": 5}, "at least as many steps as warmup and training losses"),
        ({"anneal": 2}, "anneal must be a number from 0 to 1, got 2"),
        ({"stage": "later"}, "stage must be a part of a search, got 'later'"),
        ({"stage": "untrained"}, "unless it is the untrained model"),
        ({"loss": [[]]}, r"loss: item 0 must be a number, got \[\]"),
        ({"seconds": "NaN"}, "seconds must be a number from 0 to"),
    ],
)
def test_a_malformed_outcome_is_named(change, message):
    with pytest.raises(InputError, match=message):
        Outcome.from_dict(outcome().to_dict() | change)


def test_evidence_is_put_together_from_its_probes():
    whole = Evidence.of_probes(synthetic(), [UNTRAINED, outcome(), outcome(lr=0.2)], 108)
    assert whole.probed
    assert (whole.range_steps, whole.steps) == (100, 108)
    assert whole.probes == (UNTRAINED, outcome(), outcome(lr=0.2))
    assert whole.seconds == pytest.approx(0.1 + 2 * 0.2 + (synthetic().seconds or 0.0))


@pytest.mark.parametrize(
    ("probes", "message"),
    [
        ([outcome()], "must begin with the untrained model"),
        ([UNTRAINED, outcome(), UNTRAINED], "must hold the untrained model once"),
        ([UNTRAINED, outcome(loss=(1.0,))], "must all be judged by the same held-out batches"),
        ([NOT_EVALUATED, outcome()], "must begin with the untrained model, of 0 steps and with its held-out loss"),
    ],
)
def test_probes_that_do_not_belong_together_are_refused(probes, message):
    with pytest.raises(InputError, match=message):
        Evidence.of_probes(synthetic(), probes, 100)


def test_a_range_test_alone_judges_nothing():
    alone = Evidence.of_range_test(synthetic())
    assert not alone.probed
    assert alone.probes == ()
    assert alone.seconds == alone.curve.seconds
