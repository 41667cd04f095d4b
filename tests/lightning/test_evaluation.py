"""A module is judged as Lightning validates it, and where that means something else, as it trains."""

from __future__ import annotations

import pytest
import torch
from support.runs import INPUTS, LIGHTNINGS_REMARKS, Net, by_hand, finder, fit
from torch import nn

from lrfinder import UnsupportedError

pytestmark = LIGHTNINGS_REMARKS


class Unscaling(nn.Module):
    """Gives outputs in other units in eval mode."""

    def forward(self, outputs):
        return outputs if self.training else outputs * 50 + 3000


class Scaled(Net):
    def __init__(self, lr):
        super().__init__(lr)
        self.unscale = Unscaling()

    def loss(self, batch):
        return (self.unscale(self(batch[0])) - batch[1][:, None]).pow(2).mean()


class Hooked(Scaled):
    """Keeps its units in validation, as a hook of Lightning's allows."""

    opened = 0

    def on_validation_model_eval(self):
        super().on_validation_model_eval()
        self.unscale.train()
        Hooked.opened += 1

    def on_validation_model_train(self):
        self.train()
        self.frozen.eval()
        Hooked.opened -= 1


def test_the_mode_of_validation_is_the_modules_own(tmp_path):
    Hooked.opened = 0
    _, callback = by_hand(tmp_path, module=Hooked)
    assert callback.suggestion.probes[0].loss.max() < 10
    assert not any("eval mode" in caveat for caveat in callback.suggestion.caveats)
    assert Hooked.opened == 1  # by the trial of the judge alone


class Negated(Net):
    """Returns a score in eval mode, of which more is better."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss if self.training else -loss


@pytest.mark.parametrize("module", [Scaled, Negated])
def test_a_step_that_means_something_else_in_eval_mode_is_judged_in_train_mode(tmp_path, module):
    _, callback = by_hand(tmp_path, module=module)
    assert 0 < callback.suggestion.probes[0].loss.max() < 10
    (caveat,) = [caveat for caveat in callback.suggestion.caveats if "eval mode" in caveat]
    assert "judged in train mode" in caveat
    assert "pass monitor=" in caveat


class Detector(Net):
    """Returns losses in train mode and predictions in eval mode, as detection models do."""

    def training_step(self, batch, batch_idx):
        if not self.training:
            return [{"label": row.argmax()} for row in self(batch[0])]
        return super().training_step(batch, batch_idx)


def test_a_step_without_a_loss_in_eval_mode_is_judged_in_train_mode(tmp_path):
    _, callback = by_hand(tmp_path, module=Detector)
    assert any("raises InputError" in caveat and "monitor=" in caveat for caveat in callback.suggestion.caveats)
    assert not any("left out" in caveat for caveat in callback.suggestion.caveats)  # validation batches judge


def test_a_step_that_takes_no_held_out_batch_in_either_mode_is_refused(tmp_path):
    class Exact(Net):
        """Takes the batches that it is trained on only, as a Gaussian process does."""

        def training_step(self, batch, batch_idx):
            if not self.training or not torch.is_grad_enabled():
                raise RuntimeError("You must train on the training inputs!")
            return super().training_step(batch, batch_idx)

    with pytest.raises(UnsupportedError, match="has none for it in train mode either: pass monitor="):
        fit(tmp_path, [finder()], module=Exact)


def test_dropout_and_batch_normalisation_are_no_other_meaning(tmp_path):
    class Dropping(Net):
        def __init__(self, lr):
            super().__init__(lr)
            self.body = nn.Sequential(
                nn.Linear(8, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.7), nn.Linear(64, 16)
            )
            with torch.no_grad():
                self.body[0].bias += 20

    callback = finder()
    fit(tmp_path, [callback], module=Dropping)
    assert not any("train mode" in caveat for caveat in callback.suggestion.caveats)


class Broken(Net):
    """A sample has a loss that is not finite, in training and in validation; no step is taken on it."""

    def forward(self, inputs):
        failed = (inputs == INPUTS[0]).all(1).any()
        return super().forward(inputs) * torch.where(failed, float("nan"), 1.0)

    def on_before_optimizer_step(self, optimizer):
        for parameter in self.parameters():
            if parameter.grad is not None and not parameter.grad.isfinite().all():
                parameter.grad = None


@pytest.mark.parametrize("options", [{}, {"monitor": "val_loss"}, {"method": "range"}])
def test_single_batches_whose_loss_is_not_finite_are_left_out_and_counted(tmp_path, options):
    callback = finder(**options)
    fit(tmp_path, [callback], module=Broken)
    assert callback.suggestion.lr is not None
    told = [caveat for caveat in callback.suggestion.caveats if "not finite" in caveat]
    assert len(told) == (1 if "method" in options else 2)
