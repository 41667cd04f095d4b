"""The noise scale of a linear model, which has a closed form, and the limits of quadratics with known eigenvalues."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lrfinder import InputError
from lrfinder.advice.gradients import (
    MIN_BATCHES,
    NoiseScale,
    estimate_noise_scale,
    limit_from,
    stability_constant,
    top_curvature,
)

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


OPTIMIZERS = [
    (torch.optim.SGD, {}),
    (torch.optim.SGD, {"momentum": 0.9}),
    (torch.optim.SGD, {"momentum": 0.8, "dampening": 0.5}),
    (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    (torch.optim.Adam, {"betas": (0.9, 0.0), "eps": 1e6}),  # so large an eps is the whole preconditioner
    (torch.optim.RMSprop, {"alpha": 0.0, "eps": 1e6}),
]


def test_the_top_eigenvalue_of_a_known_matrix():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    matrix = basis @ np.diag(np.linspace(-3.0, 7.0, 40)) @ basis.T
    value, vector = top_curvature(lambda v: matrix @ v, 40)
    assert value == pytest.approx(7.0, rel=1e-3)
    assert vector @ matrix @ vector == pytest.approx(7.0, rel=1e-3)


@pytest.mark.parametrize("share", [0.98, 1.02])
@pytest.mark.parametrize(("kind", "settings"), OPTIMIZERS)
def test_torch_converges_below_the_limit_and_diverges_above(kind, settings, share):
    curvature = 3.0
    constant, _, _ = stability_constant(kind.__name__, settings)
    limit = constant / curvature * settings.get("eps", 1.0)
    weight = torch.nn.Parameter(torch.tensor(1e-3, dtype=torch.float64))
    optimizer = kind([weight], lr=1e-9 * limit, **settings)
    for step in range(2000):
        if step == 200:  # by then Adam no longer corrects its bias
            optimizer.param_groups[0]["lr"] = share * limit
        optimizer.zero_grad()
        (0.5 * curvature * weight**2).backward()
        optimizer.step()
        if abs(weight.item()) > 1:
            break
    assert (abs(weight.item()) > 1) == (share > 1)


def test_the_interval_comes_from_the_batches():
    limit = limit_from([1.0, 3.0, 2.0, 2.0], "SGD", {"momentum": 0.9})
    assert (limit.lr, limit.sharpness, limit.form) == (1.9, 2.0, "heavy ball")
    assert limit.lr_low < limit.lr < limit.lr_high
    wide = limit_from([-5.0, 9.0], "SGD", {})
    assert wide.lr_high == math.inf
    assert wide.to_dict()["lr_high"] == "Infinity"


def test_what_has_no_limit_is_an_error():
    with pytest.raises(InputError, match="got Adagrad"):
        stability_constant("Adagrad", {})
    with pytest.raises(InputError, match="two batches"):
        limit_from([1.0], "SGD", {})
    with pytest.raises(InputError, match="positive"):
        limit_from([-1.0, -2.0], "SGD", {})
    with pytest.raises(InputError, match="blown up"):
        top_curvature(lambda v: v * math.nan, 10)
