"""The line through a noisy series, and how honest its error is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.special import stdtr

from lrfinder.plateau.slope import slope_of


def noise(kind, runs, n, seed=0):
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((runs, n + 500))
    if isinstance(kind, float):
        return lfilter([np.sqrt(1 - kind**2)], [1, -kind], white, axis=-1)[:, 500:]
    return rng.standard_t(2, (runs, n)) if kind == "t2" else white[:, 500:]


def test_a_line_is_found_exactly():
    found = slope_of(3.0 - 0.25 * np.arange(24)[None])
    assert found.value == pytest.approx(-0.25)
    assert found.error == pytest.approx(0.0, abs=1e-12)
    assert found.level == pytest.approx(3.0 - 0.25 * 11.5)


@pytest.mark.parametrize("n", [24, 96, 192])
@pytest.mark.parametrize("kind", ["white", 0.5, 0.9, "t2"])
def test_the_error_is_not_understated(kind, n):
    """P values of a true hypothesis: no more than 1% of them may be below 1%."""
    found = slope_of((noise(kind, 4000, n) + 0.01 * np.arange(n))[:, None])
    p_value = stdtr(found.dof, (found.value - 0.01) / found.error)
    assert (p_value < 0.01).mean() < (0.015 if n == 24 and kind == 0.9 else 0.01)


def test_the_test_of_that_can_fail():
    n = 96
    y = noise(0.9, 4000, n)
    x = np.arange(n) - (n - 1) / 2
    slope = y @ x / (x @ x)
    rest = y - y.mean(1, keepdims=True) - slope[:, None] * x
    naive = np.sqrt((rest**2).sum(1) / (n - 2) / (x @ x))
    assert (stdtr(n - 2, slope / naive) < 0.01).mean() > 0.1


def test_spikes_hardly_move_it():
    y = 2.0 - 0.01 * np.arange(96) + 0.05 * noise("white", 1, 96)[0]
    spiky = y.copy()
    spiky[[5, 60, 93]] += (40.0, 1e6, -30.0)
    plain, found = slope_of(y[None]), slope_of(spiky[None])
    assert abs(found.value - plain.value) < plain.error
    assert found.error < 2 * plain.error


@given(
    st.lists(st.integers(-160, 160).map(lambda i: i / 16), min_size=24, max_size=60),  # far above what shifts round off
    st.floats(0.1, 100),
    st.floats(-1000, 1000),
)
def test_it_is_equivariant(values, scale, shift):
    y = np.array(values)
    plain, moved = slope_of(y[None]), slope_of(scale * y[None] + shift)
    tolerance = 1e-6 * scale * (np.abs(y).max() + abs(shift) / scale + 1)
    assert moved.value == pytest.approx(scale * plain.value, abs=tolerance)
    assert moved.level == pytest.approx(scale * plain.level + shift, abs=tolerance)


def test_series_side_by_side_are_as_alone():
    y = noise(0.5, 6, 48).reshape(3, 1, 2, 48)
    together = slope_of(y)
    for i in range(3):
        for all_of_them, alone in zip(together, slope_of(y[i, 0]), strict=True):
            np.testing.assert_allclose(all_of_them[i, 0], alone, rtol=1e-12)


def test_a_constant_series_has_no_error():
    found = slope_of(np.full((1, 24), 2.5))
    assert (found.value, found.error, found.level) == (0.0, 0.0, 2.5)
