from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scripted import evidence, valley

from lrfinder.evidence.probe import Evidence
from lrfinder.evidence.range_fit import expected_place
from lrfinder.evidence.valley import LRPosterior, fall_by_memorising, fit_valley, scores


def one_rung(place, **changes):
    """Evidence of six probes of 40 steps about a known best rate, and of a range test that expects it at 2**-6."""
    return evidence(valley(place, lengths=(40,)), **changes)


def test_the_range_test_of_these_tests_shows_no_descent():
    found = one_rung(-6.0)
    assert expected_place(found.curve, found.range_fit) == pytest.approx(-6.0)


@pytest.mark.parametrize("place", [-9.7, -6.0, -2.6])
def test_the_place_of_a_known_valley_is_found(place):
    fit = fit_valley(one_rung(place))
    assert fit.mean == pytest.approx(place, abs=0.3)
    assert fit.steps == 40
    assert fit.error < 0.6
    assert math.log2(fit.belief().best()) == pytest.approx(place, abs=0.6)  # a little to the safe side


@given(st.floats(1e-3, 1e3), st.floats(-1e2, 1e2))
@settings(max_examples=20)
def test_scale_and_shift_of_the_loss_do_not_matter(scale, shift):
    plain = fit_valley(one_rung(-6.3))
    other = fit_valley(evidence(valley(-6.3, lengths=(40,), scale=scale, shift=shift), untrained=2 * scale + shift))
    assert other.belief(500).best() == pytest.approx(plain.belief(500).best(), rel=0.02)
    assert other.rise(1.0) == pytest.approx(scale * plain.rise(1.0), rel=0.05)


def test_scaling_the_learning_rates_scales_the_answer():
    plain, moved = one_rung(-6.3), one_rung(-4.3)
    curve = dataclasses.replace(moved.curve, lr=4 * moved.curve.lr)
    plain, moved = (fit_valley(found).belief(500) for found in (plain, dataclasses.replace(moved, curve=curve)))
    assert moved.best() == pytest.approx(4 * plain.best(), rel=1e-9)
    assert moved.quantile(0.05) == pytest.approx(4 * plain.quantile(0.05), rel=1e-9)


def test_a_range_test_alone_is_answered_from_the_prior():
    curve = one_rung(-6.0).curve
    belief = fit_valley(Evidence.of_range_test(curve)).belief(1000)
    assert math.log2(belief.quantile(0.5)) == pytest.approx(-6.0, abs=0.2)
    assert belief.quantile(0.95) / belief.quantile(0.05) > 50


def test_a_longer_training_widens_the_belief_and_hardly_moves_it():
    fit = fit_valley(one_rung(-6.0))
    beliefs = [fit.belief(horizon) for horizon in (400, 4_000, 400_000)]
    widths = [belief.quantile(0.95) / belief.quantile(0.05) for belief in beliefs]
    assert widths[0] < widths[1] < widths[2]
    assert math.log2(beliefs[0].best() / beliefs[2].best()) < 0.7


@pytest.mark.parametrize(
    ("horizon", "epoch_steps", "step_examples", "octaves"),
    [
        (1000, None, 32, 0.0),
        (16_000, 255, 32, 0.0),
        (500, 5, 32, math.log2(100 / 8)),
        (500, 5, None, math.log2(100 / 8)),
        (500, 5, 1024, 0.0),  # few batches of many examples
        (500, 40, 5, math.log2((500 / 40) / 3)),  # many batches of few
        (10**6, 5, 32, 6.0),
        (40, 5, 32, 0.0),
    ],
)
def test_only_many_passes_over_few_examples_lower_the_rate(horizon, epoch_steps, step_examples, octaves):
    assert fall_by_memorising(horizon, 40, epoch_steps, step_examples) == pytest.approx(octaves)


def test_blown_up_probes_bound_the_place_and_the_cost():
    losses = {**valley(-6.0, lengths=(40,), octaves=(-2, -1, 0)), (40, -5): math.inf}
    fit = fit_valley(evidence(losses))
    assert fit.blow_up == -5
    assert fit.belief().best() < 2**-5.3
    assert fit.rise(2.0) == math.inf
    assert math.isfinite(fit.rise(-2.0))


def test_points_far_off_do_not_bend_the_valley():
    losses = valley(-6.0, lengths=(40,))
    far = {**losses, (40, -16): 1.9, (40, 1): 1.99}
    a, b = (fit_valley(evidence(points)).belief().best() for points in (losses, far))
    assert b == pytest.approx(a, rel=0.1)


@pytest.mark.parametrize("losses", [{}, {(10, -3): 1.0}, {(10, x): 1.0 for x in range(-6, 0)}])
def test_probes_that_say_nothing_leave_the_prior(losses):
    fit = fit_valley(evidence(losses))
    assert fit.sharpness is None
    assert fit.mean == pytest.approx(-6.0, abs=0.1)
    assert fit.error == pytest.approx(2.0, abs=0.1)


def test_probes_that_all_blew_up_push_the_place_below_them():
    fit = fit_valley(evidence({(10, -7): math.inf, (10, -9): math.inf}))
    assert fit.blow_up == -9
    assert fit.mean < -9


def test_fresh_training_losses_count_where_every_batch_was_seen_once():
    losses = {(40, -7): 1.0, (40, -6): 1.1}
    held, errors = scores(evidence(losses, epoch=30, train=0.5).rung, evidence(losses, epoch=30))
    assert held.tolist() == [1.0, 1.1]
    assert errors.tolist() == [0.0, 0.0]
    fresh = evidence(losses, epoch=50, train=0.5)
    assert scores(fresh.rung, fresh)[0].tolist() == pytest.approx([0.75, 0.8])
    other_metric = dataclasses.replace(fresh, comparable=False)
    assert scores(other_metric.rung, other_metric)[0].tolist() == [1.0, 1.1]


def test_training_losses_that_are_not_finite_do_not_count():
    found = evidence({(40, -7): 1.0, (40, -6): 1.1}, epoch=50, train=float("nan"))
    assert scores(found.rung, found)[0].tolist() == [1.0, 1.1]
    json.dumps(fit_valley(found).to_dict(), allow_nan=False)


@given(st.floats(-20, 5), st.floats(0.1, 2))
@settings(max_examples=30)
def test_a_symmetric_belief_is_answered_a_little_below_its_centre(centre, width):
    octaves = np.arange(-300, 300) * 0.1
    weights = np.exp(-0.5 * ((octaves - centre) / width) ** 2)
    belief = LRPosterior(octaves, weights / weights.sum())
    assert centre - 2 * width - 0.1 < math.log2(belief.best()) < centre + 0.1
    assert math.log2(belief.quantile(0.95) / belief.quantile(0.05)) == pytest.approx(2 * 1.645 * width, abs=0.05)


def test_the_record_is_json():
    document = fit_valley(one_rung(-6.0)).to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["blow_up"] is None
