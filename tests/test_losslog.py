from __future__ import annotations

import math

import numpy as np
import pytest

from lrfinder import InputError, LossLog
from lrfinder.losslog import MAX_STEPS, end_of_warmup


def test_rates_are_lines_between_rows_and_from_zero_before_the_first():
    log = LossLog("a", [4, 6, 10], [0.4, 0.4, 0.0], [3.0, 2.0, 1.0])
    np.testing.assert_allclose(log.every_lr(), [0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.3, 0.2, 0.1, 0])
    assert (log.warmup_steps, log.last_step, log.peak_lr, len(log)) == (4, 10, 0.4, 3)


def test_a_log_from_step_0_has_no_hidden_warmup():
    log = LossLog("a", [0, 5], [0.4, 0.4])
    assert log.warmup_steps == 0
    assert log.every_lr().tolist() == [0.4] * 6
    assert not log.has_loss.any()


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


def test_infinite_losses_are_left_out_and_said():
    log = LossLog("a", [1, 2, 3], [0.1] * 3, [1.0, math.inf, math.nan])
    assert log.has_loss.tolist() == [True, False, False]
    assert log.caveats == ("1 losses beyond 1e+30 were left out.",)


def test_a_gap_over_which_the_rate_changed_is_said():
    step, lr = np.r_[1:50, 90:101], np.r_[np.full(49, 0.1), np.full(11, 0.05)]
    assert LossLog("a", step, np.full(60, 0.1)).caveats == ()
    assert LossLog("a", step, lr).caveats == (
        "Between steps 49 and 90 the learning rate changed unseen; it is taken as a line.",
    )


@pytest.mark.parametrize(
    ("step", "lr", "loss", "message"),
    [
        ([1], [0.1], None, "at least 2 rows, got 1"),
        ([1, 2], [0.1], None, "lists of one length, got shapes (2,), (1,), (2,)"),
        ([1, 2], [0.1, 0.1], [1.0], "lists of one length"),
        ([-1, 2], [0.1, 0.1], None, "step must be a whole number of at least 0, got -1 in row 1"),
        ([1, 2.5], [0.1, 0.1], None, "step must be a whole number of at least 0, got 2.5 in row 2"),
        ([1, MAX_STEPS + 1], [0.1, 0.1], None, f"step must be at most {MAX_STEPS}"),
        ([2, 2], [0.1, 0.1], None, "step must be strictly increasing, got 2 after 2"),
        ([1, 2], [0.1, -0.1], None, "lr must be finite and at least 0, got -0.1 in row 2"),
        ([1, 2], [0.1, math.nan], None, "lr must be finite and at least 0, got nan in row 2"),
        ([1, 2], [0.0, 0.0], None, "some lr must be above 0"),
    ],
)
def test_a_broken_rule_is_named(step, lr, loss, message):
    with pytest.raises(InputError) as error:
        LossLog("log", step, lr, loss)
    assert str(error.value).startswith("log: ")
    assert message in str(error.value)
