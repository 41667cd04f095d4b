"""What is read from a trainer inside ``fit``: what is left of training, batches per step, schedulers, data."""

from __future__ import annotations

import math

import lightning.pytorch as pl
import pytest
import torch
from support.litmodels import Small
from support.runs import INPUTS, TARGETS
from torch.utils.data import DataLoader, TensorDataset

from lrfinder import LRFinder, UnsupportedError
from lrfinder.lightning import internals as inside

BATCHES = 6

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),  # remarks of Lightning on data and loggers
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]


def read(question, **options):
    """Return the answer to a question that is put at the start of a fit."""
    answers = []

    class Asking(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            answers.append(question(trainer))

    settings = {"max_epochs": 2, "accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    settings |= {"enable_progress_bar": False, "enable_model_summary": False, "limit_val_batches": 0}
    trainer = pl.Trainer(callbacks=[Asking()], **{**settings, **options})
    trainer.fit(Small(), DataLoader(TensorDataset(INPUTS[:48], TARGETS[:48]), batch_size=8))
    return answers[0]


@pytest.mark.parametrize(
    ("options", "steps", "epochs"),
    [
        ({}, 2 * BATCHES, 2),
        ({"accumulate_grad_batches": 4}, 4, 2),
        ({"max_steps": 7}, 7, 2),
        ({"max_steps": 7, "max_epochs": -1}, 7, 2),
        ({"limit_train_batches": 2}, 4, 2),
    ],
)
def test_what_is_left_of_training(options, steps, epochs):
    def question(trainer):
        return inside.steps_left(trainer), inside.horizon(trainer), inside.epochs_left(trainer)

    assert read(question, **options) == (steps, steps, epochs)


def test_batches_of_a_step_are_those_accumulated():
    assert read(inside.batches_per_step, accumulate_grad_batches=3) == 3
    assert read(inside.steps_of_epoch, accumulate_grad_batches=4) == math.ceil(BATCHES / 4)


def test_training_has_not_started_in_a_new_fit():
    assert read(inside.has_started) is False


def test_both_packages_are_told_apart_without_loading_them():
    assert inside.is_lightning(Small)
    assert inside.is_lightning(Small())
    assert not inside.is_lightning(torch.nn.Linear(1, 1))
    assert not inside.is_lightning(Small(), "LightningDataModule")
    assert inside.package_of(Small).Trainer is pl.Trainer
    assert inside.internals(pl.Trainer(logger=False, accelerator="cpu"), "trainer.call").__name__.startswith(
        "lightning."
    )


def test_a_callback_of_lrfinder_is_known_as_one():
    class Mine(LRFinder):
        pass

    assert inside.is_own(LRFinder())
    assert inside.is_own(Mine())
    assert not inside.is_own(pl.Callback())


def test_what_cannot_be_probed_is_refused_by_name():
    assert read(inside.check_supported) is None
    with pytest.raises(UnsupportedError, match="LRFinder probes on a single device, with strategy='ddp' or"):
        read(lambda trainer: inside.check_supported(_with_strategy(trainer)))


def _with_strategy(trainer):
    class FSDPStrategy:
        pass

    class Other:
        strategy = FSDPStrategy()

        def __getattr__(self, name):
            return getattr(trainer, name)

    return Other()


def test_configuring_again_leaves_the_run_alone():
    def question(trainer):
        before = trainer.optimizers[0]
        optimizers, schedulers = inside.configure_again(trainer)
        return before is trainer.optimizers[0], optimizers[0] is not before, len(schedulers)

    assert read(question) == (True, True, 0)
    assert read(inside.schedulers_of) == []
    assert read(inside.validation_loaders) == []
