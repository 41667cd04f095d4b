"""The training for which schedules are compared."""

from __future__ import annotations

import pytest
from support.losslogs import PEAK, STEPS, WARMUP, made

from lrfinder import InputError
from lrfinder.logs.scenario import lowest_lr, make_scenario


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
