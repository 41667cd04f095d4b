"""Noise and curvature of models for which both are known, and nothing left changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.exactness import Picture
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder import InputError, curvature_limit, measure_noise_scale
from lrfinder.advice.gradients import estimate_noise_scale


def regression(count=256, width=6, batch_size=16):
    """A linear model without bias, its data, and the loader of them in a fixed order."""
    torch.manual_seed(0)
    inputs = torch.randn(count, width) * torch.tensor([3.0, *[1.0] * (width - 1)])
    targets = torch.randn(count, 1)
    loader = DataLoader(TensorDataset(inputs, targets), batch_size)
    return nn.Linear(width, 1, bias=False), inputs, targets, loader


def test_the_noise_scale_is_that_of_the_batch_gradients():
    model, inputs, targets, loader = regression()
    found = measure_noise_scale(model, torch.optim.SGD(model.parameters(), 0.1), nn.functional.mse_loss, loader)
    weight = model.weight.detach().numpy().ravel()
    gradients = np.array(
        [
            2 * (x.numpy().T @ (x.numpy() @ weight - y.numpy().ravel())) / len(x)
            for x, y in zip(inputs.split(16), targets.split(16), strict=True)
        ]
    )
    direct = estimate_noise_scale((gradients**2).sum(1), gradients @ gradients.mean(0), 16)
    assert (found.value, found.low, found.high) == pytest.approx((direct.value, direct.low, direct.high), rel=1e-3)
    assert (found.batch_size, found.batches) == (16, 16)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 5.0])
def test_the_limit_of_a_quadratic_is_its_top_eigenvalue(momentum, weight_decay):
    model, inputs, _, loader = regression(count=128)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=momentum, weight_decay=weight_decay)
    limit = curvature_limit(model, optimizer, nn.functional.mse_loss, loader, batches=8)
    top = float(torch.linalg.eigvalsh(2 * inputs.T @ inputs / 128)[-1]) + weight_decay
    assert limit.sharpness == pytest.approx(top, rel=2e-3)
    assert limit.lr == pytest.approx(2 * (1 + momentum) / top, rel=2e-3)
    assert limit.lr_low < limit.lr < limit.lr_high


def test_the_limit_of_adam_counts_with_its_preconditioner_and_the_ratios_of_its_groups():
    model, inputs, targets, loader = regression(count=128, width=6)
    head = nn.Linear(6, 1, bias=False)
    both = nn.ModuleList([model, head])

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = both

        def forward(self, x):
            return model(x) + head(x)

    optimizer = torch.optim.Adam([{"params": model.parameters()}, {"params": head.parameters(), "lr": 0.02}], 0.01)
    network = Sum()
    nn.functional.mse_loss(network(inputs), targets).backward()
    optimizer.step()
    limit = curvature_limit(network, optimizer, nn.functional.mse_loss, loader)
    roots = [optimizer.state[p]["exp_avg_sq"].ravel() for p in (model.weight, head.weight)]
    scale = torch.cat([(r / (1 - 0.999)).sqrt().add(1e-8).reciprocal() for r in roots]) * torch.tensor(
        [1.0] * 6 + [2.0] * 6
    )
    hessian = torch.kron(torch.ones(2, 2), 2 * inputs.T @ inputs / 128)
    top = float(torch.linalg.eigvalsh(scale.sqrt()[:, None] * hessian * scale.sqrt())[-1])
    assert limit.lr == pytest.approx(38 / top, rel=5e-3)


def test_everything_is_as_before_with_dropout_batch_norm_and_shuffling():
    _, inputs, targets, _ = regression()
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    loader = DataLoader(TensorDataset(inputs, targets), 16, shuffle=True)
    before = Picture(model, optimizer, loader)
    measure_noise_scale(model, optimizer, nn.functional.mse_loss, loader, batches=5, after=3)
    curvature_limit(model, optimizer, nn.functional.mse_loss, loader, batches=4)
    assert before.changes(model, optimizer, loader) == []


def test_both_are_measured_after_the_steps_that_are_asked_for():
    model, _, _, loader = regression(count=128)
    twin = nn.Linear(6, 1, bias=False)
    twin.load_state_dict(model.state_dict())
    optimizer = torch.optim.Adam(twin.parameters(), 0.03)
    for step, (x, y) in enumerate(list(loader)[:6]):
        optimizer.param_groups[0]["lr"] = 0.03 * (step + 1) / 6
        optimizer.zero_grad()
        nn.functional.mse_loss(twin(x), y).backward()
        optimizer.step()
    for measure in (measure_noise_scale, curvature_limit):
        own = measure(model, torch.optim.Adam(model.parameters(), 0.03), nn.functional.mse_loss, loader, after=6)
        assert own == measure(twin, optimizer, nn.functional.mse_loss, loader)


def test_attention_can_be_differentiated_twice():
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    data = [(torch.randn(4, 5, 8), torch.randn(4, 5, 8)) for _ in range(4)]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    assert curvature_limit(model, optimizer, nn.functional.mse_loss, data, batches=4).sharpness > 0


class Product(nn.Module):
    """A weight times a number, as its own loss."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, number):
        return self.weight * number


def test_what_cannot_be_measured_is_an_error():
    model, _, _, loader = regression()
    sgd, adam = torch.optim.SGD(model.parameters(), 0.1), torch.optim.Adam(model.parameters())
    with pytest.raises(InputError, match="at least 4"):
        measure_noise_scale(model, sgd, nn.functional.mse_loss, loader, batches=2)
    with pytest.raises(InputError, match="at least 4 batches per epoch, got 3"):
        measure_noise_scale(model, sgd, nn.functional.mse_loss, list(loader)[:3])
    with pytest.raises(InputError, match="must have taken a step"):
        curvature_limit(model, adam, nn.functional.mse_loss, loader)
    with pytest.raises(InputError, match="got Adagrad"):
        curvature_limit(model, torch.optim.Adagrad(model.parameters()), nn.functional.mse_loss, loader)
    product = Product()
    with pytest.raises(InputError, match="batch_size must be given"):
        measure_noise_scale(product, torch.optim.SGD(product.parameters()), None, [float(x) for x in range(5)])
