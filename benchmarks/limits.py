"""The most that short probes could say: a probe at every rate of the oracle's grid, judged on the whole validation set.

Of each kind of probe, the rate of the lowest loss is taken, moved by the constant number of octaves that suits the
other tasks best, and its regret is that of a whole training with wsd (benchmarks/regret.py). No search of that probe
length can count on more unless it knows something else. "20 + 40" is a probe of 40 steps from a model that 20 steps
at a good rate have trained.

    python benchmarks/limits.py run benchmarks/out/limits.jsonl     # five minutes on two cores
    python benchmarks/limits.py report benchmarks/out/limits.jsonl
"""

from __future__ import annotations

import argparse
import itertools
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from oracle_grid import lowest, mean_loss
from regret import Small, best_loss, families, loss_at
from tasks import TASKS, build

from lrfinder.evidence.probe import Probe

SEEDS = (20, 21)
SCHEDULE = "wsd+15"
SHIFTS = np.arange(-4, 2.1, 0.25)
KINDS = ((0, 20), (0, 32), (0, 50), (0, 100), (20, 20), (40, 20), (40, 40))
"""Steps of training before the probes, and steps of each."""


def measure(job: tuple[str, int]) -> list[dict[str, Any]]:
    name, seed = job
    torch.set_num_threads(1)
    task = next(task for task in TASKS if task.name == name)
    octaves = mean_loss(name, 500, SCHEDULE, (10,))[0]
    octaves = np.arange(octaves[0] - 1, octaves[-1] + 2)
    rows: list[dict[str, Any]] = []
    for before, steps in KINDS:
        trunk = np.zeros(0)
        if before:  # an octave below the best probe of 20 steps
            lr = 2.0 ** (octaves[int(np.argmin(rows[0]["losses"]))] - 1)
            trunk = lr * np.minimum((np.arange(before) + 1) / (0.3 * before), 1)
        probes = [Probe(2.0**octave, steps, warmup=round(0.2 * steps)).lrs() for octave in octaves]
        courses = [np.concatenate([trunk, lrs]) for lrs in probes]
        losses = [build(task, seed).train(1.0, len(lrs), lrs.__getitem__) for lrs in courses]
        key = {"task": name, "seed": seed, "before": before, "steps": steps}
        rows.append({**key, "octaves": octaves.tolist(), "losses": losses})
    return rows


def run(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as record, ProcessPoolExecutor(2) as pool:
        for rows in pool.map(measure, itertools.product([task.name for task in TASKS], SEEDS)):
            record.writelines(json.dumps(row) + "\n" for row in rows)
            record.flush()


def report(path: Path) -> None:
    rows = [json.loads(line) for line in path.open()]
    print("| training | steps before | steps of a probe | moved by | median | 90th percentile | error, octaves |")
    print("|---|---|---|---|---|---|---|")
    for horizon, (before, steps) in itertools.product((500, 2500), KINDS):
        regrets: dict[str, list[list[float]]] = {}
        errors = []
        tasks = {task.name: task for task in families()["small"] if isinstance(task, Small) and task.steps == horizon}
        for row in rows:
            if (row["before"], row["steps"]) != (before, steps) or row["task"] not in tasks:
                continue
            task = tasks[row["task"]]
            place = lowest(np.array(row["octaves"]), np.array(row["losses"]))
            best = best_loss(task)
            moved = [min(loss_at(task, SCHEDULE, 2.0 ** (place + shift)) / best - 1, 10.0) for shift in SHIFTS]
            regrets.setdefault(task.name, []).append(moved)
            errors.append(place - lowest(*task.oracle(SCHEDULE)))
        found, shifts = [], []
        for name, own in regrets.items():
            others = np.concatenate([regrets[other] for other in regrets if other != name])
            best_shift = int(np.argmin(np.log1p(np.minimum(others, 3.0)).mean(0)))
            shifts.append(SHIFTS[best_shift])
            found += [moved[best_shift] for moved in own]
        print(
            f"| {horizon} | {before} | {steps} | {np.median(shifts):+.2f} | {np.median(found):.1%} |"
            f" {np.percentile(found, 90):.1%} | {np.mean(errors):+.1f} ± {np.std(errors):.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "report"))
    parser.add_argument("record", type=Path)
    args = parser.parse_args()
    (run if args.command == "run" else report)(args.record)


if __name__ == "__main__":
    main()
