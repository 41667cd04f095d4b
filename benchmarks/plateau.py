"""False alarms, power and delay of plateau detection, on runs whose expected loss is known at every step.

    python benchmarks/plateau.py false --steps 2000     # one minute; 5000: three; 20000: eight
    python benchmarks/plateau.py power --steps 2000     # one minute
    python benchmarks/plateau.py epochs                 # one minute
    python benchmarks/plateau.py delay                  # two minutes

Every curve falls by 1 over its run, so noise is given as a share of the gain. An alarm at step t is false if the
expected loss falls by more than the tolerance within the next t/2 steps: for lrfinder the tolerance that its event
reports, for the others the larger of 0.05 and 0.3 standard deviations of the noise. The others see the means of
`steps / 200` losses: ReduceLROnPlateau with its defaults (patience 10), the slope of a moving average over ten means
(an alarm if it stops falling), and a t-test of the last ten means against the ten before (an alarm if p > 0.05).

The constants of the detector were chosen on other seeds than those reported here (docs/plateau.md has the exception).
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

ALPHA = 0.05
MIN_STEPS = 768
EPOCHS = 200

Curve = Callable[[np.ndarray], np.ndarray]


def falling(steps: int) -> dict[str, Curve]:
    """Return curves that fall by about 1 in so many steps and never stop."""

    def power(a: float) -> Curve:
        return lambda t: t**-a / (1 - steps**-a)

    def exponential(k: float) -> Curve:
        return lambda t: np.exp(-k * t / steps)

    return {
        "log": lambda t: -np.log(t) / np.log(steps),  # the slowest
        **{f"power {a}": power(a) for a in (0.05, 0.1, 0.3, 0.5)},
        **{f"exp {k}": exponential(k) for k in (2, 5)},
        "line": lambda t: -t / steps,
        "stairs": lambda t: -np.floor(40 * t / steps) / 40,
    }


def kink(stop: float) -> Curve:
    """Return a curve that falls exponentially by 1 and stands still from step ``stop`` on."""
    return lambda t: np.exp(-5 * np.minimum(t, stop) / stop)


@dataclass(frozen=True)
class Noise:
    """A kind of noise; all but the heavy-tailed have the standard deviation of 1 in the middle of the run."""

    name: str

    def draw(self, runs: int, steps: int, rng: np.random.Generator) -> np.ndarray:
        """Return noise of shape (runs, steps)."""
        kind, _, number = self.name.partition(" ")
        white, place = rng.standard_normal((runs, steps)), np.arange(steps)
        if kind == "AR":
            r = float(number)
            white[:, 1:] *= np.sqrt(1 - r * r)  # stationary from the first step on
            return np.asarray(lfilter([1], [1, -r], white, axis=-1))
        if kind == "heavy-tailed":
            return rng.standard_t(2, (runs, steps))
        if kind == "shrinking":
            return np.asarray(white * (0.4 + 1.6 * np.exp(-3 * place / steps)))
        if kind == "growing":
            return np.asarray(white * (0.5 + place / steps))
        if kind == "spikes":
            return white + (rng.random((runs, steps)) < 0.01) * rng.exponential(20, (runs, steps))
        if kind == "period":
            return np.asarray(0.5 * white + np.sin(2 * np.pi * (place / float(number) + rng.random((runs, 1)))))
        if kind == "jumps":  # memorised batches: the loss rises within an epoch and jumps down at its end
            return np.asarray(0.5 * white + 2 * (place % int(number)) / int(number) - 1)
        if kind == "order":  # the same batches in every epoch
            once = rng.standard_normal((runs, int(number)))
            return np.asarray(0.5 * white + np.tile(once, (1, -(-steps // int(number))))[:, :steps])
        return white


RANDOM = [Noise(name) for name in ("white", "AR 0.5", "AR 0.9", "heavy-tailed", "shrinking", "growing")]
NOISES = [*RANDOM, *map(Noise, ("spikes", "period 250", "period 600", "jumps 250", "order 250"))]


def ours(losses: np.ndarray, min_steps: int = MIN_STEPS) -> tuple[np.ndarray, np.ndarray]:
    """Return the step of the first alarm, (runs,), 0 without one, and the tolerance then, (runs,)."""
    runs, steps = losses.shape
    blocks, alarm, allowed = Blocks((runs,)), np.zeros(runs, dtype=np.int64), np.full(runs, np.nan)
    start, look = np.nanmedian(losses[:, :5], axis=1), next_look(0)
    columns = torch.from_numpy(np.ascontiguousarray(losses.T))
    for step in range(1, steps + 1):
        blocks.add(columns[step - 1])
        if step < look and not (step == steps and min_steps < MIN_STEPS):  # a log is tested at its end, too
            continue
        look = next_look(step)
        if step < min_steps or blocks.full < 24:
            continue
        record = Record(table_means(blocks.table().numpy()), blocks.length)
        seen, delta = judge_progress(record, record, start, step, max(step // 2, 1), None, ALPHA, min_steps)
        new = (alarm == 0) & (seen.blocks > 0) & (seen.p_value <= ALPHA)
        alarm[new], allowed[new] = step, delta[new]
    return alarm, allowed


def epoch_means(losses: np.ndarray) -> np.ndarray:
    return np.nanmean(losses.reshape(len(losses), min(EPOCHS, losses.shape[1]), -1), -1)


def reduce_on_plateau(means: np.ndarray) -> np.ndarray:
    """Return the epoch at which `torch.optim.lr_scheduler.ReduceLROnPlateau` lowers the rate, (runs,); 0 if never."""
    alarm = np.zeros(len(means), dtype=np.int64)
    for run, values in enumerate(means):
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        for epoch, value in enumerate(values.tolist(), 1):
            scheduler.step(value)
            if optimizer.param_groups[0]["lr"] < 1:
                alarm[run] = epoch
                break
    return alarm


def moving_average(means: np.ndarray) -> np.ndarray:
    """Return the first epoch at which the mean of ten values is no lower than that one epoch before, (runs,)."""
    average = np.lib.stride_tricks.sliding_window_view(means, 10, axis=1).mean(-1)
    return _first(np.diff(average) >= 0, 11)


def two_windows(means: np.ndarray) -> np.ndarray:
    """Return the first epoch at which ten values are not lower than the ten before by a t-test at 5%, (runs,)."""
    view = np.lib.stride_tricks.sliding_window_view(means, 10, axis=1)
    before, after = view[:, :-10], view[:, 10:]
    error = np.sqrt((before.var(-1, ddof=1) + after.var(-1, ddof=1)) / 10)
    return _first(stdtr(18, (after.mean(-1) - before.mean(-1)) / np.maximum(error, 1e-300)) > 0.05, 20)


def _first(alarms: np.ndarray, offset: int) -> np.ndarray:
    return np.where(alarms.any(1), alarms.argmax(1) + offset, 0)


PEERS = {"ReduceLROnPlateau": reduce_on_plateau, "moving average": moving_average, "t-test": two_windows}


def alarms(losses: np.ndarray, sd: float, min_steps: int = MIN_STEPS) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return alarms and tolerances of every method."""
    means, epoch = epoch_means(losses), max(losses.shape[1] // EPOCHS, 1)
    peers = {name: (epoch * rule(means), np.full(len(losses), max(0.05, 0.3 * sd))) for name, rule in PEERS.items()}
    return {"lrfinder": ours(losses, min_steps), **peers}


def false(alarm: np.ndarray, allowed: np.ndarray, curve: Curve) -> np.ndarray:
    step = np.maximum(alarm, 1).astype(np.float64)
    return (alarm > 0) & (curve(step) - curve(1.5 * step) > allowed)


def table_false(steps: int, runs: int) -> None:
    print(f"False alarms in runs of {steps} steps, {runs} runs a cell: the worst curve (mean over the curves).")
    print("| noise | sd | lrfinder | " + " | ".join(PEERS) + " | worst curve of lrfinder |\n|" + "---|" * 7)
    place = np.arange(1, steps + 1, dtype=np.float64)
    for noise in NOISES:
        for sd in (0.02, 0.2, 1.0) if steps < 20_000 else (0.02, 0.2):
            rates: dict[str, dict[str, float]] = {}
            for name, curve in falling(steps).items():
                losses = curve(place) + sd * noise.draw(runs, steps, np.random.default_rng(101))
                for method, found in alarms(losses, sd).items():
                    rates.setdefault(method, {})[name] = float(false(*found, curve).mean())
            cells = [f"{max(rate.values()):.2f} ({np.mean(list(rate.values())):.3f})" for rate in rates.values()]
            worst = max(rates["lrfinder"], key=rates["lrfinder"].__getitem__)
            print(f"| {noise.name} | {sd} | " + " | ".join(cells) + f" | {worst} |", flush=True)


def table_power(
    steps: int, runs: int, min_steps: int = MIN_STEPS, sds: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2)
) -> None:
    stops = (0.2, 0.35, 0.5)
    print(f"\nPlateaus from 20%, 35%, 50% of {steps} steps on, {runs} runs a cell: found truly, by sd (and falsely).")
    print(
        "| noise | "
        + " | ".join(f"sd {sd}" for sd in sds)
        + " | "
        + " | ".join(PEERS)
        + " |\n|"
        + "---|" * (len(sds) + 4)
    )
    place, every = np.arange(1, steps + 1, dtype=np.float64), []
    for noise in RANDOM:
        cells, peers = [], np.zeros((len(PEERS), 2))
        for sd in sds:
            found = np.zeros(2)
            for stop in stops:
                curve = kink(stop * steps)
                losses = curve(place) + sd * noise.draw(runs, steps, np.random.default_rng(102))
                rates = [(one[0] > 0, false(*one, curve)) for one in alarms(losses, sd, min_steps).values()]
                shares = np.array([((seen & ~wrong).mean(), wrong.mean()) for seen, wrong in rates])
                found += shares[0] / len(stops)
                peers += shares[1:] / len(stops) / len(sds)
            cells.append(f"{found[0]:.2f} ({found[1]:.2f})")
            every.append(found)
        print(f"| {noise.name} | " + " | ".join([*cells, *(f"{a:.2f} ({b:.2f})" for a, b in peers)]) + " |", flush=True)
    print("Mean over the cells of lrfinder: {:.2f} found, {:.3f} false.".format(*np.mean(every, axis=0)))


def table_epochs(runs: int) -> None:
    """Logs of one value per epoch."""
    for rows in (30, 50, 100, 200):
        place = np.arange(1, rows + 1, dtype=np.float64)
        worst = {"": -1.0}
        for noise in RANDOM:
            for sd in (0.005, 0.02, 0.1):
                for name, curve in falling(rows).items():
                    losses = curve(place) + sd * noise.draw(runs, rows, np.random.default_rng(103))
                    worst[f"{noise.name}, sd {sd}, {name}"] = float(false(*ours(losses, 24), curve).mean())
        name = max(worst, key=worst.__getitem__)
        print(
            f"\n{rows} rows: false alarms at worst {worst[name]:.3f} ({name}), mean {np.mean(list(worst.values())):.4f}"
        )
        table_power(rows, runs, 24, (0.002, 0.005, 0.02, 0.1))


def table_delay(runs: int) -> None:
    steps, stop = 20_000, 5_000
    print(f"Plateau from step {stop} of {steps} on: median delay in steps (found truly, falsely).")
    print("| noise | sd | lrfinder | " + " | ".join(PEERS) + " |\n|" + "---|" * 6)
    place, curve = np.arange(1, steps + 1, dtype=np.float64), kink(stop)
    for noise in RANDOM:
        for sd in (0.002, 0.02, 0.1, 0.2):
            losses, cells = curve(place) + sd * noise.draw(runs, steps, np.random.default_rng(104)), []
            for alarm, allowed in alarms(losses, sd).values():
                wrong = false(alarm, allowed, curve)
                delay = np.median(np.where(alarm > 0, alarm - stop, np.inf))
                cells.append(f"{delay:.0f} ({((alarm > 0) & ~wrong).mean():.2f}, {wrong.mean():.2f})")
            print(f"| {noise.name} | {sd} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=("false", "power", "epochs", "delay"))
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--runs", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    begun = time.perf_counter()
    if options.table == "false":
        table_false(options.steps, options.runs)
    elif options.table == "power":
        table_power(options.steps, options.runs)
    elif options.table == "epochs":
        table_epochs(options.runs)
    else:
        table_delay(options.runs)
    print(f"\n{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
