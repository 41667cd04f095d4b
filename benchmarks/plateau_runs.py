"""Real trainings: decay when `lrfinder.Detector` sees a plateau, against ReduceLROnPlateau and known horizons.

    python benchmarks/plateau_runs.py run benchmarks/out/plateau.jsonl    # twenty minutes on one core
    python benchmarks/plateau_runs.py report benchmarks/out/plateau.jsonl
    python benchmarks/plateau_runs.py worth benchmarks/oracle.jsonl       # two minutes
    python benchmarks/plateau_runs.py picture docs/images/plateau.png

Every run trains 2,500 steps from the same weights on the same batches at the peak rate that the oracle found best for a
constant rate with a late decay. ReduceLROnPlateau (factor 0.1) sees the validation loss every 25 steps, a hundred times
in all; the detector sees the training loss of every step. A run that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from oracle_grid import best_octave
from tasks import TASKS, Run, build

from lrfinder import find_plateaus
from lrfinder.plateau.detector import Detector
from lrfinder.report.log_plots import plateau_png
from lrfinder.schedules.policy import Policy

STEPS, EVERY = 2_500, 25
SEEDS = (0, 10)
PATIENCES = (3, 10, 20, 40)
NAMES = ("digits-mlp-dropout-momentum", "digits-cnn-adam", "digits-gru-rmsprop", "digits-autoencoder-adam",
         "diabetes-mlp-adamw", "python-transformer-adamw", "python-gru-nadam", "python-ngram-muon",
         "python-ngram-sgd")  # fmt: skip

Control = Callable[[int, torch.Tensor, Run], float]
"""Step just taken, its loss, the run: what to multiply the peak rate by from now on."""


def follow(policy: Policy) -> Control:
    return lambda step, loss, run: policy(step)


def reduce_on_plateau(patience: int) -> Control:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=patience)

    def control(step: int, loss: torch.Tensor, run: Run) -> float:
        if step % EVERY == 0:
            scheduler.step(run.validate())
        return float(optimizer.param_groups[0]["lr"])

    return control


def detected(factor: float | None, latest: float | None = None) -> Control:
    """Multiply by ``factor`` at every plateau, or anneal to zero from the first one on, or from ``latest`` on."""
    detector, held = Detector(), 1.0
    since: int | None = None

    def control(step: int, loss: torch.Tensor, run: Run) -> float:
        nonlocal held, since
        if since is not None:
            return (STEPS - step) / (STEPS - since)
        found = detector.update(loss, held)
        if found and factor:
            held *= factor
        elif found or (latest and step >= latest * STEPS):
            since = step
        return held

    return control


METHODS: dict[str, Callable[[], Control]] = {
    "constant": lambda: follow(Policy("constant")),
    **{f"ReduceLROnPlateau {p}": functools.partial(reduce_on_plateau, p) for p in PATIENCES},
    "detector, factor 0.1": lambda: detected(0.1),
    "detector, anneal": lambda: detected(None),
    "detector, anneal, latest 60%": lambda: detected(None, 0.6),
    "detector, anneal, latest 30%": lambda: detected(None, 0.3),
    "wsd": lambda: follow(Policy("wsd", STEPS)),
    "linear": lambda: follow(Policy("linear", STEPS)),
    "cosine": lambda: follow(Policy("cosine", STEPS)),
}


def train(name: str, seed: int, control: Control) -> tuple[float, list[int]]:
    """Return the validation loss at the end, and the steps at which the rate fell."""
    task = next(task for task in TASKS if task.name == name)
    octave = best_octave(name, STEPS if task.long else 500)
    run = build(task, seed)
    peaks = [2.0**octave * group["lr"] / run.optimizer.defaults["lr"] for group in run.optimizer.param_groups]
    multiplier, falls = 1.0, []
    run.model.train()
    for step, batch in enumerate(run.batches(STEPS), start=1):
        for group, peak in zip(run.optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * multiplier
        loss = run.train_step(batch)
        new = control(step, loss, run)
        if new < multiplier:
            falls.append(step)
        multiplier = new
    return run.validate(), falls


def run_all(path: Path) -> None:
    torch.set_num_threads(1)
    path.parent.mkdir(exist_ok=True)
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(row["task"], row["seed"], row["method"]) for row in rows}
    for seed in SEEDS:
        for name in NAMES:
            for method, make in METHODS.items():
                if (name, seed, method) in done:
                    continue
                loss, falls = train(name, seed, make())
                row = {
                    "task": name,
                    "seed": seed,
                    "method": method,
                    "loss": loss,
                    "falls": falls[:1],
                    "count": len(falls),
                }
                with path.open("a") as file:
                    file.write(json.dumps(row) + "\n")


def report(path: Path) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    loss = {((row["task"], row["seed"]), row["method"]): row["loss"] for row in rows}
    first = {((row["task"], row["seed"]), row["method"]): row["falls"] for row in rows}
    cells = [(name, seed) for name in NAMES for seed in SEEDS]
    cells = [cell for cell in cells if all((cell, method) in loss for method in METHODS)]
    reducers = [f"ReduceLROnPlateau {p}" for p in PATIENCES]
    best = {cell: min(loss[cell, name] for name in reducers) for cell in cells}
    columns = ["constant", "ReduceLROnPlateau 10", "its best patience", *[m for m in METHODS if m[0] in "dwlc"][1:]]
    print("| task | seed | " + " | ".join(columns) + " | detected at |\n|---|---|" + "---|" * (len(columns) + 1))
    excess: dict[str, list[float]] = {name: [] for name in columns}
    for cell in cells:
        values = [best[cell] if name == "its best patience" else loss[cell, name] for name in columns]
        for name, value in zip(columns, values, strict=True):
            excess[name].append(value / best[cell] - 1)
        at = first[cell, "detector, anneal"]
        print(
            f"| {cell[0]} | {cell[1]} | "
            + " | ".join(f"{value:.4f}" for value in values)
            + f" | {at[0] if at else '-'} |"
        )
    for title, of in (("median", np.median), ("mean", np.mean), ("worst", np.max)):
        print(
            f"| **{title} above its best patience** | | "
            + " | ".join(f"{of(excess[n]):+.1%}" for n in columns)
            + " | |"
        )
    most = min(reducers, key=lambda name: np.median([loss[cell, name] / best[cell] for cell in cells]))
    print(f"\nBest single patience over all cells: {most}.")


def worth(path: Path) -> None:
    """What annealing over the last 40% saves at an unchanged peak, as shares of the gain so far and of the noise."""
    best: dict[tuple[str, int, str], dict[int, float]] = defaultdict(dict)
    for line in path.read_text().splitlines():
        task, steps, schedule, seed, octave, loss = json.loads(line)
        if seed == 0 and loss is not None:
            best[task, steps, schedule][octave] = loss
    print("| task | steps | saved | of the gain | of the noise |\n|---|---|---|---|---|")
    shares = []
    for task in TASKS:
        for steps in (500, 2500) if task.long else (500,):
            annealed = best[task.name, steps, "wsd"]
            octave = min(annealed, key=annealed.__getitem__)
            run = build(task, 0, 2.0**octave)
            start = run.validate()
            losses = [float(run.train_step(batch)) for batch in run.batches(steps)]
            end = run.validate()
            saved, noise = end - annealed[octave], float(np.std(losses[-steps // 4 :]))
            shares.append((saved / (start - end), saved / noise))
            print(f"| {task.name} | {steps} | {saved:+.4f} | {shares[-1][0]:+.2%} | {shares[-1][1]:+.2f} |", flush=True)
    saving = [share for share in shares if share[0] > 0]
    for name, which in (("of the gain", 0), ("of the noise", 1)):
        quartiles = np.quantile([share[which] for share in saving], [0.25, 0.5, 0.75])
        print(f"Where it saves anything ({len(saving)} of {len(shares)}), quartiles {name}: {quartiles.round(4)}")


def picture(path: Path, name: str = "digits-autoencoder-adam", seed: int = 0) -> None:
    """Draw one run at a constant rate, and what the detector sees in it."""
    losses: list[float] = []

    def record(step: int, loss: torch.Tensor, run: Run) -> float:
        losses.append(float(loss))
        return 1.0

    train(name, seed, record)
    scan = find_plateaus(losses, min_rows=256)
    print(scan)
    for one in scan.plateaus:
        now, then, end = (float(np.mean(losses[at - 100 : at])) for at in (one.step, one.step + one.ahead, len(losses)))
        print(
            f"From step {one.step} on it gained {now - then:.4f} in {one.ahead} steps, and {then - end:.4f} after that."
        )
    path.write_bytes(plateau_png(scan))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "report", "worth", "picture"))
    parser.add_argument("record", type=Path)
    options = parser.parse_args()
    {"run": run_all, "report": report, "worth": worth, "picture": picture}[options.command](options.record)


if __name__ == "__main__":
    main()
