from __future__ import annotations

import math

import pytest
import torch
from support.scripted import Diarist

from lrfinder import InputError
from lrfinder.evidence.probe import Probe
from lrfinder.evidence.range_test import Ladder, last_step
from lrfinder.probing.runner import READ_EVERY, run_probe, run_range_test

FALL_AND_BLOW_UP = [*(1 - 0.02 * i for i in range(20)), *(0.6 * 1.6**i for i in range(30))]


class Scripted(Diarist):
    """A trainee whose losses are written down beforehand; it writes down what is done to it."""

    def __init__(self, losses, lrs=(0.1,), reference=None, fail_at=None, error=None):
        self.losses, self._lrs, self._reference = list(losses), tuple(lrs), reference
        self.fail_at, self.error = fail_at, error
        self.set, self.diary = [], []

    def lrs(self):
        return self._lrs

    def reference(self):
        return self._reference or self._lrs[0]

    def set_lrs(self, lrs):
        self.set.append(tuple(lrs))

    def step(self):
        taken = len(self.set)
        if taken == self.fail_at:
            raise self.error
        return torch.tensor(self.losses[taken - 1], dtype=torch.float64)


@pytest.mark.parametrize("shift", range(10))
def test_the_end_of_the_curve_does_not_depend_on_how_often_losses_are_read(monkeypatch, shift):
    losses = [1.0] * shift + FALL_AND_BLOW_UP
    curves = []
    for every in (1, 3, 7, 10, 100):
        monkeypatch.setattr("lrfinder.probing.runner.READ_EVERY", every)
        curves.append(run_range_test(Scripted(losses), Ladder(1e-5, 1.0, len(losses))))
    assert {tuple(curve.loss) for curve in curves} == {tuple(curves[0].loss)}
    assert len(curves[0]) < len(losses)


def test_every_loss_is_recorded_at_its_learning_rate():
    trainee = Scripted([3.0 - 0.1 * i for i in range(20)])
    curve = run_range_test(trainee, Ladder(1e-4, 1e-1, 20))
    assert curve.lr.tolist() == [lrs[0] for lrs in trainee.set] == Ladder(1e-4, 1e-1, 20).lrs().tolist()
    assert curve.loss.tolist() == trainee.losses
    assert curve.step.tolist() == list(range(20))
    assert curve.caveats == ("As scripted.",)
    assert curve.seconds is not None
    assert trainee.diary == ["in", "caveats", "out"]


def test_groups_keep_their_ratio_to_the_reference():
    trainee = Scripted([1.0] * 10, lrs=(0.3, 0.1, 0.0), reference=0.1)
    curve = run_range_test(trainee, Ladder(1e-3, 1e1, 10))
    assert curve.group_ratios == pytest.approx((3.0, 1.0, 0.0))
    assert [lrs[1] for lrs in trainee.set] == Ladder(1e-3, 1e1, 10).lrs().tolist()
    assert all(lrs[0] == pytest.approx(3 * lrs[1]) and lrs[2] == 0 for lrs in trainee.set)


@pytest.mark.parametrize(
    "losses", [FALL_AND_BLOW_UP, [1.0] * 17 + [math.nan] * 33, [-x for x in range(50)], [2.0] * 50]
)
def test_the_curve_ends_where_the_rule_says_however_seldom_the_losses_are_read(losses):
    curve = run_range_test(trainee := Scripted(losses), Ladder(steps=50))
    keep, diverged = last_step(losses)
    assert str(curve.loss.tolist()) == str([float(loss) for loss in losses[:keep]])
    assert len(curve) == keep
    if diverged:
        assert keep <= len(trainee.set) < keep + READ_EVERY
    else:
        assert len(trainee.set) == 50


@pytest.mark.parametrize("bad", [[11], [9, 10], [10], [19, 20], [3, 30, 31], [28, 29]])
def test_a_climb_goes_on_after_single_losses_that_are_not_finite(bad):
    losses = [math.nan if i in bad else 1 - 0.01 * i for i in range(50)]
    curve = run_range_test(Scripted(losses), Ladder(steps=50))
    assert str(curve.loss.tolist()) == str(losses)
    cleaned = curve.without_failures()
    assert len(cleaned) == 50 - len(bad)
    assert cleaned.caveats[-1].startswith(f"{len(bad)} of the 50 recorded losses")


@pytest.mark.parametrize("start", range(10, 31))
def test_training_that_blew_up_is_noticed_within_ten_steps_though_single_losses_failed(start):
    losses = [math.nan if i in (4, 6) or i >= start else 1.0 for i in range(50)]
    curve = run_range_test(trainee := Scripted(losses), Ladder(steps=50))
    assert len(curve) == start + 1
    assert len(trainee.set) - start <= READ_EVERY
    outcome = run_probe(trainee := Scripted(losses), Probe(0.1, 50), (1.0,))
    assert outcome.diverged
    assert len(trainee.set) - start <= READ_EVERY


def test_a_probe_goes_on_after_single_losses_that_are_not_finite():
    trainee = Scripted([math.inf if i in (0, 9, 19, 49) else 1.0 for i in range(50)])
    trainee.evaluate = lambda: torch.tensor([0.5, 0.7])
    outcome = run_probe(trainee, Probe(0.1, 50), (1.0,), limit=2.0)
    assert outcome.mean == pytest.approx(0.6)
    assert len(outcome.train_loss) == 50


def test_progress_is_told_after_each_step():
    calls = []
    run_range_test(Scripted([1.0] * 12), Ladder(steps=12), lambda *counts: calls.append(counts))
    assert calls == [(step, 12) for step in range(1, 13)]


@pytest.mark.parametrize("fail_at", [28, 30, 31, 35])
def test_an_error_after_a_blow_up_ends_the_climb(fail_at):
    assert last_step(FALL_AND_BLOW_UP[: fail_at - 1])[1]
    curve = run_range_test(
        Scripted(FALL_AND_BLOW_UP, fail_at=fail_at, error=ValueError("not finite")), Ladder(steps=50)
    )
    assert len(curve) == min(last_step(FALL_AND_BLOW_UP)[0], fail_at - 1)


@pytest.mark.parametrize("fail_at", [1, 9, 10, 11, 20])
def test_any_other_error_passes_through_when_the_state_is_back(fail_at):
    trainee = Scripted(FALL_AND_BLOW_UP, fail_at=fail_at, error=ValueError("of the user"))
    with pytest.raises(ValueError, match="of the user"):
        run_range_test(trainee, Ladder(steps=50))
    assert trainee.diary == ["in", "out"]


@pytest.mark.parametrize("fail_at", [5, 35])
def test_ctrl_c_always_passes_through(fail_at):
    trainee = Scripted([1.0] * 31 + [math.nan] * 19, fail_at=fail_at, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_range_test(trainee, Ladder(steps=50))
    assert trainee.diary == ["in", "out"]


def test_a_first_loss_that_is_not_finite_is_no_matter_of_the_rate():
    with pytest.raises(InputError, match="got nan at step 1, before any update: check data and loss"):
        run_range_test(Scripted([math.nan] * 50), Ladder(steps=50))


@pytest.mark.parametrize("step", [2, 4, 9])
def test_a_blow_up_within_the_first_steps_is_an_input_error_with_its_remedy(step):
    losses = [1.0] * (step - 1) + [math.inf] * 60
    with pytest.raises(InputError, match=rf"finite for the first 10 steps, got inf at step {step} with lr = .*min_lr"):
        run_range_test(Scripted(losses), Ladder(steps=50))


def test_without_a_positive_learning_rate_nothing_is_done():
    trainee = Scripted([], lrs=(0.0, 0.0))
    trainee.reference = lambda: (_ for _ in ()).throw(InputError("no positive rate"))
    with pytest.raises(InputError, match="no positive rate"):
        run_range_test(trainee, Ladder())
    assert (trainee.set, trainee.diary) == ([], ["in", "out"])
