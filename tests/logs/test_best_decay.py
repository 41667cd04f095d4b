from __future__ import annotations

import numpy as np
import pytest
from support.losslogs import PEAK, STEPS, TRUTH, WARMUP, rates

from lrfinder.logs.best_decay import best_decay, loss_after_lines
from lrfinder.logs.loss_law import LossLaw

END = np.array([STEPS])
FLOOR = 0.1 * PEAK


def law(gamma):
    parameters = TRUTH.copy()
    parameters[6] = np.log(gamma)
    return LossLaw(parameters, np.zeros((8, 8)), 1.5, PEAK, float(STEPS), 0.0, True)


def final(of, lr):
    return float(of(lr, END).loss[0])


def test_the_gradient_is_that_of_the_loss():
    knots = np.array([100.0, 900, 2500, 3500, 3990, 4000])
    heights = PEAK * np.array([1.0, 0.9, 0.6, 0.5, 0.3, 0.1])
    step = 1e-6 * PEAK * np.eye(knots.size)
    gradient = loss_after_lines(law(0.8), knots, heights, 0.05)[1]
    ahead, behind = ([loss_after_lines(law(0.8), knots, heights + s * d, 0.05)[0] for d in step] for s in (1, -1))
    # The first rate is the peak, which no search moves.
    np.testing.assert_allclose(gradient[1:], (np.subtract(ahead, behind) / (2e-6 * PEAK))[1:], rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.3, 0.8, 2.2])
def test_no_line_is_better_and_no_fall_is_sudden(gamma):
    of, base = law(gamma), rates("constant")
    found = best_decay(of, base, WARMUP, FLOOR, [base, rates("cosine"), rates("late")])
    np.testing.assert_array_equal(found[:WARMUP], base[:WARMUP])
    assert found[WARMUP] == pytest.approx(PEAK)
    assert (np.diff(found[WARMUP:]) <= 1e-12 * PEAK).all()
    assert found.min() >= 0
    assert found[-1] >= FLOOR * (1 - 1e-9)
    step = np.arange(STEPS + 1)
    assert np.diff(found[WARMUP:]).min() >= -PEAK / (0.1 * (STEPS - WARMUP)) * 1.01
    for share in (0.1, 0.2, 0.4, 0.8):
        cut = STEPS - share * (STEPS - WARMUP)
        line = np.minimum(base, np.interp(step, [cut, STEPS], [PEAK, FLOOR]))
        assert final(of, found) <= final(of, line) + 1e-3


def test_a_peak_that_is_the_lowest_rate_stays():
    base = rates("constant")
    np.testing.assert_array_equal(best_decay(law(0.8), base, WARMUP, PEAK, [base]), base)
