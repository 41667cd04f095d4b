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

    python benchmarks/scaling.py run benchmarks/scaling.jsonl --seeds 0 1     # about forty minutes of one core
    python benchmarks/scaling.py report benchmarks/scaling.jsonl
    python benchmarks/scaling.py curvature benchmarks/scaling.jsonl           # two minutes
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import math
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from tasks import TASKS, Run, Task, build
from torch import Tensor, nn

import lrfinder
from lrfinder.advice.gradient_noise import estimate_noise_scale
from lrfinder.advice.rescale import batch_shift
from lrfinder.schedules.policy import Policy

HELD_OUT = "ours, held out"
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


# -- the report -------------------------------------------------------------------------------------------------------


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "report", "curvature"))
    parser.add_argument("record", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--only", default="", help="run the tasks whose name holds this only")
    parser.add_argument("--mid", type=Path, default=MID[0], help="folder of the task of real scale")
    args = parser.parse_args()
    MID[0] = args.mid
    if args.command == "run":
        run_all(args.record, args.seeds, args.only)
    elif args.command == "curvature":
        curvature(Record(args.record))
    else:
        report(args.record)


if __name__ == "__main__":
    main()
