"""Regret of every way to pick a learning rate: loss of whole trainings at its pick over that at the oracle's pick.

    python benchmarks/oracle.py benchmarks/oracle.jsonl              # once, about an hour: stored
    python benchmarks/regret.py run benchmarks/out/regret.jsonl      # searches and peers; about 20 minutes on two cores
    python benchmarks/regret.py report benchmarks/out/regret.jsonl --plot docs/images/regret.png    # or --schedule wsd

The law of the drift (`lrfinder.evidence.valley.Drift`) is fitted by least squares to all tasks but the one reported.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from oracle_grid import TEST_SEEDS, best_octave, cells, held_out_loss, place, regret
from scipy.optimize import least_squares
from tasks import TASKS, Task, build
from torch.utils.data import DataLoader

import lrfinder
from lrfinder.answer.choose import choose
from lrfinder.answer.suggestion import Suggestion
from lrfinder.evidence.curve import Stage
from lrfinder.evidence.probe import Evidence
from lrfinder.evidence.valley import DRIFT, Drift, fit_valley
from lrfinder.probing import search as finder
from lrfinder.probing.options import SearchOptions
from lrfinder.probing.torch_loop import TorchTraining
from lrfinder.schedules.policy import Policy

BUDGETS = {500: (60, 125, 300), 2500: (60, 125, 250)}
DRAWS = 3
FIXED = (1e-2, 1e-3, 3e-4)
NO_DRIFT = Drift(0.0, 0.0, 0.0, 0.0, 0.0)


# -- running ----------------------------------------------------------------------------------------------------------


class Uncommon(TorchTraining):
    """The ablation without common random numbers: every probe draws other batches and other random numbers."""

    probes = 0

    def rewind(self) -> None:
        super().rewind()
        self.probes += 1
        torch.manual_seed(self.probes)
        if not len(self.kept.training):  # the first time, nothing is kept yet
            return
        for _ in range(17 * self.probes):
            next(self.kept.training)
        held = self.kept.held_out._kept
        held.append(held.pop(0))

    def evaluate(self):
        losses = super().evaluate()
        chosen = torch.randperm(len(losses), generator=torch.Generator().manual_seed(self.probes))
        return losses[chosen[: max(len(losses) // 2, 1)]]


def search(
    task: Task, steps: int, seed: int, budget: int, kind=TorchTraining, anneal: float = 1.0, draw: int = 0
) -> Suggestion:
    run = build(task, seed)
    run.loader.generator.manual_seed(seed + 1000 * draw)  # other batches, for which chance decides much
    held_out = DataLoader(run.validation, 64)
    trainee = kind(run.model, run.optimizer, task.loss, run.loader, run.train_step, val_loader=held_out)
    return choose(finder.search(trainee, SearchOptions("probe", steps, budget, anneal=anneal)), steps=steps)


def range_test(task: Task, steps: int, seed: int) -> Suggestion:
    run = build(task, seed)
    curve = lrfinder.range_test(run.model, run.optimizer, task.loss, run.loader, train_step=run.train_step)
    return lrfinder.suggest(curve, steps=steps)


def lightning_finder(task: Task, steps: int, seed: int) -> float | None:
    import lightning.pytorch as pl
    from lightning.pytorch.tuner.tuning import Tuner

    run = build(task, seed)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.lr = run.model, 1e-3

        def training_step(self, batch, batch_idx):
            return task.loss(self.network(batch[0]), batch[1])

        def configure_optimizers(self):
            return task.optimizer(self.network, self.lr)

    clip = task.clip if math.isfinite(task.clip) else None
    trainer = pl.Trainer(
        max_steps=steps, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accelerator="cpu", gradient_clip_val=clip,
    )  # fmt: skip
    found = Tuner(trainer).lr_find(Module(), train_dataloaders=run.loader)
    return found.suggestion() if found is not None else None


def torch_lr_finder(task: Task, steps: int, seed: int) -> float | None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from torch_lr_finder import LRFinder

    run = build(task, seed, lr=1e-7)
    finder = LRFinder(run.model, run.optimizer, task.loss, device="cpu")
    finder.range_test(run.loader, end_lr=100, num_iter=100)
    figure, axes = pyplot.subplots()
    _, lr = finder.plot(ax=axes, suggest_lr=True)
    pyplot.close(figure)
    return lr


def random_search(task: Task, steps: int, seed: int, budget: int, trials: int = 6) -> float | None:
    rates = 10 ** np.random.default_rng(seed).uniform(-5, 1, trials)
    length = budget // trials
    losses = [build(task, seed).train(float(lr), length, Policy("cosine", length)) for lr in rates]
    return float(rates[int(np.argmin(losses))]) if np.isfinite(min(losses)) else None


def parameter_free(task: Task, steps: int, seed: int, kind: str) -> float:
    """Loss of a whole training with Prodigy (cosine decay) or schedule-free AdamW, at their defaults."""
    import prodigyopt
    import schedulefree

    run = build(task, seed)
    parameters = [p for p in run.model.parameters() if p.requires_grad]
    if kind == "prodigy":
        run.optimizer = prodigyopt.Prodigy(parameters)
        return run.train(1.0, steps, Policy("cosine", steps))
    optimizer = run.optimizer = schedulefree.AdamWScheduleFree(parameters)
    optimizer.train()
    validate = run.validate
    run.validate = lambda: (optimizer.eval(), validate())[1]  # type: ignore[method-assign]
    return run.train(optimizer.defaults["lr"], steps, Policy("constant"))


def measure(job: tuple[int, int, int, str]) -> dict:
    index, steps, seed, method = job
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    task, most = TASKS[index], BUDGETS[steps][-1]
    row: dict = {"task": task.name, "steps": steps, "seed": seed, "method": method}
    try:
        name, _, detail = method.partition(" ")
        if name == "probe":
            budget, draw = detail.split(" draw ")
            row["suggestion"] = search(task, steps, seed, int(budget), draw=int(draw)).to_dict()
        elif method == "no common random numbers":
            row["suggestion"] = search(task, steps, seed, most, Uncommon).to_dict()
        elif method == "no anneal":
            row["suggestion"] = search(task, steps, seed, most, anneal=0.0).to_dict()
        elif method == "range test only":
            row["suggestion"] = range_test(task, steps, seed).to_dict()
        elif method == "random search":
            row["lr"] = random_search(task, steps, seed, most)
        elif method in ("prodigy", "schedule-free"):
            loss = parameter_free(task, steps, seed, method)
            row["loss"] = loss if math.isfinite(loss) else None
        else:
            row["lr"] = {"Lightning": lightning_finder, "torch-lr-finder": torch_lr_finder}[method](task, steps, seed)
    except Exception as error:
        row["error"] = f"{type(error).__name__}: {error}"
    return row


def run_all(path: Path) -> None:
    done = set()
    if path.exists():
        done = {tuple(json.loads(line)[key] for key in ("task", "steps", "seed", "method")) for line in path.open()}
    path.parent.mkdir(parents=True, exist_ok=True)
    index = {task.name: i for i, task in enumerate(TASKS)}
    jobs = []
    for name, steps in cells():
        for seed in TEST_SEEDS:
            methods = [f"probe {BUDGETS[steps][-1]} draw {draw}" for draw in range(DRAWS)]
            methods += [f"probe {budget} draw 0" for budget in BUDGETS[steps][:-1]]
            methods += ["no common random numbers", "no anneal", "range test only", "Lightning", "torch-lr-finder"]
            methods += ["random search", "prodigy", "schedule-free"]
            jobs += [(index[name], steps, seed, method) for method in methods]
    jobs = [job for job in jobs if (TASKS[job[0]].name, *job[1:]) not in done]
    jobs.sort(key=lambda job: job[3] in ("prodigy", "schedule-free"))
    with path.open("a") as record, ProcessPoolExecutor(2) as pool:
        for i, row in enumerate(pool.map(measure, jobs), start=1):
            record.write(json.dumps(row) + "\n")
            record.flush()
            print(f"{i}/{len(jobs)}", end="\r", flush=True)


# -- reporting --------------------------------------------------------------------------------------------------------


def fit_law(rows: list[dict]) -> Drift:
    """Robust least squares on the octaves between the probes' place and the oracle's, drawn towards theory.

    Theory: -0.15 octaves per doubling (a fair prior for language models), half of the drift seen goes on, and -1 where
    memorising limits.
    """
    theory, cases = np.array([-0.15, 0.5, 1.0, 1.0]), []
    for row in rows:
        landscape = fit_valley(Suggestion.from_dict(row["suggestion"]).evidence)
        if landscape is not None and row["lr"] is not None:
            doublings = math.log2(row["steps"] / landscape.steps)
            off = place(row["task"], row["steps"]) - float(landscape.weights @ landscape.place)
            drift = float(landscape.weights @ landscape.drift)
            cases.append((off, doublings, drift, *landscape.signs(row["steps"])))

    def misses(law: np.ndarray) -> np.ndarray:
        drift = Drift(*law)
        return np.array([off - doublings * drift.slope(np.asarray(p), v, s) for off, doublings, p, v, s in cases])

    law = least_squares(lambda law: np.append(misses(law), law - theory), theory, loss="soft_l1", f_scale=0.5).x
    return dataclasses.replace(Drift(*map(float, law)), spread=DRIFT.spread, place=DRIFT.place)


def without_warmup(evidence: Evidence) -> Evidence:
    """Evidence that recommends no warmup: the whole trainings here have none."""
    branches = tuple(o for o in evidence.branches if o.probe.stage != Stage.WARMUP)
    return dataclasses.replace(evidence, branches=branches)


def picks(rows: list[dict], schedule: str) -> dict[str, list[dict]]:
    """Per method, one entry a cell and seed: regret, and whether the interval held the oracle's rate."""
    longest = [r for r in rows if r["method"].startswith(f"probe {BUDGETS[r['steps']][-1]} ") and "suggestion" in r]
    for row in longest:
        row["lr"] = choose(Suggestion.from_dict(row["suggestion"]).evidence, steps=row["steps"]).lr  # for a refusal
    laws = {name: fit_law([r for r in longest if r["task"] != name]) for name in {r["task"] for r in rows}}
    print("law fitted to all tasks:", fit_law(longest), "\n")
    found: dict[str, list[dict]] = {}

    def add(method: str, row: dict, lr: float | None, interval=None, spent: int | None = None, loss=None) -> None:
        task, steps = row["task"], row["steps"]
        best = 2.0 ** best_octave(task, steps, schedule)
        if loss is not None:
            value = min(loss / held_out_loss(task, steps, best, schedule) - 1, 10.0)
        else:
            value = None if lr is None else regret(task, steps, lr, schedule)
        held = interval[0] <= best <= interval[1] if interval else None
        entry = {"task": task, "steps": steps, "seed": row["seed"], "lr": lr, "regret": value, "held": held}
        found.setdefault(method, []).append({**entry, "spent": spent, "interval": interval})

    def add_suggestion(method: str, row: dict, suggestion: Suggestion) -> None:
        if suggestion.alternatives:  # at the peak that is best for the schedule of the whole trainings
            suggestion = suggestion.with_policy(Policy(schedule, row["steps"]))
        interval = (suggestion.lr_low, suggestion.lr_high) if suggestion.lr else None
        add(method, row, suggestion.lr, interval, suggestion.steps_spent)

    for row in rows:
        method, steps = row["method"], row["steps"]
        main = method.startswith(f"probe {BUDGETS[steps][-1]} ")
        name = "lrfinder" if main else method.removesuffix(" draw 0")
        if "error" in row:
            add(name, row, None)
        elif "suggestion" in row:
            suggestion = Suggestion.from_dict(row["suggestion"])
            evidence = without_warmup(suggestion.evidence)
            if not evidence.probed:
                add_suggestion(name, row, suggestion)
                continue
            add_suggestion(name, row, choose(evidence, steps=steps, law=laws[row["task"]]))
            if main:
                add_suggestion("lrfinder, law of all tasks", row, choose(evidence, steps=steps))
                add_suggestion("no horizon drift", row, choose(evidence, steps=steps, law=NO_DRIFT))
        elif method in ("prodigy", "schedule-free"):
            add(method, row, None, loss=math.inf if row["loss"] is None else row["loss"])
        else:
            add(method, row, row["lr"])
    for name, steps in cells(schedule):
        for seed in TEST_SEEDS:
            for lr in FIXED:
                add(f"fixed {lr:g}", {"task": name, "steps": steps, "seed": seed}, lr)
    return found


def interval_of(entries: list[dict], share: float) -> tuple[float, float]:
    """90% bootstrap interval of a percentile, resampling tasks."""
    rng, tasks = np.random.default_rng(0), sorted({e["task"] for e in entries})
    values = {task: [e["regret"] for e in entries if e["task"] == task] for task in tasks}
    draws = [
        np.percentile(np.concatenate([values[task] for task in rng.choice(tasks, len(tasks))]), share)
        for _ in range(500)
    ]
    return tuple(np.percentile(draws, (5, 95)))


def report(path: Path, schedule: str, plot: Path | None) -> None:
    rows = [json.loads(line) for line in path.open()]
    found = picks(rows, schedule)
    order = ["lrfinder", "lrfinder, law of all tasks", "probe 125", "probe 60", "no horizon drift"]
    order += [
        "no common random numbers",
        "no anneal",
        "range test only",
        "torch-lr-finder",
        "Lightning",
        "random search",
    ]
    order += [*(f"fixed {lr:g}" for lr in FIXED), "prodigy", "schedule-free"]
    print("| method | runs | no answer | median (90% interval) | 90th percentile | 500 steps | 2500 steps | held |")
    print("|---|---|---|---|---|---|---|---|")
    for method in order:
        entries = found.get(method, [])
        answered = [e for e in entries if e["regret"] is not None]
        if not answered:
            continue
        columns = [method, len(answered), len(entries) - len(answered)]
        for share in (50, 90):
            low, high = interval_of(answered, share)
            columns.append(f"{np.percentile([e['regret'] for e in answered], share):.1%} ({low:.1%} to {high:.1%})")
        for steps in (500, 2500):
            part = [e["regret"] for e in answered if e["steps"] == steps]
            columns.append(f"{np.median(part):.1%}, {np.percentile(part, 90):.0%}" if part else "")
        held = [e["held"] for e in answered if e["held"] is not None]
        print("|", *[f"{column} |" for column in (*columns, f"{np.mean(held):.0%}" if held else "")])
    print("\n| task | steps | best rate | suggested: median (lowest to highest) | regret: median, worst | none |")
    print("|---|---|---|---|---|---|")
    for name, steps in cells(schedule):
        mine = [e for e in found["lrfinder"] if (e["task"], e["steps"]) == (name, steps)]
        best = f"{2.0 ** best_octave(name, steps, schedule):.2g}"
        lrs = sorted(e["lr"] for e in mine if e["lr"] is not None)
        if not lrs:
            print(f"| {name} | {steps} | {best} | | | {len(mine)} |")
            continue
        regrets = [e["regret"] for e in mine if e["lr"] is not None]
        print(
            f"| {name} | {steps} | {best} | {np.median(lrs):.2g} ({lrs[0]:.2g} to {lrs[-1]:.2g}) |"
            f" {np.median(regrets):.1%}, {max(regrets):.0%} | {len(mine) - len(lrs)} of {len(mine)} |"
        )
    if plot:
        draw(found, plot)


def draw(found: dict[str, list[dict]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    for steps, colour in ((500, "#1f6f54"), (2500, "#c4532d")):
        points = []
        for budget in BUDGETS[steps]:
            name = "lrfinder" if budget == BUDGETS[steps][-1] else f"probe {budget}"
            values = [e["regret"] for e in found[name] if e["steps"] == steps and e["regret"] is not None]
            spent = [e["spent"] for e in found[name] if e["steps"] == steps and e["regret"] is not None]
            points.append((100 * np.mean(spent) / steps, *(100 * np.percentile(values, s) for s in (50, 25, 75))))
        x, median, low, high = np.array(points).T
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(x, median, "o-", color=colour, label=f"lrfinder, {steps} steps (median, quartiles)")
        for name, mark in (("torch-lr-finder", "s"), ("Lightning", "^"), ("range test only", "x")):
            values = [e["regret"] for e in found[name] if e["steps"] == steps and e["regret"] is not None]
            axes.plot(100 * 100 / steps, 100 * np.median(values), mark, color=colour, label=f"{name}, {steps} steps")
    axes.set(xscale="log", yscale="log", xlabel="steps spent, % of the training", ylabel="regret, %")
    axes.set_xticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"], minor=False)
    axes.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"], minor=False)
    axes.minorticks_off()
    figure.legend(loc="outside lower center", frameon=False, fontsize="small", ncols=2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "report"))
    parser.add_argument("record", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--schedule", default="cosine", help="of the whole trainings (%(default)s)")
    args = parser.parse_args()
    if args.command == "run":
        run_all(args.record)
    else:
        report(args.record, args.schedule, args.plot)


if __name__ == "__main__":
    main()
