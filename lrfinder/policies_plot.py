"""What each policy is predicted to give, drawn with matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lrfinder.errors import InputError
from lrfinder.plot import Palette, bare, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lrfinder.suggestion import Suggestion

__all__ = ["plot_policies"]


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
