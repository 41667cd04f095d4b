"""How far the best learning rate lies from what a range test shows: the constants of the range rule, and its regret.

For every task: range tests on three seeds, and full training (linear decay to zero) at each rate of a grid, two other
seeds. Writes the raw record; `--report` prints the table from it.

    python benchmarks/range_rule.py --record benchmarks/range_rule.json     # about ten minutes on two cores
    python benchmarks/range_rule.py --report benchmarks/range_rule.json
"""

from __future__ import annotations

import argparse
import json
import math
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from tasks import TASKS, Task
from torch.utils.data import DataLoader, TensorDataset

import lrfinder

STEPS = 300
GRID = [10 ** (exponent / 4) for exponent in range(-18, 7)]  # 3e-5 to 32, four a decade


def build(task: Task, seed: int, lr: float) -> tuple[torch.nn.Module, torch.optim.Optimizer, DataLoader, tuple]:
    data = task.data()
    torch.manual_seed(seed)
    model = task.model()
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(TensorDataset(data[0], data[1]), task.batch, shuffle=True, drop_last=True, generator=generator)
    return model, task.optimizer(model.parameters(), lr=lr), loader, data


def train(task: Task, seed: int, lr: float) -> float:
    """Validation loss after `STEPS` steps with linear decay to zero; the untrained loss where it blew up."""
    model, optimizer, loader, data = build(task, seed, lr)

    def validate() -> float:
        model.eval()
        with torch.no_grad():
            return task.loss(model(data[2]), data[3]).item()

    untrained = validate()
    model.train()
    batches = iter(loader)
    for step in range(STEPS):
        batch = next(batches, None)
        if batch is None:
            batches = iter(loader)
            batch = next(batches)
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / STEPS)
        optimizer.zero_grad()
        loss = task.loss(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
    final = validate()
    return final if math.isfinite(final) else max(untrained, 1e3)


def record(index: int) -> dict:
    torch.set_num_threads(1)
    task = TASKS[index]
    curves = []
    for seed in (100, 101, 102):
        model, optimizer, loader, _ = build(task, seed, 1e-3)
        curves.append(lrfinder.range_test(model, optimizer, task.loss, loader).to_dict())
    losses = [[train(task, seed, lr) for lr in GRID] for seed in (0, 1)]
    return {"task": task.name, "curves": curves, "grid": GRID, "losses": losses}


def report(path: Path) -> None:
    rows = json.loads(path.read_text())
    regrets, held, offsets = [], [], []
    print(f"{'task':26s} {'best LR':>9s} {'suggested (3 seeds)':>32s} {'regret':>8s}  interval holds best")
    for row in rows:
        grid, mean = np.array(row["grid"]), np.mean(row["losses"], axis=0)
        best = int(np.argmin(mean))
        picks, task_regrets, task_held = [], [], []
        for data in row["curves"]:
            suggestion = lrfinder.suggest(lrfinder.Curve.from_dict(data), steps=STEPS)
            if suggestion.lr is None:
                picks.append(suggestion.reason.name.lower())
                continue
            picks.append(f"{suggestion.lr:.2g}")
            loss = np.interp(math.log10(suggestion.lr), np.log10(grid), mean)
            task_regrets.append(loss / mean[best] - 1)
            task_held.append(suggestion.lr_low <= grid[best] <= suggestion.lr_high)
            offsets.append(math.log10(grid[best] / suggestion.lr))
        regrets += task_regrets
        held += task_held
        regret = f"{np.mean(task_regrets):8.1%}" if task_regrets else "  -     "
        print(
            f"{row['task']:26s} {grid[best]:9.2g} {', '.join(picks):>32s} {regret}  {sum(task_held)}/{len(task_held)}"
        )
    print(f"\nregret: median {np.median(regrets):.1%}, 90th percentile {np.percentile(regrets, 90):.1%}")
    print(f"interval holds the best of the grid: {np.mean(held):.0%} of {len(held)}")
    print(f"log10(best / suggested): mean {np.mean(offsets):+.2f}, standard deviation {np.std(offsets):.2f} decades")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--report", type=Path)
    args = parser.parse_args()
    if args.record:
        with ProcessPoolExecutor(2) as pool:
            rows = list(pool.map(record, range(len(TASKS))))
        args.record.write_text(json.dumps(rows))
    if args.report:
        report(args.report)


if __name__ == "__main__":
    main()
