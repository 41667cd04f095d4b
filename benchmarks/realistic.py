"""Realistic tasks that no constant of the search was chosen on: the models of ../shared/mid with other optimizers.

A convolutional network with batch normalisation on bytes of source files (23 classes, 32,734 windows), and a GPT of two
layers on tokens of the same text, each with optimizers that ../shared/mid has no sweep for. The full trainings take two
hours on two cores and are stored; searches are judged by `regret.py --family realistic`.

    python benchmarks/realistic.py benchmarks/realistic.jsonl [task ...]
"""

from __future__ import annotations

import itertools
import json
import math
import runpy
import sys
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset

import lrfinder
from lrfinder.answer.suggestion import Suggestion
from lrfinder.evidence.curve import Curve
from lrfinder.schedules.policy import Policy

MID = Path(__file__).parents[2] / "shared" / "mid"
STORED = Path(__file__).with_name("realistic.jsonl")
STEPS = 2000
SCHEDULE, POLICY = "wsd+15", Policy("wsd", STEPS, 300)
"""What was swept, as `regret.py` names it: the policy that is suggested, with its warmup of 15%."""

MAX_NORM = 1.0
"""Maximum norm of the gradient of the language model, as in ../shared/mid."""


class Lion(torch.optim.Optimizer):
    """Sign of an interpolated momentum, with decoupled weight decay (Chen et al. 2023, algorithm 2)."""

    def __init__(self, params: Any, lr: float, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            beta, slow = group["betas"]
            for p in (p for p in group["params"] if p.grad is not None):
                average = self.state[p].setdefault("average", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * average.lerp(p.grad, 1 - beta).sign_())
                average.lerp_(p.grad, 1 - slow)


OPTIMIZERS: dict[str, Any] = {
    "adamw": lambda p: torch.optim.AdamW(p, 1e-3, betas=(0.9, 0.95), weight_decay=0.1),
    "sgd": lambda p: torch.optim.SGD(p, 1e-1),
    "momentum": lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9, nesterov=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, 1e-2),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-3),
    "lion": lambda p: Lion(p, 1e-4, weight_decay=0.1),
}


@cache
def _models() -> Any:
    models: Any = runpy.run_path(str(MID / "oracle.py"))["MODELS"]
    sizes = {"D": 64, "L": 2, "H": 2, "CTX": 64}
    return {"gpt": type("SmallLM", (models["lm"],), sizes), "cnn": models["clf"]}


class Net(nn.Module):
    """One replica of a model of ../shared/mid/oracle.py; called with a batch, it returns the mean loss."""

    def __init__(self, kind: str, seed: int) -> None:
        super().__init__()
        self.of = _models()[kind]
        made = self.of.params(1, "cpu", 1000 + seed)
        self.weights = nn.ParameterDict({name: nn.Parameter(value.detach()) for name, value in made.items()})
        for name, value in self.of.buffers(1, "cpu").items():
            self.register_buffer(f"running_{name}", value)

    def forward(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        running = {name.removeprefix("running_"): value for name, value in self.named_buffers()}
        loss: Tensor = self.of.loss(dict(self.weights.items()), running, *batch, self.training).mean()
        return loss


@cache
def _data(kind: str) -> tuple[TensorDataset, TensorDataset]:
    x, y, held_x, held_y = _models()[kind].data(str(MID))
    return TensorDataset(x, y), TensorDataset(held_x, held_y)


@cache
def _stored() -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for line in STORED.read_text().splitlines():
        name, _, octave, loss = json.loads(line)
        found[name][octave] = math.inf if loss is None else loss
    return found


@dataclass(frozen=True)
class Realistic:
    """A model and an optimizer, and log2 of the lowest and highest rate of the sweep."""

    kind: str
    optimizer: str
    low: int
    high: int

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.optimizer}"

    @property
    def steps(self) -> int:
        return STEPS

    def schedules(self) -> tuple[str, str, list[str]]:
        """Return the suggested schedule, the one that peers get, and all that were swept: there is one."""
        return SCHEDULE, SCHEDULE, [SCHEDULE]

    def oracle(self, schedule: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the octaves of the sweep (k,) and its validation losses (k,)."""
        losses = _stored()[self.name]
        octaves = sorted(losses)
        return np.array(octaves, float), np.array([losses[octave] for octave in octaves])

    def search(self, seed: int, budget: int) -> Suggestion:
        model, optimizer, loader, held = self.made(seed)
        return lrfinder.find_lr(
            model, optimizer, None, loader, held, steps=STEPS, budget=budget, val_step=model,
            train_step=lambda batch: self.train_step(model, optimizer, batch),
        )  # fmt: skip

    def range_test(self, seed: int, max_lr: float) -> Curve:
        model, optimizer, loader, _ = self.made(seed)
        return lrfinder.range_test(
            model, optimizer, None, loader, max_lr=max_lr,
            train_step=lambda batch: self.train_step(model, optimizer, batch),
        )  # fmt: skip

    def made(self, seed: int) -> tuple[Net, torch.optim.Optimizer, Any, Any]:
        torch.manual_seed(seed)
        model = Net(self.kind, seed)
        train, held = _data(self.kind)
        loader = DataLoader(
            train, model.of.B, shuffle=True, drop_last=True, generator=torch.Generator().manual_seed(seed)
        )
        mixed = Subset(held, torch.randperm(len(held)).tolist())
        return model, OPTIMIZERS[self.optimizer](model.parameters()), loader, DataLoader(mixed, 128)

    def train_step(self, model: Net, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor]) -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(batch)
        torch.autograd.backward(loss)
        if self.kind == "gpt":
            nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        return loss.detach()

    def train(self, lr: float, seed: int) -> float:
        """Validation loss of a whole training; inf where it blew up."""
        model, optimizer, loader, held = self.made(seed)
        passes = itertools.chain.from_iterable(itertools.repeat(loader))
        for step, batch in enumerate(itertools.islice(passes, STEPS)):
            for group in optimizer.param_groups:
                group["lr"] = lr * POLICY(step)
            loss = self.train_step(model, optimizer, batch)
            if step % 50 == 0 and not math.isfinite(float(loss)):
                return math.inf
        model.eval()
        with torch.no_grad():
            total = sum(float(model(batch)) * len(batch[0]) for batch in held)
        return total / len(held.dataset)


TASKS = (
    Realistic("cnn", "adamw", -12, -2), Realistic("cnn", "sgd", -3, 4), Realistic("cnn", "lion", -15, -4),
    Realistic("cnn", "adagrad", -9, -2), Realistic("gpt", "lion", -14, -7), Realistic("gpt", "sgd", -2, 5),
    Realistic("gpt", "adagrad", -8, -1), Realistic("gpt", "rmsprop", -13, -6), Realistic("gpt", "momentum", -5, 2),
)  # fmt: skip


def main() -> None:
    path, *names = sys.argv[1:]
    record = Path(path)
    done = {tuple(json.loads(line)[:3]) for line in record.open()} if record.exists() else set()
    torch.set_num_threads(1)
    with record.open("a") as file:
        for task in TASKS:
            for octave in range(task.low, task.high + 1):
                if (task.name, SCHEDULE, octave) in done or (names and task.name not in names):
                    continue
                loss = task.train(2.0**octave, 0)
                row = [task.name, SCHEDULE, octave, float(f"{loss:.6g}") if math.isfinite(loss) else None]
                file.write(json.dumps(row) + "\n")
                file.flush()


if __name__ == "__main__":
    main()
