from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lrfinder import Detector
from lrfinder.replay import Replay


def losses(n):
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
    value, lr = losses(n), RATES[rates](n)
    live, replay = Detector(min_steps=24, mode=mode), Replay(min_steps=24, mode=mode)
    changes = []
    for i in range(n):
        before = live._lrs
        live.update(value[i], None if lr is None else lr[i])
        if before and before != live._lrs:
            changes.append(i)
    cut = n // 2  # in two parts, at no particular place
    replay.extend(value[:cut], None if lr is None else lr[:cut])
    replay.extend(value[cut:], None if lr is None else lr[cut:])
    for _ in range(20):  # what was not yet condensed is
        assert (live.update(0.5) is None) == (replay.update(0.5) is None)

    assert list(replay.lr_changes) == changes
    assert replay.longest >= replay.window_steps - 20
    assert (replay.steps, replay.window_steps, replay.skipped) == (live.steps, live.window_steps, live.skipped)
    for name in ("start", "lrs", "since", "within"):
        assert repr(replay.state_dict()[name]) == repr(live.state_dict()[name]), name
    for one, other in ((replay._run, live._run), (replay._window, live._window)):  # sums depend on the order
        np.testing.assert_allclose(one.table(), other.table(), rtol=1e-12)
    assert [event.step for event in replay.events] == [event.step for event in live.events]
    for one, other in zip(replay.events, live.events, strict=True):
        for name, number in dataclasses.asdict(other).items():
            wanted = pytest.approx(number, rel=1e-6) if isinstance(number, float) else number
            assert getattr(one, name) == wanted, name


def test_the_ending_is_the_test_that_a_look_makes():
    value = losses(2000)
    replay = Replay(min_steps=24)
    replay.extend(value)
    assert not replay.on_plateau
    ending, found = replay.ending(), replay.look()
    assert found == ending
    assert replay.on_plateau
    assert replay.events == (found,)
    assert replay.look() is None  # one event per plateau


def test_there_is_no_ending_without_enough_rows():
    replay = Replay(min_steps=100)
    assert (replay.ending(), replay.look()) == (None, None)
    replay.extend(losses(99))
    assert (replay.ending(), replay.look()) == (None, None)
    replay.extend(losses(1))
    assert replay.ending().step == 100
