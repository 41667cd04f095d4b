"""What it costs to keep a training state and to put it back: time and bytes, beside a deep copy of the state dicts.

    python benchmarks/snapshot.py [--parameters 100] [--device cuda]

Prints one JSON object. The model is a stack of square layers with batch normalisation, trained for one step with AdamW,
so that its optimizer state is two more copies of its parameters.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time

import torch
from torch import nn

from lrfinder.snapshot.snapshot import Snapshot

WIDTH = 2048
REPEATS = 5


def timed(device, *calls):
    """Return the median seconds of each call, which take turns, and what the last one returned."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(REPEATS):
        for call, taken in zip(calls, seconds, strict=True):
            result = None  # frees the one before
            if device.type == "cuda":
                torch.cuda.synchronize()
            started = time.perf_counter()
            result = call()
            if device.type == "cuda":
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - started)
    return *map(statistics.median, seconds), result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=float, default=100, help="millions")
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    device = torch.device(asked.device)

    layers = max(round(asked.parameters * 1e6 / WIDTH**2), 1)
    parts = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH)) for _ in range(layers)]
    model = nn.Sequential(*parts).to(device)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, WIDTH, device=device)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    tensors = [*model.parameters(), *model.buffers()]
    tensors += [value for state in optimizer.state.values() for value in state.values()]

    deep, take, snapshot = timed(
        device,
        lambda: copy.deepcopy((model.state_dict(), optimizer.state_dict())),
        lambda: Snapshot(model, optimizer),
    )
    held = snapshot.nbytes
    copies = [tensor.detach().clone() for tensor in tensors]

    def copy_back():
        with torch.no_grad():
            for tensor, saved in zip(tensors, copies, strict=True):
                tensor.copy_(saved)

    load, restore, _ = timed(device, copy_back, snapshot.restore)
    to_host: dict[str, float] | None = None
    if device.type == "cuda":
        started = time.perf_counter()
        snapshot.to_host()
        torch.cuda.synchronize()
        to_host = {"move": time.perf_counter() - started, "restore": timed(device, snapshot.restore)[0]}
    size = sum(tensor.nbytes for tensor in tensors)
    report = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "state_bytes": size,
        "snapshot_bytes": held,
        "snapshot_over_state": round(held / size, 4),
        "seconds": {"take": take, "restore": restore, "deepcopy of state dicts": deep, "copying back": load},
        "take_over_deepcopy": round(take / deep, 2),
        "restore_over_copying_back": round(restore / load, 2),
        "in_host_memory": to_host,
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
