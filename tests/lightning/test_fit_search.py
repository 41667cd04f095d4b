"""What a search in a fit is prepared with."""

from __future__ import annotations

import logging

import pytest
import torch
from support.runs import LIGHTNINGS_REMARKS, Net, finder, fit, optimizers
from torch.optim import lr_scheduler

from lrfinder import InputError

pytestmark = LIGHTNINGS_REMARKS

QUICK = {"budget": 90}


def in_code(net):
    return torch.optim.SGD(net.parameters(), lr=0.03)


def test_a_rate_that_no_number_of_the_module_holds_is_said_to_be_written_into_the_optimizers(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        fit(tmp_path, [finder(**QUICK)], module=lambda lr: Coded(lr))
    assert "found no number of Coded that holds the learning rate" in caplog.text


class Coded(Net):
    def __init__(self, lr):
        super().__init__(lr)
        self.lr = None

    def configure_optimizers(self):
        return in_code(self)


def test_a_number_that_cannot_be_set_is_found_before_anything_is_searched(tmp_path):
    class Fixed(Net):
        steps = 0

        @property
        def rate(self):
            return 0.01

        def training_step(self, batch, batch_idx):
            Fixed.steps += 1
            return super().training_step(batch, batch_idx)

    with pytest.raises(
        InputError, match="attribute must name a number that can be set, got 'rate', which is read-only"
    ):
        fit(tmp_path, [finder(attribute="rate")], module=Fixed)
    assert Fixed.steps == 0


@pytest.mark.parametrize("epochs", [2, 8])
def test_a_scheduler_that_never_changes_the_rate_counts_as_none(tmp_path, epochs):
    def configure(net):
        optimizer = torch.optim.SGD(net.parameters(), lr=net.lr)
        return [optimizer], [lr_scheduler.StepLR(optimizer, 5)]

    callback = finder(**QUICK, policy=None)
    trainer, _ = fit(tmp_path, [callback], module=optimizers(configure), max_epochs=epochs)
    kept = isinstance(trainer.lr_scheduler_configs[0].scheduler, lr_scheduler.StepLR)
    assert kept == (epochs == 8)


def test_the_hyperparameters_that_loggers_get_hold_nested_rates(tmp_path):
    class Nested(Net):
        def __init__(self, lr):
            super().__init__(lr)
            self.save_hyperparameters({"optim": {"lr": lr, "name": "sgd"}})
            self.lr = None

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.hparams.optim["lr"])

    callback = finder(**QUICK)
    trainer, _ = fit(tmp_path, [callback], module=Nested)
    assert trainer.lightning_module.hparams.optim == {"lr": callback.suggestion.lr, "name": "sgd"}
    assert f"\n  lr: {callback.suggestion.lr}\n" in (tmp_path / "hparams.yaml").read_text()
