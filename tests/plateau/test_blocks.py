"""A stream of losses in constant memory, robust, on its device; the line through it, and how honest its error is."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.special import stdtr
from torch.profiler import ProfilerActivity, profile

from lrfinder.plateau.blocks import BLOCKS, GROUP, Blocks, condensed, slope_of


def filled(values, shape=()):
    blocks = Blocks(shape)
    for value in values:
        blocks.add(value)
    return blocks


def means(blocks):
    table = blocks.table()
    return (table[..., 0] / table[..., 1]).numpy()


@pytest.mark.parametrize("n", [1, 383, 384, 385, 6143, 6144, 6145, 13000])
def test_blocks_are_means_of_equal_length_and_few(n):
    values = torch.linspace(5, 1, n, dtype=torch.float64)  # no outliers: nothing is pulled in
    blocks = filled(values)
    length = blocks.length
    assert blocks.steps == n
    assert blocks.full == n // length <= BLOCKS
    assert n < GROUP * BLOCKS or blocks.full >= BLOCKS // 2
    expected = values[: blocks.full * length].reshape(-1, length).mean(1)
    np.testing.assert_allclose(means(blocks), expected, rtol=1e-12)


def test_blocks_made_in_inference_mode_can_be_added_to_out_of_it():
    with torch.inference_mode():
        blocks = filled([torch.tensor(1.0)])
    blocks.add(torch.tensor(2.0))
    assert means(blocks).tolist() == [1, 2]


def test_memory_does_not_grow():
    few, many = (filled([1.0] * n).state_dict() for n in (300, 20_000))
    assert len(few["values"]) == len(many["values"])
    assert len(few["table"]) == len(many["table"])


def test_spikes_are_pulled_in():
    rng = np.random.default_rng(0)
    values = 1 + 0.1 * rng.standard_normal(4096)
    spiky = np.where(rng.random(4096) < 0.02, 1e4, values)
    assert np.abs(means(filled(spiky.tolist())) - 1).max() < 0.5
    assert np.abs(spiky.reshape(-1, GROUP).mean(1) - 1).max() > 600


def test_rare_values_are_no_outliers_where_most_are_equal():
    """Losses of 0 with a 1 now and then: the mean is what it is."""
    values = ([0.0] * 9 + [1.0]) * 160
    assert means(filled(values)).mean() == pytest.approx(0.1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_left_out_and_counted(bad):
    for n in (100, 5000):
        blocks = filled([2.0 if i % 7 else bad for i in range(n)])
        assert int(blocks.finite()) == n - math.ceil(n / 7)
        known = means(blocks)
        assert set(known[np.isfinite(known)]) == {2.0}


def test_a_block_without_a_finite_value_has_count_zero():
    blocks = filled([1.0] * 384 + [math.nan] * 32 + [1.0] * 32)
    assert blocks.table()[:, 1].tolist() == [16.0] * 24 + [0.0] * 2 + [16.0] * 2
    assert torch.isfinite(blocks.table()).all()


@given(st.integers(0, 700))
@settings(max_examples=25)
def test_it_goes_on_from_its_state(n):
    rng = np.random.default_rng(n)
    values = [float(v) if v > -2 else math.nan for v in rng.standard_normal(1000)]
    whole, part = filled(values), filled(values[:n])
    again = Blocks()
    again.load_state_dict(json.loads(json.dumps(part.state_dict(), allow_nan=False)))
    for value in values[n:]:
        again.add(value)
    assert torch.equal(whole.table(), again.table())
    assert whole.finite() == again.finite()


def test_runs_side_by_side_are_as_alone():
    values = torch.randn(600, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = filled(values, (2,))
    for run in range(2):
        assert torch.equal(together.table()[run], filled(values[:, run]).table())


def test_no_value_is_read():
    """On a GPU each of these operations would wait for the device."""
    values = torch.randn(3000)
    blocks = Blocks()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for value in values:
            blocks.add(value)
    names = {event.key for event in seen.key_averages()}
    assert not names & {"aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::is_nonzero"}
    assert "aten::copy_" in names


def test_a_group_without_spread_is_left_alone():
    values = torch.tensor([[1.0, 1.0, 1.0, 9.0], [math.nan] * 4])
    assert condensed(values).tolist() == [[12.0, 4.0], [0.0, 0.0]]


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
