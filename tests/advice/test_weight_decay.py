"""The time scale against weights that nothing but the decay changes."""

from __future__ import annotations

import math

import pytest
import torch

from lrfinder import InputError
from lrfinder.advice.weight_decay import decay_time


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.AdamW, {"weight_decay": 0.1}),
        (torch.optim.AdamW, {}),
        (torch.optim.SGD, {"weight_decay": 0.05}),
        (torch.optim.SGD, {"weight_decay": 0.05, "momentum": 0.9}),
    ],
)
def test_weights_shrink_by_e_in_the_time_that_is_returned(kind, settings):
    lr = 0.01
    found = decay_time(f"torch.optim.{kind.__name__}", settings, lr, lr / 2, lr * 2)
    weight = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
    weight.grad = torch.zeros((), dtype=torch.float64)
    optimizer = kind([weight], lr, **settings)
    for _ in range(round(found.steps)):
        optimizer.step()
    assert weight.item() == pytest.approx(math.exp(-1), rel=0.02)
    assert (found.steps_low, found.steps_high) == pytest.approx((found.steps / 2, found.steps * 2))


@pytest.mark.parametrize(("kind", "settings"), [("SGD", {}), ("Adam", {"weight_decay": 0.1}), ("Lion", {})])
def test_no_decay_and_no_time_scale(kind, settings):
    assert decay_time(kind, settings, 0.1, 0.05, 0.2) is None


def test_a_rate_must_be_positive():
    with pytest.raises(InputError, match="lr must be positive"):
        decay_time("AdamW", {}, 0.0, 0.05, 0.2)
