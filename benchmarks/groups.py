"""What a learning rate of its own for each of two param groups gains over one in common, at equal total budgets.

A search finds the common rate. Then five probes as long as its own follow: at that rate, and with the rate of one of
the groups divided by four and times four. The parabola through the three losses of a group has its lowest place at some
octave; its error comes from the paired differences of the held-out batches. The place is shrunk by what is not known of
it, and then the whole training decides. Two designs are judged: rates as found ("own rates"), and without what is
common to both groups ("ratio alone"). Beside them stand the common rate of that search ("unmoved") and that of a search
which spends all these steps ("longer search").

What there is to gain at all is what full trainings say: the best common rate in octaves, then one group at 1/16 to 16
times it. Fine-tuned models were trained on other digits, or on Python, and get a new head for digits or English; the
other models start from random weights, with their embeddings as a group. The policy is "wsd" after 15% of warmup.

What is not in the record is measured. Stored are JSON lines [task, "probes", seed, budget, rates of both searches,
steps of a probe, held-out losses] and [task, "full", seed, rates of the groups, validation loss or null].

    python benchmarks/groups.py grid benchmarks/groups.jsonl      # about half an hour of one core, if not stored
    python benchmarks/groups.py designs benchmarks/groups.jsonl
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import math
import pydoc_data.topics
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scaling_report import shares
from tasks import (
    Data,
    Task,
    Transformer,
    build,
    cnn,
    cross,
    digit_images,
    in_windows,
    last_letter,
    mlp,
    next_letters,
    ngram,
    to_last,
    to_next,
)
from torch import Tensor, nn

from lrfinder.evidence.probe import Probe
from lrfinder.probing.options import SearchOptions
from lrfinder.probing.runner import run_probe
from lrfinder.probing.torch_loop import TorchTraining, suggest_for
from lrfinder.schedules.policy import Policy

AWAY = 2
"""Octaves from the common rate at which a group is probed."""

FARTHEST = 3.0

PRIOR, TRANSFER = 2.0, 1.6
"""Standard deviations, octaves: of the best place about the common rate, and from probes to the whole training. The
second is that of the search."""

GRID = (-4, -2, 2, 4)

DESIGNS = ("longer search", "unmoved", "own rates", "ratio alone")

Rates = tuple[float, float]
Losses = dict[str, list[float] | None]


@dataclass(frozen=True)
class Grouped:
    """A task with two param groups, the steps of its training, and the octave at which to begin to look."""

    task: Task
    steps: int
    guess: int


# -- tasks ------------------------------------------------------------------------------------------------------------


def in_groups(kind: type, first: tuple[str, ...], **settings: Any) -> Callable[..., Any]:
    """Make two groups: the parameters whose names begin so, and the rest."""

    def make(model: nn.Module, lr: float) -> Any:
        named = [*model.named_parameters()]
        groups = [[p for n, p in named if n.startswith(first) == chosen] for chosen in (True, False)]
        return kind([{"params": parameters} for parameters in groups], lr=lr, **settings)

    return make


def english(length: int, stride: int) -> tuple[Tensor, Tensor]:
    """Characters of Python's help pages, as `source_text` has those of its library."""
    text = "\n".join(pydoc_data.topics.topics.values())[:150_000]
    return in_windows(torch.tensor([min(ord(letter), 127) for letter in text]), length, stride)


@functools.cache
def next_english() -> Data:
    return to_next(*english(24, 11))


@functools.cache
def last_english() -> Data:
    return to_last(*english(8, 5))


def fine_tuned(data: Callable[[], Data], model: Callable[[], nn.Module], steps: int, head: str, classes: int) -> Any:
    """Return a function that gives the model, trained on the data, a new head."""

    @functools.cache
    def trained() -> nn.Module:
        with torch.random.fork_rng():
            run = build(Task("", data, model, cross, lambda net, lr: torch.optim.AdamW(net.parameters(), lr=lr)), 0)
            run.train(3e-3, steps, Policy("wsd", steps, steps // 20))
        return run.model

    def fresh() -> nn.Module:
        tuned = copy.deepcopy(trained())
        setattr(tuned, head, nn.Linear(getattr(tuned, head).in_features, classes))
        return tuned

    return fresh


def grouped_tasks() -> dict[str, Grouped]:
    low, high = (lambda: digit_images(0, 4)), (lambda: digit_images(5, 9))
    sgd, adamw = torch.optim.SGD, torch.optim.AdamW
    found = [
        Grouped(Task("cnn fine-tuned, momentum", high, fine_tuned(low, lambda: cnn(5), 300, "7", 5), cross,
                     in_groups(sgd, ("7.",), momentum=0.9)), 320, -5),
        Grouped(Task("mlp fine-tuned, adamw", high, fine_tuned(low, mlp(64, 5), 300, "7", 5), cross,
                     in_groups(adamw, ("7.",))), 320, -8),
        Grouped(Task("ngram fine-tuned, sgd", last_english, fine_tuned(last_letter, ngram(), 4000, "4", 128), cross,
                     in_groups(sgd, ("4.",), weight_decay=5e-4)), 1000, -1),
        Grouped(Task("ngram embeddings, sgd", last_letter, ngram(), cross,
                     in_groups(sgd, ("0.",), weight_decay=5e-4)), 2000, 0),
        Grouped(Task("gpt fine-tuned, adamw", next_english, fine_tuned(next_letters, Transformer, 3000, "head", 128),
                     cross, in_groups(adamw, ("head",), weight_decay=0.1), batch=8), 600, -7),
        Grouped(Task("gpt embeddings, adamw", next_letters, Transformer, cross,
                     in_groups(adamw, ("token", "place"), weight_decay=0.1), batch=8), 1000, -7),
    ]  # fmt: skip
    return {one.task.name: one for one in found}


# -- measuring --------------------------------------------------------------------------------------------------------


class Record:
    """The stored lines; what is missing is measured and stored."""

    def __init__(self, path: Path) -> None:
        self.rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        self.path = path

    def result(self, key: list[Any], measure: Callable[[], list[Any]]) -> list[Any]:
        for row in self.rows:
            if row[: len(key)] == key:
                return list(row[len(key) :])
        self.rows.append([*key, *measure()])
        with self.path.open("a") as file:
            file.write(json.dumps(self.rows[-1]) + "\n")
        return list(self.rows[-1][len(key) :])

    def full(self, one: Grouped, seed: int, lrs: Rates) -> float:
        """Return the validation loss of a whole training, inf where it blew up."""

        def measure() -> list[Any]:
            run = build(one.task, seed)
            for group, lr in zip(run.optimizer.param_groups, lrs, strict=True):
                group["lr"] = lr / lrs[0] * run.optimizer.defaults["lr"]
            loss = run.train(lrs[0], one.steps, Policy("wsd", one.steps, round(0.15 * one.steps)))
            return [loss if math.isfinite(loss) else None]

        loss = self.result([one.task.name, "full", seed, list(lrs)], measure)[0]
        return math.inf if loss is None else loss

    def probes(self, one: Grouped, seed: int, budget: int) -> tuple[float, float, Losses]:
        """Return the common rate of a search, that of a search that costs as much as all probes, and their losses."""

        def measure() -> list[Any]:
            found = suggest_for(build(one.task, seed).training(), SearchOptions("probe", one.steps, budget))
            steps = found.evidence.rung[0].probe.steps
            longer = suggest_for(
                build(one.task, seed).training(), SearchOptions("probe", one.steps, budget + 5 * steps)
            )
            if found.lr is None or longer.lr is None:
                raise SystemExit(f"{one.task.name}: a search was refused")
            return [[found.lr, longer.lr], steps, group_probes(build(one.task, seed).training(), found.lr, steps)]

        lrs, _, losses = self.result([one.task.name, "probes", seed, budget], measure)
        return (*lrs, losses)


def group_probes(training: TorchTraining, lr: float, steps: int) -> Losses:
    """Return the loss of every held-out batch by the octaves of the two groups; None where training blew up."""
    found: Losses = {}
    with training.preserved():
        training.rewind()
        training.keep_batches(steps)
        for octaves in ((0, 0), (-AWAY, 0), (AWAY, 0), (0, -AWAY), (0, AWAY)):
            training.rewind()
            outcome = run_probe(training, Probe(lr, steps, warmup=round(0.2 * steps)), [2.0**at for at in octaves])
            found[str(octaves)] = None if outcome.diverged else outcome.loss.tolist()
    return found


def vertex(below: Any, above: Any) -> Any:
    """Return the lowest place, octaves, of parabolas through (-AWAY, below), (0, 0) and (AWAY, above)."""
    bend, slope = (below + above) / (2 * AWAY**2), (above - below) / (2 * AWAY)
    lowest = np.where(bend > 1e-12, -slope / (2 * np.maximum(bend, 1e-12)), -FARTHEST * np.sign(slope))
    return np.clip(lowest, -FARTHEST, FARTHEST)


def octaves_of(losses: Losses) -> tuple[float, float]:
    """Return by how many octaves each group should move from the common rate, shrunk."""
    found = []
    for keys in ((f"({-AWAY}, 0)", f"({AWAY}, 0)"), (f"(0, {-AWAY})", f"(0, {AWAY})")):
        below, at, above = (losses[key] for key in (keys[0], "(0, 0)", keys[1]))
        if below is None or at is None:
            found.append(0.0)
            continue
        down = np.array(below) - np.array(at)
        up = 3 * np.abs(down) + 1 if above is None else np.array(above) - np.array(at)
        errors = [apart.std(ddof=1) / math.sqrt(apart.size) for apart in (down, up)]
        normal = np.random.default_rng(0).standard_normal
        drawn = vertex(down.mean() + errors[0] * normal(999), up.mean() + errors[1] * normal(999))
        doubt = TRANSFER**2 + float(drawn.std()) ** 2
        found.append(float(vertex(down.mean(), up.mean())) * PRIOR**2 / (PRIOR**2 + doubt))
    return found[0], found[1]


def rates_of(design: str, lr: float, longer: float, losses: Losses) -> Rates:
    if design in ("longer search", "unmoved"):
        return (longer, longer) if design == "longer search" else (lr, lr)
    first, second = octaves_of(losses)
    both = (first + second) / 2 if design == "ratio alone" else 0.0
    return lr * 2.0 ** (first - both), lr * 2.0 ** (second - both)


# -- running and reporting --------------------------------------------------------------------------------------------


def swept(record: Record, one: Grouped, seeds: list[int]) -> tuple[int, dict[tuple[int, int], np.ndarray]]:
    """Return the octave of the best common rate, and the losses (seeds,) of full trainings by octaves of the groups."""
    found: dict[tuple[int, int], np.ndarray] = {}

    def mean(first: int, second: int) -> float:
        found[first, second] = np.array([record.full(one, seed, (2.0**first, 2.0**second)) for seed in seeds])
        return float(found[first, second].mean())

    common = {octave: mean(octave, octave) for octave in range(one.guess - 1, one.guess + 2)}
    while new := {(best := min(common, key=lambda at: common[at])) - 1, best + 1} - common.keys():
        common |= {octave: mean(octave, octave) for octave in new}
    for away in GRID:
        mean(best + away, best), mean(best, best + away)
    return best, found


def report_grid(record: Record, tasks: dict[str, Grouped], seeds: list[int]) -> None:
    """Print what full trainings gain if one of the groups leaves the best common rate."""
    print("| task | steps | best common rate: loss | best of 8 with one group moved | against the common rate |")
    print("|---|---|---|---|---|")
    for one in tasks.values():
        best, grid = swept(record, one, seeds)
        base = grid[best, best]
        moved = {at: losses for at, losses in grid.items() if at[0] != at[1]}
        first, second = min(moved, key=lambda at: moved[at].mean())
        where = f"{'first' if first != best else 'second'} x {2.0 ** (first + second - 2 * best):g}"
        print(f"| {one.task.name} | {one.steps:,} | 2^{best}: {base.mean():.4f} | {where}", end="")
        print(f" | {shares(moved[first, second] / base - 1)} |", flush=True)


def report_designs(record: Record, tasks: dict[str, Grouped], seeds: list[int], budget: int) -> None:
    """Print what the full trainings of each design lose or gain against the best rate in common."""
    print(f"| task | octaves found, seeds {', '.join(map(str, seeds))} | " + " | ".join(DESIGNS) + " |")
    print("|---|---|" + "---|" * len(DESIGNS))
    for one in tasks.values():
        best, grid = swept(record, one, seeds)
        found = [record.probes(one, seed, budget) for seed in seeds]
        cells = []
        for design in DESIGNS:
            rates = [rates_of(design, *of) for of in found]
            losses = [record.full(one, seed, lrs) for seed, lrs in zip(seeds, rates, strict=True)]
            cells.append(shares(np.array(losses) / grid[best, best] - 1))
        places = "; ".join("{:+.1f}, {:+.1f}".format(*octaves_of(of[2])) for of in found)
        print(f"| {one.task.name} | {places} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=("grid", "designs"))
    parser.add_argument("record", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--budget", type=int, default=100, help="steps of the search that finds the common rate")
    parser.add_argument("--only", default="", help="take the tasks whose name holds this only")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    tasks = {name: one for name, one in grouped_tasks().items() if args.only in name}
    if args.question == "grid":
        report_grid(Record(args.record), tasks, args.seeds)
    else:
        report_designs(Record(args.record), tasks, args.seeds, args.budget)


if __name__ == "__main__":
    main()
