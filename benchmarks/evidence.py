"""How much evidence pure noise gives, against real searches: the thresholds of refusal.

Range tests: the log-likelihood ratio of a descent. Probes: the rank correlation of loss and distance from the best.

    python benchmarks/evidence.py benchmarks/out/regret.jsonl        # two minutes; regret.py makes the record
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from lrfinder import Curve, Suggestion
from lrfinder.evidence.probe import Evidence, Outcome, Probe
from lrfinder.evidence.range_fit import fit_range
from lrfinder.evidence.valley import fit_valley

CURVES = 100
PLACES = [(11, x) for x in (-9, -7, -5, -6, -4)] + [(48, x) for x in (-6.5, -5.5, -7.5, -6)]
"""Steps and octaves of a typical search."""


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
        if row["method"] == "range test only" and "suggestion" in row:
            fit = fit_range(Curve.from_dict(row["suggestion"]["curves"][0]))
            if fit is not None:
                found.setdefault("real range tests", []).append(fit.evidence)
    return found


def orders(rows: list[dict]) -> dict[str, list[float]]:
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {"noise alone": []}
    curve = Curve(np.geomspace(1e-7, 1, 12), np.full(12, 2.0))
    for _ in range(5 * CURVES):

        def outcome(probe: Probe) -> Outcome:
            return Outcome(probe, np.full(probe.steps, 2.0), np.array([2 + 0.02 * rng.normal()]), 0.0)

        probes = tuple(outcome(Probe(2.0**x, n)) for n, x in PLACES)
        fit = fit_valley(Evidence(curve, outcome(Probe(0.0, 0)), probes, 12))
        found["noise alone"].append(fit.order if fit is not None else 0.0)
    for row in rows:
        if row["method"].startswith(("probe 300", "probe 250")) and "suggestion" in row:
            fit = fit_valley(Suggestion.from_dict(row["suggestion"]).evidence)
            if fit is not None:
                found.setdefault("real searches", []).append(fit.order)
    return found


def main() -> None:
    rows = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    for what, table in (("log-likelihood ratio", descents(rows)), ("rank correlation", orders(rows))):
        print(f"| {what} | number | 5% | 25% | median | 75% | 90% | 99% |\n|---|---|---|---|---|---|---|---|")
        for name, values in table.items():
            shares = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.9, 0.99])
            print(f"| {name} | {len(values)} | {' | '.join(f'{value:.2f}' for value in shares)} |")
        print()


if __name__ == "__main__":
    main()
