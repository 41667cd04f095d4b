"""How the best learning rate moves with batch size and weight decay, and which rule foresees it.

Every cell is swept in octaves, with "wsd" after a warmup of 5%, until the best rate has two neighbours on each side.
A task has a batch size b and a number of steps T; its cells are

    b, 4b and 16b over T steps          the same number of steps
    b over 16T, 4b over 4T, 16b over T  the same number of examples
    4b over 4T                          at a quarter of the weight decay, at its own, and at four times it

so that both questions that people ask ("same steps?", "same epochs?") are answered. The tasks are four small ones and
the CNN of ../shared/mid, where that folder is. Stored are JSON lines [task, batch, steps, decay factor, seed, octave,
validation loss or null], and of gradient noise, measured in the training at the best rate, lines [task, batch, steps,
"noise", seed, share of training done, noise scale, ends of its 90% interval].

    python benchmarks/scaling.py benchmarks/scaling.jsonl --seeds 0 1 2       # about forty minutes of one core
    python benchmarks/scaling_report.py benchmarks/scaling.jsonl
    python benchmarks/scaling_report.py benchmarks/scaling.jsonl --curvature  # measures; two minutes
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any, cast

import torch
from tasks import TASKS, Run, Task, build
from torch import Tensor, nn

from lrfinder.advice.gradients import estimate_noise_scale
from lrfinder.schedules.policy import Policy

MID = [Path(__file__).parents[2] / "shared" / "mid"]
NOISE_BATCHES, NOISE_AT = 32, (0.0, 0.05, 0.25, 0.5)


@dataclasses.dataclass(frozen=True)
class Scaled:
    """A task, the smallest batch b, the shortest training T, where to begin to look, and how far beyond the best."""

    task: Task
    batch: int
    steps: int
    guess: int
    sides: int = 2


def named(like: str, **changes) -> Task:
    """Return a task of benchmarks/tasks.py with some fields replaced."""
    return dataclasses.replace(next(task for task in TASKS if task.name == like), **changes)


def decayed(kind: type, **settings: object):
    return lambda model, lr: kind(model.parameters(), lr=lr, **settings)


@functools.cache
def mid_target():
    sys.path.insert(0, str(MID[0]))
    import target  # type: ignore[import-not-found]  # found there alone

    return target


class ByteCNN(nn.Module):
    """The CNN of ../shared/mid, which computes its own loss: its output is the pair of model and inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.module = mid_target().Mid("clf", "sgdm", 5e-4, 0.0, seed=torch.initial_seed())

    def forward(self, inputs: Tensor) -> tuple[nn.Module, Tensor]:
        return self.module, inputs


def byte_data():
    module = mid_target().Mid("clf", "sgdm", 5e-4, 0.0)
    inputs, targets = module.train_dataloader().dataset.tensors
    held, held_targets = module.val_dataloader().dataset.tensors
    chosen = torch.randperm(len(held), generator=torch.Generator().manual_seed(0))[:2048]
    return inputs, targets, held[chosen], held_targets[chosen]


def byte_loss(output, targets: Tensor) -> Tensor:
    module, inputs = output
    parts = zip(inputs.split(512), targets.split(512), strict=True)
    return torch.stack([module.loss(part).mean() * len(part[0]) for part in parts]).sum() / len(inputs)


def scaled_tasks() -> dict[str, Scaled]:
    sgd, adamw = torch.optim.SGD, torch.optim.AdamW
    mid = Task("mid-cnn-nesterov", functools.cache(byte_data), ByteCNN, byte_loss,
               lambda model, lr: cast(Any, model).module.configure_optimizers())  # fmt: skip
    found = [
        Scaled(named("python-ngram-sgd", optimizer=decayed(sgd, weight_decay=5e-4)), 8, 400, -1),
        Scaled(named("python-transformer-adamw", optimizer=decayed(adamw, weight_decay=0.1)), 8, 200, -7),
        Scaled(mid, 32, 100, -3, sides=1),
        Scaled(named("digits-cnn-nesterov"), 8, 100, -5),
        Scaled(
            named("python-gru-nadam", name="python-gru-adamw", optimizer=decayed(adamw, weight_decay=0.1)), 8, 200, -6
        ),
        Scaled(named("digits-mlp-dropout-momentum"), 8, 100, -5),
        Scaled(named("digits-autoencoder-adam"), 8, 100, -6),
    ]
    return {one.task.name: one for one in found if one.task is not mid or MID[0].exists()}


Cell = tuple[str, int, int, float]  # task, batch, steps, factor of the weight decay


def cells_of(one: Scaled) -> list[Cell]:
    name, b, steps = one.task.name, one.batch, one.steps
    found = [(4 * b, 4 * steps, 1.0), (16 * b, steps, 1.0), (b, 16 * steps, 1.0), (4 * b, steps, 1.0), (b, steps, 1.0)]
    if any(group["weight_decay"] for group in prepared(one, b, 1.0, 0).optimizer.param_groups):
        found += [(4 * b, 4 * steps, 4.0), (4 * b, 4 * steps, 0.25)]
    return [(name, *cell) for cell in found]


def prepared(one: Scaled, batch: int, factor: float, seed: int) -> Run:
    run = build(dataclasses.replace(one.task, batch=batch), seed)
    for group in run.optimizer.param_groups:
        group["weight_decay"] *= factor
    return run


def policy_of(steps: int) -> Policy:
    return Policy("wsd", steps, round(0.05 * steps))


def sweep(one: Scaled, cell: Cell, seed: int, known: dict[int, float], near: int):
    """Yield (octave, loss) of trainings until the best has ``sides`` neighbours on each side."""
    _, batch, steps, factor = cell
    losses = dict(known)
    wanted = set(range(near - 1, near + 2))
    while left := sorted(wanted - losses.keys()):
        for octave in left:
            losses[octave] = prepared(one, batch, factor, seed).train(2.0**octave, steps, policy_of(steps))
            yield octave, losses[octave]
        best = min(losses, key=losses.get)
        near_best = range(best - one.sides, best + one.sides + 1)
        wanted = {octave for octave in near_best if abs(octave - one.guess) <= 10}


def gradient(run: Run, batch: list[Tensor]) -> Tensor:
    run.optimizer.zero_grad()
    run.task.loss(run.model(batch[0]), batch[1]).backward()
    return torch.cat([p.grad.flatten() for p in run.model.parameters() if p.requires_grad])


def noise(one: Scaled, cell: Cell, seed: int, octave: int):
    """Yield (share of training done, noise scale and its interval) along the training at a rate."""
    _, batch, steps, factor = cell
    run, policy = prepared(one, batch, factor, seed), policy_of(steps)
    at = {round(share * steps): share for share in NOISE_AT}
    for step, rows in enumerate(run.batches(max(at) + 1)):
        if step in at:
            frozen = {name: value.clone() for name, value in run.model.named_buffers()}
            held = torch.stack([gradient(run, other) for other in run.batches(NOISE_BATCHES)])
            for name, value in run.model.named_buffers():
                value.copy_(frozen[name])
            found = estimate_noise_scale(held.square().sum(1), held @ held.mean(0), batch)
            yield [at[step], found.value, found.low, found.high]
        for group in run.optimizer.param_groups:
            group["lr"] = 2.0**octave * policy(step)
        run.train_step(rows)


def rounded(value: object) -> object:
    return (float(f"{value:.6g}") if math.isfinite(value) else None) if isinstance(value, float) else value


def run_all(path: Path, seeds: list[int], only: str) -> None:
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    tasks = {name: one for name, one in scaled_tasks().items() if only in name}
    with path.open("a") as record:

        def store(row: list) -> None:
            rows.append(row)
            record.write(json.dumps([*map(rounded, row)]) + "\n")
            record.flush()

        for seed, one in itertools.product(seeds, tasks.values()):
            near = one.guess
            for cell in cells_of(one):
                of = [row for row in rows if tuple(row[:5]) == (*cell, seed)]
                known = {row[5]: math.inf if row[6] is None else row[6] for row in of}
                for octave, loss in sweep(one, cell, seed, known, near):
                    known[octave] = loss
                    store([*cell, seed, octave, loss])
                near = min(known, key=known.get)
                print(*cell, seed, near, flush=True)
                name, batch, steps, factor = cell
                had = any(row[:5] == [name, batch, steps, "noise", seed] for row in rows)
                if factor == 1.0 and batch * steps == one.batch * 16 * one.steps and not had:
                    for found in noise(one, cell, seed, near):
                        store([name, batch, steps, "noise", seed, *found])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--only", default="", help="run the tasks whose name holds this only")
    parser.add_argument("--mid", type=Path, default=MID[0], help="folder of the task of real scale")
    args = parser.parse_args()
    MID[0] = args.mid
    run_all(args.record, args.seeds, args.only)


if __name__ == "__main__":
    main()
