from __future__ import annotations

import os

import lightning.pytorch as pl
import pytest
import torch
from runs import LIGHTNINGS_REMARKS, Net, loader

from lrfinder import InputError
from lrfinder.optimizer_choice import choices
from lrfinder.subject import Search
from lrfinder.trainer_subject import TrainerSubject, is_lightning, loaders_of, new_trainer

pytestmark = LIGHTNINGS_REMARKS


class Data(pl.LightningDataModule):
    def train_dataloader(self):
        return loader()


class Fed(Net):
    def train_dataloader(self):
        return loader()


def search(**options):
    return Search(**{"method": "probe", "budget": 90, "min_lr": 1e-7, "max_lr": None, "steps": 400, **options})


def subject(module=None, choice=None, data=None, **options):
    module = Net() if module is None else module
    data = {"train_dataloaders": loader()} if data is None else data
    return TrainerSubject(new_trainer(module, "Net", search(**options), {}, True), module, data, "Net", choice)


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
    trainer = new_trainer(Fed(), "Fed", search(steps=None, epochs=7), options, has_data=False)
    assert (trainer.max_epochs, trainer.max_steps, trainer.accumulate_grad_batches) == (7, -1, 3)
    assert (trainer.precision, trainer.loggers, trainer.checkpoint_callback) == ("bf16-mixed", [], None)
    assert new_trainer(Fed(), "Fed", search(), {}, has_data=False).max_steps == 400


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
        new_trainer(module(), "Net", search(), options, has_data=False)
    assert "\n" not in str(error.value)


def test_it_suggests_with_its_own_optimizer_or_another():
    found = subject().suggest(search())
    (adagrad,) = choices(["adagrad"], {})
    module = Net()
    other = subject(module, adagrad).suggest(search())
    assert found.horizon == other.horizon == 400
    assert "Adagrad" in str(other.environment["optimizer"])
    assert found.lr != other.lr
    assert "configure_optimizers" not in vars(module)
    assert os.listdir() == []


def test_what_another_optimizer_drops_is_said():
    (sgd,) = choices(["sgd"], {})
    module = Net(make=lambda net: torch.optim.Adam(net.parameters(), lr=0.01, amsgrad=True))
    assert subject(module, sgd).suggest(search()).caveats[-2:] == (
        "sgd has momentum 0.9, since --optimizer.momentum was not given.",
        "--optimizer sgd drops amsgrad=True of Adam.",
    )


def test_a_decay_needs_to_know_how_long_training_is():
    with pytest.raises(InputError, match="policy 'cosine' needs to know how long training is"):
        subject(steps=None).suggest(search(steps=None, policy="cosine"))


class Silent(Net):
    def validation_step(self, batch, batch_idx):
        self.log("other", 1.0)


def test_a_metric_of_validation_may_judge():
    data = {"train_dataloaders": loader(), "val_dataloaders": loader(shuffle=False)}
    with pytest.raises(InputError, match="monitor must be a metric that validation logs, got 'val_loss'"):
        subject(Silent(), data=data).suggest(search(monitor="val_loss"))


class Steps(torch.optim.SGD):
    def step(self, closure=None):
        raise AssertionError("a step was taken")


def test_an_estimate_takes_no_step():
    module = Net()
    module.configure_optimizers = lambda: Steps(module.parameters(), lr=0.1)
    told = subject(module).estimate(search(budget=300))
    assert (told.horizon, told.budget_steps) == (400, 300)
    assert told.forward_seconds > 0
    assert (module.record, module.seen) == ([], 0)
