"""Curves with a known answer: made shapes, gradient descent on quadratics, pure noise, and anything a `Curve` holds."""

from __future__ import annotations

import csv
import functools
import math
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from lrfinder import Curve, Suggestion, suggest
from lrfinder.evidence.range_test import Ladder, last_step

SPECTRA = {
    "one direction": np.ones(1),
    "two directions": np.array([1.0, 0.5]),
    "power law": 1 / np.arange(1, 51),
    "steep power law": 1 / np.arange(1, 51) ** 2.0,
    "one above a bulk": np.append(np.geomspace(1e-3, 0.2, 50), 1.0),
}
"""Curvatures whose largest is 1 and stands clear of the next: a ramp cannot tell near-equal ones apart."""


def synthetic(
    seed: int = 0, *, noise: float = 0.02, descent: float = -2.5, rise: float = 0.0, top: float = 1.0, points: int = 100
) -> Curve:
    """A plateau at 2.3, a descent by 1.5 around ``10**descent``, a blow-up around ``10**rise``, and normal noise."""
    rng = np.random.default_rng(seed)
    x = np.linspace(-7, top, points)
    led_to = 2.3 - 1.5 / (1 + np.exp(-(x - descent) / 0.3)) + np.exp(np.minimum((x - rise) / 0.12, 60))
    return Curve(10**x, np.append(2.3, led_to[:-1]) + noise * rng.standard_normal(points))


def random_shape(seed: int) -> Curve:
    """A `synthetic` curve whose noise, descent and blow-up are drawn too."""
    rng = np.random.default_rng(seed)
    noise = 10 ** rng.uniform(-3, -0.5)
    return synthetic(seed, noise=noise, descent=rng.uniform(-5, -1.5), rise=rng.uniform(-1.4, 1.5))


def pure_noise(kind: str, seed: int) -> Curve:
    """A hundred losses around 2.3 that know nothing of the learning rate."""
    rng = np.random.default_rng(seed)
    draws = rng.standard_t(3, 100) if kind == "student" else rng.standard_normal(100)
    if kind == "autocorrelated":
        for i in range(1, 100):
            draws[i] += 0.5 * draws[i - 1]
    return Curve(np.geomspace(1e-7, 10, 100), 2.3 + 0.1 * draws)


def descended(spectrum: ArrayLike, momentum: float = 0.0, seed: int = 0, ladder: Ladder | None = None) -> Curve:
    """A range test of full-batch gradient descent on a quadratic with these curvatures, ended by `last_step`."""
    lrs = (ladder or Ladder(1e-5, 1e2, 300)).lrs()
    curvature = np.asarray(spectrum, dtype=np.float64)
    error = np.random.default_rng(seed).standard_normal(curvature.size)
    velocity, losses = np.zeros_like(error), []
    with np.errstate(over="ignore", invalid="ignore"):
        for lr in lrs:
            losses.append(0.5 * np.sum(curvature * error**2))
            velocity = momentum * velocity + curvature * error
            error = error - lr * velocity
    return _ended(lrs, losses)


def descended_on_batches(batch: int, momentum: float, seed: int) -> Curve:
    """A range test of mini-batch SGD on noisy least squares, ended by `last_step`."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((512, 20)) * np.geomspace(1, 0.1, 20)
    targets = inputs @ rng.standard_normal(20) + 0.3 * rng.standard_normal(512)
    weights, velocity, losses = np.zeros(20), np.zeros(20), []
    lrs = Ladder(1e-5, 1e2, 100).lrs()
    with np.errstate(over="ignore", invalid="ignore"):
        for lr in lrs:
            rows = rng.choice(512, batch, replace=False)
            miss = inputs[rows] @ weights - targets[rows]
            losses.append(0.5 * np.mean(miss**2))
            velocity = momentum * velocity + inputs[rows].T @ miss / batch
            weights = weights - lr * velocity
    return _ended(lrs, losses)


def write_csv(path: str, curve: Curve) -> Path:
    """Write ``lr,loss`` as a person would, with the csv module."""
    with Path(path).open("w", newline="") as file:
        csv.writer(file).writerows([("lr", "loss"), *zip(curve.lr.tolist(), curve.loss.tolist(), strict=True)])
    return Path(path)


def _ended(lrs: NDArray[np.float64], losses: list[float]) -> Curve:
    keep, _ = last_step(losses)
    return Curve(lrs[:keep], losses[:keep])


@st.composite
def any_curve(draw: st.DrawFn) -> Curve:
    """Whatever a `Curve` may hold, NaN and infinities included."""
    lr = sorted(draw(st.sets(st.floats(1e-12, 1e6), min_size=10, max_size=30)))
    steps = st.sets(st.integers(0, 10**9), min_size=len(lr), max_size=len(lr))
    return Curve(
        lr,
        draw(st.lists(st.floats(), min_size=len(lr), max_size=len(lr))),
        draw(st.none() | steps.map(sorted)),
        seconds=draw(st.none() | st.floats(0, 1e9)),
        group_ratios=draw(st.lists(st.floats(0, 1e6), min_size=1, max_size=3)),
        caveats=draw(st.lists(st.text(), max_size=2)),
    )


@functools.cache
def answered(steps: int | None = None) -> Suggestion:
    return suggest(synthetic(), steps=steps)


@functools.cache
def refused(name: str) -> Suggestion:
    lr = np.geomspace(1e-7, 10, 100)
    rng = np.random.default_rng(3)
    curve = {
        "FLAT": lambda: pure_noise("normal", 0),
        "RISING": lambda: Curve(lr, 2.3 + 0.1 * np.arange(100) + 0.02 * rng.standard_normal(100)),
        "DIVERGED": lambda: Curve(lr, [2.3, 2.3, 2.2, 9.0, 1e9, math.inf] + [math.nan] * 94),
    }[name]()
    return suggest(curve, steps=1000)
