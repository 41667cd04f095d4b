from __future__ import annotations

import os
import types
from typing import Any, NamedTuple

import lightning.pytorch as pl
import pytest
import torch
from support.runs import LIGHTNINGS_REMARKS, Net, loader
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder import InputError, find_lr
from lrfinder.cli.jobs import LightningJob, TorchJob, loaders_of, new_trainer
from lrfinder.cli.optimizer_choice import choices
from lrfinder.demo import digits_demo
from lrfinder.lightning.internals import is_lightning
from lrfinder.probing.options import SearchOptions

pytestmark = LIGHTNINGS_REMARKS


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
    return SearchOptions(**{"budget": 150, "steps": 1000, **options})


def suggested(job, options):
    return job.ask(options, lambda asked, suggest: suggest(None, None))


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
    read = dict(TorchJob.of(shape(made), "factory").parts)
    assert read.pop("val_loader", None) in (None, made["loader"])
    assert read == made


def test_a_record_is_read_by_its_names():
    demo = digits_demo()
    assert TorchJob.of(demo, "demo").parts["val_loader"] is demo.val_loader


def test_it_suggests_as_find_lr_does():
    torch.manual_seed(0)
    made = parts()
    expected = find_lr(*made.values(), steps=1000, budget=150)
    made = parts()
    found = suggested(TorchJob.of(made, "factory"), search())
    assert (found.lr, found.policy) == (expected.lr, expected.policy)
    assert found.environment["device"] == "cpu"
    cosine = suggested(TorchJob.of(parts(), "factory"), search(policy="cosine"))
    assert cosine.policy == expected.with_policy("cosine").policy


def test_more_arguments_of_find_lr_may_be_among_them():
    made = parts()

    def val_step(batch):
        return 7 + made["loss_fn"](made["model"](batch[0]), batch[1])

    found = suggested(TorchJob.of({**made, "val_step": val_step, "accumulate": 2}, "factory"), search())
    assert min(outcome.mean for outcome in found.probes) > 7


def test_epochs_are_steps_of_the_loader():
    job = TorchJob.of({**parts(), "accumulate": 2}, "factory")
    assert job.ask(search(steps=None, epochs=5), lambda asked, suggest: asked).steps == 5 * 16 // 2
    endless = TorchJob.of({**parts(), "loader": types.SimpleNamespace(__iter__=None)}, "factory")
    with pytest.raises(InputError, match=r"--epochs must be left out for data without length, got 5: give --steps"):
        suggested(endless, search(steps=None, epochs=5))


def test_another_optimizer_takes_the_place_of_its_own_or_of_none():
    (adam,) = choices(["adam"], {})
    job = TorchJob.of(parts(), "factory", adam)
    assert isinstance(job.parts["optimizer"], torch.optim.Adam)
    (group,) = TorchJob.of({**parts(), "optimizer": None}, "factory", adam).parts["optimizer"].param_groups
    assert len(group["params"]) == 2
    with pytest.raises(InputError, match=r"--optimizer must be left out where factory has a train_step of its own"):
        TorchJob.of({**parts(), "train_step": print}, "factory", adam)


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
        TorchJob.of(made, "factory")
    assert told in str(error.value)
    assert str(error.value).startswith(("factory must", "model of", "optimizer of", "loss_fn of"))


def test_a_decay_needs_to_know_how_long_training_is():
    with pytest.raises(InputError, match=r"^--policy cosine needs --steps or --epochs, got neither$"):
        suggested(TorchJob.of(parts(), "factory"), search(policy="cosine", steps=None))


@pytest.mark.parametrize(
    ("options", "told"),
    [({"monitor": "acc"}, "--monitor must be left out"), ({"policy": "keep"}, "--policy keep must be left out")],
)
def test_what_only_lightning_has_is_refused(options, told):
    with pytest.raises(InputError, match=told):
        suggested(TorchJob.of(parts(), "factory"), search(**options))


# --- Lightning -------------------------------------------------------------------------------------------------


class Data(pl.LightningDataModule):
    def train_dataloader(self):
        return loader()


class Fed(Net):
    def train_dataloader(self):
        return loader()


def lit_search(**options):
    return SearchOptions(**{"budget": 150, "steps": 400, **options})


def lightning_job(module=None, choice=None, data=None, **options):
    module = Net() if module is None else module
    data = {"train_dataloaders": loader()} if data is None else data
    return LightningJob(new_trainer(module, "Net", lit_search(**options), {}, True), module, data, "Net", choice)


def test_modules_and_data_are_told_apart():
    assert is_lightning(Net())
    assert is_lightning(Net)
    assert is_lightning(Data(), "LightningDataModule")
    assert not is_lightning(Data())
    assert not is_lightning(torch.nn.Linear(1, 1))


def test_data_may_be_a_module_a_loader_or_two():
    one, data = loader(), Data()
    assert loaders_of(data, "d") == {"datamodule": data}
    assert loaders_of(one, "d") == {"train_dataloaders": one}
    assert loaders_of((one, [1]), "d") == {"train_dataloaders": one, "val_dataloaders": [1]}
    for bad in (None, 3, "text", (1, 2, 3)):
        with pytest.raises(InputError, match=r"^--data must name a LightningDataModule, .* got d, which is a "):
            loaders_of(bad, "d")


def test_the_trainer_is_as_asked_and_writes_nothing():
    options = {"accumulate_grad_batches": 3, "precision": "bf16-mixed", "accelerator": "cpu"}
    trainer = new_trainer(Fed(), "Fed", lit_search(steps=None, epochs=7), options, has_data=False)
    assert (trainer.max_epochs, trainer.max_steps, trainer.accumulate_grad_batches) == (7, -1, 3)
    assert (trainer.precision, trainer.loggers, trainer.checkpoint_callback) == ("bf16-mixed", [], None)
    assert new_trainer(Fed(), "Fed", lit_search(), {}, has_data=False).max_steps == 400


@pytest.mark.parametrize(
    ("module", "options", "told"),
    [
        (Net, {}, "Net has no train_dataloader: give --data FILE.py:NAME, a LightningDataModule or a function that"),
        (Fed, {"logger": True}, "--trainer.logger must be left out: nothing is shown or written while searching"),
        (Fed, {"max_epohs": 3}, "Lightning's Trainer cannot be made: TypeError: .* 'max_epohs'"),
        (Fed, {"accelerator": "abacus"}, "Lightning's Trainer cannot be made: .*abacus"),
    ],
)
def test_what_lightning_would_not_take_is_a_line(module, options, told):
    with pytest.raises(InputError, match=told) as error:
        new_trainer(module(), "Net", lit_search(), options, has_data=False)
    assert "\n" not in str(error.value)


def test_it_suggests_with_its_own_optimizer_or_another():
    found = suggested(lightning_job(), lit_search())
    (adagrad,) = choices(["adagrad"], {})
    module = Net()
    other = suggested(lightning_job(module, adagrad), lit_search())
    assert found.horizon == other.horizon == 400
    assert "Adagrad" in str(other.environment["optimizer"])
    assert found.lr != other.lr
    assert "configure_optimizers" not in vars(module)
    assert os.listdir() == []


def test_what_another_optimizer_drops_is_said():
    (sgd,) = choices(["sgd"], {})
    module = Net(make=lambda net: torch.optim.Adam(net.parameters(), lr=0.01, amsgrad=True))
    assert suggested(lightning_job(module, sgd), lit_search()).caveats[-2:] == (
        "sgd has momentum 0.9, since --optimizer.momentum was not given.",
        "--optimizer sgd drops amsgrad=True of Adam.",
    )


def test_a_decay_needs_to_know_how_long_the_trainer_trains():
    with pytest.raises(InputError, match="policy 'cosine' needs to know how long training is"):
        suggested(lightning_job(steps=None), lit_search(steps=None, policy="cosine"))


class Silent(Net):
    def validation_step(self, batch, batch_idx):
        self.log("other", 1.0)


def test_a_metric_of_validation_may_judge():
    data = {"train_dataloaders": loader(), "val_dataloaders": loader(shuffle=False)}
    with pytest.raises(InputError, match="monitor must be a metric that validation logs, got 'val_loss'"):
        suggested(lightning_job(Silent(), data=data), lit_search(monitor="val_loss"))


class Steps(torch.optim.SGD):
    def step(self, closure=None):
        raise AssertionError("a step was taken")


def test_a_question_may_do_without_the_search():
    module = Net()
    module.configure_optimizers = lambda: Steps(module.parameters(), lr=0.1)
    asked = lightning_job(module).ask(lit_search(budget=300, steps=None), lambda asked, suggest: asked)
    assert asked == lit_search(budget=300)
    assert (module.record, module.seen) == ([], 0)


def test_a_journal_is_for_one_process():
    job = lightning_job()
    with pytest.raises(InputError, match="--journal must be left out with several processes, got 2 of them"):
        job.ask(lit_search(), lambda asked, suggest: several(job, suggest))


def several(job, suggest):
    class Several(type(job.trainer)):
        world_size = 2

    job.trainer.__class__ = Several
    return suggest(None, pytest.fail)


def one_cycle(total_steps):
    module = Net()

    def configure_optimizers():
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    module.configure_optimizers = configure_optimizers
    return module


def asked_of(module, **options):
    return lightning_job(module, steps=100).ask(lit_search(steps=100, **options), lambda asked, suggest: asked)


@pytest.mark.parametrize("policy", [None, "keep"])
def test_a_one_cycle_schedule_that_is_kept_lasts_as_long_as_training(policy):
    asked_of(one_cycle(100), policy=policy)
    with pytest.raises(InputError, match=r"OneCycleLR .* must last .* 100 steps, got total_steps = 99"):
        asked_of(one_cycle(99), policy=policy)


def test_a_one_cycle_schedule_that_is_replaced_may_be_short():
    asked_of(one_cycle(99), policy="auto")
