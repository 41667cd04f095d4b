from __future__ import annotations

import math

import pytest
import torch
from support.schedulers import SCHEDULERS, STEPS, optimizer_at
from torch.optim import SGD, Adam
from torch.optim import lr_scheduler as schedulers

from lrfinder import Curve, InputError, suggest
from lrfinder.schedules.optimizer_lr import (
    apply_lr,
    configured_lr,
    configured_lrs,
    own_lrs,
    reference_lr,
    scaled_lrs,
    set_lr,
)

OLD, NEW = 0.3, 0.0123


def rates(optimizer, scheduler):
    """The learning rates of both groups at every step of training, and what the scheduler says they are."""
    history = []
    for _ in range(STEPS):
        history.append([float(group["lr"]) for group in optimizer.param_groups])
        assert [float(lr) for lr in scheduler.get_last_lr()] == pytest.approx(history[-1], rel=1e-9)
        optimizer.step()
        scheduler.step(*([1.0] if isinstance(scheduler, schedulers.ReduceLROnPlateau) else []))
    return torch.tensor(history, dtype=torch.float64)


def test_every_scheduler_of_torch_is_covered():
    names = {name.partition(",")[0] for name in SCHEDULERS}
    assert set(schedulers.__all__) - {"LRScheduler"} <= names


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduled_run_is_as_if_built_by_hand_at_the_new_rate(name):
    by_hand = optimizer_at(NEW)
    expected = rates(by_hand, SCHEDULERS[name](by_hand, NEW))
    optimizer = optimizer_at(OLD)
    scheduler = SCHEDULERS[name](optimizer, OLD)
    assert apply_lr([optimizer], NEW, [scheduler]) == pytest.approx((NEW, NEW / 10), rel=1e-12)
    torch.testing.assert_close(rates(optimizer, scheduler), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    "name", ["LambdaLR", "StepLR", "OneCycleLR", "PolynomialLR", "CosineAnnealingLR", "SequentialLR"]
)
def test_the_rate_can_be_written_in_the_middle_of_training(name):
    by_hand, optimizer = optimizer_at(NEW), optimizer_at(OLD)
    expected = rates(by_hand, SCHEDULERS[name](by_hand, NEW))
    scheduler = SCHEDULERS[name](optimizer, OLD)
    for _ in range(20):
        optimizer.step()
        scheduler.step()
    apply_lr([optimizer], NEW, [scheduler])
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(expected[20].tolist(), rel=1e-9)
    optimizer.step()
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(expected[21].tolist(), rel=1e-9)


@pytest.mark.parametrize(
    ("make", "floor"),
    [
        (lambda o: schedulers.CosineAnnealingLR(o, STEPS - 1, eta_min=1e-3), 1e-3),
        (lambda o: schedulers.CosineAnnealingWarmRestarts(o, 100_000, eta_min=1e-3), None),
        (lambda o: schedulers.ReduceLROnPlateau(o, patience=0, min_lr=1e-3), 1e-3),
    ],
)
def test_an_absolute_floor_stays_where_it_is(make, floor):
    optimizer = optimizer_at(OLD)
    scheduler = make(optimizer)
    apply_lr([optimizer], NEW, [scheduler])
    kept = scheduler.min_lrs if floor and hasattr(scheduler, "min_lrs") else [scheduler.eta_min] * 2
    assert kept == [1e-3, 1e-3]
    if floor:
        assert rates(optimizer, scheduler)[-1].tolist() == pytest.approx([floor] * 2)


# --- optimizers without schedulers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lr", [NEW, 0.7, 1 / 3, 1e-7 / 3, 0.1 + 0.2])
def test_the_reference_takes_exactly_the_new_rate_and_defaults_follow(lr):
    optimizer = optimizer_at(OLD)
    scheduler = schedulers.StepLR(optimizer, 5)
    assert apply_lr([optimizer], lr, [scheduler])[0] == lr
    assert [group["lr"] for group in optimizer.param_groups] == [lr, pytest.approx(lr / 10)]
    assert optimizer.defaults["lr"] == scheduler.base_lrs[0] == scheduler.get_last_lr()[0] == lr
    optimizer.add_param_group({"params": [torch.ones(1, requires_grad=True)]})
    assert optimizer.param_groups[2]["lr"] == lr


def test_applying_back_and_forth_ends_where_it_began():
    optimizer = optimizer_at(OLD)
    apply_lr([optimizer], NEW)
    apply_lr([optimizer], OLD)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([OLD, OLD / 10], rel=1e-12)


def test_several_optimizers_are_scaled_together():
    first, second = optimizer_at(OLD), optimizer_at(OLD * 4, Adam)
    assert apply_lr([first, second], NEW) == pytest.approx((NEW, NEW / 10, NEW * 4, NEW * 4 / 10))
    assert second.defaults["lr"] == pytest.approx(NEW * 4)


def test_the_optimizers_own_rate_is_the_reference_wherever_its_group_stands():
    head, body = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    optimizer = SGD([{"params": [head], "lr": 3.0}, {"params": [body]}], lr=0.1)
    assert apply_lr([optimizer], 0.2) == pytest.approx((6.0, 0.2))
    assert apply_lr([optimizer], 0.3, reference=6.0) == pytest.approx((0.3, 0.01))


def test_a_group_at_zero_stays_there():
    optimizer = optimizer_at(OLD)
    optimizer.param_groups[0]["lr"] = 0.0
    assert apply_lr([optimizer], NEW) == (0.0, NEW)


def test_a_tensor_rate_is_set_in_place():
    lr = torch.tensor(OLD)
    optimizer = Adam([torch.ones(1, requires_grad=True)], lr)
    scheduler = schedulers.StepLR(optimizer, 5)
    apply_lr([optimizer], NEW, [scheduler])
    assert optimizer.param_groups[0]["lr"] is lr
    assert lr.item() == optimizer.defaults["lr"].item() == pytest.approx(NEW)
    assert [type(value) for value in scheduler.base_lrs] == [torch.Tensor]
    assert scheduler.base_lrs[0].item() == pytest.approx(NEW)


def test_a_tensor_rate_that_groups_share_is_scaled_once():
    lr = torch.tensor(OLD)
    groups = [{"params": [torch.ones(1, requires_grad=True)]} for _ in range(3)]
    optimizer = Adam(groups, lr)
    assert all(group["lr"] is lr for group in optimizer.param_groups)
    assert apply_lr([optimizer], NEW) == pytest.approx([NEW] * 3)
    assert lr.item() == pytest.approx(NEW)


def test_a_group_without_a_rate_is_an_input_error():
    optimizer = optimizer_at(OLD)
    optimizer.param_groups[0]["lr"] = None
    with pytest.raises(InputError, match="must have a learning rate in every param group, got lr = None"):
        configured_lrs([optimizer])


@pytest.mark.parametrize("lr", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_that_is_not_positive_and_finite_is_an_input_error_that_changes_nothing(lr):
    optimizer = optimizer_at(OLD)
    with pytest.raises(InputError, match=f"lr must be positive and finite, got lr = {lr:g}"):
        apply_lr([optimizer], lr)
    assert [group["lr"] for group in optimizer.param_groups] == [OLD, OLD / 10]


def test_without_a_positive_rate_there_is_no_ratio_to_keep():
    with pytest.raises(InputError, match=r"lr > 0, .*, got lr = 0, 0"):
        apply_lr([optimizer_at(0.0)], NEW)
    with pytest.raises(InputError, match="got no param groups"):
        reference_lr([])


def test_a_suggestion_writes_itself_into_the_optimizer_and_keeps_ratios():
    lrs = torch.logspace(-5, 1, 60, dtype=torch.float64)
    losses = 2 - 1 / (1 + (1e-2 / lrs) ** 2) + (lrs / 0.5) ** 3
    suggestion = suggest(Curve(lrs.numpy(), losses.numpy()))
    optimizer = optimizer_at(OLD)
    scheduler = schedulers.CosineAnnealingLR(optimizer, 10)
    suggestion.apply(optimizer, scheduler)
    assert [group["lr"] for group in optimizer.param_groups] == [suggestion.lr, pytest.approx(suggestion.lr / 10)]
    assert scheduler.base_lrs == [group["lr"] for group in optimizer.param_groups]


# --- the small parts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "lr"),
    [
        ({"lr": 1.0}, 1.0),
        ({"lr": 0.0, "initial_lr": 1.0}, 1.0),
        ({"lr": 0.1, "initial_lr": 0.04, "max_lr": 1.0}, 1.0),
        ({"lr": torch.tensor(0.5)}, 0.5),
    ],
)
def test_the_configured_rate_is_the_peak(group, lr):
    assert configured_lr(group) == lr


def test_the_configured_rates_of_all_groups_know_the_peak_of_a_cycle():
    optimizer, other = optimizer_at(OLD), optimizer_at(NEW)
    cycle = SCHEDULERS["CyclicLR"](optimizer, OLD)
    assert configured_lrs([optimizer, other], [cycle]) == [OLD, OLD / 10, NEW, NEW / 10]


def test_the_reference_is_the_first_named_rate_that_a_group_is_at():
    assert reference_lr([0.0, 0.2, 0.3]) == 0.2
    assert reference_lr([0.0, 0.2, 0.3], [0.7, 0.3, 0.2]) == 0.3
    assert reference_lr([0.0, 0.2], [0.0]) == 0.2


def test_scaling_makes_the_reference_exactly_the_new_rate():
    for lr in torch.logspace(-7, 1, 200, dtype=torch.float64).tolist():
        assert scaled_lrs([0.3, 0.1, 0.3], lr, 0.1)[1] == lr


def test_an_optimizers_own_rate():
    assert own_lrs([optimizer_at(OLD), Adam([torch.ones(1)], torch.tensor(0.5))]) == [OLD, 0.5]


def test_setting_a_rate_replaces_a_number_and_fills_a_tensor():
    group = {"lr": 1.0, "max_lr": torch.tensor(1.0)}
    held = group["max_lr"]
    set_lr(group, 0.5), set_lr(group, 0.25, "max_lr")
    assert group == {"lr": 0.5, "max_lr": held}
    assert held.item() == 0.25
