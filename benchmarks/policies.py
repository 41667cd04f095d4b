"""What schedules do to the final loss, each at its own best rate: the two numbers of `lrfinder.answer.ranking`.

    python benchmarks/policies.py        # seconds; reads benchmarks/oracle.jsonl

In every cell (task, steps) of the oracle, ``log(loss / loss of a constant rate) = -removed * r + lost * o`` is fitted
by least squares over its schedules; printed are the mean and the covariance of both numbers over the cells, and what
a fixed schedule costs against the best one of each cell.
"""

from __future__ import annotations

import numpy as np
from oracle import MORE
from oracle_grid import cells, mean_loss, seeds_of

from lrfinder.answer.ranking import features
from lrfinder.schedules.policy import Policy

SCHEDULES = ("constant", "cosine", "wsd", *MORE)


def lowest(task: str, steps: int, schedule: str) -> float:
    return float(mean_loss(task, steps, schedule, tuple(sorted(seeds_of(schedule) & {10})))[1].min())


def main() -> None:
    numbers, regrets = [], []
    for task, steps in cells():
        losses = np.array([lowest(task, steps, schedule) for schedule in SCHEDULES])
        rows = [features(Policy(schedule, steps), steps) for schedule in SCHEDULES]
        columns = np.array([(-row.noise_removed, row.progress_lost) for row in rows])
        numbers.append(np.linalg.lstsq(columns, np.log(losses / losses[0]), rcond=None)[0])
        regrets.append(losses / losses.min() - 1)
    print(f"noise removed, progress lost: mean {np.mean(numbers, 0).round(3)}, over {len(numbers)} cells")
    print(f"covariance {np.cov(np.transpose(numbers)).round(4).tolist()}\n")
    print("| always this schedule | median regret | 90th percentile |\n|---|---|---|")
    for schedule, values in zip(SCHEDULES, np.transpose(regrets), strict=True):
        print(f"| {schedule} | {np.median(values):.1%} | {np.percentile(values, 90):.0%} |")


if __name__ == "__main__":
    main()
