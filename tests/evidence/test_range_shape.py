from __future__ import annotations

import numpy as np
import pytest

from lrfinder.evidence.range_shape import fit_shape, shape_at, slopes_at

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
def test_a_made_shape_is_found_again(seed):
    made, losses = drawn(seed)
    fit = fit_shape(X, losses, 0.5, 0.02, 1.1 * made, LOWER, UPPER)
    assert fit.parameters[2] == pytest.approx(made[2], abs=0.1)
    assert fit.cost < 0.02**2 * X.size
    np.testing.assert_allclose(fit.residuals, np.minimum(shape_at(X, fit.parameters, 1.0), 0.5) - losses, atol=1e-12)


def test_slopes_are_those_of_the_shape():
    slopes = slopes_at(X, START)
    for place, step in enumerate(1e-6 * np.eye(6)):
        numeric = (shape_at(X, START + step, 1.0) - shape_at(X, START - step, 1.0)) / 2e-6
        np.testing.assert_allclose(slopes[:, place], numeric, atol=1e-7)


def test_a_fixed_parameter_stays_and_costs():
    _, losses = drawn(1)
    free = fit_shape(X, losses, 0.5, 0.02, START, LOWER, UPPER)
    fixed = np.arange(6) == 1
    held = fit_shape(X, losses, 0.5, 0.02, START, np.where(fixed, START, LOWER), np.where(fixed, START, UPPER))
    assert held.parameters[1] == START[1]
    assert held.slopes.shape == (X.size, 5)
    assert free.cost < held.cost
