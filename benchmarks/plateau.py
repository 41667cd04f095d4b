"""False alarms and delays of plateau detection, on runs whose expected loss is known at every step.

    python benchmarks/plateau.py [--runs 400] [--quick]

Every cell draws runs of 20,000 steps, epochs of 100 steps, and follows them with `lrfinder.Detector`'s own test, with
`torch.optim.lr_scheduler.ReduceLROnPlateau` at its defaults (patience 10) on the mean loss of each epoch, and with a
slope test (least squares over the last 2,000 steps, after every epoch: a plateau where the slope is not below zero at
5%).

An alarm at step t is false where the expected loss still falls by more than the tolerance within the next t/2 steps:
one truth for all three. A delay counts from the step at which the expected loss stops falling.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.signal import lfilter
from scipy.special import stdtr

from lrfinder.plateau.blocks import Blocks
from lrfinder.plateau.detector import table_means
from lrfinder.plateau.gain_test import Record, judge_progress, next_look

STEPS, EPOCH, PLATEAU = 20_000, 100, 5_000
ALPHA = 0.05
TOLERANCE = 0.02


def slow(steps: np.ndarray) -> np.ndarray:
    """Gains exactly the tolerance in half as many steps again, at every step: the hardest that may not alarm."""
    return -1.0001 * TOLERANCE * np.log(steps) / np.log(1.5)


def power(exponent: float) -> Callable[[np.ndarray], np.ndarray]:
    """Gains twice the tolerance in the last third of the run, and more before."""
    unit = (STEPS / 1.5) ** -exponent - STEPS**-exponent
    return lambda steps: 2 * TOLERANCE / unit * steps**-exponent


def straight(steps: np.ndarray) -> np.ndarray:
    """Gains 0.005 an epoch, in a straight line."""
    return -0.005 * steps / EPOCH


def kink(steps: np.ndarray) -> np.ndarray:
    """A power law that stops."""
    return power(0.3)(np.minimum(steps, PLATEAU))


IMPROVING = {"slow": slow, "power 0.1": power(0.1), "power 0.5": power(0.5), "straight": straight}


@dataclass(frozen=True)
class Noise:
    name: str
    sd: float
    kind: str = "gauss"
    offset: float = 3.0

    def draw(self, runs: int, rng: np.random.Generator) -> np.ndarray:
        """Return noise of shape (runs, STEPS)."""
        white = rng.standard_normal((runs, STEPS))
        if self.kind.startswith("AR"):
            r = float(self.kind.split()[1])
            white[:, 1:] *= np.sqrt(1 - r * r)  # stationary from the first step on
            white = lfilter([1], [1, -r], white, axis=-1)
        elif self.kind == "t2":
            white = rng.standard_t(2, (runs, STEPS))
        elif self.kind == "spikes":
            white += (rng.random((runs, STEPS)) < 0.01) * rng.exponential(20, (runs, STEPS))
        elif self.kind == "NaN":
            white[rng.random((runs, STEPS)) < 0.02] = np.nan
        return self.offset + self.sd * white


NOISES = [
    *(Noise(f"gauss {sd:g}", sd) for sd in (0.003, 0.03, 0.1, 0.3, 1.0)),
    *(Noise(f"AR {r} sd {sd:g}", sd, f"AR {r}") for r in (0.5, 0.9) for sd in (0.03, 0.3)),
    *(Noise(f"t2 {sd:g}", sd, "t2") for sd in (0.03, 0.3)),
    *(Noise(f"spikes {sd:g}", sd, "spikes") for sd in (0.03, 0.3)),
    Noise("NaN 2% sd 0.1", 0.1, "NaN"),
    *(Noise(f"negative {sd:g}", sd, offset=-30.0) for sd in (0.03, 0.3)),
]


def gains_ahead(mean: Callable[[np.ndarray], np.ndarray], step: np.ndarray) -> np.ndarray:
    step = np.asarray(step, dtype=np.float64)
    return mean(step) - mean(step * 1.5)


def ours(losses: np.ndarray, delta: float | None = TOLERANCE, min_steps: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """(runs,) step of the first alarm, 0 without one, and (runs,) the tolerance then."""
    runs = len(losses)
    blocks, alarm, allowed = Blocks((runs,)), np.zeros(runs, dtype=np.int64), np.full(runs, np.nan)
    start, look = np.nanmedian(losses[:, :5], axis=1), next_look(0)
    columns = torch.from_numpy(np.ascontiguousarray(losses.T))
    for step in range(1, losses.shape[1] + 1):
        blocks.add(columns[step - 1])
        if step < look:
            continue
        look = next_look(step)
        if step < min_steps:
            continue
        record = Record(table_means(blocks.table().numpy()), blocks.length)
        if record.mean.shape[-1] < 24:
            continue
        seen, tolerated = judge_progress(record, record, start, max(step // 2, 1), delta, ALPHA)
        new = (alarm == 0) & (seen.blocks > 0) & (seen.p_value <= ALPHA)
        alarm[new], allowed[new] = step, tolerated[new]
    return alarm, allowed


def reduce_on_plateau(losses: np.ndarray, patience: int = 10) -> np.ndarray:
    alarm = np.zeros(len(losses), dtype=np.int64)
    epochs = np.nan_to_num(losses.reshape(len(losses), -1, EPOCH).mean(-1), nan=np.nan)
    for run, values in enumerate(epochs):
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=patience)
        for epoch, value in enumerate(values, 1):
            scheduler.step(float(value))
            if optimizer.param_groups[0]["lr"] < 1:
                alarm[run] = epoch * EPOCH
                break
    return alarm


def slope_test(losses: np.ndarray, window: int = 2_000) -> np.ndarray:
    x = np.arange(window) - (window - 1) / 2
    alarm = np.zeros(len(losses), dtype=np.int64)
    for end in range(window, losses.shape[1] + 1, EPOCH):
        y = losses[:, end - window : end]
        y = np.where(np.isfinite(y), y, np.nanmean(y, axis=1, keepdims=True))
        slope = y @ x / (x @ x)
        rest = y - y.mean(1, keepdims=True) - slope[:, None] * x
        error = np.sqrt((rest**2).sum(1) / (window - 2) / (x @ x))
        alarm[(alarm == 0) & (stdtr(window - 2, slope / error) > 0.05)] = end
    return alarm


def false(alarm: np.ndarray, mean: Callable[[np.ndarray], np.ndarray], delta: float | np.ndarray = TOLERANCE) -> float:
    return float(((alarm > 0) & (gains_ahead(mean, np.maximum(alarm, 1)) > delta)).mean())


METHODS = {"lrfinder": lambda y: ours(y)[0], "ReduceLROnPlateau": reduce_on_plateau, "slope test": slope_test}


def false_alarms(noises: list[Noise], runs: int) -> dict[str, dict[str, float]]:
    """Print the table; return for every noise the highest rate of each method over the curves."""
    print(
        f"False alarms, tolerance {TOLERANCE}, alpha {ALPHA}, {runs} runs a cell: lrfinder / ReduceLROnPlateau / slope"
    )
    print("| noise | " + " | ".join(IMPROVING) + " |\n|---|" + "---|" * len(IMPROVING))
    worst: dict[str, dict[str, float]] = {}
    steps = np.arange(1, STEPS + 1, dtype=np.float64)
    for noise in noises:
        cells = []
        for curve in IMPROVING.values():
            losses = curve(steps) + noise.draw(runs, np.random.default_rng(1))
            rates = {name: false(method(losses), curve) for name, method in METHODS.items()}
            cells.append(" / ".join(f"{rate:.3f}" for rate in rates.values()))
            held = worst.setdefault(noise.name, dict.fromkeys(METHODS, 0.0))
            worst[noise.name] = {name: max(held[name], rate) for name, rate in rates.items()}
        print(f"| {noise.name} | " + " | ".join(cells) + " |", flush=True)
    return worst


def delays(noises: list[Noise], runs: int, worst: dict[str, dict[str, float]]) -> None:
    print(f"\nPlateau from step {PLATEAU} on: median delay in steps (share of runs found, of false alarms before).")
    print("An asterisk where the method's false alarms are at most alpha for that noise, above and here.")
    print("| noise | " + " | ".join(METHODS) + " |\n|---|" + "---|" * len(METHODS))
    steps = np.arange(1, STEPS + 1, dtype=np.float64)
    for noise in noises:
        losses, cells = kink(steps) + noise.draw(runs, np.random.default_rng(2)), []
        for name, method in METHODS.items():
            alarm = method(losses)
            early = false(alarm, kink)
            delay = np.where(alarm > 0, alarm - PLATEAU, np.inf)
            trusted = max(early, worst[noise.name][name]) <= ALPHA
            cells.append(f"{np.median(delay):.0f}{'*' if trusted else ''} ({(alarm > 0).mean():.2f}, {early:.2f})")
        print(f"| {noise.name} | " + " | ".join(cells) + " |", flush=True)


def by_default(noises: list[Noise], runs: int) -> None:
    """The tolerance by default: of what was gained, and of the noise."""
    print("\nTolerance by default: false alarms; median step of the alarm, and the tolerance then.")
    curves = {f"power {a}": (lambda t, a=a: 3 * t**-a) for a in (0.1, 0.3, 0.5)}
    print("| noise | " + " | ".join(curves) + " |\n|---|" + "---|" * len(curves))
    steps = np.arange(1, STEPS + 1, dtype=np.float64)
    for noise in noises:
        cells = []
        for curve in curves.values():
            alarm, allowed = ours(curve(steps) + noise.draw(runs, np.random.default_rng(3)), None)
            found = np.median(np.where(alarm > 0, alarm, np.inf))
            tolerated = f", {np.nanmedian(allowed):.3f}" if (alarm > 0).any() else ""
            cells.append(f"{false(alarm, curve, np.nan_to_num(allowed)):.3f}; {found:.0f}{tolerated}")
        print(f"| {noise.name} | " + " | ".join(cells) + " |", flush=True)


def bias(runs: int = 4000) -> None:
    """How much too low the lag-one autocorrelation comes out beside a fitted line."""
    print("| n | r | n times the bias | 2 + 6r |\n|---|---|---|---|")
    for n in (24, 96):
        x = np.arange(n) - (n - 1) / 2
        for r in (0.0, 0.5, 0.9):
            white = np.random.default_rng(0).standard_normal((runs, n + 200))
            y = lfilter([1], [1, -r], white, axis=-1)[:, 200:]
            rest = y - y.mean(1, keepdims=True) - (y @ x / (x @ x))[:, None] * x
            found = ((rest[:, 1:] * rest[:, :-1]).sum(1) / (rest**2).sum(1)).mean()
            print(f"| {n} | {r} | {n * (r - found):.1f} | {2 + 6 * r:.1f} |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--quick", action="store_true", help="three kinds of noise only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    noises = NOISES[:3] if options.quick else NOISES
    begun = time.perf_counter()
    bias()
    worst = false_alarms(noises, options.runs)
    delays(noises, options.runs, worst)
    by_default(noises, options.runs)
    print(f"\n{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
