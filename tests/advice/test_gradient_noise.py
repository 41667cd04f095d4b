"""The noise scale against a linear model, where it has a closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lrfinder import InputError
from lrfinder.advice.gradient_noise import MIN_BATCHES, NoiseScale, estimate_noise_scale

DIMENSION, DISTANCE, NOISE = 20, 0.3, 2.0


def linear_model(rng, batch_size, batches):
    """Squares and products of batch gradients of ``(x . delta - noise)**2 / 2`` with ``x`` from a standard normal."""
    delta = np.full(DIMENSION, DISTANCE)
    x = rng.normal(size=(batches, batch_size, DIMENSION))
    residual = x @ delta - NOISE * rng.normal(size=(batches, batch_size))
    gradients = (x * residual[..., None]).mean(1)
    return (gradients**2).sum(1), gradients @ gradients.mean(0)


TRUTH = DIMENSION + 1 + DIMENSION * NOISE**2 / (DIMENSION * DISTANCE**2)
"""``tr C / |G|**2`` in closed form: C = (|delta|**2 + noise**2) I + delta delta'."""


@pytest.mark.parametrize(("batch_size", "batches"), [(8, 32), (128, 16)])
def test_the_noise_scale_of_a_linear_model_is_found_whatever_the_batch_size(batch_size, batches):
    rng = np.random.default_rng(0)
    found = [estimate_noise_scale(*linear_model(rng, batch_size, batches), batch_size) for _ in range(200)]
    assert np.median([one.value for one in found]) == pytest.approx(TRUTH, rel=0.05)
    held = np.mean([one.low <= TRUTH <= one.high for one in found])
    assert 0.83 <= held <= 0.96


def test_a_gradient_that_vanishes_in_the_noise_has_no_upper_end():
    rng = np.random.default_rng(1)
    gradients = rng.normal(size=(16, 500))
    found = estimate_noise_scale((gradients**2).sum(1), gradients @ gradients.mean(0), 4)
    assert found.high == math.inf
    assert found.low > 4 * 16
    assert found.to_dict()["high"] == "Infinity"
    assert "no upper end" in str(found)


def test_the_unit_of_the_loss_does_not_matter():
    squares, products = linear_model(np.random.default_rng(2), 8, 16)
    one, other = estimate_noise_scale(squares, products, 8), estimate_noise_scale(9 * squares, 9 * products, 8)
    assert (other.value, other.low, other.high) == pytest.approx((one.value, one.low, one.high))


def test_at_the_noise_scale_steps_and_examples_cost_twice_their_minimum():
    noise = NoiseScale(100.0, 80.0, 120.0, 8, 32)
    assert (noise.steps_factor(100), noise.examples_factor(100)) == (2.0, 2.0)
    assert noise.steps_factor(400) == 1.25
    assert noise.examples_factor(400) == 5.0


@pytest.mark.parametrize(
    ("squares", "products", "text"),
    [
        ([1.0] * (MIN_BATCHES - 1), [1.0] * (MIN_BATCHES - 1), "at least 4"),
        ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0], "two arrays"),
        ([1.0, 2.0, 3.0, math.nan], [1.0] * 4, "finite"),
        ([1.0] * 4, [1.0] * 4, "differ"),
    ],
)
def test_gradients_that_say_nothing_are_an_error(squares, products, text):
    with pytest.raises(InputError, match=text):
        estimate_noise_scale(squares, products, 8)
