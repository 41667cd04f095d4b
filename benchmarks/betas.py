"""Whether probes tell which betas and eps of Adam are worth changing.

Each setting is trained in full at three rates, an octave apart, about the best one of the default setting, with "wsd"
after 15% of warmup, and the best of them counts: this is what there is to gain. Against that, one probe of each setting
at the rate that is best with the defaults: the setting of the lowest probe is then trained in full.

    python benchmarks/betas.py       # about ten minutes of one core
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict

import numpy as np
import torch
from oracle_grid import place
from scaling_probes import probe
from scaling_report import shares
from tasks import TASKS, Run, Task, build

from lrfinder.schedules.policy import Policy

NAMES = ("digits-cnn-adam", "digits-autoencoder-adam", "few-digits-mlp-adamw", "python-transformer-adamw")
SEEDS, STEPS, LENGTHS = (0, 1, 2), 500, (20, 50)
DEFAULT = {"betas": (0.9, 0.999), "eps": 1e-8}
SETTINGS = {
    "default": DEFAULT,
    "beta1 0.8": {**DEFAULT, "betas": (0.8, 0.999)},
    "beta1 0.95": {**DEFAULT, "betas": (0.95, 0.999)},
    "beta2 0.95": {**DEFAULT, "betas": (0.9, 0.95)},
    "beta2 0.99": {**DEFAULT, "betas": (0.9, 0.99)},
    "eps 1e-6": {**DEFAULT, "eps": 1e-6},
    "eps 1e-4": {**DEFAULT, "eps": 1e-4},
}


def with_setting(task: Task, seed: int, setting: str, lr: float = 1e-3) -> Run:
    run = build(task, seed, lr)
    for group in run.optimizer.param_groups:
        group.update(SETTINGS[setting])
    return run


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    policy = Policy("wsd", STEPS, round(0.15 * STEPS))
    print("| task | " + " | ".join(name for name in SETTINGS if name != "default") + " |")
    print("|---|" + "---|" * (len(SETTINGS) - 1))
    gains: dict[str, list[float]] = defaultdict(list)
    for task in (task for task in TASKS if task.name in NAMES):
        near = round(place(task.name, STEPS))
        rises: dict[str, list[float]] = defaultdict(list)
        for seed in SEEDS:
            swept = {
                (setting, octave): with_setting(task, seed, setting).train(2.0**octave, STEPS, policy)
                for setting in SETTINGS for octave in (near - 1, near, near + 1)
            }  # fmt: skip
            best = {name: min(loss for (of, _), loss in swept.items() if of == name) for name in SETTINGS}
            for name in SETTINGS:
                rises[name].append(best[name] / best["default"] - 1)
            octave = min((near - 1, near, near + 1), key=lambda octave: swept["default", octave])
            at_rate = {name: swept[name, octave] / swept["default", octave] - 1 for name in SETTINGS}
            for length in LENGTHS:
                probed = {
                    name: probe(with_setting(task, seed, name, 2.0**octave), 2.0**octave, length).mean
                    for name in SETTINGS
                }
                lowest = min((name for name in SETTINGS if math.isfinite(probed[name])), key=probed.__getitem__)
                gains[f"lowest of seven probes of {length} steps"].append(at_rate[lowest])
            gains["lowest of seven full trainings"].append(min(at_rate.values()))
            for name in SETTINGS:
                gains[f"always {name}"].append(at_rate[name])
        cells = " | ".join(shares(rises[name]) for name in SETTINGS if name != "default")
        print(f"| {task.name} | {cells} |", flush=True)
    print("\n| setting | full training at the best rate of the defaults, against them: mean | worst |\n|---|---|---|")
    for rule, found in gains.items():
        print(f"| {rule} | {np.mean(found):+.1%} | {max(found):+.1%} |")


if __name__ == "__main__":
    main()
