"""The four curves of docs/report.md, from searches on the bundled digits: `python docs/pictures.py docs/images`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch.utils.data import DataLoader, TensorDataset

from lrfinder import Suggestion, find_lr
from lrfinder.demo import digits, digits_demo


def good() -> Suggestion:
    """A search of 200 steps, as in the README."""
    demo = digits_demo(device="cpu")
    return find_lr(demo.model, demo.optimizer, demo.loss_fn, demo.loader, demo.val_loader, steps=430, budget=200)


def flat() -> Suggestion:
    """The rates end far below where this network starts to learn."""
    demo = digits_demo(device="cpu")
    data = demo.loader, demo.val_loader
    return find_lr(demo.model, demo.optimizer, demo.loss_fn, *data, steps=430, method="range", max_lr=1e-5)


def diverging() -> Suggestion:
    """The lowest rate is already too high."""
    demo = digits_demo(device="cpu")
    data = demo.loader, demo.val_loader
    return find_lr(demo.model, demo.optimizer, demo.loss_fn, *data, steps=430, method="range", min_lr=3.0, max_lr=1e3)


def noisy() -> Suggestion:
    """Batches of four images, of which every third has a wrong label."""
    demo = digits_demo(device="cpu")
    images, labels = digits()
    wrong = torch.rand(len(labels), generator=torch.Generator().manual_seed(0)) < 1 / 3
    labels = torch.where(wrong, (labels + 3) % 10, labels)
    loader = DataLoader(TensorDataset(images, labels), 4, shuffle=True, generator=torch.Generator().manual_seed(0))
    return find_lr(demo.model, demo.optimizer, demo.loss_fn, loader, steps=430, method="range")


if __name__ == "__main__":
    for search in (good, flat, diverging, noisy):
        suggestion = search()
        print(f"{search.__name__}: {suggestion!r}")
        figure = Figure(figsize=(7, 3.6), layout="constrained")
        suggestion.plot(figure.subplots())
        figure.savefig(Path(sys.argv[1]) / f"{search.__name__}.png", dpi=110)
