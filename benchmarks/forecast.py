"""The loss-curve law on nine public curves of a 25M language model: how far off are forecasts of curves not fitted?

python benchmarks/forecast.py ../shared/data/llm_curves/25M [docs/images/forecast.png]    # five minutes on one core

Luo et al., ICLR 2025 (arXiv 2503.12811) fit on cosine_24000, constant_24000 and wsdcon_9 and predict the other six.
"""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

import numpy as np

from lrfinder import TrainingLog, forecast, read_log
from lrfinder.files import replace_file
from lrfinder.logs import law_fit as lawfit
from lrfinder.report.log_plots import forecast_png

PUBLISHED = ("cosine_24000", "constant_24000", "wsdcon_9")
TWO = ("constant_24000", "wsdcon_9")


def short(log: TrainingLog) -> str:
    return Path(log.name).stem


def scored(logs: dict[str, TrainingLog], fitted: tuple[str, ...]) -> tuple[float, float]:
    """Return the mean of the mean absolute errors, and the worst relative error at the end, of all others."""
    others = [log for name, log in logs.items() if name not in fitted]
    targets = forecast([logs[name] for name in fitted], targets=others).targets
    return float(np.mean([t.mae for t in targets])), max(t.end_rel_error for t in targets)


def table(logs: dict[str, TrainingLog]) -> None:
    print("| curve | three: mean error | end error | two: mean error | end error |\n|---|---|---|---|---|")
    found = [forecast([logs[n] for n in fitted], targets=list(logs.values())).targets for fitted in (PUBLISHED, TWO)]
    for three, two in zip(*found, strict=True):
        cells = []
        for fitted, target in ((PUBLISHED, three), (TWO, two)):
            mark = " (fitted)" if short(target.log) in fitted else ""
            cells += [f"{target.mae:.4f}{mark}", f"{target.end_rel_error:.2%}"]
        print(f"| {short(three.log)} | {' | '.join(cells)} |")
    cells = [f"{mae:.5f} | {end:.3%}" for mae, end in (scored(logs, PUBLISHED), scored(logs, TWO))]
    print(f"| **not fitted: mean, worst** | {' | '.join(cells)} |\n")


def timed(logs: dict[str, TrainingLog]) -> None:
    for fitted in (PUBLISHED, TWO):
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            lawfit.fit_law([logs[name] for name in fitted])
            seconds.append(time.perf_counter() - start)
        print(f"fit to {len(fitted)} curves: {np.median(seconds):.2f} s (median of five)")


def every_choice(logs: dict[str, TrainingLog], size: int) -> None:
    """Print errors and how many ends the 90% interval held, over every choice of curves to fit."""
    errors, held = [], []
    for fitted in itertools.combinations(logs, size):
        law = lawfit.fit_law([logs[name] for name in fitted])
        if not law.knows_falls:
            continue
        others = []
        for name, log in logs.items():
            if name in fitted:
                continue
            loss, gradient = law(log.every_lr(), log.step)
            others.append(np.abs(loss - log.value).mean())
            held.append(abs(loss[-1] - log.value[-1]) <= law.half_width_of_loss(gradient[-1]))
        errors.append(float(np.mean(others)))
    low, middle, high = np.quantile(errors, [0.1, 0.5, 0.9])
    print(
        f"{len(errors)} choices of {size}: mean error {middle:.4f} (median), {low:.4f} to {high:.4f} (10% to 90%),"
        f" {max(errors):.4f} (worst); interval held {np.mean(held):.0%} of {len(held)} ends",
        flush=True,
    )


def ablated(logs: dict[str, TrainingLog]) -> None:
    def line(what: str) -> None:
        scores = [scored(logs, fitted) for fitted in (PUBLISHED, TWO)]
        print(f"| {what} | {' | '.join(f'{mae:.5f} | {end:.3%}' for mae, end in scores)} |", flush=True)

    print("\n| fit | three: mean error | worst end | two: mean error | worst end |\n|---|---|---|---|---|")
    line("as it ships")
    for name, value, what in (
        ("_SPREAD", lawfit._SPREAD * 100, "without prior"),
        ("_SPREAD", lawfit._SPREAD / 2, "prior half as wide"),
        ("_TYPICAL", lawfit._TYPICAL * [1, 1, 1, 0.5], "d ~ N(0.05, 0.05)"),
        ("_TYPICAL", lawfit._TYPICAL * [1, 1, 1, 1.5], "d ~ N(0.15, 0.05)"),
        ("_TIMES_NOISE", 2.0, "soft-L1 at 2 standard deviations"),
        ("_TIMES_NOISE", 8.0, "soft-L1 at 8 standard deviations"),
        ("_MAX_POINTS", 100, "at most 100 points a log"),
        ("_STARTS", lawfit._STARTS[:1], "one start"),
    ):
        kept = getattr(lawfit, name)
        setattr(lawfit, name, value)
        line(what)
        setattr(lawfit, name, kept)


def main(folder: str, picture: str | None = None) -> None:
    logs = {path.stem: read_log(path) for path in sorted(Path(folder).glob("*.csv"))}
    table(logs)
    timed(logs)
    if picture is not None:
        others = [log for name, log in logs.items() if name not in PUBLISHED]
        replace_file(picture, forecast_png(forecast([logs[name] for name in PUBLISHED], targets=others)))
    ablated(logs)
    print()
    for size in (2, 3):
        every_choice(logs, size)


if __name__ == "__main__":
    main(*sys.argv[1:])
