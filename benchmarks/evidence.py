"""What a range test tells: whether there was a descent, and where the best rate of a whole training lies.

Prints the log-likelihood ratio of a descent in range tests of pure noise and in real ones, which gives the thresholds
of refusal, and how far the places of real range tests lie from the best rate.

python benchmarks/evidence.py benchmarks/out/regret.jsonl        # two minutes; regret.py makes the record
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from regret import best_rate, tasks_by_name

from lrfinder import Curve
from lrfinder.answer.suggestion import Suggestion
from lrfinder.evidence.range_fit import CLEAR, expected_place, fit_range, lowest_place, usable
from lrfinder.evidence.valley import memorises

CURVES = 100
LEAST_BUDGET = 80
"""Steps of a search from which on it begins with a range test of 40."""


def noises(rng: np.random.Generator) -> dict[str, np.ndarray]:
    correlated = {"autocorrelation 0.5": rng.normal(size=100), "autocorrelation 0.9": rng.normal(size=100)}
    for name, values in correlated.items():
        for i in range(1, 100):
            values[i] += float(name.split()[1]) * values[i - 1]
    return {"normal": rng.normal(size=100), "Student t, 3 degrees": rng.standard_t(3, 100), **correlated}


def descents(rows: list[dict]) -> dict[str, list[float]]:
    rng, lrs = np.random.default_rng(0), np.geomspace(1e-7, 10, 100)
    found: dict[str, list[float]] = {}
    for _ in range(CURVES):
        for name, values in noises(rng).items():
            found.setdefault(name, []).append(fit_range(Curve(lrs, 2 + 0.1 * values)).evidence)
    for row in rows:
        if row["method"].startswith("lrfinder") and "suggestion" in row:
            fit = fit_range(Curve.from_dict(row["suggestion"]["curves"][0]))
            if fit is not None:
                found.setdefault("real range tests", []).append(fit.evidence)
    return found


def places(rows: list[dict]) -> dict[tuple[str, str], list[tuple[float, float, float]]]:
    """Per family and kind of curve, octaves from the best rate to three places of a range test.

    They are the lowest place, where training left for good, and the place that is expected. Each task, length and seed
    counts once; trainings that memorise do not count.
    """
    tasks = tasks_by_name()
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    seen = set()
    for row in rows:
        key, method = (row["family"], row["task"], row["steps"]), row["method"]
        if "suggestion" not in row or key not in tasks or (*key, row["seed"]) in seen:
            continue
        evidence = Suggestion.from_dict(row["suggestion"]).evidence
        if int(method.split()[1]) < LEAST_BUDGET or memorises(row["steps"], evidence.epoch_steps):
            continue
        seen.add((*key, row["seed"]))
        fit, (lr, loss, left) = evidence.range_fit, usable(evidence.curve)
        if fit is None or left is None:
            continue
        kind = "a clear descent" if fit.evidence >= CLEAR else "no clear descent"
        best = np.log2(best_rate(tasks[key]))
        octaves = np.log2(lowest_place(lr, loss)), np.log2(left), expected_place(evidence.curve, fit)
        found.setdefault((row["family"], kind), []).append(tuple(octave - best for octave in octaves))
    return found


def main() -> None:
    rows = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    print("| log-likelihood ratio | number | 5% | 25% | median | 75% | 90% | 99% |\n|---|---|---|---|---|---|---|---|")
    for name, values in descents(rows).items():
        shares = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.9, 0.99])
        print(f"| {name} | {len(values)} | {' | '.join(f'{value:.2f}' for value in shares)} |")
    print("\n| octaves above the best rate | number | lowest place | left for good | expected |\n|---|---|---|---|---|")
    for (family, kind), of in sorted(places(rows).items()):
        cells = " | ".join(f"{mean:+.1f} ± {sd:.1f}" for mean, sd in zip(np.mean(of, 0), np.std(of, 0), strict=True))
        print(f"| {family}, {kind} | {len(of)} | {cells} |")


if __name__ == "__main__":
    main()
