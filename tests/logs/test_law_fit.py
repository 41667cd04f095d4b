from __future__ import annotations

import numpy as np
import pytest
from support.losslogs import PEAK, STEPS, losses, made, rates

from lrfinder import InputError, TrainingLog
from lrfinder.logs.law_fit import NO_FALLS, fit_law

AFTER = np.arange(200, STEPS + 1, 50)


def predicted(logs, kind, peak=PEAK):
    return fit_law(logs)(rates(kind, peak=peak), AFTER).loss


@pytest.mark.parametrize("kind", ["constant", "linear", "late", "two-stage"])
def test_the_law_is_found_again_from_two_runs(kind):
    found = predicted([made("cosine"), made("two-stage", seed=1)], kind)
    assert np.abs(found - losses(rates(kind), AFTER)).max() < 0.01


def test_the_unit_of_the_rate_does_not_matter():
    one, other = (
        predicted([made(k, peak=peak) for k in ("cosine", "two-stage")], "late", peak) for peak in (1e-5, 3.0)
    )
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 10.0), (1.0, -5.0), (1e-3, 0.0), (100.0, 0.0)])
def test_losses_scaled_and_shifted_give_predictions_scaled_and_shifted(scale, shift):
    logs = [made("cosine"), made("two-stage")]
    moved = [TrainingLog(log.name, log.step, scale * log.value + shift, log.lr) for log in logs]
    np.testing.assert_allclose(
        predicted(moved, "late"), scale * predicted(logs, "late") + shift, atol=1e-4 * scale, rtol=1e-6
    )


def test_a_spike_and_a_dense_log_weigh_little():
    logs = [made("cosine"), made("two-stage", every=1)]
    loss = logs[0].value.copy()
    loss[100] += 5
    spiked = TrainingLog("spiked", logs[0].step, loss, logs[0].lr)
    np.testing.assert_allclose(predicted([spiked, logs[1]], "late"), predicted(logs, "late"), atol=0.003)


def test_noise_widens_the_interval():
    widths = []
    for noise in (0.002, 0.05):
        law = fit_law([made("cosine", noise), made("two-stage", noise, seed=1)])
        end = law(rates("late"), AFTER[-1:])
        widths.append(law.half_width_of_loss(end.gradient[0]))
        assert abs(end.loss[0] - losses(rates("late"), AFTER[-1:])[0]) < widths[-1]
    assert widths[1] > 3 * widths[0]


def test_losses_of_the_warmup_are_left_out():
    log = made("cosine")
    early = TrainingLog(
        "early", np.r_[0:100:10, log.step], np.r_[[9.0] * 10, log.value], np.r_[rates("cosine")[0:100:10], log.lr]
    )
    other = made("two-stage")
    np.testing.assert_allclose(predicted([early, other], "late"), predicted([log, other], "late"), atol=1e-9)


def test_without_a_fall_only_constant_rates_are_known():
    law = fit_law([made("constant")])
    assert not law.knows_falls
    assert law.caveats == (NO_FALLS,)
    assert law.to_dict()["B"] == 0
    assert np.abs(law(rates("constant"), AFTER).loss - losses(rates("constant"), AFTER)).max() < 0.01


@pytest.mark.parametrize(
    ("logs", "caveat"),
    [
        ([made("constant"), made("two-stage")], "The logs hold falls to one learning rate only"),
        ([made("cosine"), made("two-stage", peak=2 * PEAK)], "The logs have peaks from 0.001 to 0.002"),
        ([made("cosine"), made("rewarmed")], "rewarmed: the rate rises after warmup"),
        ([made("cosine", 0.3), made("two-stage", 0.3)], "The law leaves 0.29 of the loss unexplained"),
    ],
    ids=["one depth", "peaks", "rises", "noise"],
)
def test_what_the_logs_cannot_tell_is_said(logs, caveat):
    assert any(text.startswith(caveat) for text in fit_law(logs).caveats), fit_law(logs).caveats


def test_clean_logs_have_no_caveats():
    assert fit_law([made("cosine"), made("two-stage")]).caveats == ()


@pytest.mark.parametrize(
    ("logs", "message"),
    [
        ([], "logs must hold at least one log"),
        ([TrainingLog("a", [1, 2], lr=[1, 1])], "a: needs losses to fit the law to, got none"),
        (
            [TrainingLog("a", range(1, 51), np.arange(50.0), np.arange(1, 51) * 0.1)],
            "a: needs at least 10 losses after warmup, got 1 (warmup ends at step 50, the log at 50)",
        ),
        ([TrainingLog("a", range(9), range(9), 1)], "at least 10 losses after warmup, got 8"),
        ([TrainingLog("a", range(50), [2.0] * 50, 1)], "losses after warmup must differ, got 2 throughout"),
    ],
    ids=["none", "no losses", "warmup only", "few", "flat"],
)
def test_logs_that_cannot_be_fitted_are_named(logs, message):
    with pytest.raises(InputError) as error:
        fit_law(logs)
    assert message in str(error.value)
