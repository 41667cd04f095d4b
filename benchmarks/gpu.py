"""All measurements that need a GPU, in one short run: the tests marked `gpu`, the cost of snapshots and of probe steps.

    python benchmarks/gpu.py > gpu.json

Runs on the versions of torch and lightning that the machine has; prints one JSON object and leaves the output of the
tests in `gpu-tests.txt`. Not 0 where a test failed.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder import Detector
from lrfinder.lightning.training import LightningTraining
from lrfinder.plateau.gain_test import next_look

ROOT = Path(__file__).parent.parent
STEPS = 200


class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


class Timing(pl.Callback):
    """Times probe steps at the start of training, and training itself."""

    def on_train_start(self, trainer, pl_module):
        trainee = LightningTraining(trainer)
        with trainee.preserved():
            trainee.keep_batches(STEPS)
            trainee.rewind()
            self.probing = self._timed(lambda: [trainee.step() for _ in range(STEPS)])
        torch.cuda.synchronize()
        self.begun = time.perf_counter()

    def on_train_end(self, trainer, pl_module):
        torch.cuda.synchronize()
        self.training = (time.perf_counter() - self.begun) / trainer.global_step

    def _timed(self, call):
        call()  # warms up
        torch.cuda.synchronize()
        started = time.perf_counter()
        call()
        torch.cuda.synchronize()
        return (time.perf_counter() - started) / STEPS


def seconds_per_step():
    """Return the seconds of a probe step, and of a step of the same training."""
    warnings.simplefilter("ignore")
    data = TensorDataset(torch.randn(128 * STEPS, 256), torch.randint(10, (128 * STEPS,)))
    timing = Timing()
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="gpu", devices=1, max_epochs=1, callbacks=[timing], logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(Module(), DataLoader(data, 128))
    return timing.probing, timing.training


def detector_cost():
    """Return the seconds of a training step alone and followed by a `Detector`, and at how many steps it was read."""
    data = torch.randn(128, 256, device="cuda"), torch.randint(10, (128,), device="cuda")
    module = Module().cuda()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    count, found = 2000, {}
    for name in ("warm", "alone", "followed"):
        detector, looks = Detector(), 0
        torch.cuda.synchronize()
        begun = time.perf_counter()
        for step in range(1, count + 1):
            looking = next_look(step - 1) == step and step >= detector.min_steps
            looks += looking
            optimizer.zero_grad()
            loss = module.training_step(data, 0)
            loss.backward()
            optimizer.step()
            if name == "followed":
                torch.cuda.set_sync_debug_mode("default" if looking else "error")
                detector.update(loss, 1e-3)
        torch.cuda.set_sync_debug_mode("default")
        torch.cuda.synchronize()
        found[name] = (time.perf_counter() - begun) / count
    return {"alone": found["alone"], "followed": found["followed"], "steps": count, "reads": looks}


def main():
    if not torch.cuda.is_available():
        sys.exit("benchmarks/gpu.py needs CUDA, which this machine has not")
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "tests/test_gpu.py", "-p", "no:cacheprovider"],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    Path("gpu-tests.txt").write_text(tests.stdout + tests.stderr, encoding="utf-8")
    snapshot = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "snapshot.py", "--device", "cuda"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    probing, training = seconds_per_step()
    report = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "lightning": importlib.metadata.version("lightning"),
        "tests": tests.stdout.splitlines()[-1] if tests.stdout else tests.stderr[-300:],
        "snapshot": json.loads(snapshot.stdout),
        "seconds per probe step": probing,
        "seconds per step of training": training,
        "probe over training": round(probing / training, 2),
        "seconds per step with a plateau detector": detector_cost(),
    }
    print(json.dumps(report, indent=1))
    sys.exit(tests.returncode)


if __name__ == "__main__":
    main()
