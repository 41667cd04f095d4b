from __future__ import annotations

import math

import numpy as np
import pytest

from lrfinder import InputError, TrainingLog
from lrfinder.logs.log import MAX_STEPS, end_of_warmup


def test_rates_are_lines_between_rows_and_from_zero_before_the_first():
    log = TrainingLog("a", [4, 6, 10], [3.0, 2.0, 1.0], [0.4, 0.4, 0.0])
    np.testing.assert_allclose(log.every_lr(), [0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.3, 0.2, 0.1, 0])
    assert (log.warmup_steps, log.last_step, log.peak_lr, len(log)) == (4, 10, 0.4, 3)


def test_a_log_from_step_0_has_no_hidden_warmup():
    log = TrainingLog("a", [0, 5], lr=[0.4, 0.4])
    assert log.warmup_steps == 0
    assert log.every_lr().tolist() == [0.4] * 6
    assert not log.has_loss.any()


def test_rates_may_have_steps_of_their_own():
    log = TrainingLog("a", [1, 4, 6], [5.0, 4.0, 3.0], [0.4, 0.2], lr_step=[2, 4])
    np.testing.assert_allclose(log.every_lr(), [0, 0.2, 0.4, 0.3, 0.2, 0.2, 0.2])
    assert log.held_lr().tolist() == [0.4, 0.2, 0.2]
    assert (len(log), log.last_step) == (3, 6)
    assert TrainingLog("a", [1, 4], [5.0, 4.0], [0.4, 0.2], lr_step=[2, 9]).last_step == 9


@pytest.mark.parametrize(
    ("lr", "end"),
    [
        ([1, 1, 1], 0),
        ([0, 1, 2, 2, 1], 2),
        ([0, 1, 1, 2, 2, 2, 1], 3),
        ([0, 1, 2, 3], 3),
        ([3, 2, 1], 0),
        ([0, 2, 1, 3, 3], 1),
    ],
    ids=["constant", "then falls", "in stairs", "nothing else", "none", "warmed again later"],
)
def test_where_warmup_ends(lr, end):
    assert end_of_warmup(np.array(lr, dtype=float)) == end


def test_losses_that_no_law_can_be_fitted_to_are_reported():
    log = TrainingLog("a", [1, 2, 3, 4], [1.0, math.inf, math.nan, -1e31], 0.1, caveats=["First."])
    assert log.has_loss.tolist() == [True, False, False, False]
    assert log.skipped == 2
    assert log.caveats == ("First.",)
    assert log.step_caveats() == [
        "First.",
        "2 of 4 losses are not finite and were left out.",
        "1 losses beyond 1e+30 were left out.",
    ]


def test_losses_after_the_last_rate_are_reported():
    log = TrainingLog("a", [1, 4], [5.0, 4.0], [0.1, 0.1], lr_step=[1, 2])
    assert log.step_caveats() == [
        "The last learning rate was logged at step 2; it is assumed to stay until the last loss."
    ]


def test_a_gap_over_which_the_rate_changed_is_reported():
    step, lr = np.r_[1:50, 90:101], np.r_[np.full(49, 0.1), np.full(11, 0.05)]
    assert TrainingLog("a", step, lr=np.full(60, 0.1)).step_caveats() == []
    assert TrainingLog("a", step, lr=lr).step_caveats() == [
        "The learning rate changed between steps 49 and 90 and was not logged in between; the change is assumed to be"
        " linear.",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"value": [1.0]}, "step and loss must be lists of one length, got shapes (2,), (1,)"),
        ({"lr": [0.1]}, "step and lr must be lists of one length, got shapes (2,), (1,)"),
        ({"lr": [0.1], "lr_step": [1, 2]}, "step and lr must be lists of one length, got shapes (2,), (1,)"),
        ({"step": []}, "a log needs at least one row, got none"),
        ({"step": [-1, 2]}, "every step must be a whole number of at least 0, got -1 in row 1"),
        ({"step": [1, 2.5]}, "every step must be a whole number of at least 0, got 2.5 in row 2"),
        ({"step": [1, math.nan]}, "every step must be a whole number of at least 0, got nan in row 2"),
        ({"step": [1234567, 1234567]}, "step must be strictly increasing, got 1234567 after 1234567"),
        ({"lr": [1, 1], "lr_step": [2, 1]}, "step must be strictly increasing, got 1 after 2"),
        ({"lr": [0.1, -0.1]}, "every lr must be finite and at least 0, got -0.1 at step 2"),
        ({"lr": [0.1, math.nan]}, "every lr must be finite and at least 0, got nan at step 2"),
        ({"lr": math.inf}, "every lr must be finite and at least 0, got inf at step 1"),
    ],
)
def test_a_broken_rule_is_named(arguments, message):
    with pytest.raises(InputError) as error:
        TrainingLog("log", **{"step": [1, 2], **arguments})
    assert str(error.value) == f"log: {message}"


@pytest.mark.parametrize(
    ("step", "lr", "message"),
    [
        ([1, 2], None, "needs learning rates, got none: log them with the loss"),
        ([1], 0.1, "needs at least 2 rows, got 1"),
        ([1, MAX_STEPS + 1], 0.1, f"every step must be at most {MAX_STEPS}, got {MAX_STEPS + 1}"),
        ([1, 2], [0.0, 0.0], "some lr must be above 0, got only 0"),
    ],
)
def test_rates_that_cannot_be_followed_are_refused_only_when_required(step, lr, message):
    log = TrainingLog("log", step, lr=lr)
    for require in (log.require_lr, log.every_lr, log.step_caveats):
        with pytest.raises(InputError) as error:
            require()
        assert str(error.value).startswith(f"log: {message}")


def test_a_record_cannot_be_changed_and_says_what_it_is():
    log = TrainingLog("a", [1, 5], [2.0, 1.0], 0.1, column="acc")
    assert repr(log) == "TrainingLog(a: acc, 2 rows, steps 1 to 5)"
    assert log.lr.tolist() == log.held_lr().tolist() == [0.1, 0.1]
    for array in (log.step, log.value, log.lr, log.lr_step):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    unknown = TrainingLog("a", [1, 5], [2.0, 1.0])
    assert (unknown.lr, unknown.held_lr(), unknown.lr_step.size) == (None, None, 0)
