"""What trunks and branches measure, and the belief about annealing that follows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scripted import evidence, valley

from lrfinder import Policy
from lrfinder.answer.annealing import PRIOR, AnnealingMeasurement, estimate_effect, measure_annealing, measure_warmup
from lrfinder.evidence.probe import Outcome, Probe
from lrfinder.schedules.theory import features


def measured(noise_removed, progress_lost, steps, error=0.001):
    """What branches measure if the law holds exactly."""
    rises = []
    for name in ("wsd", "linear"):
        of = features(Policy(name, steps), steps)
        rises.append(-noise_removed * of.noise_removed + progress_lost * of.progress_lost)
    return AnnealingMeasurement(steps, rises[0], error, rises[1], error)


def row(name, steps):
    """The coefficients of the two numbers in the law."""
    of = features(Policy(name, steps), steps)
    return np.array([-of.noise_removed, of.progress_lost])


def numbers(effect):
    return np.array([effect.noise_removed, effect.progress_lost])


def test_without_measurement_the_prior_stands():
    effect = estimate_effect(1000, ())
    assert numbers(effect) == pytest.approx(numbers(PRIOR))
    assert effect.covariance == pytest.approx(PRIOR.covariance)
    assert effect.measured == 0.0


TRUE = st.tuples(st.floats(-0.05, 0.15), st.floats(-0.02, 0.15))
RISE, ERROR = st.floats(-0.5, 0.5), st.floats(0.0, 0.1)


@given(RISE, ERROR)
def test_a_single_measurement_never_draws_the_prediction_away_from_what_was_seen(rise, error):
    effect = estimate_effect(500, [AnnealingMeasurement(500, rise, error, None, 0.0)])
    before, after = (abs(row("wsd", 500) @ numbers(belief) - rise) for belief in (PRIOR, effect))
    assert after <= before + 1e-9


@given(TRUE)
def test_two_measurements_never_draw_both_predictions_away_from_what_was_seen(true):
    seen = measured(*true, 500)
    effect = estimate_effect(500, [seen])
    away = []
    for name, rise in (("wsd", seen.late), ("linear", seen.throughout)):
        before, after = (abs(row(name, 500) @ numbers(belief) - rise) for belief in (PRIOR, effect))
        away.append(after > before + 1e-9)
    assert not all(away)
    assert np.all(np.linalg.eigvalsh(PRIOR.covariance - effect.covariance) > 0)


@given(RISE, ERROR, RISE, ERROR, st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)))
def test_no_other_pair_of_numbers_agrees_better_with_the_prior_and_what_was_seen(late, e1, throughout, e2, other):
    effect = estimate_effect(500, [AnnealingMeasurement(500, late, e1, throughout, e2)])

    def disagreement(pair):
        off = pair - numbers(PRIOR)
        seen = ((row("wsd", 500), late, e1), (row("linear", 500), throughout, e2))
        return off @ np.linalg.inv(PRIOR.covariance) @ off + sum(
            (x @ pair - rise) ** 2 / (error**2 + 0.03**2 + (rise / 2) ** 2) for x, rise, error in seen
        )

    assert min(numbers(effect)) >= 0
    best = disagreement(numbers(effect))
    assert best <= disagreement(np.array(other)) + 1e-9 * (1 + best)
    for near in numbers(effect) + 0.001 * np.array([[1, 0], [0, 1], [-1, 0], [0, -1], [1, 1], [-1, 1]]):
        assert min(near) < 0 or best <= disagreement(near) + 1e-9 * (1 + best)


def test_the_further_the_horizon_the_less_a_measurement_counts_and_the_wider_the_interval():
    of = features(Policy("wsd", 1000), 1000)
    effects = [estimate_effect(horizon, [measured(0.2, 0.0, 100)]) for horizon in (100, 1000, 10_000, 10**6)]
    shares = [effect.measured for effect in effects]
    assert shares == sorted(shares, reverse=True)
    deviations = [effect.predict_rise(of)[1] for effect in effects]
    assert deviations[0] < deviations[-1]
    rises = [effect.predict_rise(of)[0] for effect in effects]
    assert rises == sorted(rises)  # from the measured gain back to what is usual


def test_an_optimizer_that_decays_by_itself_is_recognised_by_its_branches():
    effect = estimate_effect(400, [measured(0.005, 0.06, 90), measured(0.005, 0.06, 200)])
    assert effect.predict_rise(features(Policy("linear", 400), 400))[0] > 0.02
    noisy = estimate_effect(400, [measured(0.15, 0.02, 90), measured(0.15, 0.02, 200)])
    assert noisy.predict_rise(features(Policy("linear", 400), 400))[0] < -0.05


def test_a_trunk_and_a_branch_alone_leave_the_other_direction_to_the_prior():
    effect = estimate_effect(500, [AnnealingMeasurement(500, -0.1, 0.001, None, 0.0)])
    assert np.all(np.isfinite(numbers(effect)))
    of = features(Policy("wsd", 500), 500)
    assert effect.predict_rise(of)[0] < PRIOR.predict_rise(of)[0]


def with_branches(*branches):
    """The search with outcomes of branches: (stage, steps, losses)."""
    found = [
        Outcome(Probe(0.01, steps, 0.0, stage, 8 if stage == "warmup" else 0), np.zeros(steps), np.array(losses), 0.1)
        for stage, steps, losses in branches
    ]
    base = evidence(valley(-6.0), noise=0.0, batches=4)
    return type(base)(**{**vars(base), "branches": tuple(found)})


def test_annealing_is_measured_against_the_trunk_of_its_length_batch_by_batch():
    measured = measure_annealing(
        with_branches(
            ("trunk", 40, [1.0, 1.2, 1.4, 1.6]),
            ("branch", 40, [0.9, 1.1, 1.3, 1.5]),
            ("trunk", 10, [2.0, 2.0, 2.0, 2.0]),
            ("branch", 10, [2.1, 2.3, 2.1, 2.3]),
        )
    )
    assert [measurement.steps for measurement in measured] == [10, 40]
    assert measured[1].late == pytest.approx(-0.1 / 1.3)
    assert measured[1].late_error == pytest.approx(0.0, abs=1e-12)  # the batches differ, their differences do not
    assert measured[0].late == pytest.approx(0.2 / 2.2)
    assert measured[0].late_error == pytest.approx(0.1 * math.sqrt(4 / 3) / 2 / 2.2)
    assert measured[1].throughout == pytest.approx((1.05 - 1.3) / 1.3)  # the best probe of 40 steps annealed throughout


@pytest.mark.parametrize("gone", ["trunk", "branch"])
def test_what_blew_up_says_nothing(gone):
    losses = {"trunk": [1.0, 1.0], "branch": [1.0, 1.0], gone: []}
    assert measure_annealing(with_branches(*((stage, 40, values) for stage, values in losses.items()))) == ()


def test_warmup_is_measured_against_the_best_probe_without():
    warmup = measure_warmup(with_branches(("warmup", 40, [0.945, 0.945, 0.945, 0.945])))
    assert warmup.rise == pytest.approx(-0.1)
    assert (warmup.steps, warmup.octaves) == (8, pytest.approx(math.log2(0.01) + 6))
    assert measure_warmup(with_branches()) is None
    assert measure_warmup(with_branches(("warmup", 40, []))) is None
