"""What schedules do to the final loss, each at its own best rate: the two numbers of `lrfinder.answer.ranking`.

    python benchmarks/policies.py        # seconds; reads benchmarks/oracle.jsonl

In every cell (task, steps) of the oracle, ``log(loss / loss of a constant rate) = -removed * r + lost * o`` is fitted
by least squares over its schedules; printed are the mean and the covariance of both numbers over the cells, and what
a fixed schedule costs against the best one of each cell; then the same of wsd after 0%, 5% and 15% of warmup.
"""

from __future__ import annotations

import numpy as np
from oracle import MORE
from oracle_grid import cells, mean_loss, seeds_of

from lrfinder.answer.ranking import features
from lrfinder.schedules.policy import Policy

SCHEDULES = ("constant", "cosine", "wsd", *MORE)
WARMED = ("wsd", "wsd+5", "wsd+15")


def lowest(task: str, steps: int, schedule: str, seeds: frozenset[int] = frozenset({10})) -> float:
    return float(mean_loss(task, steps, schedule, tuple(sorted(seeds_of(schedule) & seeds)))[1].min())


def show(schedules: tuple[str, ...], losses: list[np.ndarray]) -> None:
    """Print what always taking one schedule costs; ``losses`` has one array (schedules,) a cell."""
    print("| always this schedule | median regret | 90th percentile |\n|---|---|---|")
    for schedule, values in zip(schedules, np.transpose([cell / cell.min() - 1 for cell in losses]), strict=True):
        print(f"| {schedule} | {np.median(values):.1%} | {np.percentile(values, 90):.0%} |")


def main() -> None:
    numbers, cold = [], []
    for task, steps in cells():
        losses = np.array([lowest(task, steps, schedule) for schedule in SCHEDULES])
        rows = [features(Policy(schedule, steps), steps) for schedule in SCHEDULES]
        columns = np.array([(-row.noise_removed, row.progress_lost) for row in rows])
        numbers.append(np.linalg.lstsq(columns, np.log(losses / losses[0]), rcond=None)[0])
        cold.append(losses)
    print(f"noise removed, progress lost: mean {np.mean(numbers, 0).round(3)}, over {len(numbers)} cells")
    print(f"covariance {np.cov(np.transpose(numbers)).round(4).tolist()}\n")
    show(SCHEDULES, cold)
    print()
    both = frozenset({10, 11})
    show(WARMED, [np.array([lowest(*cell, schedule, both) for schedule in WARMED]) for cell in cells()])


if __name__ == "__main__":
    main()
