"""Reading the stored oracle: the loss of a whole training at any rate, between those of the grid."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from functools import cache
from pathlib import Path

import numpy as np
from scipy.interpolate import PchipInterpolator

ORACLE_SEEDS, TEST_SEEDS = (0, 1), (10, 11, 12)
STORED = Path(__file__).with_name("oracle.jsonl")


@cache
def _losses() -> dict[tuple[str, int, str, int], dict[int, float]]:
    found: dict[tuple[str, int, str, int], dict[int, float]] = defaultdict(dict)
    for line in STORED.read_text().splitlines():
        task, steps, schedule, seed, octave, loss = json.loads(line)
        found[task, steps, schedule, seed][octave] = math.inf if loss is None else loss
    return found


@cache
def seeds_of(schedule: str) -> frozenset[int]:
    """Seeds for which every task and horizon was trained with a schedule."""
    whole = {(task, steps) for task, steps, kind, _ in _losses() if kind == "cosine"}
    seen: dict[int, set[tuple[str, int]]] = defaultdict(set)
    for task, steps, kind, seed in _losses():
        if kind == schedule:
            seen[seed].add((task, steps))
    return frozenset(seed for seed, where in seen.items() if where >= whole)


@cache
def mean_loss(task: str, steps: int, schedule: str, seeds: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Octaves (k,) that every seed was trained at, and the mean loss (k,), inf where one blew up."""
    cells = [_losses()[task, steps, schedule, seed] for seed in seeds]
    octaves = sorted(set.intersection(*(set(cell) for cell in cells)))
    return np.array(octaves, float), np.array([np.mean([cell[x] for cell in cells]) for x in octaves])


def cells(schedule: str = "cosine") -> list[tuple[str, int]]:
    """Task and steps of every cell that has all seeds."""
    found = [(task, steps) for task, steps, kind, seed in _losses() if kind == schedule and seed == 0]
    return [cell for cell in found if all((*cell, schedule, seed) in _losses() for seed in ORACLE_SEEDS + TEST_SEEDS)]


@cache
def best_octave(task: str, steps: int, schedule: str = "cosine") -> float:
    """The rate of the grid that the oracle's seeds found best."""
    octaves, losses = mean_loss(task, steps, schedule, ORACLE_SEEDS)
    return float(octaves[int(np.argmin(losses))])


def place(task: str, steps: int, schedule: str = "cosine", seeds: tuple[int, ...] = ORACLE_SEEDS) -> float:
    """Lowest place of the parabola through the best rate and its neighbours, in log loss: octaves."""
    return lowest(*mean_loss(task, steps, schedule, seeds))


def lowest(octaves: np.ndarray, losses: np.ndarray) -> float:
    """Lowest place of the parabola through the lowest loss and its neighbours, in log loss: octaves."""
    i = int(np.argmin(losses))
    if not 0 < i < len(octaves) - 1 or not np.all(np.isfinite(losses[i - 1 : i + 2])):
        return float(octaves[i])
    before, at, after = np.log(losses[i - 1 : i + 2])
    bend = before - 2 * at + after
    return float(octaves[i] + (np.clip((before - after) / (2 * bend), -0.5, 0.5) if bend > 0 else 0.0))


def held_out_loss(task: str, steps: int, lr: float, schedule: str = "cosine") -> float:
    """Mean validation loss over the test seeds at ``lr``, by monotone interpolation of its logarithm in log2(lr).

    Below the grid that of its lowest rate; above its last finite one inf.
    """
    octaves, losses = mean_loss(task, steps, schedule, TEST_SEEDS)
    finite = np.isfinite(losses)
    octaves, losses = octaves[finite], losses[finite]
    x = max(math.log2(lr), octaves[0])
    return (
        math.inf
        if x > octaves[-1] + 0.1
        else float(np.exp(PchipInterpolator(octaves, np.log(losses))(min(x, octaves[-1]))))
    )


def regret(task: str, steps: int, lr: float, schedule: str = "cosine") -> float:
    """Loss at ``lr`` over that at the oracle's rate, minus one, on seeds the oracle did not use; at most 10."""
    best = held_out_loss(task, steps, 2.0 ** best_octave(task, steps, schedule), schedule)
    return min(held_out_loss(task, steps, lr, schedule) / best - 1, 10.0)
