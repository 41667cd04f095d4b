"""Small real training tasks: data, network, optimizer. Nothing is downloaded; a step takes one to two milliseconds."""

from __future__ import annotations

import argparse
import copy
import functools
import inspect
import itertools
import json.decoder
import json.encoder
import math
import shutil
import subprocess
import tarfile
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from sklearn.datasets import load_breast_cancer, load_diabetes
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lrfinder.demo import digits
from lrfinder.probing.torch_loop import TorchTraining

Data = tuple[Tensor, Tensor, Tensor, Tensor]  # training inputs and targets, validation inputs and targets


@dataclass(frozen=True)
class Task:
    """One thing to train: ``data()`` is fixed, ``model()`` draws from torch's global generator.

    ``optimizer(model, lr)`` scales all its param groups with ``lr``. ``clip`` is the largest gradient norm.
    """

    name: str
    data: Callable[[], Data]
    model: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: Callable[[nn.Module, float], torch.optim.Optimizer]
    batch: int = 32
    clip: float = math.inf
    long: bool = False


@dataclass
class Run:
    """A task made ready: everything a training loop needs. Equal seeds give equal weights and batches."""

    task: Task
    model: nn.Module
    optimizer: torch.optim.Optimizer
    loader: DataLoader
    validation: TensorDataset

    def train_step(self, batch: list[Tensor]) -> Tensor:
        self.optimizer.zero_grad()
        loss = self.task.loss(self.model(batch[0]), batch[1])
        loss.backward()
        if math.isfinite(self.task.clip):
            nn.utils.clip_grad_norm_(self.model.parameters(), self.task.clip)
        self.optimizer.step()
        return loss.detach()

    def training(self) -> TorchTraining:
        """What a search probes: this run, judged on its validation set."""
        validation = DataLoader(self.validation, 64)
        return TorchTraining(
            self.model, self.optimizer, self.task.loss, self.loader, self.train_step, val_loader=validation
        )

    def validate(self) -> float:
        """Mean validation loss; inf where it is not finite."""
        self.model.eval()
        with torch.no_grad():
            inputs, targets = self.validation.tensors
            loss = self.task.loss(self.model(inputs), targets).item()
        self.model.train()
        return loss if math.isfinite(loss) else math.inf

    def train(self, lr: float, steps: int, multiplier: Callable[[int], float]) -> float:
        """Train ``steps`` steps, step ``t`` at ``lr * multiplier(t)``; return the validation loss, inf: blew up."""
        ratios = [group["lr"] / self.optimizer.defaults["lr"] for group in self.optimizer.param_groups]
        step = 0
        self.model.train()
        while True:
            for batch in self._batches():
                for group, ratio in zip(self.optimizer.param_groups, ratios, strict=True):
                    group["lr"] = ratio * lr * multiplier(step)
                loss = self.train_step(batch)
                step += 1
                if step % 50 == 0 and not torch.isfinite(loss):
                    return math.inf
                if step == steps:
                    return self.validate()

    def batches(self, steps: int) -> Iterator[list[Tensor]]:
        """So many batches, over as many epochs as it takes."""
        passes = itertools.chain.from_iterable(self._batches() for _ in itertools.count())
        return itertools.islice(passes, steps)

    def _batches(self) -> Iterator[list[Tensor]]:
        """The very batches of the loader, without its overhead."""
        inputs, targets = cast(TensorDataset, self.loader.dataset).tensors
        for rows in self.loader.batch_sampler:
            yield [inputs[rows], targets[rows]]


def build(task: Task, seed: int, lr: float = 1e-3) -> Run:
    data = task.data()
    torch.manual_seed(seed)
    model = task.model()
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(TensorDataset(*data[:2]), task.batch, shuffle=True, drop_last=True, generator=generator)
    return Run(task, model, task.optimizer(model, lr), loader, TensorDataset(*data[2:]))


def split(inputs: Tensor, targets: Tensor, share: float = 0.6) -> Data:
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    cut = int(share * len(inputs))
    train, validation = order[:cut], order[cut:]
    return inputs[train], targets[train], inputs[validation], targets[validation]


@functools.cache
def digit_images(digit_from: int = 0, digit_to: int = 9) -> Data:
    images, labels = digits()
    chosen = (labels >= digit_from) & (labels <= digit_to)
    return split(images[chosen], labels[chosen] - digit_from)


@functools.cache
def few_digits() -> Data:
    inputs, targets, validation_inputs, validation_targets = digit_images()
    return inputs[:200], targets[:200], validation_inputs, validation_targets


@functools.cache
def digit_copies() -> Data:
    images = digits()[0].flatten(1)
    return split(images, images)


@functools.cache
def digit_rows() -> Data:
    images, labels = digits()
    return split(images.squeeze(1), labels)


@functools.cache
def cancer() -> Data:
    inputs, targets = (torch.tensor(array) for array in load_breast_cancer(return_X_y=True))
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    return split(inputs.float(), targets.long(), 0.5)


@functools.cache
def diabetes() -> Data:
    inputs, targets = (torch.tensor(array).float() for array in load_diabetes(return_X_y=True))
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    return split(inputs, ((targets - targets.mean()) / targets.std()).unsqueeze(1), 0.5)


@functools.cache
def heavy_tailed() -> Data:
    """Diabetes with the target exponentiated: a few patients dominate the loss, batches with them are spikes."""
    inputs, targets, *validation = diabetes()
    return inputs, 0.3 * (1.5 * targets).exp(), validation[0], 0.3 * (1.5 * validation[1]).exp()


def source_text(length: int, stride: int) -> tuple[Tensor, Tensor]:
    """Characters of Python's own library in windows: (n, length + 1) for training, (1024, length + 1) to validate."""
    modules = (argparse, inspect, json.decoder, json.encoder, shutil, subprocess, tarfile, textwrap)
    codes = torch.tensor([min(ord(letter), 127) for module in modules for letter in inspect.getsource(module)])
    return in_windows(codes, length, stride)


def in_windows(codes: Tensor, length: int, stride: int) -> tuple[Tensor, Tensor]:
    """Windows of a text: every tenth block of them validates; its neighbours overlap a little."""
    windows = codes.unfold(0, length + 1, stride)
    blocks = torch.arange(len(windows)) // 64
    held = windows[blocks % 10 == 9]
    return windows[blocks % 10 != 9], held[torch.randperm(len(held), generator=torch.Generator().manual_seed(0))[:1024]]


def to_next(train: Tensor, validation: Tensor) -> Data:
    """Windows with the next letter after each of theirs as targets."""
    return train[:, :-1], train[:, 1:], validation[:, :-1], validation[:, 1:]


def to_last(train: Tensor, validation: Tensor) -> Data:
    """Windows with their last letter as target."""
    return train[:, :-1], train[:, -1], validation[:, :-1], validation[:, -1]


@functools.cache
def next_letters() -> Data:
    return to_next(*source_text(24, 11))


@functools.cache
def last_letter() -> Data:
    return to_last(*source_text(8, 5))


def mlp(inputs: int, outputs: int, width: int = 64, dropout: float = 0.0) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, outputs),
    )  # fmt: skip


def cnn(classes: int = 10) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Flatten(), nn.Linear(256, classes),
    )  # fmt: skip


@functools.cache
def pretrained() -> nn.Module:
    """The CNN trained on digits 0 to 4."""
    with torch.random.fork_rng():
        pretraining = Task("", lambda: digit_images(0, 4), lambda: cnn(5), F.cross_entropy, _of(torch.optim.Adam))
        run = build(pretraining, 0)
        run.train(3e-3, 150, lambda step: 1 - step / 150)
    return run.model


def fine_tuned() -> nn.Module:
    """The pretrained CNN, its first layer frozen, with a fresh head for digits 5 to 9."""
    model = cast(nn.Sequential, copy.deepcopy(pretrained()))
    model[0].requires_grad_(False)
    model[-1] = nn.Linear(256, 5)
    return model


def autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 12), nn.Tanh(), nn.Linear(12, 48), nn.Tanh(), nn.Linear(48, 64)
    )


class Recurrent(nn.Module):
    """A GRU over rows of pixels, or over letters."""

    def __init__(self, letters: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(128, 16) if letters else nn.Identity()
        self.body = nn.GRU(16 if letters else 8, 32, batch_first=True)
        self.head = nn.Linear(32, 128 if letters else 10)

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.body(self.embed(rows))[0][:, -1])


class Transformer(nn.Module):
    """One block: causal over letters, or over the 16 patches of a digit."""

    def __init__(self, letters: bool = True, width: int = 24) -> None:
        super().__init__()
        self.letters, places = letters, 24 if letters else 16
        self.token = nn.Embedding(128, width) if letters else nn.Linear(4, width)
        self.place = nn.Parameter(0.02 * torch.randn(places, width))
        self.block = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(width, 128 if letters else 10)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(places), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.letters:
            patches = F.unfold(inputs, 2, stride=2).transpose(1, 2)
            return self.head(self.block(self.token(patches) + self.place).mean(1))
        hidden = self.block(self.token(inputs) + self.place, src_mask=self.mask, is_causal=True)
        return self.head(hidden).transpose(1, 2)


def ngram(bias: bool = True) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(
        nn.Embedding(128, 12), nn.Flatten(), nn.Linear(96, 64, bias=bias), nn.ReLU(), nn.Linear(64, 128, bias=bias)
    )


def _of(kind: Callable[..., torch.optim.Optimizer], **settings: object) -> Callable[..., torch.optim.Optimizer]:
    return lambda model, lr: kind([p for p in model.parameters() if p.requires_grad], lr=lr, **settings)


def _head_faster(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    """Fine-tuning with two param groups: the body learns at a tenth of the head's rate."""
    layers = cast(nn.Sequential, model)
    body = [parameter for layer in list(layers)[:-1] for parameter in layer.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [{"params": layers[-1].parameters()}, {"params": body, "lr": 0.1 * lr}]
    return torch.optim.SGD(groups, lr=lr, momentum=0.9)


cross, square, optim = F.cross_entropy, F.mse_loss, torch.optim
TASKS = (
    Task("digits-mlp-sgd", digit_images, mlp(64, 10), cross, _of(optim.SGD), long=True),
    Task("digits-mlp-dropout-momentum", digit_images, mlp(64, 10, dropout=0.3), cross, _of(optim.SGD, momentum=0.9),
         long=True),
    Task("digits-cnn-nesterov", digit_images, cnn, cross,
         _of(optim.SGD, momentum=0.9, nesterov=True, weight_decay=5e-4)),
    Task("digits-cnn-adam", digit_images, cnn, cross, _of(optim.Adam)),
    Task("digits-finetune-groups", lambda: digit_images(5, 9), fine_tuned, cross, _head_faster),
    Task("digits-gru-rmsprop", digit_rows, Recurrent, cross, _of(optim.RMSprop), clip=1.0),
    Task("digits-vit-adafactor", digit_images, lambda: Transformer(letters=False), cross, _of(optim.Adafactor),
         batch=16),
    Task("digits-autoencoder-adam", digit_copies, autoencoder, square, _of(optim.Adam), long=True),
    Task("digits-autoencoder-momentum", digit_copies, autoencoder, square, _of(optim.SGD, momentum=0.95), long=True),
    Task("few-digits-mlp-adamw", few_digits, mlp(64, 10), cross, _of(optim.AdamW), long=True),
    Task("cancer-mlp-adadelta", cancer, mlp(30, 2, 32), cross, _of(optim.Adadelta), batch=24, long=True),
    Task("diabetes-mlp-adamw", diabetes, mlp(10, 1), square, _of(optim.AdamW), batch=20, long=True),
    Task("diabetes-spikes-radam", heavy_tailed, mlp(10, 1, 32), square, _of(optim.RAdam), batch=8),
    Task("python-transformer-adamw", next_letters, Transformer, cross, _of(optim.AdamW), batch=8),
    Task("python-gru-nadam", last_letter, lambda: Recurrent(letters=True), cross, _of(optim.NAdam), clip=1.0),
    Task("python-ngram-adagrad", last_letter, ngram(), cross, _of(optim.Adagrad), long=True),
    Task("python-ngram-muon", last_letter, ngram(bias=False), cross, _of(optim.Muon, ns_steps=3)),
    Task("python-ngram-sgd", last_letter, ngram(), cross, _of(optim.SGD), long=True),
)  # fmt: skip
