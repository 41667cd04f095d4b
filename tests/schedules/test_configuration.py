"""What depends on the learning rate is measured by configuring twice; only that is written."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from support.schedulers import SCHEDULERS, STEPS, optimizer_at
from torch.optim import SGD, Adam
from torch.optim import lr_scheduler as schedulers

from lrfinder.schedules.configuration import (
    adopt_differences,
    own_values,
    rebuilt_differences,
    scale_values,
    values_at,
)

OLD, NEW = 0.3, 0.0123


def configured(name, lr):
    optimizer = optimizer_at(lr)
    return [optimizer], [SCHEDULERS[name](optimizer, lr)]


def rates(optimizers, made):
    history = []
    for _ in range(STEPS):
        history.append([float(group["lr"]) for group in optimizers[0].param_groups])
        optimizers[0].step()
        made[0].step(*([1.0] if isinstance(made[0], schedulers.ReduceLROnPlateau) else []))
    return history


@pytest.mark.parametrize("name", SCHEDULERS)
def test_with_the_differences_a_scheduled_run_is_as_by_hand_to_the_last_bit(name):
    live, expected = configured(name, OLD), rates(*configured(name, NEW))
    adopt_differences(live, configured(name, OLD), configured(name, NEW))
    assert rates(*live) == expected
    assert live[1][0].optimizer is live[0][0]


def test_what_does_not_depend_on_the_rate_stays_as_it_is():
    """A hook or another callback may have set it."""
    live, old, new = (optimizer_at(lr, Adam) for lr in (torch.tensor(OLD), OLD, NEW))
    rate, parameters = live.param_groups[0]["lr"], live.param_groups[0]["params"]
    live.state[parameters[0]]["step"] = torch.tensor(3.0)
    live.param_groups[0].update(betas=(0.5, 0.6), weight_decay=0.7, train_mode=True)
    adopt_differences(([live], []), ([old], []), ([new], []))
    assert live.param_groups[0]["lr"] is rate
    assert rate.item() == pytest.approx(NEW)
    assert live.param_groups[0]["params"] is parameters
    assert live.state[parameters[0]]["step"] == 3
    kept = {key: live.param_groups[0][key] for key in ("betas", "weight_decay", "train_mode")}
    assert kept == {"betas": (0.5, 0.6), "weight_decay": 0.7, "train_mode": True}


def test_a_rate_that_was_changed_since_is_scaled_by_the_ratio():
    live, old, new = optimizer_at(OLD), optimizer_at(OLD), optimizer_at(NEW)
    live.param_groups[1]["lr"] *= 0.5
    adopt_differences(([live], []), ([old], []), ([new], []))
    assert live.param_groups[0]["lr"] == NEW
    assert live.param_groups[1]["lr"] == pytest.approx(NEW / 20)


class Remembering(SGD):
    """Keeps its first rate, and what follows from it."""

    def __init__(self, params, lr=0.1, weight_decay=0.1):
        super().__init__(params, lr, weight_decay=weight_decay)
        self.first_lr, self.share, self.steps = lr, weight_decay / lr, 0


def test_attributes_that_an_optimizer_derives_from_its_rate_follow():
    live, old, new = (Remembering([torch.ones(1, requires_grad=True)], lr) for lr in (OLD, OLD, NEW))
    live.steps = 5
    adopt_differences(([live], []), ([old], []), ([new], []))
    assert (live.first_lr, live.share, live.steps) == (NEW, new.share, 5)
    fresh = Remembering([torch.ones(1, requires_grad=True)], OLD)
    assert rebuilt_differences(fresh, OLD, NEW) == {"first_lr": NEW, "share": new.share}
    assert rebuilt_differences(optimizer_at(OLD), OLD, NEW) == {}


def test_what_a_lambda_encloses_follows():
    def made(lr):
        optimizer, floor = optimizer_at(lr), 0.01 / lr
        return [optimizer], [schedulers.LambdaLR(optimizer, lambda step: max(floor, 1 - step / 20))]

    live = made(OLD)
    adopt_differences(live, made(OLD), made(NEW))
    assert rates(*live) == rates(*made(NEW))


class Own:
    """A scheduler that is none of torch's, with rates of its own."""

    ceiling = 0.7

    def __init__(self):
        self.peak, self.warmup, self.steps, self.done = 0.5, 4, (0.25, 0.125), False
        self.table, self.deep = np.array([0.1, 0.2]), {"inner": [0.3]}
        self.base_lrs, self.optimizer = [0.9], optimizer_at(OLD)
        rate = 0.05
        self.ramp = lambda: rate


def test_every_value_of_its_own_can_be_found_and_scaled():
    made = [Own()]
    found = {path: values_at(made, path) for path in own_values(made)}
    assert found == {
        (0, "ceiling"): [0.7], (0, "peak"): [0.5], (0, "steps"): [0.25, 0.125], (0, "table"): [0.1, 0.2],
        (0, "deep", "inner"): [0.3], (0, "ramp", "rate"): [0.05],
    }  # fmt: skip
    before = copy.copy(Own.ceiling)
    for path in found:
        scale_values(made, path, 2.0, {0.5: 1.5})
    assert (made[0].peak, made[0].steps, made[0].ramp()) == (1.5, (0.5, 0.25), 0.1)
    assert (made[0].ceiling, Own.ceiling) == (1.4, before)
    assert made[0].table.tolist() == [0.2, 0.4]
    assert (made[0].deep, made[0].base_lrs) == ({"inner": [0.6]}, [0.9])
