"""How much evidence of a descent pure noise gives, against real range tests: the threshold of refusal.

python benchmarks/evidence.py benchmarks/out/regret.jsonl        # a minute; the record is made by regret.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from lrfinder import Curve
from lrfinder.fit import fit_range

CURVES = 100


def noises(rng: np.random.Generator) -> dict[str, np.ndarray]:
    correlated = {"autocorrelation 0.5": rng.normal(size=100), "autocorrelation 0.9": rng.normal(size=100)}
    for name, values in correlated.items():
        for i in range(1, 100):
            values[i] += float(name.split()[1]) * values[i - 1]
    return {"normal": rng.normal(size=100), "Student t, 3 degrees": rng.standard_t(3, 100), **correlated}


def main() -> None:
    rng, lrs = np.random.default_rng(0), np.geomspace(1e-7, 10, 100)
    found: dict[str, list[float]] = {}
    for _ in range(CURVES):
        for name, values in noises(rng).items():
            fit = fit_range(Curve(lrs, 2 + 0.1 * values))
            if fit is not None:
                found.setdefault(name, []).append(fit.evidence)
    for row in map(json.loads, Path(sys.argv[1]).read_text().splitlines()):
        if row["method"] == "range test only" and "suggestion" in row:
            fit = fit_range(Curve.from_dict(row["suggestion"]["curves"][0]))
            if fit is not None:
                found.setdefault("real range tests", []).append(fit.evidence)
    print("| curves | number | lowest | median | 99th percentile | highest |\n|---|---|---|---|---|---|")
    for name, values in found.items():
        low, middle, high, highest = np.quantile(values, [0, 0.5, 0.99, 1])
        print(f"| {name} | {len(values)} | {low:.1f} | {middle:.1f} | {high:.1f} | {highest:.1f} |")


if __name__ == "__main__":
    main()
