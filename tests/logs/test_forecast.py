from __future__ import annotations

import json

import numpy as np
import pytest
from support.losslogs import CURVES, FITTED, PEAK, STEPS, WARMUP, losses, made, rates

from lrfinder import InputError, TrainingLog, forecast, read_log
from lrfinder.logs.law_fit import NO_FALLS
from lrfinder.schedules.policy import RANKED


@pytest.fixture(scope="module")
def runs():
    return [made("cosine"), made("two-stage", seed=1)]


@pytest.fixture(scope="module")
def ranked(runs):
    return forecast(runs, steps=6000, optimal=True, targets=[made("late", seed=2)])


def test_every_policy_is_ranked(ranked):
    assert {one.name for one in ranked.schedules} == set(RANKED)
    finals = [one.final_loss for one in ranked.schedules]
    assert finals == sorted(finals)
    assert ranked.best == ranked.schedules[0].name
    for one in ranked.schedules:
        assert one.final_loss_low < one.final_loss < one.final_loss_high
        assert (one.step[-1], one.total_steps) == (6000, 6000)
    assert ranked.refused is None


def test_defaults_are_those_of_the_logs(ranked):
    cosine = next(one for one in ranked.schedules if one.name == "cosine")
    assert (cosine.peak_lr, cosine.warmup_steps) == (PEAK, WARMUP)
    assert cosine.lr[0] == PEAK
    assert cosine.lr[-1] == pytest.approx(0.1 * PEAK)
    assert ranked.caveats == ()


def test_the_optimal_schedule_is_best_and_keeps_its_bounds(ranked):
    best = ranked.optimal
    assert all(best.final_loss <= one.final_loss + 1e-9 for one in ranked.schedules)
    assert np.all(np.diff(best.lr) <= 1e-15)
    assert best.lr[0] == pytest.approx(PEAK)
    assert best.lr[-1] >= 0.1 * PEAK * (1 - 1e-9)


def test_the_best_is_tied_with_itself_and_the_worst_with_none(ranked):
    assert ranked.optimal.tied
    assert not ranked.schedules[-1].tied


def test_a_target_is_predicted_at_its_steps_and_scored(ranked):
    log = made("late", seed=2)
    (target,) = ranked.targets
    np.testing.assert_allclose(target.loss[5:], losses(rates("late"), log.step)[5:], atol=0.02)
    assert target.mae == pytest.approx(np.abs(target.loss - log.value).mean())
    assert target.end_rel_error == pytest.approx(abs(target.loss[-1] - log.value[-1]) / log.value[-1])


def test_a_target_without_losses_is_predicted_and_has_no_score(runs):
    step = np.arange(0, STEPS + 1, 50)
    found = forecast(runs, targets=[TrainingLog("a", step, lr=rates("late")[step])])
    (target,) = found.targets
    assert (target.mae, target.end_rel_error) == (None, None)
    assert found.to_dict()["targets"][0]["loss"] == target.loss.tolist()
    assert (found.schedules, found.best) == ((), None)


def test_the_warmup_of_a_target_is_predicted_at_its_end_and_not_scored(runs):
    step = np.arange(0, STEPS + 1, 20)
    late, seen = rates("late"), step >= WARMUP
    loss = np.where(seen, losses(late, np.maximum(step, 1)), 11.0)
    (target,) = forecast(runs, targets=[TrainingLog("a", step, loss, late[step])]).targets
    assert np.isfinite(target.loss).all()
    assert (target.loss[~seen] == target.loss[seen][0]).all()
    assert target.mae == pytest.approx(np.abs(target.loss - loss)[seen].mean())


def test_what_is_amiss_with_a_log_comes_before_the_plan_made_from_it():
    step = np.arange(0, 1000, 10)
    with pytest.raises(InputError, match=r"up: needs at least 10 losses after warmup, got 1 \(warmup ends at step 990"):
        forecast([TrainingLog("up", step, 5 - step / 1000, step * 1e-6)])


def test_the_document_is_plain_json(ranked):
    document = json.loads(json.dumps(ranked.to_dict(), allow_nan=False))
    assert list(document) == [
        "schema_version", "status", "reason", "runs", "law", "schedules", "best", "optimal", "targets", "caveats",
    ]  # fmt: skip
    assert document["schema_version"] == 1
    assert document["runs"][0] == {
        "file": "cosine", "read_as": "", "points": 196, "steps": 4000, "peak_lr": PEAK, "warmup_steps": WARMUP,
        "caveats": [],
    }  # fmt: skip
    one = document["schedules"][0]
    assert len(one["steps"]) == len(one["lr"]) == len(one["loss"])
    assert list(document["targets"][0]) == ["file", "steps", "loss", "mae", "end_rel_error", "caveats"]


@pytest.mark.parametrize(
    ("options", "caveat"),
    [
        ({"peak_lr": 2 * PEAK}, "No log has the peak 0.002 (the logs have 0.001)"),
        ({"steps": 20_000}, "20000 steps are 5.0 times the longest log: an extrapolation."),
    ],
)
def test_a_plan_beyond_the_logs_is_said(runs, options, caveat):
    assert any(text.startswith(caveat) for text in forecast(runs, ["cosine"], **options).caveats)


@pytest.mark.parametrize(
    ("name", "end_lr", "caveat"),
    [
        ("linear", 0.0, "extrapolated: falls to 0, the logs to 0.0001 only"),
        ("cosine-restarts", None, "rises again, where the law has not been validated"),
        ("one-cycle", None, "rises for 1199 steps, longer than any warmup logged"),
    ],
)
def test_a_schedule_beyond_the_logs_is_said(runs, name, end_lr, caveat):
    assert caveat in forecast(runs, [name], end_lr=end_lr).schedules[0].caveats


def test_a_higher_peak_is_always_better_to_the_law(runs):
    low, high = (forecast(runs, ["constant"], peak_lr=k * PEAK).schedules[0].final_loss for k in (1, 3))
    assert high < low


def test_caveats_of_logs_come_with_their_names(runs):
    amiss = TrainingLog("amiss", runs[0].step, runs[0].value, runs[0].lr, caveats=["Something."])
    assert forecast([amiss, runs[1]], ["cosine"]).caveats == ("amiss: Something.",)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["constant"]),
        ({"schedules": ["cosine"]}, []),
        ({"schedules": ["constant"], "optimal": True}, ["constant"]),
        ({"targets": [made("cosine")]}, []),
    ],
)
def test_what_a_constant_run_cannot_tell_is_refused(options, names):
    found = forecast([made("constant")], **options)
    assert found.refused == NO_FALLS
    assert [one.name for one in found.schedules] == names
    assert (found.optimal, found.targets) == (None, ())
    assert found.to_dict()["status"] == "refused"


def test_a_constant_run_can_be_continued():
    found = forecast([made("constant")], ["constant"], 8000, targets=[made("constant", seed=3)])
    assert found.refused is None
    assert NO_FALLS in found.caveats
    assert found.targets[0].mae < 0.01
    assert found.schedules[0].final_loss == pytest.approx(
        losses(rates("constant", 8000), np.array([8000]))[0], abs=0.02
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedules": ["plateau"]}, "schedule must be one of constant, step"),
        ({"steps": 0}, "steps must be from 1 to 3000000, got steps = 0"),
        ({"steps": -5}, "got steps = -5"),
        ({"steps": 50}, "below steps, got warmup_steps = 100 (as in the logs), steps = 50"),
        ({"warmup_steps": 4000}, "below steps, got warmup_steps = 4000, steps = 4000"),
        ({"warmup_steps": -1}, "at least 0 and below steps, got warmup_steps = -1"),
        ({"peak_lr": 0.0}, "peak_lr must be positive and finite, got peak_lr = 0"),
        (
            {"peak_lr": 1.0},
            "peak_lr must be within a factor of 4 of the peaks logged (0.001 to 0.001), got peak_lr = 1",
        ),
        ({"peak_lr": 2e-4}, "got peak_lr = 0.0002"),
        ({"peak_lr": float("nan")}, "peak_lr must be positive and finite, got peak_lr = nan"),
        ({"end_lr": 1.0}, "end_lr must be from 0 to peak_lr, got end_lr = 1, peak_lr = 0.001"),
    ],
)
def test_a_bad_argument_is_named(runs, options, message):
    with pytest.raises(InputError) as error:
        forecast(runs, **options)
    assert message in str(error.value)


def test_runs_are_needed():
    with pytest.raises(InputError, match="runs must hold at least one log, got none"):
        forecast([])


@pytest.mark.skipif(not CURVES.exists(), reason="needs the public curves")
@pytest.mark.parametrize(("fitted", "mean", "end"), [(FITTED, 0.0038, 0.0041), (FITTED[1:], 0.0040, 1.0)])
def test_public_curves_are_predicted_as_well_as_published(fitted, mean, end):
    logs = {path.stem: read_log(path) for path in CURVES.glob("*.csv")}
    others = [log for name, log in logs.items() if name not in fitted]
    targets = forecast([logs[name] for name in fitted], targets=others).targets
    assert len(targets) == 9 - len(fitted)
    assert np.mean([target.mae for target in targets]) <= mean
    assert max(target.end_rel_error for target in targets) <= end


def test_losses_that_rise_in_the_end_are_refused():
    log = made("cosine")
    rising = TrainingLog("val", log.step, log.value + np.maximum(log.step - 2000, 0) * 5e-4, log.lr)
    found = forecast([rising, made("two-stage")])
    assert found.refused is not None
    assert found.refused.startswith("val: the loss rises from about step")
    assert (found.schedules, found.targets) == ((), ())


def test_noise_is_refused():
    log = made("cosine")
    noise = TrainingLog("noise", log.step, np.random.default_rng(0).normal(3, 1, log.step.size), log.lr)
    assert "of the variance of the losses, which are flat or mostly noise" in str(forecast([noise]).refused)


def test_where_wsd_is_as_good_as_the_optimum_that_is_said(ranked):
    wsd = next(schedule for schedule in ranked.schedules if schedule.name == "wsd")
    assert any("wsd is as good" in caveat for caveat in ranked.caveats) == wsd.tied
