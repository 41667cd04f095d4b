"""The log-likelihood ratio of a descent in range tests of pure noise, and in real ones: the thresholds of refusal.

python benchmarks/evidence.py benchmarks/out/regret.jsonl        # two minutes; regret.py makes the record
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from lrfinder import Curve
from lrfinder.evidence.range_fit import fit_range

CURVES = 100


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


def main() -> None:
    rows = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    print("| log-likelihood ratio | number | 5% | 25% | median | 75% | 90% | 99% |\n|---|---|---|---|---|---|---|---|")
    for name, values in descents(rows).items():
        shares = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.9, 0.99])
        print(f"| {name} | {len(values)} | {' | '.join(f'{value:.2f}' for value in shares)} |")


if __name__ == "__main__":
    main()
