from __future__ import annotations

import types
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder import InputError, find_lr
from lrfinder.demo import digits_demo
from lrfinder.optimizer_choice import choices
from lrfinder.plain import PlainSubject
from lrfinder.subject import Search


class Parts(NamedTuple):
    optimizer: Any
    loader: Any
    model: Any
    loss_fn: Any


def parts():
    torch.manual_seed(0)
    inputs = torch.randn(256, 4)
    model = nn.Linear(4, 2)
    loader = DataLoader(TensorDataset(inputs, (inputs.sum(1) > 0).long()), 16, shuffle=True)
    return {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "loss_fn": nn.CrossEntropyLoss(),
        "loader": loader,
    }


def search(**options):
    return Search(**{"method": "probe", "budget": 80, "min_lr": 1e-7, "max_lr": None, "steps": 1000, **options})


@pytest.mark.parametrize(
    "shape",
    [
        lambda made: tuple(made.values()),
        lambda made: (*made.values(), made["loader"]),
        lambda made: made,
        lambda made: Parts(**made),
        lambda made: types.SimpleNamespace(**made),
    ],
)
def test_every_shape_is_read_alike(shape):
    made = parts()
    subject = PlainSubject.of(shape(made), "factory")
    assert (subject.model, subject.optimizer) == (made["model"], made["optimizer"])
    assert (subject.loss_fn, subject.loader) == (made["loss_fn"], made["loader"])
    assert subject.val_loader in (None, made["loader"])


def test_a_record_is_read_by_its_names():
    demo = digits_demo()
    assert PlainSubject.of(demo, "demo").val_loader is demo.val_loader


def test_it_suggests_as_find_lr_does():
    torch.manual_seed(0)
    made = parts()
    expected = find_lr(*made.values(), steps=1000, budget=80)
    made = parts()
    found = PlainSubject.of(made, "factory").suggest(search())
    assert (found.lr, found.policy) == (expected.lr, expected.policy)
    assert found.environment["device"] == "cpu"
    cosine = PlainSubject.of(parts(), "factory").suggest(search(policy="cosine"))
    assert cosine.policy == expected.with_policy("cosine").policy


def test_more_arguments_of_find_lr_may_be_among_them():
    made = parts()

    def val_step(batch):
        return 7 + made["loss_fn"](made["model"](batch[0]), batch[1])

    found = PlainSubject.of({**made, "val_step": val_step, "accumulate": 2}, "factory").suggest(search())
    assert min(outcome.mean for outcome in found.probes) > 7


def test_epochs_are_steps_of_the_loader():
    subject = PlainSubject.of({**parts(), "accumulate": 2}, "factory")
    assert subject.estimate(search(steps=None, epochs=5)).horizon == 5 * 16 // 2
    endless = PlainSubject.of({**parts(), "loader": types.SimpleNamespace(__iter__=None)}, "factory")
    with pytest.raises(InputError, match=r"--epochs must be left out for data without length, got 5: give --steps"):
        endless.suggest(search(steps=None, epochs=5))


def test_another_optimizer_takes_the_place_of_its_own_or_of_none():
    (adam,) = choices(["adam"], {})
    subject = PlainSubject.of(parts(), "factory", adam)
    assert isinstance(subject.optimizer, torch.optim.Adam)
    (group,) = PlainSubject.of({**parts(), "optimizer": None}, "factory", adam).optimizer.param_groups
    assert len(group["params"]) == 2
    with pytest.raises(InputError, match=r"--optimizer must be left out where factory has a train_step of its own"):
        PlainSubject.of({**parts(), "train_step": print}, "factory", adam)


BAD = {
    "None": (None, "or return, a LightningModule or (model, optimizer, loss_fn, loader[, val_loader])"),
    "three": ((1, 2, 3), "got a tuple of 3"),
    "a model": (nn.Linear(1, 1), "got Linear"),
    "an unknown name": ({**parts(), "lodaer": 1}, "got a dict with 'lodaer'"),
    "no loader": ({k: v for k, v in parts().items() if k != "loader"}, "got one without loader"),
    "no model": ({**parts(), "model": 3}, "model of factory must be a torch Module, got int"),
    "no optimizer": ({**parts(), "optimizer": None}, "optimizer of factory must be a torch Optimizer, got NoneType"),
    "no loss": ({**parts(), "loss_fn": 3}, "loss_fn of factory must be callable, got int"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_something_else_is_named(name):
    made, told = BAD[name]
    with pytest.raises(InputError) as error:
        PlainSubject.of(made, "factory")
    assert told in str(error.value)
    assert str(error.value).startswith(("factory must", "model of", "optimizer of", "loss_fn of"))


def test_a_decay_needs_to_know_how_long_training_is():
    with pytest.raises(InputError, match=r"^--policy cosine needs --steps or --epochs, got neither$"):
        PlainSubject.of(parts(), "factory").suggest(search(policy="cosine", steps=None))


@pytest.mark.parametrize(
    ("options", "told"),
    [({"monitor": "acc"}, "--monitor must be left out"), ({"policy": "keep"}, "--policy keep must be left out")],
)
def test_what_only_lightning_has_is_refused(options, told):
    with pytest.raises(InputError, match=told):
        PlainSubject.of(parts(), "factory").suggest(search(**options))
