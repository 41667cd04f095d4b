from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scripted import evidence, valley

from lrfinder.evidence.valley import Drift, LRPosterior, fit_valley

STILL = Drift(0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("drift", [0.0, -0.5, -1.0])
@pytest.mark.parametrize("place", [-9.7, -6.0, 0.4])
def test_place_and_drift_of_a_known_valley_are_found(place, drift):
    fit = fit_valley(evidence(valley(place, drift)))
    assert fit.weights @ fit.place == pytest.approx(place, abs=0.2)
    assert fit.weights @ fit.drift == pytest.approx(drift, abs=0.2)
    assert fit.steps == 40
    assert math.log2(fit.belief().best()) == pytest.approx(place, abs=0.35)  # a little to the safe side


@given(st.floats(1e-3, 1e3), st.floats(-1e2, 1e2))
@settings(max_examples=20)
def test_scale_and_shift_of_the_loss_do_not_matter(scale, shift):
    plain = fit_valley(evidence(valley(-6.3, -0.4)))
    losses = valley(-6.3, -0.4, scale=scale, shift=shift)
    other = fit_valley(evidence(losses, untrained=2 * scale + shift))
    assert other.belief(500).best() == pytest.approx(plain.belief(500).best(), rel=0.02)
    assert other.rise(1.0) == pytest.approx(scale * plain.rise(1.0), rel=0.05)


def test_scaling_the_learning_rates_scales_the_answer():
    plain, moved = (fit_valley(evidence(valley(place, -0.4))).belief(500) for place in (-6.3, -4.3))
    assert moved.best() == pytest.approx(4 * plain.best(), rel=1e-9)
    assert moved.quantile(0.05) == pytest.approx(4 * plain.quantile(0.05), rel=1e-9)


def test_the_horizon_moves_and_widens_the_belief():
    fit = fit_valley(evidence(valley(-6.0, -0.5)))
    beliefs = [fit.belief(horizon) for horizon in (40, 400, 4000)]
    assert beliefs[0].best() > beliefs[1].best() > beliefs[2].best()
    widths = [belief.quantile(0.95) / belief.quantile(0.05) for belief in beliefs]
    assert widths[0] < widths[1] < widths[2]
    assert fit.belief(20).best() == fit.belief(40).best() == fit.belief().best()
    still = [fit.belief(horizon, STILL).best() for horizon in (40, 4000)]
    assert still[0] == still[1]


def test_a_model_that_memorises_wants_a_lower_rate():
    held, memorised = (fit_valley(evidence(valley(-6.0), epoch=5, train=train)) for train in (None, 0.9))
    assert (held.memorised, memorised.memorised) == (0.0, pytest.approx(0.1))
    assert memorised.belief(2000).best() < 0.5 * held.belief(2000).best()
    unknown = fit_valley(evidence(valley(-6.0), epoch=None, train=0.9))
    assert unknown.belief(2000).best() == pytest.approx(held.belief(2000).best(), rel=0.01)


def test_longer_probes_that_gain_nothing_are_noticed():
    losses = {key: value - 2 / key[0] for key, value in valley(-6.0, -1.0).items()}
    fit = fit_valley(evidence(losses, epoch=10))
    assert fit.stalled > 0.9
    assert fit_valley(evidence(valley(-6.0, -1.0), epoch=10)).stalled < fit.stalled


def test_blown_up_probes_bound_the_place_and_the_cost():
    losses = {**valley(-6.0, octaves=(-2, -1, 0)), (40, -5): math.inf, (10, -5): math.inf}
    fit = fit_valley(evidence(losses))
    assert fit.blow_up == -5
    assert fit.belief().best() < 2**-5.3
    assert fit.rise(2.0) == math.inf
    assert math.isfinite(fit.rise(-2.0))


def test_points_far_off_do_not_bend_the_valley():
    losses = valley(-6.0)
    far = {**losses, (40, -16): 1.9, (40, 1): 1.99}
    a, b = (fit_valley(evidence(points)).belief().best() for points in (losses, far))
    assert b == pytest.approx(a, rel=0.1)


def test_nothing_to_fit():
    assert fit_valley(evidence({})) is None
    assert fit_valley(evidence({(10, -3): math.inf, (10, -4): math.inf})) is None
    assert fit_valley(evidence({(10, -3): 1.0})) is None


def test_equal_losses_are_no_valley():
    fit = fit_valley(evidence({(10, x): 1.0 for x in range(-6, 0)}))
    assert fit.belief().quantile(0.95) / fit.belief().quantile(0.05) > 100


@given(st.floats(-20, 5), st.floats(0.1, 2))
@settings(max_examples=30)
def test_a_symmetric_belief_is_answered_a_little_below_its_centre(centre, width):
    octaves = np.arange(-300, 300) * 0.1
    weights = np.exp(-0.5 * ((octaves - centre) / width) ** 2)
    belief = LRPosterior(octaves, weights / weights.sum())
    assert centre - 2 * width - 0.1 < math.log2(belief.best()) < centre + 0.1
    assert math.log2(belief.quantile(0.95) / belief.quantile(0.05)) == pytest.approx(2 * 1.645 * width, abs=0.05)


def test_the_record_is_json():
    import json

    document = fit_valley(evidence(valley(-6.0, -0.5))).to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["blow_up"] is None
