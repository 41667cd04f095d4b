"""How the best learning rate moves from the probes to the horizon, drawn with matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrfinder.answer.ranking import Alternative
from lrfinder.errors import InputError
from lrfinder.evidence.valley import LRPosterior, ValleyFit
from lrfinder.report.figure import Palette, bare, new_axes, plain
from lrfinder.schedules.policy import RANKED, Policy
from lrfinder.schedules.theory import ConvexBound, features

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lrfinder.answer.suggestion import Suggestion

__all__ = [
    "Course",
    "DriftView",
    "Place",
    "courses",
    "draw_drift",
    "draw_losses",
    "draw_rates",
    "drift_view",
    "plot_policies",
]

Array = NDArray[np.float64]

_MOST_STEPS = 2_000
"""Of a longer training so many steps are looked at: enough for a line."""

_POINTS = 40
"""Lengths at which the loss is worked out."""

_FROM = 0.5
"""Share of the training from which on the loss is shown. On the digits the law is up to 14% below the losses measured
at half of the training, within 6% over the last third; at a tenth it is off by a factor of two (docs/report.md)."""


@dataclass(frozen=True, eq=False)
class Course:
    """What one policy does, and what is predicted of it.

    Attributes:
        alternative: the policy, its own best peak, its predicted gain.
        taken: whether it is the one suggested.
        step: (n,) optimizer steps, increasing, the last one the end of training.
        lr: (n,) learning rate there.
        loss_step: (m,) steps at which the loss is predicted; empty where it cannot be.
        loss: (m,) predicted loss there over the final loss of a constant rate.
    """

    alternative: Alternative
    taken: bool
    step: Array
    lr: Array
    loss_step: Array
    loss: Array


def courses(suggestion: Suggestion, most: int = 6) -> tuple[Course, ...]:
    """Return the courses of the policies that matter: the one suggested, a constant rate, and the best others.

    Args:
        suggestion: with or without alternatives; without a horizon, or a policy that ends, there are no courses.
        most: how many, at most.
    """
    horizon, policy, lr = suggestion.horizon, suggestion.policy, suggestion.lr
    if horizon is None or policy is None or lr is None:
        return ()
    law = _law(suggestion.alternatives, horizon)
    chosen = suggestion.chosen or Alternative(policy, lr, None, None, None, "")
    ranked = [one for one in suggestion.alternatives if one.policy.name in RANKED and one is not chosen]
    constant = [one for one in ranked if one.policy.name == "constant"]
    others = [one for one in ranked if one not in constant][: max(most - 1 - len(constant), 0)]
    shown = [chosen, *(one for one in ranked if one in constant or one in others)]
    return tuple(_course(one, one is chosen, horizon, law) for one in shown)


def lrs(policy: Policy, peak: float, horizon: int) -> tuple[Array, Array]:
    """Return steps (n,), at most 201, and the learning rate of each; the last is the state after the last step."""
    total = policy.total_steps or horizon
    step = np.unique(np.round(np.linspace(0, total, min(total, 200) + 1)).astype(int))
    return step.astype(np.float64), np.array([peak * policy(int(at)) for at in step])


def _course(one: Alternative, taken: bool, horizon: int, law: tuple[float, float] | None) -> Course:
    step, lr = lrs(one.policy, one.lr, horizon)
    at, loss = (np.empty(0), np.empty(0)) if law is None or one.gain is None else _losses(one.policy, horizon, *law)
    return Course(one, taken, step, lr, at, loss)


def _law(alternatives: Sequence[Alternative], horizon: int) -> tuple[float, float] | None:
    """Return (relief, cost) as the predicted gains have them: two numbers, so that any two policies give them away."""
    ranked = [one for one in alternatives if one.gain is not None and one.gain < 1]
    rows = [features(one.policy, horizon) for one in ranked]
    columns = np.array([(-row.noise_removed, row.progress_lost) for row in rows]).reshape(-1, 2)
    if np.linalg.matrix_rank(columns) < 2:
        return None
    relief, cost = np.linalg.lstsq(columns, np.array([math.log1p(-(one.gain or 0.0)) for one in ranked]), rcond=None)[0]
    return float(relief), float(cost)


def _losses(policy: Policy, horizon: int, relief: float, cost: float) -> tuple[Array, Array]:
    total = policy.total_steps or horizon
    count = min(total, _MOST_STEPS)
    eta = np.array([policy(round(k * total / count)) for k in range(count)])
    flat = ConvexBound.of(np.ones(count)).value
    spread = flat - ConvexBound.of(1 - np.arange(count) / count).value
    peak = ConvexBound.of(eta).lr
    lengths = np.unique(np.round(np.linspace(max(_FROM * count, 1), count, _POINTS)).astype(int))
    found = []
    for length in lengths:
        bound = ConvexBound.of(eta[:length])
        removed = (flat - bound.distance / peak - bound.noise * peak) / spread if spread > 0 else 0.0
        missing = -math.log2(float(eta[:length].sum()) / count)
        found.append(math.exp(-relief * removed + cost * missing))
    return lengths * (total / count), np.array(found)


_STYLES = ("-", "--", ":", "-.", (0, (1, 1, 4, 1)))

_MOST_LOSSES = 4
"""More lines than these cannot be told apart."""


def draw_rates(courses: Sequence[Course], axes: Sequence[Axes], colours: Palette) -> None:
    """Draw the learning rate over the steps, one policy per Axes, all on the same scale."""
    top = 1.08 * max(float(course.lr.max()) for course in courses)
    for course, ax in zip(courses, axes, strict=False):
        colour = colours.answer if course.taken else colours.data
        ax.fill_between(course.step, course.lr, color=colour, alpha=0.15, linewidth=0)
        ax.plot(course.step, course.lr, color=colour, linewidth=2 if course.taken else 1.4)
        ax.set_title(_title(course), fontsize="medium", color=colour if course.taken else colours.ink, loc="left")
        ax.set_ylim(0, top)
        ax.set_xlim(0, course.step[-1])
        ax.set_xticks([0, course.step[-1]], ["0", f"{course.step[-1]:,.0f}"])
        ax.locator_params(axis="y", nbins=3)
        ax.yaxis.set_major_formatter(plain)
        bare(ax, colours)
        first, last = ax.get_xticklabels()
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")


def _title(course: Course) -> str:
    gain = course.alternative.gain
    return course.alternative.policy.name + (f"  {-gain:+.1%}" if gain is not None and gain != 0 else "")


def draw_losses(courses: Sequence[Course], ax: Axes, colours: Palette) -> Axes:
    """Draw the predicted loss over the steps, and at the end the predicted final loss with its 90% interval.

    Only the first few policies are drawn, the suggested one first.
    """
    from matplotlib.ticker import MaxNLocator

    shown = [course for course in courses if course.loss.size][:_MOST_LOSSES]
    for i, (course, style) in enumerate(zip(shown, _STYLES, strict=False)):
        one, last = course.alternative, float(course.loss_step[-1])
        colour = colours.answer if course.taken else (colours.fit, colours.data, colours.ink)[i % 3]
        ax.plot(course.loss_step, course.loss, linestyle=style, color=colour, linewidth=1.4, label=one.policy.name)
        if one.gain is None or one.gain_low is None or one.gain_high is None:
            continue
        end, low, high = 1 - one.gain, 1 - one.gain_high, 1 - one.gain_low
        at = last * (1.03 + 0.035 * i)
        bar = [[max(end - low, 0.0)], [max(high - end, 0.0)]]
        ax.errorbar([at], [end], bar, fmt="o", color=colour, markersize=5, elinewidth=1.6)
    ax.axhline(1.0, color=colours.soft, linewidth=0.8, linestyle=":")
    end = float(shown[0].loss_step[-1])
    tops = [float(np.interp(0.5 * end, course.loss_step, course.loss)) for course in shown]
    tops += [1 - course.alternative.gain_low for course in shown if course.alternative.gain_low is not None]
    ax.set_ylim(top=1.03 * max(tops))
    ax.set_xticks([*(tick for tick in MaxNLocator(9).tick_values(0.0, end) if 0.5 * end <= tick < 0.9 * end), end])
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.set_xlabel("optimizer steps")
    ax.set_ylabel("predicted loss,\nfinal loss of a constant rate = 1")
    bare(ax, colours)
    return ax


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


def _measured(landscape: ValleyFit, steps: int) -> Place:
    octaves = landscape.place + landscape.drift * math.log2(steps / landscape.steps)
    order = np.argsort(octaves)
    return _place(steps, LRPosterior(octaves[order], landscape.weights[order]))


def _place(steps: float, belief: LRPosterior) -> Place:
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


def plot_policies(suggestion: Suggestion, ax: Axes | None = None, *, palette: Palette | None = None) -> Axes:
    """Draw the predicted gain of every policy over a constant rate, with its 90% interval, the best on top.

    Args:
        suggestion: one with alternatives; those that cannot be predicted are left out.
        ax: where to draw; a new figure when None.
        palette: colours.

    Returns:
        The Axes drawn on.

    Raises:
        InputError: no policies were compared.
    """
    shown = [one for one in suggestion.alternatives if one.gain is not None]
    if not shown:
        raise InputError(f"suggestion must have alternatives to plot, got none: method = {suggestion.method!r}")
    colours, ax = palette or Palette(), ax or new_axes()
    places = np.arange(len(shown))[::-1]
    gain, low, high = (
        100 * np.array([getattr(one, name) for one in shown], dtype=float) for name in ("gain", "gain_low", "gain_high")
    )
    taken = np.array([one.policy == suggestion.policy for one in shown])
    for group, colour in ((~taken, colours.data), (taken, colours.answer)):
        ax.hlines(places[group], low[group], high[group], color=colour, linewidth=2)
        ax.plot(gain[group], places[group], "o", color=colour)
    ax.axvline(0.0, color=colours.ink, linewidth=0.8, linestyle=":")
    ax.set_yticks(places, [one.policy.name for one in shown])
    ax.set_xlabel("predicted gain over a constant rate,\n% of the final loss, with 90% interval")
    bare(ax, colours)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    return ax
