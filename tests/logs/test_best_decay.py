from __future__ import annotations

import numpy as np
import pytest
from support.losslogs import PEAK, STEPS, TRUTH, WARMUP, rates

from lrfinder.logs.best_decay import best_decay, loss_after_lines, loss_after_stairs
from lrfinder.logs.loss_law import LossLaw

END = np.array([STEPS])
FLOOR = 0.1 * PEAK


def law(gamma):
    parameters = TRUTH.copy()
    parameters[6] = np.log(gamma)
    return LossLaw(parameters, np.zeros((7, 7)), 1.5, PEAK, float(STEPS), 0.0, True)


def final(of, lr):
    return float(of(lr, END).loss[0])


@pytest.mark.parametrize("kind", [loss_after_lines, loss_after_stairs])
def test_the_gradient_is_that_of_the_loss(kind):
    knots = np.array([100.0, 900, 2500, 3500, 3990, 4000])
    heights = PEAK * np.array([1.0, 0.9, 0.6, 0.5, 0.3, 0.1])
    step = 1e-6 * PEAK * np.eye(knots.size)
    gradient = kind(law(0.8), knots, heights, 0.05)[1]
    ahead, behind = ([kind(law(0.8), knots, heights + s * d, 0.05)[0] for d in step] for s in (1, -1))
    # The first rate is the peak, which no search moves.
    np.testing.assert_allclose(gradient[1:], (np.subtract(ahead, behind) / (2e-6 * PEAK))[1:], rtol=1e-5)


def test_stairs_are_the_law_exactly():
    knots = np.array([100.0, 900, 2500, 4000])
    heights = PEAK * np.array([1.0, 0.6, 0.5, 0.1])
    warmup = rates("constant")[:WARMUP]
    lr = np.concatenate([warmup, np.repeat(heights, [800, 1600, 1500, 1])])
    value = loss_after_stairs(law(0.8), knots, heights, float(warmup.sum()))[0]
    assert value == pytest.approx(final(law(0.8), lr), abs=1e-9)


@pytest.mark.parametrize("gamma", [0.3, 0.8, 2.2])
def test_no_single_drop_and_no_line_is_better(gamma):
    of, base = law(gamma), rates("constant")
    found = best_decay(of, base, WARMUP, FLOOR, [base, rates("cosine"), rates("late")])
    np.testing.assert_array_equal(found[:WARMUP], base[:WARMUP])
    assert found[WARMUP] == pytest.approx(PEAK)
    assert (np.diff(found[WARMUP:]) <= 1e-12 * PEAK).all()
    assert found.min() >= 0
    assert found[-1] >= FLOOR * (1 - 1e-9)
    step = np.arange(STEPS + 1)
    for share in (0.02, 0.05, 0.1, 0.2, 0.4, 0.8):
        cut = STEPS - share * (STEPS - WARMUP)
        for low in (0.1, 0.3):
            assert final(of, found) <= final(of, np.where(step > cut, low * PEAK, base)) + 1e-3
        line = np.minimum(base, np.interp(step, [cut, STEPS], [PEAK, FLOOR]))
        assert final(of, found) <= final(of, line) + 1e-3


def test_no_jump_goes_below_a_tenth_of_the_peak():
    base = rates("constant")
    found = best_decay(law(2.2), base, WARMUP, 0.0, [base])
    low = found[WARMUP:] < FLOOR * (1 - 1e-9)
    assert np.diff(found[WARMUP:])[low[1:]].min(initial=0) > -0.05 * PEAK


def test_a_peak_that_is_the_lowest_rate_stays():
    base = rates("constant")
    np.testing.assert_array_equal(best_decay(law(0.8), base, WARMUP, PEAK, [base]), base)
