"""The bundled example: a small network and real handwritten digits."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

_TRAINING_IMAGES = 1400  # the other 397 are for validation

_STEPS = 430
"""Optimizer steps of a full training: ten epochs."""


@dataclass(frozen=True)
class Demo:
    """Everything that a training loop needs.

    Attributes:
        model: a convolutional network with batch normalisation, 10 logits for (n, 1, 8, 8) float32 images.
        optimizer: SGD with momentum 0.9, at the learning rate 0.1, a usual first guess.
        loss_fn: cross-entropy, in nats.
        loader: shuffled training batches of 32 images.
        val_loader: the validation images, in batches of 64.
        images: (397, 1, 8, 8) float32, for validation.
        labels: (397,) int64.
        steps: optimizer steps of a full training.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss_fn: nn.Module
    loader: DataLoader[tuple[Tensor, ...]]
    val_loader: DataLoader[tuple[Tensor, ...]]
    images: Tensor
    labels: Tensor
    steps: int


def digits() -> tuple[Tensor, Tensor]:
    """Return the 1,797 digits: images (n, 1, 8, 8) float32 in [0, 1], labels (n,) int64."""
    with (files("lrfinder") / "data" / "digits.csv.gz").open("rb") as packed, gzip.open(packed, "rt") as text:
        table = np.loadtxt(text, delimiter=",", dtype=np.int64)
    images = torch.from_numpy(table[:, :64]).float().div(16).reshape(-1, 1, 8, 8)
    return images, torch.from_numpy(table[:, 64].copy())


def digits_demo(seed: int = 0, device: str | torch.device | None = None) -> Demo:
    """Build the example; equal seeds give equal networks and batches.

    Args:
        seed: seed of the weights, the split and the shuffling.
        device: device of the network; by default the GPU if there is one, else the CPU.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    images, labels = digits()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    train, validation = order[:_TRAINING_IMAGES], order[_TRAINING_IMAGES:]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 4 * 4, 10),
        ).to(device)  # fmt: skip
    loader = DataLoader(
        TensorDataset(images[train], labels[train]),
        batch_size=32,
        shuffle=True,
        drop_last=True,
        # Another seed than that of the split: two permutations from one seed are alike, and batches would not be mixed.
        generator=torch.Generator().manual_seed(seed + 1),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    val_loader = DataLoader(TensorDataset(images[validation], labels[validation]), 64)
    return Demo(
        model=model,
        optimizer=optimizer,
        loss_fn=nn.CrossEntropyLoss(),
        loader=loader,
        val_loader=val_loader,
        images=images[validation].to(device),
        labels=labels[validation].to(device),
        steps=_STEPS,
    )
