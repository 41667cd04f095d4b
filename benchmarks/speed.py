"""What a search costs beyond the training steps that it runs, as ratios to what runs beside it in the same process.

    python benchmarks/speed.py [--device cuda] [--parts steps range detector start-up] [--repeats 9] [--profile]

Prints a Markdown table per part. Both sides of a ratio take turns; each figure is the median over the repeats. Steps
are timed in seconds of the processor, so that other processes count little, and on a GPU in seconds of the clock, after
it has finished. `--profile` prints instead in which functions a Lightning probe step of the smallest model is spent.
"""

from __future__ import annotations

import argparse
import cProfile
import functools
import importlib.metadata
import logging
import pstats
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import LearningRateFinder
from lightning.pytorch.tuner import lr_finder
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

from lrfinder import Curve, Detector, LRFinder, PlateauDetector, write_curve_csv
from lrfinder.evidence.range_test import Ladder
from lrfinder.lightning.training import LightningTraining
from lrfinder.probing.runner import climb
from lrfinder.probing.torch_loop import TorchTraining

SIZES = {  # what a step takes, about -> width, hidden layers, batch size
    "cpu": {"0.3 ms": (32, 1, 8), "1 ms": (128, 2, 96), "1.6 ms": (160, 2, 160), "5 ms": (256, 2, 280),
            "30 ms": (512, 3, 480), "50 ms": (512, 3, 800)},
    "cuda": {"0.3 ms": (256, 2, 16), "1 ms": (1024, 12, 128), "1.6 ms": (1024, 20, 128), "5 ms": (4096, 6, 1024),
             "30 ms": (8192, 6, 2048), "50 ms": (8192, 6, 4096)},
}  # fmt: skip
TARGETS = {"0.3 ms": 1.5, "5 ms": 1.05, "30 ms": 1.05}
LADDER = Ladder(1e-7, 1e-5, 100)
FOLLOWED = 10_000
"""Losses that a detector follows; it looks at them 16 times per doubling of their number."""


class Net(pl.LightningModule):
    """A perceptron under AdamW, which logs nothing."""

    def __init__(self, width, layers, lr=1e-3):
        super().__init__()
        hidden = [part for _ in range(layers) for part in (nn.Linear(width, width), nn.ReLU())]
        self.net, self.lr = nn.Sequential(*hidden, nn.Linear(width, 10)), lr

    def forward(self, inputs):
        return self.net(inputs)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.lr)


def seconds(call, device):
    """Return the seconds that a call takes."""
    if device != "cuda":
        begun = time.process_time()
        call()
        return time.process_time() - begun
    torch.cuda.synchronize()
    begun = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - begun


def in_turns(calls, repeats, device):
    """Return the median seconds of each call, and the median over the repeats of the first over each other."""
    for call in calls:
        call()
    rows = [[seconds(call, device) for call in calls] for _ in range(repeats)]
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    return medians, [statistics.median(row[0] / row[place] for row in rows) for place in range(1, len(calls))]


def loader_of(width, batch, batches=100):
    data = TensorDataset(torch.randn(batch * batches, width), torch.randint(10, (batch * batches,)))
    return DataLoader(data, batch, shuffle=True)


def by_hand(module, optimizer, batches, device):
    """Take the steps of a ladder in a loop as anybody would write it."""
    for number, (inputs, targets) in enumerate(batches):
        batch = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        loss = module.training_step(batch, number)
        loss.backward()
        optimizer.step()


class InFit(pl.Callback):
    """Calls ``measure(trainer, module)`` where training would begin, and ends the fit after its first step."""

    def __init__(self, measure, stop=True):
        self.measure, self.result, self.stop = measure, None, stop

    def on_train_start(self, trainer, pl_module):
        self.result = self.measure(trainer, pl_module)
        trainer.should_stop = self.stop


def fit(callback, size, device, epochs=1):
    width, layers, batch = size
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="gpu" if device == "cuda" else "cpu", devices=1, callbacks=[callback], logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
            max_epochs=epochs,
        )  # fmt: skip
        trainer.fit(Net(width, layers), loader_of(width, batch))


def probe_and_bare(trainee, module, optimizer, repeats, device):
    """Return seconds of a probe step and of a bare one on the same batches, and their ratio, within `preserved`."""
    with trainee.preserved():
        trainee.rewind()
        trainee.keep_batches(LADDER.steps)
        trainee.rewind()
        kept = trainee._kept if isinstance(trainee, LightningTraining) else trainee.kept
        batches = [batch[0] if isinstance(trainee, LightningTraining) else batch for batch in kept.training]
        batches = [batches[number % len(batches)] for number in range(LADDER.steps)]
        calls = [lambda: climb(trainee, LADDER), lambda: by_hand(module, optimizer, batches, device)]
        (probe, bare), (ratio,) = in_turns(calls, repeats, device)
    return probe / LADDER.steps, bare / LADDER.steps, ratio


def steps(device, repeats):
    rows = []
    for name, target in TARGETS.items():
        width, layers, batch = size = SIZES[device][name]
        net = Net(width, layers).to(device)
        optimizer = net.configure_optimizers()
        trainee = TorchTraining(net, optimizer, nn.functional.cross_entropy, loader_of(width, batch))
        rows.append([f"plain torch, {name}", *probe_and_bare(trainee, net, optimizer, repeats, device), target])
        measure = InFit(
            lambda trainer, module: probe_and_bare(
                LightningTraining(trainer), module, trainer.optimizers[0], repeats, device
            )
        )
        fit(measure, size, device)
        rows.append([f"Lightning, {name}", *measure.result, target])
    table(["probe step against the bare step", "probe, ms", "bare, ms", "ratio", "target"], rows)


class Ours(LRFinder):
    device = "cpu"

    def on_train_start(self, trainer, pl_module):
        self.seconds = seconds(lambda: super(Ours, self).on_train_start(trainer, pl_module), self.device)
        trainer.should_stop = True


class Theirs(LearningRateFinder):
    device = "cpu"

    def on_fit_start(self, trainer, pl_module):
        self.seconds = seconds(lambda: super(Theirs, self).on_fit_start(trainer, pl_module), self.device)

    def on_train_start(self, trainer, pl_module):
        trainer.should_stop = True


def range_tests(device, repeats):
    rows = []
    for name, target in (("1 ms", 0.7), ("50 ms", 0.85)):
        found = []
        for _ in range(1 + repeats):
            ours = Ours(method="range", budget=100, min_lr=1e-7, max_lr=1e-3, progress=False)
            theirs = Theirs(min_lr=1e-7, max_lr=1e-3, num_training_steps=100, early_stop_threshold=None)
            for callback in (ours, theirs):
                callback.device = device
                fit(callback, SIZES[device][name], device)
            assert len(ours.curve) == len(theirs.optimal_lr.results["lr"]) == 100
            found.append((ours.seconds, theirs.seconds))
        ours, theirs = (statistics.median(column) / 100 for column in zip(*found[1:], strict=True))
        rows.append([f"step of {name}", ours, theirs, statistics.median(a / b for a, b in found[1:]), target])
    table(["range test of 100 steps against Lightning's", "ours, ms a step", "theirs", "ratio", "target"], rows)


class TimedDetector(PlateauDetector):
    spent = 0.0

    def on_train_batch_start(self, *arguments):
        begun = time.process_time()
        super().on_train_batch_start(*arguments)
        self.spent += time.process_time() - begun

    def on_train_batch_end(self, *arguments):
        begun = time.process_time()
        super().on_train_batch_end(*arguments)
        self.spent += time.process_time() - begun


def detector(device, repeats):
    width, layers, batch = SIZES[device]["1.6 ms"]
    net = Net(width, layers).to(device)
    optimizer, batches = net.configure_optimizers(), [*loader_of(width, batch)]
    losses = torch.linspace(3, 1, FOLLOWED, device=device).split(1)

    def follow():
        watch = Detector()
        for loss in losses:
            watch.update(loss, optimizer)

    (bare, followed), _ = in_turns([lambda: by_hand(net, optimizer, batches, device), follow], repeats, device)
    bare, followed = bare / len(batches), followed / len(losses)
    callback = TimedDetector()
    fit(callback, SIZES[device]["0.3 ms"], device, epochs=FOLLOWED // 100)
    spent = callback.spent / FOLLOWED
    rows = [["Detector.update", followed, bare, followed / bare, 0.02]]
    rows += [["PlateauDetector, in fit", spent, bare, spent / bare, 0.02]]
    table(["following the loss against the bare step", "cost, ms", "bare, ms", "ratio", "target"], rows)


def start_up(device, repeats):
    with tempfile.TemporaryDirectory() as folder:
        lrs = [10 ** (-5 + i / 10) for i in range(60)]
        path = Path(folder) / "curve.csv"
        write_curve_csv(Curve(lrs, [2 - 1 / (1 + (0.01 / lr) ** 2) + min(lr**3, 9) for lr in lrs]), path)
        command = ["-m", "lrfinder"]
        programs = {
            "python, nothing": (["-c", "pass"], ""),
            "import lrfinder": (["-c", "import lrfinder"], 0.15),
            "lrfinder --help": ([*command, "--help"], 0.4),
            "lrfinder suggest --curve curve.csv": ([*command, "suggest", "--curve", str(path)], 2),
            "lrfinder suggest": ([*command, "suggest"], 8),
            "import torch": (["-c", "import torch"], ""),
            "import lightning.pytorch": (["-c", "import lightning.pytorch"], ""),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
        for _ in range(repeats):
            for name, (arguments, _) in programs.items():
                before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
                subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=folder)
                clock, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
                found[name].append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, clock))
    middle = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in found.items()}
    bare = middle["python, nothing"][0]
    print("| fresh interpreter | processor, s | clock, s | processor over bare Python, s | target, s |")
    print("|---|---|---|---|---|")
    for name, (_, target) in programs.items():
        print(f"| {name} | {middle[name][0]:.2f} | {middle[name][1]:.2f} | {middle[name][0] - bare:.2f} | {target} |")
    print()


def table(titles, rows):
    print("|", " | ".join(titles), "|")
    print("|---" * len(titles) + "|")
    for name, one, other, ratio, target in rows:
        print(f"| {name} | {1000 * one:.3f} | {1000 * other:.3f} | {ratio:.3f} | {target} |", flush=True)
    print()


def profile(device):
    """Print where a probe step of the smallest model spends its time, by functions."""

    def measure(trainer, module):
        trainee, profiler = LightningTraining(trainer), cProfile.Profile()
        with trainee.preserved():
            trainee.keep_batches(LADDER.steps)
            trainee.rewind()
            climb(trainee, LADDER)
            for _ in range(10):
                profiler.runcall(climb, trainee, LADDER)
        return profiler

    inside = InFit(measure)
    fit(inside, SIZES[device]["0.3 ms"], device)
    pstats.Stats(inside.result).strip_dirs().sort_stats("cumtime").print_stats(50)


PARTS = {"steps": steps, "range": range_tests, "detector": detector, "start-up": start_up}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=SIZES)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--profile", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    vars(lr_finder)["tqdm"] = functools.partial(tqdm, disable=True)  # the bar of Lightning's range test
    if asked.profile:
        profile(asked.device)
        return
    name = torch.cuda.get_device_name() if asked.device == "cuda" else "CPU, one thread"
    version = importlib.metadata.version("lightning")
    print(f"torch {torch.__version__}, lightning {version}, {name}, {asked.repeats} repeats\n")
    for part in asked.parts:
        PARTS[part](asked.device, asked.repeats)


if __name__ == "__main__":
    main()
