"""The first steps of training are at the rates that were written, or a warning says so."""

from __future__ import annotations

import warnings

import lightning.pytorch as pl
import pytest
import torch
from support.runs import LIGHTNINGS_REMARKS, Net, finder, fit

pytestmark = LIGHTNINGS_REMARKS

QUICK = {"budget": 90}


class Warming(pl.Callback):
    """Reads the rate when the fit starts, and sets it in every step."""

    def __init__(self, steps):
        self.steps = steps

    def on_fit_start(self, trainer, pl_module):
        self.rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step >= self.steps:
            trainer.optimizers[0].param_groups[0]["lr"] = self.rate


@pytest.mark.parametrize("steps", [0, 2])
def test_a_callback_that_sets_its_own_rate_is_noticed_once(tmp_path, steps):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(tmp_path, [finder(**QUICK), Warming(steps)])
    ours = [str(warning.message) for warning in caught if "LRFinder" in str(warning.message)]
    assert len(ours) == 1
    assert f"step {steps} should be at" in ours[0]
    assert "but it is at 0.01: something else sets the rate too" in ours[0]


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
