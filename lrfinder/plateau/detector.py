"""`Detector`: watches a live run for a plateau, loss by loss, without asking the device for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lrfinder.errors import InputError, is_number, one_of, whole_number
from lrfinder.plateau.blocks import Blocks
from lrfinder.plateau.gain_test import LEAST_STEPS, Plateau, Record, judge_progress, next_look

Array = NDArray[np.float64]

_START = 5
"""First values, whose median is where training started."""

_SAME_LR = 0.01
"""Relative change of a learning rate from which on the window begins anew."""

_CERTAIN = 4.0
"""Standard errors by which the loss has to leave a plateau for another one to be looked for."""


class Detector:
    """Find a plateau: evidence that half as many steps again would gain less than a tolerance.

    Losses accumulate on their device. They are read at 32 steps and 16 times per doubling from there on, at one
    transfer each; memory is constant. Values that are not finite are counted and left out. A change of the
    learning rate by more than 1% begins a new window, since it shifts the loss. There is one event per plateau: the
    next needs a new learning rate, or a loss that has fallen by more than the tolerance since.

    The probability that any event comes while the coming steps would in fact gain more than the tolerance is at most
    ``alpha``, in the whole run, by simulation (docs/plateau.md). That assumes that progress does not accelerate at an
    unchanged rate, and that the noise has no period longer than about two thirds of ``min_steps``.

    Args:
        delta: tolerance, in units of the loss; by default what annealing the learning rate saves, as told from recent
            progress and from the noise (`lrfinder.plateau.gain_test.tolerance`).
        alpha: highest rate of false alarms in the run, in (0, 0.5).
        min_steps: minimum number of values since the learning rate last changed, and in a window; at least 24.
        ahead: steps to come that are spoken of; by default half of those so far.
        mode: "min" where smaller values are better, or "max".
        unit: what to call what is counted.
        average: gives the mean over all processes of a tensor, for training in several, so that all decide alike; every
            process has to update at every step.
        on_restart: called with the number of values seen whenever a new window begins: at a change of the learning
            rate, at `restart`, and when the loss falls on after a plateau. `lrs` then holds the new rates.

    Attributes:
        events: every `Plateau` found.
        lrs: learning rates of the present window, one for every param group; empty if they are not known.

    Raises:
        InputError: an argument breaks a rule.
    """

    def __init__(
        self,
        *,
        delta: float | None = None,
        alpha: float = 0.05,
        min_steps: int = 768,
        ahead: int | None = None,
        mode: str = "min",
        unit: str = "steps",
        average: Callable[[Tensor], Tensor] | None = None,
        on_restart: Callable[[int], None] | None = None,
    ) -> None:
        if delta is not None and not (is_number(delta) and 0 <= delta < math.inf):
            raise InputError(
                f"delta must be a finite number of at least 0, in units of the loss, got delta = {delta!r}"
            )
        if not (is_number(alpha) and 0 < alpha < 0.5):
            raise InputError(f"alpha must be a rate in (0, 0.5), got alpha = {alpha!r}")
        whole_number("min_steps", min_steps, LEAST_STEPS)
        whole_number("ahead", 1 if ahead is None else ahead)
        one_of("mode", mode, ("min", "max"))
        self.delta, self.alpha, self.min_steps, self.ahead, self.mode = delta, float(alpha), min_steps, ahead, mode
        self.unit, self.average, self.on_restart = unit, average, on_restart
        self.events: tuple[Plateau, ...] = ()
        self._run = self._window = Blocks()
        self._start: Tensor | None = None  # (5, 2), like the first rows of the table
        self.lrs: tuple[float, ...] = ()
        self._since = 0
        self._next = next_look(0)
        self._within = False  # a plateau that has been reported

    def __repr__(self) -> str:
        return f"Detector({self.steps} {self.unit} seen, {len(self.events)} plateaus, alpha={self.alpha:g})"

    @property
    def steps(self) -> int:
        """Values seen."""
        return self._run.steps

    @property
    def skipped(self) -> int:
        """Values that were not finite. Reads from the device."""
        return self.steps - round(float(self._run.finite()))

    @property
    def window_steps(self) -> int:
        """Values since the learning rate last changed, or `restart` was called."""
        return self._window.steps

    def update(self, loss: Tensor | float, lr: Any = None) -> Plateau | None:
        """Take the loss of one more step; return a plateau where this one shows it.

        Args:
            loss: a single value, on any device; the graph it may be part of is left alone.
            lr: learning rate of the step, or one for every param group, or the optimizer. Where it is given, the window
                begins anew by itself when it changes; else call `restart`.

        Raises:
            InputError: more than one value.
        """
        if isinstance(loss, Tensor):
            if loss.numel() != 1:
                raise InputError(f"loss must be a single value, got a tensor of shape {tuple(loss.shape)}")
            loss = loss.detach()
        else:
            loss = float(loss)
        looking = self.steps + 1 >= self._next
        if lr is not None:
            self._follow(lr, looking)
        value = -loss if self.mode == "max" else loss
        self._run.add(value)
        if self._window is not self._run:
            self._window.add(value)
        if self.steps == _START:
            self._start = self._run.table().clone()
        if not looking:
            return None
        self._next = next_look(self.steps)
        return self.look()

    def extend(self, values: ArrayLike, lr: ArrayLike | None = None) -> None:
        """Take many losses that were recorded, as `update` does one by one, in a tenth of the time.

        Args:
            values: (n,).
            lr: (n,) learning rates.
        """
        losses = torch.from_numpy(np.array(values, dtype=np.float64))
        rates = None if lr is None else np.asarray(lr, dtype=np.float64)
        place = 0
        while place < len(losses):
            self.update(losses[place], None if rates is None else rates[place])
            place += 1
            # `update` looks, begins windows, and notes the start; what lies between can be taken together.
            end = place if self._start is None else min(place + self._next - 1 - self.steps, len(losses))
            if rates is not None:
                changed = _differs(rates[place:end], self.lrs[0])
                end = place + int(np.argmax(changed)) if changed.any() else end
            for blocks in {id(one): one for one in (self._run, self._window)}.values():
                blocks.extend(self._sign * losses[place:end])
            place = end

    def restart(self) -> None:
        """Begin a new window: the level of the loss is about to shift."""
        self._window, self._since, self._within = Blocks(), self.steps, False
        if self.on_restart is not None:
            self.on_restart(self.steps)

    def _follow(self, lr: Any, looking: bool) -> None:
        lrs = _rates(lr, looking)
        if lrs is None:
            return
        if not self.lrs:
            self.lrs = lrs
        elif len(lrs) != len(self.lrs) or any(map(_differs, lrs, self.lrs)):
            self.lrs = lrs
            self.restart()

    def outlook(self) -> Plateau | None:
        """Return what the steps to come are expected to gain, in the form of a plateau, whether it is one or not.

        None where there are too few values to say. Reads from the device.
        """
        if self.steps < _START:
            return None
        run, window, start, finite = self._read()
        if min(run.mean.size, window.mean.size) < LEAST_STEPS:
            return None
        ahead = self.ahead or max(self.steps // 2, 1)
        seen, delta = judge_progress(run, window, start, self.steps, ahead, self.delta, self.alpha, self.min_steps)
        if not seen.blocks:
            return None
        return Plateau(
            step=self.steps,
            since=self._since + window.length * (window.mean.size - int(seen.blocks)),
            ahead=ahead,
            gain=float(seen.gain),
            gain_high=float(seen.high),
            delta=float(delta),
            p_value=float(seen.p_value),
            level=self._sign * float(seen.level),
            level_error=float(seen.level_error),
            skipped=round(self.steps - finite),
            lrs=self.lrs,
            unit=self.unit,
        )

    def look(self) -> Plateau | None:
        """Look for a plateau now, as `update` does at some steps; return one found now. Reads from the device."""
        found = self.outlook() if self.window_steps >= self.min_steps else None
        if found is None:
            return None
        if self._within:
            last = self.events[-1]
            if self.gained(last, found) > last.delta + _CERTAIN * math.hypot(last.level_error, found.level_error):
                self.restart()  # it has gone on falling after all: there may be another plateau
        elif found.p_value <= self.alpha:
            self._within, self.events = True, (*self.events, found)
            return found
        return None

    def gained(self, before: Plateau, after: Plateau) -> float:
        """Return by how much one level is better than the other."""
        return self._sign * (before.level - after.level)

    @property
    def _sign(self) -> float:
        return -1.0 if self.mode == "max" else 1.0

    def _read(self) -> tuple[Record, Record, float, float]:
        """Read all that a look needs, in one transfer."""
        blocks = (self._run,) if self._window is self._run else (self._run, self._window)
        tables = [one.table() for one in blocks]
        assert self._start is not None
        parts = [self._start, *tables, torch.stack([self._run.finite()] * 2)[None]]
        together = torch.cat([part.to(parts[1]) for part in parts])
        if self.average is not None:
            together = self.average(together)
        first, *read, finite = np.split(together.cpu().numpy(), np.cumsum([len(part) for part in parts[:-1]]))
        records = [Record(table_means(table), one.length) for table, one in zip(read, blocks, strict=True)]
        start = table_means(first)
        known = start[np.isfinite(start)]
        return records[0], records[-1], float(np.median(known)) if known.size else -math.inf, float(finite[0, 0])

    def record(self) -> Record:
        """Return the whole run as means of blocks, for a picture. Reads from the device."""
        table, length = self._run.table().cpu().numpy(), self._run.length
        return Record(self._sign * table_means(table), length)

    def state_dict(self) -> dict[str, Any]:
        """Return all that it takes to go on, as JSON-ready data. Reads from the device."""
        return {
            "run": self._run.state_dict(),
            "window": None if self._window is self._run else self._window.state_dict(),
            "start": None if self._start is None else self._start.tolist(),
            "lrs": list(self.lrs),
            "since": self._since,
            "within": self._within,
            "events": [event.to_dict() for event in self.events],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave; the arguments stay this detector's own."""
        self._run, self._window = Blocks(), Blocks()
        self._run.load_state_dict(state["run"])
        if state["window"] is None:
            self._window = self._run
        else:
            self._window.load_state_dict(state["window"])
        self._start = None if state["start"] is None else torch.tensor(state["start"], dtype=torch.float64)
        self.lrs, self._since = tuple(state["lrs"]), int(state["since"])
        self._within = bool(state["within"])
        self._next = next_look(self.steps)
        self.events = tuple(Plateau.from_dict(event) for event in state["events"])


def table_means(table: Array) -> Array:
    """Return the mean of every block of `Blocks.table`, (..., n), NaN where no value was finite."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(table[..., 1] > 0, table[..., 0] / table[..., 1], np.nan), dtype=np.float64)


def _differs(lr: Any, before: float) -> Any:
    return abs(lr - before) > _SAME_LR * abs(before)


def _rates(lr: Any, looking: bool) -> tuple[float, ...] | None:
    """Return the learning rates as numbers; None where that would have to wait for the device."""
    groups = getattr(lr, "param_groups", None)
    rates = [group["lr"] for group in groups] if groups is not None else lr
    if isinstance(rates, Tensor) or not isinstance(rates, Iterable):
        rates = [rates]
    on_device = any(isinstance(rate, Tensor) and rate.device.type != "cpu" for rate in rates)
    return None if on_device and not looking else tuple(map(float, rates))
