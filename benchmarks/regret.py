"""What each way of choosing a learning rate costs, by family of tasks, horizon and budget.

Regret is the loss of a whole training as recommended (rate, warmup, policy) over that of the best cell of the oracle
(rate x policy x warmup), minus one. The families are `small` (benchmarks/tasks.py, trained in full on a CPU) and `mid`
(two tasks of real scale in ../shared/mid, trained in full on a GPU).

    python benchmarks/oracle.py benchmarks/oracle.jsonl --schedules constant cosine wsd wsd+5 wsd+15   # stored
    python benchmarks/regret.py run benchmarks/out/regret.jsonl                  # about two hours on two cores
    python benchmarks/regret.py run benchmarks/out/regret.jsonl --family small   # twenty minutes
    python benchmarks/regret.py report benchmarks/out/regret.jsonl
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import torch
from oracle_grid import cells, mean_loss, seeds_of
from realistic import MID, Realistic
from realistic import TASKS as REALISTIC
from tasks import TASKS, build
from torch.utils.data import DataLoader, Subset

import lrfinder
from lrfinder.answer.choose import choose
from lrfinder.answer.suggestion import Suggestion
from lrfinder.evidence.curve import Curve
from lrfinder.schedules.policy import Policy

SEEDS = {"small": (10, 11), "mid": (0, 1), "realistic": (0, 1)}
BUDGETS = {500: (50, 100, 200), 2500: (50, 125, 250)}
SHARES = (0.02, 0.05, 0.1)
FIXED = (1e-2, 1e-3, 3e-4)
RULES = ("Lightning", "torch-lr-finder", "fastai minimum/10")
FREE = ("prodigy", "schedule-free")


# -- tasks and their oracles ------------------------------------------------------------------------------------------


class Small:
    """A task of benchmarks/tasks.py and a number of steps."""

    def __init__(self, name: str, steps: int) -> None:
        self.name, self.steps = name, steps
        self.task = next(task for task in TASKS if task.name == name)

    def oracle(self, schedule: str) -> tuple[np.ndarray, np.ndarray]:
        seeds = tuple(seed for seed in SEEDS["small"] if seed in seeds_of(schedule)) or (10,)
        return mean_loss(self.name, self.steps, schedule, seeds)

    def schedules(self) -> tuple[str, str, list[str]]:
        return "wsd+15", "wsd", ["wsd+15", "wsd+5", "wsd", "cosine", "constant"]

    def search(self, seed: int, budget: int) -> Suggestion:
        run = build(self.task, seed)
        return lrfinder.find_lr(
            run.model, run.optimizer, self.task.loss, run.loader, DataLoader(run.validation, 64), steps=self.steps,
            budget=budget, train_step=run.train_step,
        )  # fmt: skip

    def range_test(self, seed: int, max_lr: float) -> Curve:
        run = build(self.task, seed)
        return lrfinder.range_test(
            run.model, run.optimizer, self.task.loss, run.loader, train_step=run.train_step, max_lr=max_lr
        )

    def free(self, seed: int, kind: str) -> float:
        """Loss of a whole training with Prodigy (cosine decay) or schedule-free AdamW, at their defaults."""
        import prodigyopt
        import schedulefree

        run = build(self.task, seed)
        parameters = [p for p in run.model.parameters() if p.requires_grad]
        if kind == "prodigy":
            run.optimizer = prodigyopt.Prodigy(parameters)
            return run.train(1.0, self.steps, Policy("cosine", self.steps))
        optimizer = run.optimizer = schedulefree.AdamWScheduleFree(parameters)
        optimizer.train()
        validate = run.validate
        run.validate = lambda: (optimizer.eval(), validate())[1]  # type: ignore[method-assign]
        return run.train(optimizer.defaults["lr"], self.steps, Policy("constant"))


class Mid:
    """A task of ../shared/mid and a number of steps."""

    def __init__(self, name: str, steps: int) -> None:
        self.name, self.steps = name, steps
        self.values = json.loads((MID / f"{name}_{steps}.json").read_text())["val"]

    def oracle(self, schedule: str) -> tuple[np.ndarray, np.ndarray]:
        name, _, warmup = schedule.partition("+")
        found = defaultdict(list)
        for key, value in self.values.items():
            of, steps, octave, _ = key.split("|")
            if (of, steps) == (name, warmup or "0"):
                found[float(octave)].append(math.inf if value is None or not math.isfinite(value) else value)
        octaves = sorted(found)
        return np.array(octaves), np.array([np.mean(found[x]) for x in octaves])

    def schedules(self) -> tuple[str, str, list[str]]:
        known = {(key.split("|")[0], int(key.split("|")[1])) for key in self.values}
        warm = max(warmup for name, warmup in known if name == "wsd")
        plain = "wsd" if ("wsd", 0) in known else f"wsd+{warm}"
        return f"wsd+{warm}" if warm else "wsd", plain, [f"{name}+{warmup}" for name, warmup in sorted(known)]

    def _made(self, seed: int) -> tuple:
        sys.path.insert(0, str(MID))
        import target  # type: ignore[import-not-found]  # found there alone

        torch.manual_seed(seed)
        module = target.Mid("lm", "adamw", seed=seed) if "lm" in self.name else target.Mid("clf", "sgdm", 5e-4, 0.0)
        data = module.train_dataloader()
        generator = torch.Generator().manual_seed(seed)
        loader = DataLoader(data.dataset, data.batch_size, shuffle=True, drop_last=True, generator=generator)
        held = module.val_dataloader().dataset
        val_loader = DataLoader(Subset(held, torch.randperm(len(held)).tolist()), 32 if "lm" in self.name else 128)
        optimizer = module.configure_optimizers()

        def train_step(batch):
            optimizer.zero_grad()
            loss = module.loss(batch).mean()
            loss.backward()
            module.configure_gradient_clipping(optimizer)
            optimizer.step()
            return loss.detach()

        return module, optimizer, loader, val_loader, train_step

    def search(self, seed: int, budget: int) -> Suggestion:
        module, optimizer, loader, val_loader, train_step = self._made(seed)
        return lrfinder.find_lr(
            module, optimizer, module.loss, loader, val_loader, steps=self.steps, budget=budget,
            train_step=train_step, val_step=lambda batch: module.loss(batch).mean(),
        )  # fmt: skip

    def range_test(self, seed: int, max_lr: float) -> Curve:
        module, optimizer, loader, _, train_step = self._made(seed)
        return lrfinder.range_test(module, optimizer, module.loss, loader, train_step=train_step, max_lr=max_lr)


AnyTask = Small | Mid | Realistic


def tasks_by_name() -> dict[tuple[str, str, int], AnyTask]:
    """Every task by its family, name and number of steps, as the rows of a record name it."""
    return {(family, task.name, task.steps): task for family, tasks in families().items() for task in tasks}


@cache
def families() -> dict[str, list[AnyTask]]:
    mid: list[AnyTask] = [] if not MID.exists() else [
        *(Mid("clf_sgdm", steps) for steps in (1000, 4000)), *(Mid("lm_adamw", steps) for steps in (1000, 4000, 16000)),
    ]  # fmt: skip
    realistic: list[AnyTask] = [*REALISTIC] if MID.exists() else []
    return {"small": [Small(*cell) for cell in cells()], "mid": mid, "realistic": realistic}


def loss_at(task: AnyTask, schedule: str, lr: float) -> float:
    """Loss of the oracle at a rate, its logarithm interpolated over log2(lr); inf beyond a cell that blew up."""
    octaves, losses = task.oracle(schedule)
    x = min(max(math.log2(lr), octaves[0]), octaves[-1])
    i = min(int(np.searchsorted(octaves, x, "right")), len(octaves) - 1)
    low, high = losses[i - 1], losses[i]
    if not math.isfinite(high):
        return low if x - octaves[i - 1] < 0.5 else math.inf
    share = (x - octaves[i - 1]) / (octaves[i] - octaves[i - 1])
    return float(np.exp((1 - share) * np.log(low) + share * np.log(high))) if math.isfinite(low) else math.inf


def best_loss(task: AnyTask) -> float:
    return min(float(task.oracle(schedule)[1].min()) for schedule in task.schedules()[2])


def best_rate(task: AnyTask) -> float:
    """Return the learning rate of the grid that is best with the suggested policy and warmup."""
    octaves, losses = task.oracle(task.schedules()[0])
    return float(2.0 ** octaves[int(np.argmin(losses))])


# -- the rules of others, each on a range test of 100 steps -----------------------------------------------------------


def smoothed(losses: np.ndarray, keep: float, debias: bool) -> np.ndarray:
    """Return the exponential moving average that a tool shows."""
    average, found = (0.0 if debias else losses[0]), []
    for i, loss in enumerate(losses):
        average = keep * average + (1 - keep) * loss
        found.append(average / (1 - keep ** (i + 1)) if debias else average)
    return np.array(found)


def rule(name: str, curve: Curve) -> float | None:
    """Return what a tool suggests from a range test; None where it suggests nothing.

    Lightning's `LearningRateFinder` and torch-lr-finder take the steepest descent of their average, the former without
    the first ten points and the last; fastai's `minimum` is a tenth of where its average is lowest.
    """
    losses = curve.loss[np.isfinite(curve.loss)]
    if name == "fastai minimum/10":
        average = smoothed(losses, 0.98, True)
        return float(curve.lr[int(np.argmin(average))]) / 10
    if name == "Lightning":
        average = smoothed(losses, 0.98, True)[10:-1]
        return float(curve.lr[10 + int(np.argmin(np.gradient(average)))]) if average.size > 1 else None
    average = smoothed(losses, 0.95, False)
    return float(curve.lr[int(np.argmin(np.gradient(average)))]) if average.size > 1 else None


# -- running ----------------------------------------------------------------------------------------------------------


def measure(job: tuple[str, int, int, str]) -> dict:
    family, index, seed, method = job
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    task = families()[family][index]
    row: dict = {"family": family, "task": task.name, "steps": task.steps, "seed": seed, "method": method}
    try:
        if method.startswith("lrfinder"):
            row["suggestion"] = task.search(seed, int(method.partition(" ")[2])).to_dict()
        elif method in FREE and isinstance(task, Small):
            loss = task.free(seed, method)
            row["loss"] = loss if math.isfinite(loss) else None
        else:
            row["lr"] = rule(
                method, task.range_test(seed, {"Lightning": 1.0, "torch-lr-finder": 100.0}.get(method, 10))
            )
    except Exception as error:
        row["error"] = f"{type(error).__name__}: {error}"
    return row


def budgets(task: AnyTask) -> tuple[int, ...]:
    if isinstance(task, Small):
        return BUDGETS[task.steps]
    return tuple(max(round(share * task.steps), 20) for share in SHARES)


def jobs(family: str, seeds: list[int] | None) -> Iterator[tuple[str, int, int, str]]:
    for index, task in enumerate(families()[family]):
        for seed in seeds or SEEDS[family]:
            methods = [*(f"lrfinder {budget}" for budget in budgets(task)), *RULES]
            yield from ((family, index, seed, method) for method in methods)
            if family == "small":
                yield from ((family, index, seed, method) for method in FREE)


def run(path: Path, names: list[str], methods: str, longest: int, seeds: list[int] | None) -> None:
    keys = ("family", "task", "steps", "seed", "method")
    done = {tuple(json.loads(line)[key] for key in keys) for line in path.open()} if path.exists() else set()
    path.parent.mkdir(parents=True, exist_ok=True)
    wanted = []
    for job in (job for family in names for job in jobs(family, seeds)):
        task = families()[job[0]][job[1]]
        if (job[0], task.name, task.steps, *job[2:]) not in done and methods in job[3] and task.steps <= longest:
            wanted.append(job)
    with path.open("a") as record, ProcessPoolExecutor(2) as pool:
        for i, row in enumerate(pool.map(measure, wanted), start=1):
            record.write(json.dumps(row) + "\n")
            record.flush()
            print(f"{i}/{len(wanted)}", end="\r", flush=True)


# -- reporting --------------------------------------------------------------------------------------------------------


def entries(rows: list[dict], anew: bool) -> dict[tuple[str, int, str], list[dict]]:
    """Per family, horizon and method, one entry a task and seed: regret, steps spent, whether the interval held."""
    found = defaultdict(list)
    by_name = tasks_by_name()
    for row in rows:
        if (row["family"], row["task"], row["steps"]) not in by_name:
            continue
        task = by_name[row["family"], row["task"], row["steps"]]
        warm, plain, _ = task.schedules()
        best = best_loss(task)

        def add(method: str, loss: float | None, of: dict = row, best: float = best, **more) -> None:
            regret = None if loss is None else min(loss / best - 1, 10.0)
            entry = {"task": of["task"], "seed": of["seed"], "regret": regret, **more}
            found[of["family"], of["steps"], method].append(entry)

        if "suggestion" in row:
            suggestion = Suggestion.from_dict(row["suggestion"])
            if anew:
                suggestion = choose(suggestion.evidence, steps=row["steps"])
            place = best_rate(task)
            lr, low, high = suggestion.lr, suggestion.lr_low or 0.0, suggestion.lr_high or 0.0
            held = None if lr is None else low <= place <= high
            loss = None if lr is None else loss_at(task, warm, lr)
            octave = None if lr is None else math.log2(lr)
            add(row["method"], loss, held=held, spent=suggestion.steps_spent, octave=octave, truth=math.log2(place))
        elif row["method"] in FREE:
            add(row["method"], math.inf if row["loss"] is None else row["loss"])
        else:
            lr = None if "error" in row else row["lr"]
            add(row["method"], None if lr is None else loss_at(task, plain, lr))
            add(f"{row['method']}, with our warmup", None if lr is None else loss_at(task, warm, lr))
    for (family, _, steps), task in by_name.items():
        for lr in FIXED:
            regret = min(loss_at(task, task.schedules()[1], lr) / best_loss(task) - 1, 10.0)
            found[family, steps, f"fixed {lr:g}"].append({"task": task.name, "seed": 0, "regret": regret})
    return found


def report(path: Path, anew: bool, details: int) -> None:
    found = entries([json.loads(line) for line in path.open()], anew)
    errors = [row for row in map(json.loads, path.open()) if "error" in row]
    print("| family | steps | method | runs | no answer | median | 90th percentile | interval held |")
    print("|---|---|---|---|---|---|---|---|")
    order: Callable[[tuple], tuple] = lambda key: (key[0], key[1], not key[2].startswith("lrfinder"), key[2])
    for family, steps, method in sorted(found, key=order):
        of = found[family, steps, method]
        answered = [entry["regret"] for entry in of if entry["regret"] is not None]
        held = [entry["held"] for entry in of if entry.get("held") is not None]
        median, ninth = (f"{np.percentile(answered, share):.1%}" if answered else "" for share in (50, 90))
        spent = {entry["spent"] for entry in of if "spent" in entry}
        name = f"{method} ({min(spent)} to {max(spent)} steps)" if spent else method
        share = f"{np.mean(held):.0%}" if held else ""
        print(f"| {family} | {steps} | {name} | {len(of)} | {len(of) - len(answered)} | {median} | {ninth} | {share} |")
    for row in errors:
        print("error:", row["task"], row["steps"], row["method"], row["error"][:100])
    columns = ("task", "seed", "octave", "truth", "regret", "held")
    for (family, steps, method), of in sorted(found.items()) if details else ():
        for entry in of if method.startswith("lrfinder") else ():
            if entry["regret"] is None or entry["regret"] > 0.08 or details > 1:
                print(family, steps, method, *(entry[name] for name in columns))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "report"))
    parser.add_argument("record", type=Path)
    parser.add_argument("--family", choices=tuple(SEEDS), help="run this family only")
    parser.add_argument("--seeds", type=int, nargs="+", help="of the searches, in place of the usual ones")
    parser.add_argument("--longest", type=int, default=10**9, help="leave out longer trainings")
    parser.add_argument("--methods", default="", help="run the methods whose name holds this only")
    parser.add_argument("--anew", action="store_true", help="draw the conclusions anew from the recorded measurements")
    parser.add_argument("--details", action="count", default=0, help="print the searches with large regret, twice: all")
    args = parser.parse_args()
    if args.command == "run":
        run(args.record, [args.family] if args.family else [*SEEDS], args.methods, args.longest, args.seeds)
    else:
        report(args.record, args.anew, args.details)


if __name__ == "__main__":
    main()
