"""What probes say about weight decay, and about a rate that was predicted for another batch size.

The tasks, and what their full trainings came to, are those of benchmarks/scaling.py.

    python benchmarks/scaling_probes.py decay benchmarks/scaling.jsonl --seeds 0 1 2
    python benchmarks/scaling_probes.py check benchmarks/scaling.jsonl --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scaling import Scaled, prepared, scaled_tasks
from scaling_report import Record, shares
from tasks import Run

from lrfinder import Suggestion
from lrfinder.advice.rescale import decay_time
from lrfinder.evidence.probe import Outcome, Probe
from lrfinder.probing.options import SearchOptions
from lrfinder.probing.runner import run_probe
from lrfinder.probing.torch_loop import suggest_for

LENGTHS, FACTORS = (20, 50, 200), (0.25, 1.0, 4.0)
WRONG = (0.0, 3.0, -3.0)
"""Octaves by which a prediction is put off."""

APART = (1, 2)
"""Octaves between three probes about a prediction."""

PROBE_STEPS = 32


def probe(run: Run, lr: float, steps: int) -> Outcome:
    """Run one probe as a search does."""
    training = run.training()
    with training.preserved():
        training.rewind()
        training.keep_batches(steps)
        training.rewind()
        ratios = [1.0] * len(run.optimizer.param_groups)
        return run_probe(training, Probe(lr, steps, warmup=round(0.2 * steps)), ratios)


def decay(record: Record, tasks: Mapping[str, Scaled], seeds: Sequence[int]) -> None:
    """Print what a quarter and four times the weight decay do to the loss of probes, and to full trainings."""
    print("| task | memory of weights | ", end="")
    print(*(f"{steps} steps: x 0.25 | x 4" for steps in LENGTHS), "full training: x 0.25 | x 4 |", sep=" | ")
    print("|---|---|" + "---|---|" * (len(LENGTHS) + 1))
    gains: dict[str, list[float]] = defaultdict(list)
    for name, one in tasks.items():
        batch, steps = 4 * one.batch, 4 * one.steps
        if (name, batch, steps, 4.0) not in record.losses:
            continue
        octave = round(record.place(name, batch, steps, 1.0))
        rises: dict[tuple[int, float], list[float]] = defaultdict(list)
        for seed in seeds:
            swept = [record.losses[name, batch, steps, factor].get(seed, {}) for factor in FACTORS]
            if not all(octave in losses for losses in swept):
                continue
            full = {factor: losses[octave] for factor, losses in zip(FACTORS, swept, strict=True)}
            for length in LENGTHS:
                short = {factor: probe(prepared(one, batch, factor, seed), 2.0**octave, length) for factor in FACTORS}
                for factor in (0.25, 4.0):
                    rises[length, factor].append(short[factor].mean / short[1.0].mean - 1)
                lowest = min(FACTORS, key=lambda factor: short[factor].mean)
                gains[f"lowest of three probes of {length} steps"].append(full[lowest] / full[1.0] - 1)
            for factor in (0.25, 4.0):
                rises[steps, factor].append(full[factor] / full[1.0] - 1)
            gains["always a quarter"].append(full[0.25] / full[1.0] - 1)
            gains["lowest of three full trainings"].append(min(full.values()) / full[1.0] - 1)
        optimizer = prepared(one, batch, 1.0, 0).optimizer
        memory = decay_time(type(optimizer).__name__, optimizer.param_groups[0], 2.0**octave)
        assert memory is not None
        print(f"| {name} | {memory[1]:,.0f} steps | {' | '.join(map(shares, rises.values()))} |", flush=True)
    print("\n| decay | full training, against the decay that was set: mean | worst |\n|---|---|---|")
    for rule, found in gains.items():
        print(f"| {rule} | {np.mean(found):+.1%} | {max(found):+.1%} |")


def search(
    one: Scaled, batch: int, steps: int, seed: int, budget: int, min_lr: float = 1e-7, max_lr: float | None = None
) -> Suggestion:
    run = prepared(one, batch, 1.0, seed)
    return suggest_for(run.training(), SearchOptions("probe", steps, budget, min_lr, max_lr))


def checks(record: Record, one: Scaled, seed: int, budget: int) -> Iterator[tuple[str, float, float, bool]]:
    """Yield (how it was checked, octaves by which the prediction was put off, error of the check, whether it held)."""
    name, b, steps = one.task.name, one.batch, one.steps
    truth = record.place(name, 4 * b, 4 * steps, 1.0)
    found = search(one, b, 16 * steps, seed, budget)
    told = found.rescale((b, 4 * b), optimizer="adam" if "adam" in name else "sgd")
    free = search(one, 4 * b, 4 * steps, seed, budget)
    for off in WRONG:
        factor = 2.0**off
        near = search(one, 4 * b, 4 * steps, seed, budget, min_lr=told.lr_low * factor, max_lr=told.lr_high * factor)
        yield "the prediction", off, math.log2(told.lr) + off - truth, True
        for how, checked in (("a search", free), ("a search within its interval", near)):
            if checked.lr is None:
                yield how, off, math.nan, False
                continue
            low, high = checked.interval
            yield how, off, math.log2(checked.lr) - truth, low <= told.lr * factor <= high
        centre = math.log2(told.lr) + off
        places = sorted({centre + sign * apart for apart in (0, *APART) for sign in (-1, 1)})
        losses = {at: probe(prepared(one, 4 * b, 1.0, seed), 2.0**at, PROBE_STEPS).mean for at in places}
        for apart in APART:
            lowest = min((centre - apart, centre, centre + apart), key=lambda at: losses[at])
            yield f"three probes, {apart} octaves apart", off, lowest - truth, lowest == centre


def check(record: Record, tasks: Mapping[str, Scaled], seeds: Sequence[int], budget: int) -> None:
    """Print how well a search at the new batch size tells a right prediction from a wrong one."""
    rows: list[tuple[str, float, float, bool]] = []
    for name, one in tasks.items():
        for seed in seeds:
            rows += checks(record, one, seed, budget)
        print(f"{name} is done", flush=True)
    print("\n| prediction off by | rate from | held | mean error, octaves |\n|---|---|---|---|")
    for off in WRONG:
        for how in dict.fromkeys(row[0] for row in rows):
            chosen = [row for row in rows if row[:2] == (how, off)]
            held = f"{sum(row[3] for row in chosen)} of {len(chosen)}" if how != "the prediction" else ""
            print(f"| {off:+g} octaves | {how} | {held} | {np.nanmean([abs(row[2]) for row in chosen]):.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=("decay", "check"))
    parser.add_argument("record", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--budget", type=int, default=200, help="steps of each search of a check")
    parser.add_argument("--only", default="", help="take the tasks whose name holds this only")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    record = Record(args.record)
    tasks = {name: one for name, one in scaled_tasks().items() if args.only in name}
    if args.question == "decay":
        decay(record, tasks, args.seeds)
    else:
        check(record, {name: one for name, one in tasks.items() if not name.startswith("mid")}, args.seeds, args.budget)


if __name__ == "__main__":
    main()
