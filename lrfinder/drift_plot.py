"""How the best learning rate moves from the probes to the horizon, drawn with matplotlib."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrfinder.landscape import Belief, Landscape
from lrfinder.plot import Palette, bare, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lrfinder.suggestion import Suggestion

__all__ = ["DriftView", "Place", "draw_drift", "drift_view"]

_LENGTHS = 9
"""Lengths, from the longest probes to the horizon, at which the belief is worked out."""


class Place(NamedTuple):
    """Where the best learning rate lies after so many steps: its median and central 90%."""

    steps: float
    lr: float
    low: float
    high: float


class DriftView(NamedTuple):
    """What the plot shows, as numbers.

    Attributes:
        tried: (n, 2) steps and learning rate of every probe that trained on.
        blown_up: (m, 2) the same of those that blew up.
        measured: per length of probes, where its best rate lies by the fit.
        carried: from the longest probes to the horizon, for a decay from the first step on; empty without a horizon.
        octaves: from the last of ``carried`` to the suggestion: the move to its policy; 0 where there is none.
    """

    tried: NDArray[np.float64]
    blown_up: NDArray[np.float64]
    measured: tuple[Place, ...]
    carried: tuple[Place, ...]
    octaves: float


def drift_view(suggestion: Suggestion) -> DriftView | None:
    """Work out what `draw_drift` draws; None if nothing was suggested, or not from probes."""
    evidence, landscape = suggestion.evidence, suggestion.landscape
    if landscape is None or suggestion.lr is None:
        return None
    probes = [(o.probe.steps, o.probe.lr, o.diverged) for o in evidence.outcomes]
    tried, blown_up = (
        np.array([(steps, lr) for steps, lr, diverged in probes if diverged is gone], dtype=float).reshape(-1, 2)
        for gone in (False, True)
    )
    measured = tuple(_measured(landscape, rung[0].probe.steps) for rung in evidence.rungs)
    carried: tuple[Place, ...] = ()
    octaves = 0.0
    if suggestion.horizon is not None:
        lengths = np.geomspace(landscape.steps, max(suggestion.horizon, landscape.steps), _LENGTHS)
        beliefs = [landscape.belief(round(length)) for length in lengths]
        carried = tuple(_place(length, belief) for length, belief in zip(lengths, beliefs, strict=True))
        octaves = math.log2(suggestion.lr / beliefs[-1].best())
    return DriftView(tried, blown_up, measured, carried, octaves)


def _measured(landscape: Landscape, steps: int) -> Place:
    octaves = landscape.place + landscape.drift * math.log2(steps / landscape.steps)
    order = np.argsort(octaves)
    return _place(steps, Belief(octaves[order], landscape.weights[order]))


def _place(steps: float, belief: Belief) -> Place:
    return Place(float(steps), *(belief.quantile(share) for share in (0.5, 0.05, 0.95)))


def draw_drift(view: DriftView, suggestion: Suggestion, ax: Axes, colours: Palette) -> Axes:
    """Draw every probe, the best rate of each length, and what is believed of it up to the horizon; no legend."""
    ax.plot(*view.tried.T, ".", color=colours.soft, markersize=5, label="a probe")
    if view.blown_up.size:
        ax.plot(*view.blown_up.T, "x", color=colours.soft, markersize=5, label="one that blew up")
    if view.carried:
        steps, middle, low, high = (np.array(column) for column in zip(*view.carried, strict=True))
        ax.fill_between(steps, low, high, color=colours.fit, alpha=0.15, linewidth=0, label="carried on, 90%")
        ax.plot(steps, middle, color=colours.fit, linewidth=1.2, linestyle="--")
    steps, middle, low, high = (np.array(column) for column in zip(*view.measured, strict=True))
    bars = (middle - low, high - middle)
    ax.errorbar(steps, middle, bars, fmt="s", color=colours.fit, markersize=5, label="best of the probes, 90%")
    if suggestion.lr is not None and suggestion.lr_low is not None and suggestion.lr_high is not None:
        at = float(view.carried[-1].steps if view.carried else steps[-1])
        bar = [[suggestion.lr - suggestion.lr_low], [suggestion.lr_high - suggestion.lr]]
        label = f"suggested {suggestion.lr:.3g}"
        ax.errorbar([at], [suggestion.lr], bar, fmt="D", color=colours.answer, capsize=4, markersize=7, label=label)
    _axes(ax, colours)
    return ax


def _axes(ax: Axes, colours: Palette) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    ax.set_xscale("log")
    ax.set_yscale("log")
    low, high = ax.get_xlim()
    for axis, few in ((ax.xaxis, math.log10(high / low) < 2), (ax.yaxis, False)):
        axis.set_major_locator(LogLocator(subs=(1, 3) if few else (1,), numticks=8))
        axis.set_major_formatter(plain)
        axis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("optimizer steps")
    ax.set_ylabel("learning rate")
    bare(ax, colours)
