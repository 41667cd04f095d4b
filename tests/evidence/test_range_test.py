"""Tests."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.curves import SPECTRA, descended, descended_on_batches

from lrfinder import InputError
from lrfinder.evidence.range_fit import fit_range, usable
from lrfinder.evidence.range_test import Ladder, blow_up, last_step, noise


@given(st.floats(1e-12, 1e3), st.floats(1.01, 1e12), st.integers(10, 500))
def test_a_ladder_is_geometric_and_exact_at_both_ends(lowest, ratio, steps):
    lrs = Ladder(lowest, lowest * ratio, steps).lrs()
    assert (lrs[0], lrs[-1], lrs.size) == (lowest, lowest * ratio, steps)
    assert np.all(np.diff(lrs) > 0)
    np.testing.assert_allclose(lrs[1:] / lrs[:-1], ratio ** (1 / (steps - 1)), rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 1.0), "min_lr must be positive and finite, got min_lr = 0"),
        ((-1.0, 1.0), "min_lr must be positive and finite, got min_lr = -1"),
        ((math.nan, 1.0), "min_lr must be positive and finite, got min_lr = nan"),
        ((0.1, math.inf), "max_lr must be positive and finite, got max_lr = inf"),
        ((1.0, 0.1), r"min_lr must be below max_lr, got min_lr = 1, max_lr = 0\.1"),
        ((1.0, 1.0), "min_lr must be below max_lr, got min_lr = 1, max_lr = 1"),
        ((0.1, 1.0, 9), "steps of the range test must be at least 10, got 9"),
    ],
)
def test_a_ladder_names_the_argument_the_rule_and_the_value(arguments, message):
    with pytest.raises(InputError, match=message):
        Ladder(*arguments)


def test_noise_measures_normal_noise_whatever_the_trend_and_the_end():
    losses = 0.3 * np.random.default_rng(0).standard_normal(10_000) - np.arange(10_000)
    assert noise(losses) == pytest.approx(0.3, rel=0.03)
    assert noise([*losses, *np.geomspace(1, 1e30, 20), math.nan, math.inf]) == pytest.approx(0.3, rel=0.03)


@pytest.mark.parametrize("losses", [[], [1.0], [1.0, 5.0], [1.0] * 9, [2.0, 4.0, 6.0, 8.0, math.nan]])
def test_no_noise_where_none_can_be_seen(losses):
    assert noise(losses) == 0.0


def descending(blow_up: list[float]) -> list[float]:
    return [*np.linspace(3.0, 1.0, 30), *blow_up]


@given(
    losses=st.lists(st.integers(-50, 50), min_size=10, max_size=60),
    climb=st.lists(st.integers(50, 1000), max_size=10),
    octave=st.integers(-40, 40),
    shift=st.integers(-10_000, 10_000),
)
def test_the_end_does_not_know_the_unit_the_origin_or_the_sign_of_the_loss(losses, climb, octave, shift):
    # Whole numbers and powers of two: no rounding, so that the very same decisions must be taken.
    values = np.array(losses + sorted(climb), dtype=np.float64)
    assert last_step(2.0**octave * (values + shift)) == last_step(values)


@given(st.floats(-1e99, 1e99), st.integers(1, 300))  # from 1e100 on, a loss counts as infinite
def test_a_constant_never_ends_the_test(value, count):
    assert last_step([value] * count) == (count, False)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 5, 9, 10, 35])
def test_the_first_loss_that_is_not_finite_ends_the_test_and_is_kept(bad, place):
    losses = [1.0] * 40
    losses[place] = bad
    assert last_step([*losses, bad]) == (place + 1, True)


@given(st.integers(0, 49), st.floats(-1e6, 1e6))
def test_a_lone_spike_does_not_end_the_test(place, height):
    losses = list(np.linspace(3.0, 1.0, 50))
    losses[place] += height
    assert last_step(losses) == (50, False)


@given(st.integers(0, 47), st.integers(1, 3))
def test_noise_does_not_end_the_test(seed, spread):
    losses = 2.0 + spread * np.random.default_rng(seed).standard_normal(200)
    assert last_step(losses) == (200, False)


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1.0, -100.0), (1e-20, 0.0), (1e20, 0.0)])
def test_quick_divergence_ends_the_test_four_rungs_after_it_is_sure(scale, offset):
    losses = np.array(descending([1.0 + k for k in range(30)]))
    # 7 is the first loss above 1 + 3 * (2.9 - 1); as a median of three it is known with 8, its right neighbour.
    sure = losses.tolist().index(8.0)
    assert last_step(scale * (losses + offset)) == (sure + 1 + 4, True)


def test_at_least_ten_losses_are_kept_where_the_loss_only_rises():
    assert last_step(np.arange(40.0)) == (14, True)


def test_a_constant_in_single_precision_may_wobble_in_the_last_bit():
    low = np.float32(2.3)
    assert last_step([low] * 20 + [np.nextafter(low, np.float32(3))] * 20) == (40, False)


def test_divergence_that_comes_back_is_no_divergence():
    catapult = [1.5, 2.5, 3.5, 4.5, 3.5, 2.5, 1.5]  # up by less than three times the improvement
    assert last_step(descending(catapult + [0.9] * 10)) == (47, False)


def test_without_anything_learnt_a_blow_up_still_ends_the_test():
    losses = [*(2.0 + 0.01 * np.random.default_rng(0).standard_normal(30)), *(2.0 + 0.05 * 2.0 ** np.arange(20))]
    keep, diverged = last_step(losses)
    assert diverged
    assert keep < 45


def test_the_end_is_the_same_however_many_losses_are_known():
    losses = descending([2.0**k for k in range(30)])
    keep, _ = last_step(losses)
    for known in range(keep, len(losses)):
        assert last_step(losses[:known]) == (keep, True)


@given(st.lists(st.floats(-1e6, 1e6) | st.just(math.nan) | st.just(math.inf), max_size=40))
def test_the_end_is_never_past_the_losses_and_never_earlier_than_ten_finite_ones(losses):
    keep, diverged = last_step(losses)
    finite = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
    assert keep <= len(losses)
    assert keep > 10 or keep == min(finite + 1, len(losses))
    assert diverged or keep == len(losses) == finite


def limit_of(curve):
    lr, loss, left = usable(curve)
    assert left is not None
    return blow_up(lr, loss)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sharpness", [0.3, 70.0])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_the_limit_of_gradient_descent_is_two_over_the_sharpness(spectrum, sharpness, seed):
    found = limit_of(descended(sharpness * SPECTRA[spectrum], seed=seed))
    assert found.lr_limit == pytest.approx(2 / sharpness, rel=0.01)
    assert found.momentum == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spectrum", ["power law", "steep power law", "one above a bulk"])
def test_momentum_raises_the_limit_and_is_found_with_it(spectrum, seed):
    found = limit_of(descended(7.0 * SPECTRA[spectrum], momentum=0.5, seed=seed))
    assert found.lr_limit == pytest.approx(2 * 1.5 / 7.0, rel=0.06)
    assert found.momentum == pytest.approx(0.5, abs=0.06)


def test_a_finer_ladder_finds_it_better():
    errors = [
        abs(limit_of(descended(SPECTRA["power law"], 0.5, ladder=Ladder(1e-5, 1e2, steps))).lr_limit - 3.0)
        for steps in (150, 600)
    ]
    assert errors[1] < errors[0] / 2


@pytest.mark.parametrize(("scale", "shift"), [(1e6, 0.0), (1e-6, 0.0), (1.0, -100.0), (-3.0, 0.0)])
def test_the_unit_and_the_origin_of_the_loss_do_not_matter(scale, shift):
    lr, loss, _ = usable(descended(SPECTRA["power law"]))
    found = blow_up(lr, scale * loss + shift)
    if scale < 0:  # falling for ever is no blow-up
        assert found is None
    else:
        assert found.lr_limit == pytest.approx(2.0, rel=0.01)


def test_it_is_the_limit_that_the_fit_reports():
    fit = fit_range(descended(10 * SPECTRA["power law"]))
    assert fit.lr_diverge == fit.blow_up.lr_limit == pytest.approx(0.2, rel=0.01)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("batch", [4, 64])
def test_mini_batches_follow_no_such_law_and_give_no_number(batch, momentum):
    for seed in range(10):
        assert limit_of(descended_on_batches(batch, momentum, seed)) is None


def test_a_fit_without_such_a_law_reports_its_lowest_place():
    fit = fit_range(descended_on_batches(16, 0.0, 0))
    assert fit.blow_up is None
    assert fit.lr_diverge == fit.lr_lowest


@pytest.mark.parametrize(
    "end",
    [
        [2.0, 4.0, 8.0, 16.0],
        [1.0, 2.0, 4.0, 8.0, 16.0],
        [1.0, 2.0, 4.0, 3.0, 9.0, 30.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [1.1, 1.2, 1.3, 1.4, 1.5, 1.6],
        [1.0, 1.0, 1.1, 9.0, 9.1, 90.0],
    ],
    ids=["too few", "too few after the last lowest", "not monotone", "flat", "linear", "in jumps"],
)
def test_an_end_of_another_shape_gives_no_number(end):
    loss = np.array([3.0] * 10 + [1.0] + end)
    assert blow_up(np.geomspace(1e-3, 1, loss.size), loss) is None
