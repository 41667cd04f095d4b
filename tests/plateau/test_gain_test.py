"""What counts as a plateau: the test, its family, the tolerance, the record."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfinder.plateau.gain_test import Plateau, Record, next_look, run_gain_test, tolerance


def noisy(slope, n=192, sd=0.1, seed=0, runs=1):
    rng = np.random.default_rng(seed)
    return Record(3 + slope * np.arange(n) + sd * rng.standard_normal((runs, n)), 10)


def test_looks_are_spaced_geometrically():
    looks = [next_look(0)]
    while looks[-1] < 2**20:
        looks.append(next_look(looks[-1]))
    assert looks[:3] == [32, 33, 34]
    assert len(looks) <= 16 * 15 + 1
    ratios = np.array(looks[1:]) / looks[:-1]
    assert ratios.max() < 1.07


@given(st.integers(0, 10**12))
def test_the_next_look_is_ahead_and_not_far(step):
    look = next_look(step)
    assert step < look <= max(32, 1.05 * step + 1)
    assert next_look(look - 1) == look


def test_blocks_that_were_lost_are_not_taken_for_zeros():
    run = Record(np.linspace(-5, -5.5, 200) + 0.001 * np.random.default_rng(0).standard_normal(200), 1)
    lost = Record(np.where((np.arange(200) < 60) & (np.arange(200) % 3 > 0), np.nan, run.mean), 1)
    assert tolerance(lost, lost, -5.0) == pytest.approx(tolerance(run, run, -5.0), rel=0.05)


def test_a_flat_stretch_passes_and_a_falling_one_does_not():
    flat = run_gain_test(noisy(0.0), 4000, 500, 1.0, 0.05)
    assert flat.p_value < 0.001
    assert abs(flat.gain) < flat.high < 1.0
    falling = run_gain_test(noisy(-0.03), 4000, 500, 1.0, 0.05)  # gains 1.5 in 500 steps
    assert falling.p_value == 1.0
    assert falling.gain == pytest.approx(1.5, abs=0.2)


def test_the_upper_limit_and_the_test_agree():
    for seed in range(20):
        seen = run_gain_test(noisy(-0.002, seed=seed), 4000, 500, 0.3, 0.05)
        assert (seen.p_value <= 0.05) == (seen.high <= 0.3)


def test_too_few_blocks_tell_nothing():
    seen = run_gain_test(noisy(0.0, n=23), 4000, 500, 1.0, 0.05)
    assert (int(seen.blocks[0]), float(seen.p_value[0])) == (0, 1.0)


def test_missing_blocks_are_bridged_where_they_are_few():
    record = noisy(0.0)
    record.mean[0, [180, 185]] = np.nan
    assert run_gain_test(record, 4000, 500, 1.0, 0.05).p_value < 0.001
    record.mean[0, -150::2] = np.nan
    assert run_gain_test(record, 4000, 500, 1.0, 0.05).blocks == 0


def test_false_alarms_of_one_look_are_rare_at_the_tolerance_itself():
    """A line that gains just the tolerance: twelve windows, each at most 0.05 / 144."""
    seen = run_gain_test(noisy(-0.02, runs=2000), 4000, 500, 1.0, 0.05)
    assert (seen.p_value <= 0.05).sum() <= 12


def test_the_tolerance_follows_the_recent_gain_or_the_noise():
    noise = 1e-6 * np.random.default_rng(0).normal(size=200)
    quiet = Record(np.r_[np.linspace(5, 1, 140), np.ones(60)] + noise, 10)
    recent = quiet.mean[75:100].mean() - 1
    assert tolerance(quiet, quiet, 6.0) == pytest.approx(0.01 * recent, rel=0.05)
    assert tolerance(quiet, quiet, 1000.0) == tolerance(quiet, quiet, 6.0)  # a high start is long ago
    still = Record(np.full(200, -5.0), 10)
    assert 0 < tolerance(still, still, -5.0) < 1e-5
    rounded = Record(np.r_[np.linspace(5, 1, 5).repeat(20), np.ones(100)], 1)
    assert tolerance(rounded, rounded, 5.0) == 3.0


@pytest.mark.parametrize(("start", "share"), [(3.0, 0.2), (100.0, 0.86)])
def test_the_share_of_the_noise_depends_on_what_was_gained(start, share):
    loud = noisy(0.0, sd=0.5, runs=20)
    found = tolerance(loud, loud, start) / (0.5 * np.sqrt(10))  # of a step, in blocks of ten
    assert np.median(found) == pytest.approx(share, rel=0.1)


@given(st.floats(0.01, 100), st.floats(-100, 100))
def test_scaling_and_shifting_the_loss_changes_nothing(scale, shift):
    record = noisy(-0.001)
    moved = Record(scale * record.mean + shift, record.length)
    one, other = (run_gain_test(r, 4000, 500, tolerance(r, r, r.mean[:, 0]), 0.05) for r in (record, moved))
    assert other.p_value == pytest.approx(one.p_value, rel=1e-5)
    assert other.gain == pytest.approx(scale * one.gain, rel=1e-5)


def test_the_record_goes_through_json_and_reads_well():
    found = Plateau(400, 200, 200, -0.01, 0.02, 0.03, 0.004, 1.5, 0.01, 3, (0.1, 0.2))
    assert Plateau.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert str(found) == (
        "plateau after 400 steps: 200 more at learning rate 0.1 are expected to improve on 1.5 by -0.01, by 0.02 at"
        " most; the tolerance is 0.03 (p = 0.004, from 200 on); 3 values were not finite"
    )
