"""Whether curvature tells which layer limits the learning rate: each layer's own limit against what training shows.

A layer limits the rate if training survives a higher one once that layer alone is slowed down eightfold. For six tasks
whose training fails at some rate (SGD with and without momentum), two seeds and every parameter tensor, the highest
rate that 60 steps survive is looked for in half octaves: at first all tensors at that rate, then one at an eighth of
it. What gains most is the truth. Curvature names the tensor with the lowest limit of its own, `curvature_limit` for an
optimizer of that tensor alone, after 20 steps at the best rate. "Output layer" always names the last weight matrix.

    python benchmarks/limiting_layer.py       # about five minutes of one core
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from oracle_grid import place
from tasks import TASKS, Run, Task, build

import lrfinder

NAMES = ("digits-mlp-sgd", "digits-mlp-dropout-momentum", "digits-cnn-nesterov", "digits-autoencoder-momentum",
         "digits-finetune-groups", "python-ngram-sgd")  # fmt: skip
SEEDS, STEPS, WARMUP, SLOWER, LOWEST, HIGHEST = (0, 1), 60, 20, 8, -6.0, 10.0


def split(run: Run, alone: str | None) -> tuple[list[Any], list[Any]]:
    """Return the parameters but for the one of that name, and that one."""
    named = dict(run.model.named_parameters())
    return [p for name, p in named.items() if name != alone], [p for name, p in named.items() if name == alone]


def like(optimizer: torch.optim.Optimizer, groups: list[dict[str, Any]]) -> torch.optim.SGD:
    """Return an SGD with the settings of an optimizer, but for its rates."""
    settings = {name: optimizer.param_groups[0][name] for name in ("momentum", "nesterov", "dampening", "weight_decay")}
    return torch.optim.SGD(groups, 1.0, **settings)


def survives(task: Task, seed: int, slowed: str | None, octave: float) -> bool:
    run = build(task, seed)
    rest, slow = split(run, slowed)
    run.optimizer = like(run.optimizer, [{"params": rest}, {"params": slow}] if slow else [{"params": rest}])
    losses = []
    for step, batch in enumerate(run.batches(STEPS)):
        for group, divisor in zip(run.optimizer.param_groups, (1, SLOWER), strict=False):
            group["lr"] = 2.0**octave / divisor * min(1.0, (step + 1) / WARMUP)
        losses.append(float(run.train_step(batch)))
    return bool(np.isfinite(losses).all() and np.mean(losses[-10:]) < np.mean(losses[:5]))


def highest(task: Task, seed: int, slowed: str | None) -> float:
    octave = LOWEST
    while octave <= HIGHEST and survives(task, seed, slowed, octave):
        octave += 0.5
    return octave - 0.5


def own_limit(task: Task, seed: int, tensor: str) -> float:
    """Log2 of the limit of the curvature for one tensor alone, after a warmup at the best rate of full trainings."""
    run = build(task, seed, 2.0 ** place(task.name, 500))
    for step, batch in enumerate(run.batches(WARMUP)):
        for group in run.optimizer.param_groups:
            group["lr"] = 2.0 ** place(task.name, 500) * (step + 1) / WARMUP
        run.train_step(batch)
    alone = like(run.optimizer, [{"params": split(run, tensor)[1]}])
    try:
        return math.log2(lrfinder.curvature_limit(run.model, alone, task.loss, run.loader).lr)
    except lrfinder.InputError:  # no positive curvature: no limit
        return math.inf


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print("| task | seed | limits most: octaves gained | lowest limit of its own: gained | output layer: gained |")
    print("|---|---|---|---|---|")
    gained = []
    for task in (task for task in TASKS if task.name in NAMES):
        for seed in SEEDS:
            tensors = [name for name, _ in build(task, seed).model.named_parameters()]
            whole = highest(task, seed, None)
            gain = {name: highest(task, seed, name) - whole for name in tensors}
            limits = {name: own_limit(task, seed, name) for name in tensors}
            named = (max(gain, key=gain.__getitem__), min(limits, key=limits.__getitem__),
                     [name for name in tensors if name.endswith("weight")][-1])  # fmt: skip
            gained.append([gain[name] for name in named] + [float(np.mean(list(gain.values())))])
            cells = " | ".join(f"{name}: {gain[name]:+.1f}" for name in named)
            print(f"| {task.name} | {seed} | {cells} |", flush=True)
    means = np.mean(gained, axis=0)
    print("| mean | | " + " | ".join(f"{mean:+.2f}" for mean in means[:3]) + " |")
    print(f"Any tensor gains {means[3]:+.2f} octaves on average.")


if __name__ == "__main__":
    main()
