from __future__ import annotations

import pytest
import torch
from torch import nn

from lrfinder import InputError
from lrfinder.evaluation import scalar, settle


def test_statistics_are_plain_averages_over_training_batches():
    torch.manual_seed(0)
    norm, batches = nn.BatchNorm1d(3), [torch.randn(8, 3) + 5 for _ in range(4)]
    settle(norm, norm, batches)
    assert not norm.training
    assert torch.allclose(norm.running_mean, torch.stack([batch.mean(0) for batch in batches]).mean(0), atol=1e-5)
    assert norm.num_batches_tracked == 4


def test_no_more_batches_are_drawn_than_needed():
    drawn = []

    def endless():
        while True:
            drawn.append(1)
            yield torch.randn(4, 3)

    settle(norm := nn.BatchNorm1d(3), norm, endless())
    assert len(drawn) <= 17


def test_dropout_and_frozen_layers_do_not_move():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3).eval(), nn.Dropout(0.5), nn.BatchNorm1d(3))
    before = model[1].running_mean.clone()
    seen = []
    model[2].register_forward_hook(lambda module, *_: seen.append(module.training))
    settle(model, model, [torch.randn(8, 3)])
    assert torch.equal(model[1].running_mean, before)
    assert seen == [False]
    assert not any(module.training for module in model.modules())


def test_without_batch_normalisation_nothing_is_run():
    settle(nn.Linear(2, 2), lambda batch: pytest.fail("run"), [1])


def test_without_running_statistics_nothing_is_run():
    settle(nn.BatchNorm1d(2, track_running_stats=False), lambda batch: pytest.fail("run"), [1])


def test_no_gradients_are_kept():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    outputs = []
    settle(model, lambda batch: outputs.append(model(batch)), [torch.randn(8, 3)])
    assert not outputs[0].requires_grad


@pytest.mark.parametrize("value", [1.5, torch.tensor(1.5), torch.tensor([[1.5]], requires_grad=True), 1])
def test_numbers_of_all_kinds(value):
    assert scalar(value, "val_step").dtype == torch.float64
    assert not scalar(value, "val_step").requires_grad


def test_no_number_is_named():
    with pytest.raises(InputError, match=r"val_step must return one number, got a tensor of shape \(2,\)"):
        scalar(torch.zeros(2), "val_step")
