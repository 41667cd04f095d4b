"""A trainee whose losses follow a formula, so that a search on it has a known answer."""

from __future__ import annotations

import dataclasses
import math
import time
from contextlib import contextmanager

import numpy as np
import torch

from lrfinder import Curve, Suggestion
from lrfinder.answer.choose import choose
from lrfinder.evidence.curve import Stage
from lrfinder.evidence.probe import Evidence, Outcome, Probe
from lrfinder.probing.runner import OneProcess
from lrfinder.probing.search import search


class Diarist:
    """Writes down in ``diary`` when it is preserved, and asked for caveats."""

    processes = OneProcess()

    def caveats(self):
        self.diary.append("caveats")
        return ("As scripted.",)

    def finite(self):
        return True

    @contextmanager
    def preserved(self):
        self.diary.append("in")
        try:
            yield
        finally:
            self.diary.append("out")


class Quadratic(Diarist):
    """Training ends ``x`` octaves from the best rate: loss 1 + sharpness * f(x) with the drift and the noise asked for.

    The best rate after ``n`` steps is ``2 ** (place + drift * log2(n / 50))``. What a probe has learnt so far counts by
    the largest rate it was given. Every call is written down in ``diary``.
    """

    def __init__(
        self, place=-6.0, drift=0.0, sharpness=0.05, noise=0.0, cliff=4.0, untrained=2.0, batches=8, epoch=None, seed=0
    ):
        self.place, self.drift, self.sharpness, self.noise, self.cliff = place, drift, sharpness, noise, cliff
        self.untrained, self.batches, self.epoch, self.rng = untrained, batches, epoch, np.random.default_rng(seed)
        self.common = self.rng.normal(size=batches)
        self.diary, self.lr, self.apart, self.interrupt_at, self.steps = [], 0.01, True, None, 0
        self.rates = []

    def lrs(self):
        return (0.01, 0.001)

    def reference(self):
        return 0.01

    def set_lrs(self, lrs):
        self.lr = lrs[0]
        assert lrs[1] == 0.1 * lrs[0]

    def keep_batches(self, steps):
        self.diary.append(("keep", steps))
        return self.apart

    def rewind(self):
        self.diary.append("rewind")
        self.rates = []

    def mean(self):
        if not self.rates:
            return self.untrained
        n = len(self.rates)
        off = math.log2(max(self.rates)) - self.place - self.drift * math.log2(n / 50)
        if off > self.cliff:
            return math.inf
        square = (1.2 if off > 0 else 1.0) * off**2
        return min(1 + 0.2 * 10 / n + self.sharpness * square / (1 + square / 9), self.untrained)

    def step(self):
        self.steps += 1
        if self.steps == self.interrupt_at:
            raise KeyboardInterrupt
        loss = self.mean()
        self.rates.append(self.lr)
        return torch.tensor(loss + self.noise * self.rng.normal(), dtype=torch.float64)

    def evaluate(self):
        self.diary.append(("evaluate", len(self.rates)))
        own = self.noise * 0.1 * self.rng.normal(size=self.batches)
        return torch.tensor(self.mean() + self.noise * self.common + own, dtype=torch.float64)

    def epoch_steps(self):
        return self.epoch

    def step_examples(self):
        return None

    def evaluates_training_loss(self):
        return True


def evidence(losses, *, untrained=2.0, noise=0.0, batches=8, epoch=None, train=None, seed=0):
    """Evidence made by hand: ``losses`` maps (steps, octave) to the mean held-out loss of that probe; inf diverged."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=batches)

    def outcome(probe, mean):
        held_out = np.full(0, 0.0) if math.isinf(mean) else mean + noise * (common + 0.1 * rng.normal(size=batches))
        return Outcome(probe, np.full(probe.steps, mean if train is None else train), held_out, 0.1)

    curve = Curve(np.geomspace(1e-7, 1, 12), np.full(12, untrained), seconds=0.1, caveats=("As scripted.",))
    outcomes = [outcome(Probe(2.0**x, n), mean) for (n, x), mean in losses.items()]
    return Evidence(curve, outcome(Probe(0.0, 0, 0.0, Stage.UNTRAINED), untrained), tuple(outcomes), 12, epoch)


def find(trainee, options, progress=None, journal=None, clock=time.perf_counter) -> Suggestion:
    """Search and choose, as `find_lr` and the callback do."""
    return choose(search(trainee, options, progress, journal, clock), steps=options.steps)


def measured(suggestion, **changes) -> Suggestion:
    """The same suggestion, resting on other evidence: with some of its fields changed."""
    return dataclasses.replace(suggestion, evidence=dataclasses.replace(suggestion.evidence, **changes))


def with_probes(suggestion, probes) -> Suggestion:
    """The same suggestion with other probes, the untrained model first."""
    evidence = suggestion.evidence
    return dataclasses.replace(suggestion, evidence=Evidence.of_probes(evidence.curve, tuple(probes), evidence.steps))


def valley(place, drift=0.0, *, lengths=(10, 40), octaves=(-3, -2, -1, 0, 1, 2), sharpness=0.05, scale=1.0, shift=0.0):
    """Losses of probes about a known best rate, at ``place`` octaves for the longest."""
    found = {}
    for n in lengths:
        centre = place + drift * math.log2(n / lengths[-1])
        for step in octaves:
            off = round(centre) + step - centre
            square = (1.2 if off > 0 else 1.0) * off**2
            found[n, round(centre) + step] = shift + scale * (1 + 2 / n + sharpness * square / (1 + square / 9))
    return found
