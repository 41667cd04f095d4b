"""Logs of trainings that follow the loss-curve law, and the public curves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lrfinder import TrainingLog
from lrfinder.logs.loss_law import exposure, law_and_gradient

CURVES = Path(__file__).parents[3] / "shared" / "data" / "llm_curves" / "25M"
FITTED = ("cosine_24000", "constant_24000", "wsdcon_9")

TRUTH = np.array([2.0, *np.log([0.8, 0.5, 0.4, 60.0, 0.6, 0.8]), 0.1])
PEAK, WARMUP, STEPS = 1e-3, 100, 4000


def rates(kind, steps=STEPS, peak=PEAK):
    """Return the learning rate of every step: linear warmup, then what is asked for."""
    t = np.arange(steps + 1)
    share = np.clip((t - WARMUP) / (steps - WARMUP), 0, 1)
    decay = {
        "constant": np.ones(steps + 1),
        "cosine": 0.1 + 0.45 * (1 + np.cos(np.pi * share)),
        "linear": 1 - 0.9 * share,
        "two-stage": np.interp(t, [steps // 2, steps // 2 + 20], [1.0, 0.3]),  # between two rows of `made`
        "late": np.where(share < 0.8, 1.0, 1 - 0.9 * (share - 0.8) / 0.2),
        "rewarmed": np.where(t < steps // 2, 0.3, 1.0),
    }[kind]
    if kind == "rewarmed":
        decay = np.where(t < steps // 4, 1.0, decay)
    return peak * decay * np.minimum(t / WARMUP, 1)


def losses(lr, steps, peak=PEAK):
    """Return the losses that the law gives, whatever the unit of ``lr``."""
    return law_and_gradient(TRUTH, exposure(lr, steps, peak, float(STEPS)))[0]


def made(kind, noise=0.002, peak=PEAK, steps=STEPS, every=20, seed=0):
    """Return the log of a training that follows the law up to noise."""
    lr = rates(kind, steps, peak)
    step = np.arange(WARMUP, steps + 1, every)
    loss = losses(lr, step, peak) + noise * np.random.default_rng(seed).standard_normal(step.size)
    return TrainingLog(kind, step, loss, lr[step])


def write_log(log, path):
    """Write ``step,lr,loss`` with every digit."""
    rows = zip(log.step.tolist(), log.lr.tolist(), log.value.tolist(), strict=True)
    Path(path).write_text("step,lr,loss\n" + "".join(f"{s},{lr!r},{loss!r}\n" for s, lr, loss in rows))
    return Path(path)


def write_events(folder, rows, *, tag="loss", new_style=False, text=None):
    """Write ``(step, value)`` rows as torch does."""
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder) as writer:
        for step, value in rows:
            writer.add_scalar(tag, value, step, new_style=new_style)
        if text is not None:
            writer.add_text("note", text)
