"""What benchmarks/scaling.jsonl says: how far the best rate moves, and by how much each rule misses."""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scaling import MID, NOISE_AT, Scaled, prepared, scaled_tasks

import lrfinder
from lrfinder.advice.rescale import batch_shift

HELD_OUT = "ours, held out"


class Record:
    """The stored rows: where the best rate of a cell lies, and the noise scale on the way there."""

    def __init__(self, path: Path) -> None:
        self.losses: dict[tuple, dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
        self.noise: dict[tuple, list[float]] = defaultdict(list)
        for line in path.read_text().splitlines():
            name, batch, steps, kind, seed, place, *values = json.loads(line)
            if kind == "noise":
                self.noise[name, batch, steps, place].append(math.inf if values[0] is None else values[0])
            else:
                self.losses[name, batch, steps, kind][seed][place] = math.inf if values[0] is None else values[0]

    def places(self, *cell) -> list[float]:
        """Lowest place of the parabola through the best rate and its neighbours, octaves, for each seed."""
        return [*map(lowest_place, self.losses[cell].values())]

    def place(self, *cell) -> float:
        return float(np.mean(self.places(*cell)))

    def noise_scale(self, *at) -> float:
        return float(np.exp(np.mean(np.log(self.noise[at]))))


def lowest_place(losses: dict[int, float]) -> float:
    octave = min(losses, key=losses.get)
    before, at, after = (math.log(losses[octave + step]) for step in (-1, 0, 1))
    after = min(after, at + 3 * (before - at))  # a training that blew up
    return octave + float(np.clip((before - after) / (2 * (before - 2 * at + after)), -0.5, 0.5))


def shares(rises: Sequence[float]) -> str:
    """Return the mean of shares over seeds, and its standard error."""
    return f"{np.mean(rises):+.1%} ± {np.std(rises, ddof=1) / math.sqrt(len(rises)):.1%}"


def shifts(record: Record, one: Scaled):
    """Yield (question, sizes, halvings of the steps, measured octaves, noise scale) of a task."""
    name, b, steps = one.task.name, one.batch, one.steps
    at_end = record.place(name, 16 * b, steps, 1.0)
    middle = record.place(name, 4 * b, 4 * steps, 1.0)
    same_steps, same_examples = record.place(name, b, steps, 1.0), record.place(name, b, 16 * steps, 1.0)
    noise_scale = record.noise_scale(name, b, 16 * steps, 0.05)
    yield "4x batch, same steps", (b, 4 * b), 0, record.place(name, 4 * b, steps, 1.0) - same_steps, noise_scale
    yield "16x batch, same steps", (b, 16 * b), 0, at_end - same_steps, noise_scale
    yield "4x batch, same examples", (b, 4 * b), 2, middle - same_examples, noise_scale
    yield "16x batch, same examples", (b, 16 * b), 4, at_end - same_examples, noise_scale
    yield "16x steps", (b, b), -4, same_examples - same_steps, noise_scale


def rules(family: str):
    """Return what each rule says of (sizes, halvings of the steps, noise scale), octaves."""
    doublings = lambda sizes: math.log2(sizes[1] / sizes[0])
    return {
        "no rule": lambda sizes, halvings, noise: 0.0,
        "linear": lambda sizes, halvings, noise: doublings(sizes),
        "square root": lambda sizes, halvings, noise: doublings(sizes) / 2,
        "ours": lambda sizes, halvings, noise: batch_shift(sizes, max(halvings, 0), family)[0],
        "ours, noise scale": lambda sizes, halvings, noise: batch_shift(sizes, max(halvings, 0), family, noise)[0],
        "1/4 power of steps": lambda sizes, halvings, noise: halvings / 4,
    }


def held_out(found: dict[str, list[tuple]], name: str) -> tuple[float, float]:
    """Return the exponents, multiples of 1/4, of batch and offsetting steps that fit the other tasks of the family."""
    others = [
        (math.log2(sizes[1] / sizes[0]), halvings, measured)
        for other, rows in found.items()
        for _, sizes, halvings, measured, _ in rows
        if other != name and ("adam" in other) == ("adam" in name) and sizes[0] != sizes[1]
    ]
    grid = itertools.product((0, 0.25, 0.5, 0.75, 1), (0, 0.25, 0.5))
    return min(
        grid, key=lambda pair: sum(abs(pair[0] * batch + pair[1] * steps - octaves) for batch, steps, octaves in others)
    )


def report(path: Path) -> None:
    record, tasks = Record(path), scaled_tasks()
    kept = {name: one for name, one in tasks.items() if any(cell[0] == name for cell in record.losses)}
    families = {name: "adam" if "adam" in name else "sgd" for name in kept}
    found = {name: [*shifts(record, one)] for name, one in kept.items()}
    print("| task | batch | same steps: 4x | 16x | same examples: 4x | 16x | 16x steps | noise scale |")
    print("|---|---|---|---|---|---|---|---|")
    errors, relative = defaultdict(list), defaultdict(list)
    for name, one in kept.items():
        cells = " | ".join(f"{measured:+.1f}" for _, _, _, measured, _ in found[name])
        print(f"| {name} | {one.batch} | {cells} | {found[name][0][-1]:.3g} |")
        by_batch, by_steps = held_out(found, name)
        for question, sizes, halvings, measured, noise_scale in found[name]:
            doublings = math.log2(sizes[1] / sizes[0])
            of_others = by_batch * doublings + by_steps * max(halvings, 0)
            said = {rule: predict(sizes, halvings, noise_scale) for rule, predict in rules(families[name]).items()}
            for rule, octaves in {**said, HELD_OUT: of_others}.items():
                errors[families[name], question, rule].append(abs(octaves - measured))
                if doublings:
                    relative[families[name], rule].append((octaves - measured) / doublings)
    names = [*rules("sgd"), HELD_OUT]
    questions = [question for question, *_ in next(iter(found.values()))]
    print("\n| family | question | " + " | ".join(names) + " |")
    print("|---|---|" + "---|" * len(names))
    for family, question in itertools.product(("sgd", "adam"), questions):
        means = (f"{np.mean(errors[family, question, rule]):.2f}" for rule in names)
        print(f"| {family} | {question} | " + " | ".join(means) + " |")
    for (family, rule), values in relative.items():
        if rule.startswith("ours"):
            print(f"{family}, {rule}: {np.sqrt(np.mean(np.square(values))):.2f} octaves per doubling of the batch")
    decay(record, kept)
    if "mid-cnn-nesterov" in kept:
        decay_map(record, kept["mid-cnn-nesterov"])
    print("\n| task | batch | first step | 5% | 25% | 50% |\n|---|---|---|---|---|---|")
    for name, one in kept.items():
        scales = (f"{record.noise_scale(name, one.batch, 16 * one.steps, at):.3g}" for at in NOISE_AT)
        print(f"| {name} | {one.batch} | " + " | ".join(scales) + " |")


def decay(record: Record, tasks: dict[str, Scaled]) -> None:
    """Print how the best rate moves with the weight decay, and what two rules say."""
    print("\n| task | decay / 4 | decay x 4 | no rule | rate x decay kept |\n|---|---|---|---|---|")
    for name, one in tasks.items():
        batch, steps = 4 * one.batch, 4 * one.steps
        if (name, batch, steps, 4.0) not in record.losses:
            continue
        own, less, more = (record.place(name, batch, steps, factor) for factor in (1.0, 0.25, 4.0))
        none, product = (np.mean([abs(less - own - by), abs(more - own + by)]) for by in (0.0, 2.0))
        print(f"| {name} | {less - own:+.1f} | {more - own:+.1f} | {none:.2f} | {product:.2f} |")


def decay_map(record: Record, one: Scaled) -> None:
    """Print the validation loss of the middle cell by rate and decay, for the first seed."""
    name, batch, steps = one.task.name, 4 * one.batch, 4 * one.steps
    by_decay = {factor: record.losses[name, batch, steps, factor][0] for factor in (0.25, 1.0, 4.0)}
    octaves = sorted(set.intersection(*map(set, by_decay.values())))
    print("\n| decay | " + " | ".join(f"2^{octave}" for octave in octaves) + " |\n|---|" + "---|" * len(octaves))
    for factor, losses in by_decay.items():
        print(f"| x {factor:g} | " + " | ".join(f"{losses[octave]:.3f}" for octave in octaves) + " |")


def curvature(record: Record) -> None:
    """Print the limit of the curvature at the end of the warmup beside the best rate and the lowest that failed."""
    print("| task | best rate | lowest that failed | limit | its interval |\n|---|---|---|---|---|")
    for name, one in scaled_tasks().items():
        batch, steps = 4 * one.batch, 4 * one.steps
        best = record.place(name, batch, steps, 1.0)
        run = prepared(one, batch, 1.0, 0)
        for group in run.optimizer.param_groups:
            group["lr"] = 2.0**best
        untrained = run.validate()
        losses = record.losses[name, batch, steps, 1.0]
        failed = [octave for seed in losses for octave in losses[seed] if not losses[seed][octave] < untrained]
        limit = lrfinder.curvature_limit(run.model, run.optimizer, run.task.loss, run.loader, after=round(0.05 * steps))
        low, at, high = (f"2^{math.log2(lr):.1f}" for lr in (limit.lr_low, limit.lr, limit.lr_high))
        print(
            f"| {name} | 2^{best:.1f} | {f'2^{min(failed)}' if failed else 'none'} | {at} | {low} to {high} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("record", type=Path)
    parser.add_argument("--curvature", action="store_true", help="measure the limit of the curvature of every task")
    parser.add_argument("--mid", type=Path, default=MID[0], help="folder of the task of real scale")
    args = parser.parse_args()
    MID[0] = args.mid
    if args.curvature:
        curvature(Record(args.record))
    else:
        report(args.record)


if __name__ == "__main__":
    main()
