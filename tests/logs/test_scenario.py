"""The training for which schedules are compared."""

from __future__ import annotations

import numpy as np
import pytest
from support.losslogs import PEAK, STEPS, TRUTH, WARMUP, made, rates

from lrfinder import InputError
from lrfinder.logs.loss_law import LossLaw
from lrfinder.logs.scenario import best_decay, lowest_lr, make_scenario


def scenario(steps=None, peak_lr=None, warmup_steps=None, end_lr=None):
    return make_scenario([made("cosine"), made("constant")], steps, peak_lr, warmup_steps, end_lr)


def test_what_is_not_given_is_taken_from_the_logs():
    found = scenario()
    assert (found.total, found.peak_lr, found.warmup, found.caveats) == (STEPS, PEAK, WARMUP, ())
    assert found.end_lr == lowest_lr(made("cosine")) == pytest.approx(0.1 * PEAK)


def test_every_decay_stays_above_the_lowest_rate():
    for name in ("linear", "cosine", "wsd", "exponential"):
        lr = scenario(end_lr=0.2 * PEAK).every_lr(name)
        assert lr.size == STEPS + 1
        assert lr[WARMUP:].min() == pytest.approx(0.2 * PEAK)


@pytest.mark.parametrize("peak", [1.0, 2e-4])
def test_a_peak_far_from_those_logged_is_refused(peak):
    with pytest.raises(InputError, match=r"peak_lr must be within a factor of 4 of the peaks logged"):
        scenario(peak_lr=peak)


END = np.array([STEPS])
FLOOR = 0.1 * PEAK


def law(gamma):
    parameters = TRUTH.copy()
    parameters[6] = np.log(gamma)
    return LossLaw(parameters, np.zeros((8, 8)), 1.5, PEAK, float(STEPS), 0.0, True)


def final(of, lr):
    return float(of(lr, END).loss[0])


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
