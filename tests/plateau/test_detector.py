"""The detector on whole runs: what it finds, when, and what must not disturb it."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from lrfinder import Detector, InputError
from lrfinder.plateau.gain_test import next_look

STEPS = 3000


def run_of(plateau=1000, sd=0.02, n=STEPS, seed=0, floor=1.0):
    """Falls until ``plateau``, and stays."""
    t = np.minimum(np.arange(n), plateau)
    return floor + 2 * (1 - t / plateau) ** 2 + sd * np.random.default_rng(seed).standard_normal(n)


def events_of(losses, lr=None, **options):
    detector = Detector(**options)
    for i, loss in enumerate(losses):
        detector.update(float(loss), None if lr is None else lr(i))
    return detector


def test_a_plateau_is_found_after_it_began_and_once():
    detector = events_of(run_of())
    (found,) = detector.events
    assert 1000 < found.step < 2300
    assert found.since > 900
    assert found.gain_high <= found.delta
    assert found.p_value <= 0.05
    assert found.level == pytest.approx(1.0, abs=0.02)
    assert 0.01 < found.delta < 0.02  # at most 0.86 of the noise


@pytest.mark.parametrize("seed", range(10))
def test_slow_progress_is_no_plateau(seed):
    """DESIGN's case: a line of 200 epochs at -0.005, on which ReduceLROnPlateau drops the rate with certainty."""
    n = 20_000
    losses = 3 - 0.005 * np.arange(n) / 100 + 0.3 * np.random.default_rng(seed).standard_normal(n)
    blocks = losses.reshape(-1, 10).mean(1)  # a tenth of the steps, the same noise in their sum
    assert events_of(blocks, delta=0.05).events == ()  # gains 0.064 in the 128 steps after the first look, then more


@pytest.mark.parametrize("digits", [1, 2])
@pytest.mark.parametrize("exponent", [0.1, 0.3, 0.5])
def test_a_stair_of_a_rounded_loss_is_no_plateau(digits, exponent):
    falling = lambda step: 3 * step**-exponent
    for found in events_of(np.round(falling(np.arange(1.0, STEPS + 1)), digits)).events:
        assert falling(found.step) - falling(1.5 * found.step) <= found.delta


def test_a_rounded_loss_that_stands_still_is_one():
    assert [1000 < found.step < 2200 for found in events_of(np.round(run_of(sd=0.001), 3)).events] == [True]
    assert [found.step < 2200 for found in events_of(np.round(run_of(sd=0), 3)).events] == [True]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda y: np.where(np.arange(len(y)) % 50 == 7, 1e6, y),
        lambda y: np.where(np.arange(len(y)) % 20 == 7, math.nan, y),
        lambda y: np.where((np.arange(len(y)) > 500) & (np.arange(len(y)) < 520), math.inf, y),
    ],
    ids=["spikes", "NaN", "inf"],
)
def test_spikes_and_lost_steps_neither_make_nor_hide_a_plateau(spoil):
    falling = 3 - np.log(1 + np.arange(STEPS)) / 4 + 0.02 * np.random.default_rng(1).standard_normal(STEPS)
    assert events_of(spoil(falling)).events == ()
    losses = spoil(run_of())
    (found,) = events_of(losses).events
    assert 1000 < found.step < 2500
    assert found.skipped == (~np.isfinite(losses[: found.step])).sum()


def test_nothing_but_nan_is_no_plateau():
    detector = events_of([math.nan] * 500)
    assert detector.events == ()
    assert detector.skipped == 500


@pytest.mark.parametrize("level", [-5.0, 0.0, 3.0])
def test_a_constant_loss_is_a_plateau(level):
    (found,) = events_of([level] * 300, min_steps=24).events
    assert found.step == 32
    assert found.p_value == 0


def test_a_loss_that_gets_worse_is_a_plateau_also_where_it_is_negative():
    losses = -5 + np.r_[np.linspace(2, 0, 300), np.linspace(0, 1, 700)]
    (found,) = events_of(losses).events
    assert found.gain < 0
    assert found.step < 1000


@pytest.mark.parametrize("offset", [-40.0, 100.0])
def test_the_level_of_the_loss_does_not_matter(offset):
    plain, moved = (events_of(run_of() + shift).events[0] for shift in (0, offset))
    assert moved.step == plain.step
    assert moved.gain == pytest.approx(plain.gain, abs=1e-6)


def test_a_metric_to_be_maximised():
    detector = events_of(-run_of(), mode="max")
    (found,) = detector.events
    assert found.step == events_of(run_of()).events[0].step
    assert found.level == pytest.approx(-1.0, abs=0.02)
    assert found.gain == pytest.approx(events_of(run_of()).events[0].gain)
    assert detector.record().mean[-1] == pytest.approx(-1.0, abs=0.05)


def test_a_new_learning_rate_begins_a_new_window():
    """The loss falls to a lower level with every cut; each level is a plateau of its own."""
    levels = np.repeat([1.0, 0.7, 0.6], 4000)
    losses = np.r_[run_of(n=4000), levels[4000:] + 0.002 * np.random.default_rng(3).standard_normal(8000)]
    detector = events_of(losses, lr=lambda i: 0.1 ** (1 + i // 4000))
    assert [found.step // 4000 for found in detector.events] == [0, 1, 2]
    assert [found.lrs[0] for found in detector.events] == pytest.approx([0.1, 0.01, 0.001])
    assert all(found.since >= 4000 * i for i, found in enumerate(detector.events))


def test_a_rate_that_falls_all_the_time_leaves_no_window():
    detector = events_of(run_of(), lr=lambda i: 0.1 * 0.999**i)
    assert detector.events == ()
    assert detector.window_steps < 20


def test_many_groups_and_an_optimizer():
    groups = [{"params": [torch.zeros(1)], "lr": 0.1}, {"params": [torch.zeros(1)], "lr": torch.tensor(0.2)}]
    optimizer = torch.optim.SGD(groups)
    detector = Detector()
    for i, loss in enumerate(run_of()):
        if i == 1500:
            optimizer.param_groups[1]["lr"].fill_(0.02)  # in place, only one of them
        detector.update(float(loss), optimizer)
    assert detector.window_steps == STEPS - 1500
    assert [round(lr, 6) for lr in detector.events[-1].lrs] in ([0.1, 0.2], [0.1, 0.02])


def test_a_second_plateau_after_the_loss_went_on_falling():
    losses = np.r_[run_of(n=3000), 0.5 + 0.5 * np.exp(-np.arange(3000) / 100) + 0.005 * run_of(1, 1.0, 3000)]
    detector = events_of(losses)
    assert [found.step // 3000 for found in detector.events] == [0, 1]


def test_restart_is_for_shifts_that_no_rate_tells():
    detector = Detector()
    for loss in run_of():
        detector.update(float(loss))
    detector.restart()
    assert detector.window_steps == 0
    assert len(detector.events) == 1


@pytest.mark.parametrize("stop", [3, 100, 999, 1700, 2900])
def test_the_state_round_trips_through_json(stop):
    losses = run_of()
    lr = lambda i: 0.1 if i < 1400 else 0.01
    whole, part = events_of(losses, lr), events_of(losses[:stop], lr)
    again = Detector()
    again.load_state_dict(json.loads(json.dumps(part.state_dict(), allow_nan=False)))
    for i in range(stop, STEPS):
        again.update(float(losses[i]), lr(i))
    assert again.events == whole.events
    assert again.state_dict() == whole.state_dict()


def test_tensors_and_numbers_are_the_same():
    losses = torch.tensor(run_of(), requires_grad=True)
    by_tensor, by_number = Detector(), Detector()
    for loss in losses:
        by_tensor.update(loss.reshape(1))
        by_number.update(loss.item())
    assert by_tensor.events == by_number.events != ()


def test_the_host_reads_only_when_it_looks():
    """Every one of these is a wait for a GPU; `.cpu()` of a look is `aten::_to_copy` there, and nothing here."""
    values = torch.tensor(run_of(2900, n=STEPS), dtype=torch.float32)
    looks = []

    class Watched(Detector):
        def _read(self):
            looks.append(self.steps)
            return super()._read()

    detector = Watched()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for value in values:
            detector.update(value, 0.1)
    counts = {event.key: event.count for event in seen.key_averages()}
    assert counts.get("aten::_local_scalar_dense", 0) == 0
    assert not {"aten::item", "aten::nonzero"} & set(counts)
    expected = [step for step in range(1, STEPS + 1) if next_look(step - 1) == step and step >= 768]
    assert looks == expected
    assert len(looks) < 16 * math.log2(STEPS)


class Waiting(TorchDispatchMode):
    """Counts the copies from the host to a device that wait for it. A read of a meta tensor is an error by itself."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and kwargs.get("device", args[0].device) != args[0].device:
            self.count += not kwargs.get("non_blocking")
        if func is torch.ops.aten.copy_.default and args[0].device != args[1].device:
            self.count += not (kwargs.get("non_blocking") or args[2:])
        return func(*args, **kwargs)


@pytest.mark.parametrize("lr", [lambda i: 0.1, lambda i: 0.1 * 0.9**i], ids=["constant", "falling"])
def test_no_step_waits_for_the_device(lr):
    detector, loss = Detector(min_steps=100_000), torch.ones((), device="meta")
    with Waiting() as waiting:
        for i in range(1000):
            detector.update(loss, lr(i))
    assert waiting.count == 0
    again = Detector(min_steps=100_000)
    again.load_state_dict(events_of(run_of()[:500]).state_dict())
    with Waiting() as waiting:
        again.update(loss)
        assert waiting.count == 0
        torch.ones(1).to("meta")
        assert waiting.count == 1  # the check can fail


def test_the_check_of_reads_can_fail():
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        torch.ones(1).item()
    assert "aten::_local_scalar_dense" in {event.key for event in seen.key_averages()}


def test_processes_that_average_decide_alike():
    losses = np.stack([run_of(seed=1, sd=0.1), run_of(seed=2, sd=0.1)])
    detectors = [Detector(), Detector()]
    tables = [[], []]  # what each would send; here every look of the other is replayed
    for i in range(2):
        detectors[i].average = lambda tensor, i=i: tables[i].append(tensor.clone()) or tensor
        for loss in losses[i]:
            detectors[i].update(float(loss))
    for i in range(2):
        others = iter(tables[1 - i])
        detectors[i] = Detector(average=lambda tensor, others=others: (tensor + next(others)) / 2)
        for loss in losses[i]:
            detectors[i].update(float(loss))
    assert detectors[0].events == detectors[1].events != ()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"delta": -1}, "delta must be a finite number of at least 0, in units of the loss, got delta = -1"),
        ({"delta": math.nan}, "delta must be a finite number of at least 0, in units of the loss, got delta = nan"),
        ({"alpha": 0}, r"alpha must be a rate in \(0, 0.5\), got alpha = 0"),
        ({"alpha": True}, r"alpha must be a rate in \(0, 0.5\), got alpha = True"),
        ({"min_steps": 10}, "min_steps must be a whole number, at least 24, got min_steps = 10"),
        ({"ahead": 0.5}, "ahead must be a positive whole number, got ahead = 0.5"),
        ({"mode": "low"}, "mode must be min or max, got 'low'"),
    ],
)
def test_arguments_are_checked(options, text):
    with pytest.raises(InputError, match=text):
        Detector(**options)


def test_a_loss_is_a_single_value():
    with pytest.raises(InputError, match=r"loss must be a single value, got a tensor of shape \(2,\)"):
        Detector().update(torch.ones(2))


def recorded(n):
    """Losses that fall and then stay, some of which are lost."""
    rng = np.random.default_rng(n)
    value = 1 + 3 * np.exp(-np.arange(n) / 100) + 0.1 * rng.normal(size=n)
    value[rng.random(n) < 0.02] = np.nan
    return value


RATES = {
    "none": lambda n: None,
    "one drop": lambda n: np.where(np.arange(n) < n // 3, 0.1, 0.01),
    "cosine": lambda n: 1 + np.cos(np.arange(n) / n * 3),
}


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("n", [4, 5, 32, 256, 272, 5000])
def test_many_rows_at_once_come_to_the_same_as_one_by_one(n, rates, mode):
    value, lr = recorded(n), RATES[rates](n)
    starts: tuple[list[int], list[int]] = ([], [])
    live, replay = (Detector(min_steps=24, mode=mode, on_restart=steps.append) for steps in starts)
    changes = []
    for i in range(n):
        before = live.lrs
        live.update(value[i], None if lr is None else lr[i])
        if before and before != live.lrs:
            changes.append(i)
    cut = n // 2  # in two parts, at no particular place
    replay.extend(value[:cut], None if lr is None else lr[:cut])
    replay.extend(value[cut:], None if lr is None else lr[cut:])
    for _ in range(20):  # what was not yet condensed is
        assert (live.update(0.5) is None) == (replay.update(0.5) is None)

    assert starts[0] == starts[1]
    assert set(changes) <= set(starts[1])
    assert (replay.steps, replay.window_steps, replay.skipped) == (live.steps, live.window_steps, live.skipped)
    state, other = replay.state_dict(), live.state_dict()
    for name in ("start", "lrs", "since", "within"):
        assert repr(state[name]) == repr(other[name]), name
    for blocks in ("run", "window"):  # sums depend on the order
        assert (state[blocks] is None) == (other[blocks] is None)
        if state[blocks] is not None:
            assert (state[blocks]["steps"], state[blocks]["groups"]) == (
                other[blocks]["steps"],
                other[blocks]["groups"],
            )
            tables = (np.array(one[blocks]["table"], dtype=float) for one in (state, other))
            np.testing.assert_allclose(*tables, rtol=1e-12)
    np.testing.assert_allclose(replay.record().mean, live.record().mean, rtol=1e-12)
    assert [event.step for event in replay.events] == [event.step for event in live.events]
    for event, wanted in zip(replay.events, live.events, strict=True):
        for name, number in dataclasses.asdict(wanted).items():
            value = pytest.approx(number, rel=1e-6) if isinstance(number, float) else number
            assert getattr(event, name) == value, name


def test_a_look_makes_the_test_that_the_outlook_gives():
    replay = Detector(min_steps=24)
    replay.extend(recorded(2000)[:975])
    assert replay.events == ()
    outlook, found = replay.outlook(), replay.look()
    assert found == outlook
    assert replay.events == (found,)
    assert replay.look() is None  # one event per plateau


def test_nothing_is_looked_at_without_enough_values():
    replay = Detector(min_steps=100)
    assert replay.look() is None
    replay.extend(recorded(99))
    assert replay.look() is None
    replay.extend(recorded(1))
    assert replay.outlook().step == 100


def test_new_windows_are_announced():
    starts = []
    detector = Detector(min_steps=24, on_restart=lambda step: starts.append((step, detector.lrs)))
    detector.extend(np.ones(300), np.repeat([0.1, 0.1005, 0.01], 100))  # 0.5% is the same rate
    assert starts == [(200, (0.01,))]
    detector.restart()
    assert starts[1:] == [(300, (0.01,))]
    detector.extend(np.ones(300), np.full(300, 0.01))
    assert len(detector.events) == 3  # one for every window
    detector.extend(np.zeros(500), np.full(500, 0.01))  # the loss falls off the plateau
    assert len(starts) == 3
    assert starts[2][0] > 600
    assert starts[2][1] == (0.01,)
