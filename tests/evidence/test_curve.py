from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from support.curves import any_curve, synthetic

from lrfinder import Curve, InputError

LRS = [10.0**k for k in range(-9, 3)]
LOSSES = [1.0] * 12


def test_a_curve_keeps_its_own_numbers():
    lr, loss = np.array(LRS), np.array(LOSSES)
    curve = Curve(lr, loss)
    lr[:], loss[:] = 7.0, 7.0
    assert curve.lr.tolist() == LRS
    assert curve.loss.tolist() == LOSSES
    with pytest.raises(ValueError, match="read-only"):
        curve.loss[0] = 0.0


def test_losses_are_kept_raw():
    losses = [0.3] * 8 + [-1e30, math.inf, -math.inf, math.nan]
    np.testing.assert_array_equal(Curve(LRS, losses).loss, losses)


def test_steps_count_from_zero_where_not_given():
    assert Curve(LRS, LOSSES).step.tolist() == list(range(12))


def test_curves_are_equal_by_content_even_with_nan():
    diverged = [*LOSSES[:-1], math.nan]
    assert Curve(LRS, diverged) == Curve(LRS, diverged)
    assert Curve(LRS, diverged) != Curve(LRS, LOSSES)
    assert Curve(LRS, LOSSES) != Curve(LRS, LOSSES, caveats=["a caveat"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": LRS[:9], "loss": LOSSES[:9]}, r"at least 10 points, got 9"),
        ({"loss": LOSSES[:-1]}, r"one length, got loss of shape \(11,\) with lr \(12,\)"),
        ({"step": range(11)}, r"one length, got step of shape \(11,\)"),
        ({"lr": [LRS] * 2, "loss": [LOSSES] * 2, "step": [LOSSES] * 2}, r"lists of one length, got lr of shape"),
        ({"lr": [0.0, *LRS[1:]]}, r"lr must be positive and finite, got lr = 0 at point 1"),
        ({"lr": [-1.0, *LRS[1:]]}, r"lr must be positive and finite, got lr = -1 at point 1"),
        ({"lr": [*LRS[:-1], math.inf]}, r"lr must be positive and finite, got lr = inf at point 12"),
        ({"lr": [*LRS[:-1], math.nan]}, r"lr must be positive and finite, got lr = nan at point 12"),
        ({"lr": [*LRS[:-1], LRS[-2]]}, r"lr must be strictly increasing, got 10 after 10 at point 12"),
        ({"step": [5, *range(1, 12)]}, r"step must be strictly increasing, got 1 after 5 at point 2"),
        ({"step": [0.5, *range(1, 12)]}, r"every step must be a whole number, got step = 0.5 at point 1"),
        ({"step": [*range(11), 1e300]}, r"every step must be a whole number, got step = 1e\+300 at point 12"),
        ({"seconds": math.nan}, r"seconds must be finite and at least 0, got seconds = nan"),
        ({"seconds": -1.0}, r"seconds must be finite and at least 0, got seconds = -1"),
        ({"group_ratios": [1.0, math.inf]}, r"group_ratios must be finite and at least 0, got inf"),
    ],
)
def test_a_broken_rule_is_named_with_the_value(change, message):
    with pytest.raises(InputError, match=message):
        Curve(**{"lr": LRS, "loss": LOSSES, **change})


@given(any_curve())
@settings(max_examples=50)
def test_json_gives_back_the_same_curve(curve):
    text = json.dumps(curve.to_dict(), allow_nan=False)
    back = Curve.from_dict(json.loads(text))
    assert back == curve
    np.testing.assert_array_equal(back.loss, curve.loss)


@given(any_curve())
@settings(max_examples=20)
def test_nothing_but_the_two_lists_is_needed(curve):
    back = Curve.from_dict({"lr": curve.lr.tolist(), "loss": curve.loss.tolist()})
    np.testing.assert_array_equal(back.lr, curve.lr)
    np.testing.assert_array_equal(back.loss, curve.loss)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": None}, "lr must be a list, got None"),
        ({"loss": "1, 2"}, "loss must be a list, got '1, 2'"),
        ({"lr": ["a", *LRS[1:]]}, "lr: item 0 must be a number, got 'a'"),
        ({"lr": [True, *LRS[1:]]}, "lr: item 0 must be a number, got True"),
        ({"loss": [None, *LOSSES[1:]]}, "loss: item 0 must be a number, got None"),
        ({"loss": ["nan", *LOSSES[1:]]}, "loss: item 0 must be a number, got 'nan'"),
        ({"loss": [10**400, *LOSSES[1:]]}, "loss: item 0 must be a number, got 1000"),
        ({"step": [[], *range(1, 12)]}, "must be a number"),
        ({"seconds": "soon"}, "seconds must be a number, got 'soon'"),
        ({"lr": LRS[:3], "loss": LOSSES[:3]}, "at least 10 points, got 3"),
    ],
)
def test_a_malformed_document_is_named(change, message):
    with pytest.raises(InputError, match=f"^saved.json: .*{message}"):
        Curve.from_dict({"lr": LRS, "loss": LOSSES, **change}, "saved.json")


def test_a_curve_says_what_it_is():
    assert repr(Curve(LRS, LOSSES)) == "Curve(range: 12 points, lr 1e-09 to 100)"


def test_a_long_curve_is_thinned_to_medians_of_neighbours():
    lr = np.geomspace(1e-6, 1.0, 2500)
    loss = np.where(np.arange(2500) % 3 == 1, 100.0, 1.0)
    thin = Curve(lr, loss).thinned()
    assert len(thin) == 834
    assert thin.loss[:-1].tolist() == [1.0] * 833
    np.testing.assert_array_equal(thin.lr[:-1], lr[1:-1:3])
    np.testing.assert_array_equal(thin.step, np.arange(0, 2500, 3))
    short = Curve(LRS, LOSSES)
    assert short.thinned() is short


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_losses_that_failed_although_training_went_on_are_left_out_and_counted(bad):
    curve = synthetic()
    loss = curve.loss.copy()
    loss[[0, 7, 30]] = bad
    loss[-2:] = math.nan  # training blew up
    kept = Curve(curve.lr, loss).without_failures()
    assert len(kept) == len(curve) - 3
    assert kept.caveats == (f"3 of the {len(curve)} recorded losses are not finite and were left out.",)
    assert np.isnan(kept.loss[-2:]).all()


def test_many_failed_losses_stay_as_they_were_recorded():
    curve = synthetic()
    failed = Curve(curve.lr, np.where(np.arange(len(curve)) % 3 == 1, math.nan, curve.loss))
    assert failed.without_failures() is failed
    assert curve.without_failures() is curve
