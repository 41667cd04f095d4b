"""Full trainings over learning rates, schedules and seeds: what every suggestion is measured against.

Stores the validation loss of each training, null where it blew up, a JSON line [task, steps, schedule, seed, octave,
loss] each; a run that was interrupted goes on where it stopped. The grid is 2**k, nine octaves around a guess, and
grows until the best rate has two neighbours on each side; of the other policies three octaves around the best rate with
cosine, until it has one.

    python benchmarks/oracle.py benchmarks/oracle.jsonl                     # about an hour on two cores
    python benchmarks/oracle.py benchmarks/oracle.jsonl --schedules more    # another hour: the other policies
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from oracle_grid import ORACLE_SEEDS, TEST_SEEDS, best_octave
from tasks import TASKS, build

from lrfinder.schedules.policy import Policy

SCHEDULES = ("constant", "cosine", "wsd", "wsd+5", "wsd+15")
MORE = ("linear", "step", "multi-step", "exponential", "polynomial", "cosine-restarts", "wsd-sqrt", "one-cycle",
        "inverse-sqrt")  # fmt: skip
SHORT, LONG = 500, 2500
GUESS = {"SGD": -2, "Muon": -5, "Adadelta": 1, "Adagrad": -4, "Adafactor": -5}  # others: -7, octaves


def horizons(task) -> tuple[int, ...]:
    return (SHORT, LONG) if task.long else (SHORT,)


def policy_of(schedule: str, steps: int) -> Policy:
    """From "wsd", or "wsd+10" for one with 10% of the steps as warmup."""
    name, _, warmup = schedule.partition("+")
    return Policy(name, steps, round(int(warmup or 0) / 100 * steps))


def sweep(job: tuple[int, int, str, int, dict[int, float], int | None]) -> list[list]:
    """Train one task, horizon, schedule and seed over the grid; ``known`` holds losses by octave.

    Where ``near`` is given, the grid begins with it and its neighbours, and grows until the best rate is inside.
    """
    index, steps, schedule, seed, known, near = job
    torch.set_num_threads(1)
    task = TASKS[index]
    policy = policy_of(schedule, steps)
    losses, new = dict(known), []
    guess = GUESS.get(type(build(task, 0).optimizer).__name__, -7)
    wanted = set(range(guess - 5, guess + 4)) if near is None else set(range(near - 1, near + 2))
    sides = 2 if near is None else 1
    while wanted - losses.keys():
        for octave in sorted(wanted - losses.keys()):
            run = build(task, seed)
            losses[octave] = run.train(2.0**octave, steps, policy)
            loss = float(f"{losses[octave]:.6g}") if math.isfinite(losses[octave]) else None
            new.append([task.name, steps, schedule, seed, octave, loss])
        best = min(losses, key=losses.get)
        wanted = {octave for octave in range(best - sides, best + sides + 1) if guess - 12 <= octave <= guess + 10}
    return new


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path)
    parser.add_argument("--lengths", type=int, nargs="*", help="other lengths than the horizons, for every task")
    parser.add_argument("--schedules", nargs="*", default=SCHEDULES)
    parser.add_argument("--seeds", type=int, nargs="*", default=[*ORACLE_SEEDS, *TEST_SEEDS])
    args = parser.parse_args()
    schedules = MORE if args.schedules == ["more"] else args.schedules
    rows = [json.loads(line) for line in args.record.read_text().splitlines()] if args.record.exists() else []
    jobs = []
    for seed, schedule, (index, task) in itertools.product(args.seeds, schedules, enumerate(TASKS)):
        for steps in args.lengths or horizons(task):
            cell = (task.name, steps, schedule, seed)
            known = {octave: math.inf if loss is None else loss for *of, octave, loss in rows if tuple(of) == cell}
            near = int(best_octave(task.name, steps)) if schedule not in SCHEDULES and not args.lengths else None
            jobs.append((index, steps, schedule, seed, known, near))
    os.environ["OMP_NUM_THREADS"] = "1"
    with args.record.open("a") as record, ProcessPoolExecutor(2) as pool:
        for done, new in enumerate(pool.map(sweep, jobs), start=1):
            record.writelines(json.dumps(row) + "\n" for row in new)
            record.flush()
            print(f"{done}/{len(jobs)}", end="\r", flush=True)


if __name__ == "__main__":
    main()
