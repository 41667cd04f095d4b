from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares

from lrfinder.evidence.range_shape import fit_shapes, shape_at

X = np.linspace(0, 8, 100)
LOWER = np.array([-2.0, 0.0, 0.0, 0.02, 0.0, 0.01])
UPPER = np.array([2.0, 4.0, 8.5, 4.0, 16.0, 8.0])
START = np.array([0.0, 0.6, 5.0, 0.3, 8.0, 0.1])


def drawn(seed):
    """Parameters of a plateau, a descent and a rise, and noisy losses that follow them, cut off at 0.5."""
    rng = np.random.default_rng(seed)
    made = np.array([0.0, 0.5, rng.uniform(2, 5), rng.uniform(0.1, 0.4), rng.uniform(6, 8), rng.uniform(0.05, 0.2)])
    losses = shape_at(X, made, 1.0) + 0.02 * rng.standard_normal(X.size)
    return made, np.minimum(losses, 0.5)


@pytest.mark.parametrize("seed", range(8))
def test_the_fit_costs_no_more_than_that_of_scipy(seed):
    made, losses = drawn(seed)
    reference = least_squares(
        lambda p: np.minimum(shape_at(X, p, 1.0), 0.5) - losses,
        np.clip(START, LOWER, UPPER),
        bounds=(LOWER, UPPER),
        loss="soft_l1",
        f_scale=0.02,
    )
    parameters, cost, residuals, _ = fit_shapes(X, losses, 0.5, 0.02, START[None], LOWER[None], UPPER[None])
    assert cost[0] <= reference.cost * (1 + 1e-5)
    assert parameters[0, 2] == pytest.approx(made[2], abs=0.1)
    np.testing.assert_allclose(residuals[0], np.minimum(shape_at(X, parameters[0], 1.0), 0.5) - losses, atol=1e-12)


def test_slopes_are_those_of_the_residuals():
    _, losses = drawn(0)
    soft = 1e9  # every residual weighs the same
    parameters, _, _, slopes = fit_shapes(X, losses, np.inf, soft, START[None], START[None], START[None])
    assert parameters[0].tolist() == START.tolist()
    for place, step in enumerate(1e-6 * np.eye(6)):
        numeric = (shape_at(X, START + step, 1.0) - shape_at(X, START - step, 1.0)) / 2e-6
        np.testing.assert_allclose(slopes[0, :, place], numeric, atol=1e-7)


def test_starts_are_fitted_apart_and_stay_within_their_bounds():
    _, losses = drawn(1)
    fixed = np.where([True, False, False, False, False, False], START, LOWER)  # the level is held at zero
    together = fit_shapes(
        X, losses, 0.5, 0.02, np.array([START, START]), np.array([LOWER, fixed]), np.array([UPPER, [0.0, *UPPER[1:]]])
    )
    alone = fit_shapes(X, losses, 0.5, 0.02, START[None], LOWER[None], UPPER[None])
    np.testing.assert_allclose(together[0][0], alone[0][0], rtol=1e-3)
    assert together[0][1, 0] == 0.0
    assert together[1][0] <= together[1][1]
    assert np.all((together[0] >= LOWER) & (together[0] <= UPPER))
