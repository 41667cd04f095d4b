"""Small real training tasks: data, network, optimizer. Nothing is downloaded; a step takes about a millisecond."""

from __future__ import annotations

import inspect
import json as json_module
from collections.abc import Callable
from dataclasses import dataclass

import torch
from sklearn.datasets import load_breast_cancer, load_diabetes
from torch import Tensor, nn
from torch.nn import functional as F

from lrfinder.demo import digits

Data = tuple[Tensor, Tensor, Tensor, Tensor]  # training inputs and targets, validation inputs and targets


@dataclass(frozen=True)
class Task:
    """One thing to train: ``data()`` is fixed, ``model()`` draws from torch's global generator."""

    name: str
    data: Callable[[], Data]
    model: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: Callable[..., torch.optim.Optimizer]
    batch: int = 32


def split(inputs: Tensor, targets: Tensor, share: float = 0.75) -> Data:
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    cut = int(share * len(inputs))
    train, validation = order[:cut], order[cut:]
    return inputs[train], targets[train], inputs[validation], targets[validation]


def digit_images() -> Data:
    return split(*digits())


def digit_copies() -> Data:
    images = digits()[0].flatten(1)
    return split(images, images)


def digit_rows() -> Data:
    images, labels = digits()
    return split(images.squeeze(1), labels)


def table(load: Callable[..., object], kind: torch.dtype) -> Data:
    inputs, targets = (torch.tensor(array) for array in load(return_X_y=True))  # type: ignore[attr-defined]
    inputs, targets = inputs.float(), targets.float()
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    if kind == torch.float32:
        targets = ((targets - targets.mean()) / targets.std()).unsqueeze(1)
    return split(inputs, targets.to(kind))


def source_text() -> Data:
    """Characters of Python's own json package: 32 in, the same shifted by one out."""
    text = inspect.getsource(json_module) + inspect.getsource(json_module.decoder)
    text += inspect.getsource(json_module.encoder)
    codes = torch.tensor([min(ord(letter), 127) for letter in text])
    windows = codes.unfold(0, 33, 8)
    cut = int(0.8 * len(windows))
    return windows[:cut, :-1], windows[:cut, 1:], windows[cut + 4 :, :-1], windows[cut + 4 :, 1:]


def mlp(inputs: int, outputs: int, width: int = 64) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
    )


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip


def autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 12), nn.Tanh(), nn.Linear(12, 48), nn.Tanh(), nn.Linear(48, 64)
    )


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.GRU(8, 32, batch_first=True), nn.Linear(32, 10)

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.body(rows)[0][:, -1])


class Language(nn.Module):
    """A one-block causal transformer over characters."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(128, width), nn.Parameter(0.02 * torch.randn(32, width))
        self.block = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(width, 128)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(32), persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        return self.head(self.block(self.token(codes) + self.place, src_mask=self.mask, is_causal=True)).transpose(1, 2)


def _sgd(momentum: float = 0.0, **more: object) -> Callable[..., torch.optim.Optimizer]:
    return lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=momentum, **more)  # type: ignore[arg-type]


cross, square, optim = F.cross_entropy, F.mse_loss, torch.optim
TASKS = (
    Task("digits-mlp-sgd", digit_images, mlp(64, 10), cross, _sgd()),
    Task("digits-mlp-momentum", digit_images, mlp(64, 10), cross, _sgd(0.9)),
    Task("digits-cnn-nesterov", digit_images, cnn, cross, _sgd(0.9, nesterov=True, weight_decay=5e-4)),
    Task("digits-cnn-adam", digit_images, cnn, cross, optim.Adam),
    Task("digits-gru-rmsprop", digit_rows, Recurrent, cross, optim.RMSprop),
    Task("digits-gru-adam", digit_rows, Recurrent, cross, optim.Adam),
    Task("digits-autoencoder-adam", digit_copies, autoencoder, square, optim.Adam),
    Task("digits-autoencoder-sgd", digit_copies, autoencoder, square, _sgd(0.9)),
    Task("cancer-mlp-adagrad", lambda: table(load_breast_cancer, torch.int64), mlp(30, 2), cross, optim.Adagrad),
    Task("diabetes-mlp-adamw", lambda: table(load_diabetes, torch.float32), mlp(10, 1), square, optim.AdamW),
    Task("python-transformer-adamw", source_text, Language, cross, optim.AdamW),
    Task("python-transformer-nadam", source_text, Language, cross, optim.NAdam),
)
