"""All measurements that need a GPU, in one short run: the tests marked `gpu`, snapshots, speed and peak memory.

    python benchmarks/gpu.py > gpu.md

Prints what `benchmarks/snapshot.py` and `benchmarks/speed.py` print for the GPU, and leaves the output of the tests in
`gpu-tests.txt`. Not 0 where a test failed. With `--device cpu`, a short trial of the same without tests and memory.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
from pathlib import Path

import torch
from speed import InFit, fit

from lrfinder import LRFinder

ROOT = Path(__file__).parent.parent
WIDE = (8192, 6, 512)
"""A model of 0.4 billion parameters; with AdamW, weights, gradients and state take 6.4 GB, of which 4.8 GB are kept."""


def run(*words):
    """Run a script or module in an interpreter of its own; return the process, its output as text."""
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT, check=False)


def peak(callback):
    """Return the peak bytes on the device of an epoch of the wide model with a callback."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    fit(callback, WIDE, "cuda")
    return torch.cuda.max_memory_allocated() - held


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    device = parser.parse_args().device
    small = ("--parameters", "4") if device == "cpu" else ()
    few = ("--repeats", "1", "--parts", "steps", "detector") if device == "cpu" else ("--repeats", "5")
    for script, options in (("snapshot", small), ("speed", few)):
        done = run(f"benchmarks/{script}.py", "--device", device, *options)
        print(done.stdout or done.stderr, flush=True)
    if device == "cpu":
        return
    logging.disable(logging.WARNING)
    alone = peak(InFit(lambda trainer, module: None, stop=False))
    searched = peak(LRFinder(budget=50, progress=False, on_failure="raise"))
    state = 3 * 4 * (6 * WIDE[0] ** 2 + 6 * WIDE[0] + 10 * WIDE[0] + 10)  # weights and AdamW's two moments, in float32
    print(f"peak memory: training {alone / 2**30:.2f} GiB, with a search {searched / 2**30:.2f} GiB, which is")
    print(f"{(searched - alone) / state:.2f} times the {state / 2**30:.2f} GiB of weights and optimizer state more")
    tests = run("-m", "pytest", "-q", "-o", "addopts=", "tests/promises/test_gpu.py", "-p", "no:cacheprovider")
    Path("gpu-tests.txt").write_text(tests.stdout + tests.stderr, encoding="utf-8")
    print("tests:", tests.stdout.splitlines()[-1] if tests.stdout else tests.stderr[-300:])
    sys.exit(tests.returncode)


if __name__ == "__main__":
    main()
