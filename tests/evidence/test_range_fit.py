from __future__ import annotations

import json
import math

import numpy as np
import pytest
from support.curves import descended, pure_noise, synthetic

from lrfinder import Curve
from lrfinder.evidence.range_fit import expected_place, fit_range, lowest_place, usable
from lrfinder.evidence.range_shape import PARAMETERS


def test_the_made_shape_is_found():
    fit = fit_range(synthetic(noise=0.005))
    found = dict(zip(PARAMETERS, fit.parameters, strict=True))
    assert found["level"] == pytest.approx(2.3, abs=0.01)
    assert found["drop"] == pytest.approx(1.5, abs=0.03)
    # A rung is 0.08 decades: a loss paired with the wrong step would show.
    assert found["descent"] == pytest.approx(-2.5, abs=0.02)
    assert found["descent_width"] == pytest.approx(0.3, abs=0.02)
    assert found["rise_width"] == pytest.approx(0.12, abs=0.01)
    assert fit.noise == pytest.approx(0.005, rel=0.3)
    assert fit.diverged
    assert not fit.at_edge


def test_the_places_read_off_the_fit_are_those_of_the_made_shape():
    fit = fit_range(synthetic(noise=0.005))
    x = np.linspace(-7, 1, 100_001)
    slope = -1.5 / 0.3 * np.exp(-(x + 2.5) / 0.3) / (1 + np.exp(-(x + 2.5) / 0.3)) ** 2 + np.exp(x / 0.12) / 0.12
    lowest = x[np.flatnonzero(slope < 0)[-1]]
    assert np.log10(fit.lr_lowest) == pytest.approx(lowest, abs=0.02)
    assert np.log10(fit.lr_steepest) == pytest.approx(-2.5, abs=0.02)
    assert fit.gain == pytest.approx(1.5, abs=0.03)
    assert float(fit(1e-7)) == pytest.approx(2.3, abs=0.01)


@pytest.mark.parametrize("noise", [0.002, 0.02, 0.2])
def test_the_covariance_of_a_clean_curve_is_finite_and_positive_semidefinite(noise):
    covariance = fit_range(synthetic(noise=noise)).covariance
    assert np.all(np.isfinite(covariance))
    np.testing.assert_allclose(covariance, covariance.T, rtol=1e-9)
    scale = np.sqrt(np.diag(covariance))
    assert np.linalg.eigvalsh(covariance / np.outer(scale, scale)).min() > -1e-9


def test_the_standard_error_shrinks_with_the_noise():
    errors = [fit_range(synthetic(noise=noise)).standard_error("descent") for noise in (0.2, 0.02, 0.002)]
    assert errors[0] > 5 * errors[1] > 25 * errors[2] > 0


def test_the_standard_error_is_the_scatter_from_curve_to_curve():
    fits = [fit_range(synthetic(seed, noise=0.05)) for seed in range(12)]
    scatter = np.std([fit.parameters[PARAMETERS.index("descent")] for fit in fits], ddof=1)
    assert scatter / 2 < np.median([fit.standard_error("descent") for fit in fits]) < 2 * scatter


def test_a_constant_fits_as_that_constant_without_evidence_of_anything():
    fit = fit_range(Curve([10.0**k for k in range(-9, 3)], [0.7] * 12))
    np.testing.assert_allclose(fit(np.geomspace(1e-9, 1, 50)), 0.7, atol=1e-6)
    assert (fit.evidence, fit.evidence_of_rise) == pytest.approx((0, 0), abs=1e-6)
    assert (fit.diverged, fit.lr_diverge) == (False, None)


def test_evidence_tells_a_descent_from_noise():
    assert fit_range(synthetic(noise=0.2)).evidence > 100
    assert fit_range(pure_noise("normal", 0)).evidence < 4


def test_the_search_for_a_fit_does_not_overflow():
    assert fit_range(pure_noise("autocorrelated", 1216)).noise > 0  # of 900 curves of noise, the one where it did


def test_how_high_a_blow_up_goes_does_not_move_the_fit():
    curve = synthetic()
    lr, loss, _ = usable(curve)
    higher = loss.copy()
    higher[-3:] = 1e5, 1e15, 1e30
    np.testing.assert_allclose(
        fit_range(Curve(lr, higher)).parameters, fit_range(Curve(lr, loss)).parameters, rtol=1e-6
    )


def test_a_flat_bottom_has_one_lowest_place():
    # From 0.01 to 1 the made loss is the same to the last bit; rounding must not choose among those rates.
    x = np.linspace(-7, 1, 100)
    loss = 2.3 - 1.5 / (1 + np.exp(-(x + 4) / 0.03)) + np.exp(np.minimum((x - 0.5) / 0.02, 60))
    places = [fit_range(Curve(10**x, loss + shift)).lr_lowest for shift in (0.0, 13.7, -911.3)]
    assert places[1:] == pytest.approx(places[:1] * 2, rel=1e-6)


def test_fewer_than_ten_usable_losses_give_no_fit():
    losses = [2.3] * 9 + [float("nan")] * 3
    assert fit_range(Curve([10.0**k for k in range(-9, 3)], losses)) is None


@pytest.mark.parametrize("ratio", [1.0001, 1.05, 1.5])
def test_a_narrow_ladder_is_fitted_too(ratio):
    fit = fit_range(Curve(np.geomspace(0.1, 0.1 * ratio, 40), np.linspace(3, 1, 40)))
    assert fit.gain > 1
    assert 0.1 <= fit.lr_lowest <= 0.1 * ratio * (1 + 1e-9)


def test_only_the_part_before_training_left_for_good_is_used():
    whole = synthetic()
    lr, loss, left = usable(whole)
    assert lr.size == loss.size < 100
    assert left == lr[-1 - 4]  # four rungs are kept after it
    ended = Curve(whole.lr, [*loss[:50], *[float("nan")] * 50])
    assert usable(ended)[1].tolist() == loss[:50].tolist()
    assert usable(ended)[2] == whole.lr[50]
    level = Curve(whole.lr, 2.0 + 0.01 * np.sin(np.arange(100)))
    assert usable(level)[2] is None


def test_a_fit_is_ready_for_json():
    for curve in (synthetic(), pure_noise("student", 1), descended([1.0]), Curve(np.arange(1, 13), [1.0] * 12)):
        document = fit_range(curve).to_dict()
        assert list(document["parameters"]) == list(PARAMETERS)
        assert json.loads(json.dumps(document, allow_nan=False)) == document


def made(level, left=60, noise=0.0):
    """A range test of 100 steps with this loss up to step ``left``, from where on it rises fast."""
    loss = np.array([*level, *(level[-1] + 2.0 ** np.arange(100 - left))], dtype=float)
    loss[:left] += noise * np.random.default_rng(0).standard_normal(left)
    return Curve(2.0 ** (np.arange(100) / 4 - 20), loss)


def test_the_best_rate_is_expected_three_octaves_below_the_middle_of_the_lowest_place_and_the_rise():
    curve = made(np.concatenate([np.linspace(3, 1, 40), np.linspace(1, 1.5, 20)]), noise=0.01)
    lr, loss, left = usable(curve)
    left, lowest = math.log2(left), math.log2(lowest_place(lr, loss))
    assert lowest == pytest.approx(-10, abs=0.5)  # step 40
    assert left == pytest.approx(-4.2, abs=0.5)  # step 63, four above the last level
    assert expected_place(curve, fit_range(curve)) == pytest.approx((lowest + left) / 2 - 3)


def test_where_the_loss_is_flat_before_it_rises_chance_moves_the_place_by_little():
    flat = np.full(60, 2.0)
    for place in (2, 30, 50):
        flat[place : place + 5] -= 0.2
        curve = made(flat)
        left = math.log2(usable(curve)[2])
        assert left - 8 / 2 - 3 <= expected_place(curve, fit_range(curve)) <= left - 3
        flat[place : place + 5] += 0.2


def test_without_a_rise_the_place_is_below_the_lowest_or_below_the_end():
    x = np.linspace(0, 1, 100)
    falling = Curve(2.0 ** np.linspace(-20, 0, 100), 3 - x)
    assert expected_place(falling, fit_range(falling)) == math.log2(lowest_place(*usable(falling)[:2])) - 1
    level = Curve(falling.lr, 3 + 0.01 * np.random.default_rng(0).standard_normal(100))
    assert expected_place(level, fit_range(level)) == -6
