"""Regret of learning rate and policy together, and how well the policies are ranked.

    python benchmarks/oracle.py benchmarks/oracle.jsonl --schedules more      # once, over an hour: stored
    python benchmarks/regret.py run benchmarks/out/regret.jsonl               # searches
    python benchmarks/policies.py law                                         # the two-number law, fitted to the oracle
    python benchmarks/policies.py run benchmarks/out/regret.jsonl             # whole trainings at every pick
    python benchmarks/policies.py report benchmarks/out/regret.jsonl

The best cell of rate and policy is that of the oracle's seeds; regret is the loss of whole trainings at a pick over
that at the best cell, minus one, both on the mean of seeds that the oracle did not use.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from oracle import MORE, SCHEDULES
from oracle_grid import ORACLE_SEEDS, TEST_SEEDS, mean_loss, place, seeds_of
from regret import BUDGETS, fit_law, without_warmup
from scipy.stats import spearmanr
from tasks import TASKS, build

from lrfinder.answer.annealing import AnnealingEffect
from lrfinder.answer.choose import choose
from lrfinder.answer.suggestion import Suggestion
from lrfinder.schedules.policy import Policy
from lrfinder.schedules.theory import features

POLICIES = (*SCHEDULES, *MORE)
FIXED = ("constant", "cosine", "wsd", "one-cycle")
LARGE = 0.4
"""Rises are taken to be no larger, in log loss: a few trainings that a schedule ruins would decide everything."""


def seeds(among: tuple[int, ...]) -> tuple[int, ...]:
    """Those for which every policy was trained in every cell."""
    return tuple(seed for seed in among if all(seed in seeds_of(policy) for policy in POLICIES))


def cells() -> list[tuple[str, int]]:
    return [(task.name, steps) for task in TASKS for steps in ((500, 2500) if task.long else (500,))]


def lowest(task: str, steps: int, policy: str, among: tuple[int, ...]) -> float:
    return float(mean_loss(task, steps, policy, among)[1].min())


# -- the law ----------------------------------------------------------------------------------------------------------


def rises(task: str, steps: int) -> np.ndarray:
    """Log loss of every policy over that of a constant rate, each at its own best rate: (policies,)."""
    among = seeds(ORACLE_SEEDS + TEST_SEEDS)
    losses = np.array([lowest(task, steps, policy, among) for policy in POLICIES])
    return np.clip(np.log(losses / lowest(task, steps, "constant", among)), -LARGE, LARGE)


def rows_of(steps: int) -> np.ndarray:
    known = [features(Policy(policy, steps), steps) for policy in POLICIES]
    return np.array([[-of.noise_removed, of.progress_lost] for of in known])


def two_numbers(task: str, steps: int) -> np.ndarray:
    return np.linalg.lstsq(rows_of(steps), rises(task, steps), rcond=None)[0]


def prior_of(tasks: set[str]) -> AnnealingEffect:
    numbers = np.array([two_numbers(*cell) for cell in cells() if cell[0] in tasks])
    noise_removed, progress_lost = numbers.mean(0).tolist()
    return AnnealingEffect(noise_removed, progress_lost, np.cov(numbers.T))


def law() -> None:
    among = seeds(ORACLE_SEEDS + TEST_SEEDS)
    print(f"seeds {', '.join(map(str, among))}\n")
    seen = np.array([rises(*cell) for cell in cells()])
    said = np.array([rows_of(steps) @ two_numbers(task, steps) for task, steps in cells()])
    left = np.sqrt(((seen - said) ** 2).mean())
    print(f"root mean square of the rises {np.sqrt((seen**2).mean()):.3f}, of what is left {left:.3f}")
    prior = prior_of({task.name for task in TASKS})
    mean = f"noise removed {prior.noise_removed:.4f}, progress lost {prior.progress_lost:.4f}"
    print(f"{mean}, covariance {prior.covariance.round(5).tolist()}\n")
    print("| policy | mean log loss over constant | standard deviation | not explained | octaves seen | predicted |")
    print("|---|---|---|---|---|---|")
    theory, moved = [], []
    for i, policy in enumerate(POLICIES):
        off = [place(*cell, policy, among) - place(*cell, "linear", among) for cell in cells()]
        bound = [features(Policy(policy, steps), steps).lr for _, steps in cells()]
        theory += bound
        moved += off
        columns = seen[:, i].mean(), seen[:, i].std(), (seen - said)[:, i].mean(), np.mean(off), np.mean(bound)
        print(f"| {policy} |", " | ".join(f"{x:+.3f}" for x in columns), "|")
    slope = np.dot(theory, moved) / np.dot(theory, theory)
    print(f"\nslope of the octaves seen on those predicted: {slope:.2f}")


# -- running ----------------------------------------------------------------------------------------------------------


def fastai(suggestion: Suggestion) -> float:
    """A tenth of the rate at the lowest exponentially smoothed loss of a range test: lr_find's "minimum"."""
    curve = suggestion.curves[0]
    smooth, mean = [], 0.0
    for i, loss in enumerate(np.nan_to_num(curve.loss, nan=1e9, posinf=1e9), start=1):
        mean = 0.98 * mean + 0.02 * loss
        smooth.append(mean / (1 - 0.98**i))
    return float(curve.lr[int(np.argmin(smooth))]) / 10


def trained(job: tuple[str, int, dict, float, int]) -> dict:
    torch.set_num_threads(1)
    name, steps, policy, lr, seed = job
    task = next(task for task in TASKS if task.name == name)
    loss = build(task, seed).train(lr, steps, Policy.from_dict(policy))
    key = {"task": name, "steps": steps, "policy": policy, "lr": lr, "seed": seed}
    return {**key, "loss": loss if math.isfinite(loss) else None}


def picks(path: Path) -> Iterator[tuple[str, tuple[str, int], Policy | None, float | None, Suggestion | None]]:
    """Yield (method, cell, policy, rate, suggestion) of everything that is compared, one search a cell and seed."""
    rows = [json.loads(line) for line in path.open()]
    main = [row for row in rows if row["method"] == f"probe {BUDGETS[row['steps']][-1]} draw 0"]
    for name in dict.fromkeys(row["task"] for row in main):
        others = [row for row in main if row["task"] != name]
        drift = fit_law([{**row, "lr": row["suggestion"]["lr"]} for row in others])
        prior = prior_of({task.name for task in TASKS} - {name})
        for row in (row for row in main if row["task"] == name):
            cell = (name, row["steps"])
            evidence = Suggestion.from_dict(row["suggestion"]).evidence
            found = choose(evidence, steps=row["steps"], law=drift, prior=prior)
            yield "lrfinder, laws fitted without the task", cell, found.policy, found.lr, found
            ships = choose(evidence, steps=row["steps"])
            yield "lrfinder as it ships", cell, ships.policy, ships.lr, None
            if found.lr is not None:
                plain = choose(without_warmup(evidence), steps=row["steps"], law=drift, prior=prior)
                for other in FIXED:
                    own = plain.with_policy(Policy(other, row["steps"]))
                    yield f"lrfinder's rate, always {other}", cell, own.policy, own.lr, None
    for row in rows:
        cell = (row["task"], row["steps"])
        if row["method"] == "torch-lr-finder":
            yield "torch-lr-finder + cosine", cell, Policy("cosine", cell[1]), row.get("lr"), None
        elif row["method"] == "range test only" and "suggestion" in row:
            lr = fastai(Suggestion.from_dict(row["suggestion"]))
            yield "fastai's minimum/10 + one-cycle", cell, Policy("one-cycle", cell[1]), lr, None


def run(path: Path) -> None:
    stored = path.with_name("trainings.jsonl")
    known = {key(json.loads(line)) for line in stored.open()} if stored.exists() else set()
    wanted = {}
    for _, cell, policy, lr, _ in picks(path):
        if lr is not None and policy is not None:
            for seed in seeds(TEST_SEEDS):
                job = (*cell, policy.to_dict(), lr, seed)
                wanted[json.dumps(job)] = job
    jobs = [job for name, job in wanted.items() if name not in known]
    with stored.open("a") as record, ProcessPoolExecutor(2) as pool:
        for i, row in enumerate(pool.map(trained, jobs), start=1):
            record.write(json.dumps(row) + "\n")
            record.flush()
            print(f"training {i}/{len(jobs)}", end="\r", flush=True)


def key(row: dict) -> str:
    return json.dumps((row["task"], row["steps"], row["policy"], row["lr"], row["seed"]))


# -- reporting --------------------------------------------------------------------------------------------------------


def report(path: Path) -> None:
    rows = [json.loads(line) for line in path.with_name("trainings.jsonl").open()]
    losses = {key(row): math.inf if row["loss"] is None else row["loss"] for row in rows}
    oracle, test = seeds(ORACLE_SEEDS), seeds(TEST_SEEDS)
    best, floor = {}, {}
    for cell in cells():
        best[cell] = min(POLICIES, key=lambda policy: lowest(*cell, policy, oracle))
        floor[cell] = at_best(*cell, best[cell], oracle, test)
    found: dict[str, list[tuple[tuple[str, int], float | None]]] = {}
    orders: list[tuple[tuple[str, int], float]] = []
    chosen: dict[str, list[tuple[str, int]]] = {}
    for method, cell, policy, lr, suggestion in picks(path):
        value = None
        if lr is not None:
            loss = np.mean([losses[json.dumps((*cell, policy.to_dict(), lr, seed))] for seed in test])
            value = min(loss / floor[cell] - 1, 10.0)
        found.setdefault(method, []).append((cell, value))
        if suggestion is not None and suggestion.alternatives:
            names = [a.policy.name for a in suggestion.alternatives if a.gain is not None]
            true = [lowest(*cell, name, oracle + test) for name in names]
            orders.append((cell, float(spearmanr(range(len(names)), true).statistic)))
            chosen.setdefault(
                suggestion.policy.name + ("+warmup" if suggestion.policy.warmup_steps else ""), []
            ).append(cell)
    for name in POLICIES:
        found[f"the oracle's rate, always {name}"] = [
            (cell, min(at_best(*cell, name, oracle, test) / floor[cell] - 1, 10.0)) for cell in cells()
        ]
    print(f"oracle's seeds {oracle}, tested on {test}\n")
    print("| method | answers | none | median | 90th percentile | 500 steps | 2500 steps |")
    print("|---|---|---|---|---|---|---|")
    for method, values in found.items():
        known = [value for _, value in values if value is not None]
        columns = [
            method,
            len(known),
            len(values) - len(known),
            f"{np.median(known):.1%}",
            f"{np.percentile(known, 90):.0%}",
        ]
        for steps in (500, 2500):
            part = [value for cell, value in values if value is not None and cell[1] == steps]
            columns.append(f"{np.median(part):.1%}, {np.percentile(part, 90):.0%}")
        print("|", *[f"{column} |" for column in columns])
    print(
        f"\nrank correlation of predicted and true order: median {np.median([r for _, r in orders]):.2f},"
        f" mean {np.mean([r for _, r in orders]):.2f}, positive in {np.mean([r > 0 for _, r in orders]):.0%}"
    )
    print("chosen:", ", ".join(f"{name} {len(where)}" for name, where in chosen.items()))
    print("\n| task | steps | best policy | order | regret of lrfinder: median, worst |")
    print("|---|---|---|---|---|")
    for cell in cells():
        regrets = [
            value
            for where, value in found["lrfinder, laws fitted without the task"]
            if where == cell and value is not None
        ]
        order = [r for where, r in orders if where == cell]
        text = f"{np.median(regrets):.1%}, {max(regrets):.0%}" if regrets else "no answer"
        print(f"| {cell[0]} | {cell[1]} | {best[cell]} | {np.median(order) if order else math.nan:+.2f} | {text} |")


def at_best(task: str, steps: int, policy: str, oracle: tuple[int, ...], test: tuple[int, ...]) -> float:
    """Loss on the test seeds at the rate that the oracle's seeds found best for a policy."""
    octaves, losses = mean_loss(task, steps, policy, oracle)
    rate = octaves[int(np.argmin(losses))]
    octaves, losses = mean_loss(task, steps, policy, test)
    return float(losses[int(np.argmin(abs(octaves - rate)))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("law", "run", "report"))
    parser.add_argument("searches", type=Path, nargs="?", default=Path(__file__).with_name("out") / "regret.jsonl")
    args = parser.parse_args()
    if args.command == "law":
        law()
    elif args.command == "run":
        run(args.searches)
    else:
        report(args.searches)


if __name__ == "__main__":
    main()
