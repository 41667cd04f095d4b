from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scripted import Quadratic

from lrfinder.comparison import compare
from lrfinder.comparison_view import SideBySide
from lrfinder.difference import Difference, alike, standard_error
from lrfinder.finder import find
from lrfinder.search_options import SearchOptions


def found(level, **options):
    """A search whose held-out losses after training lie so much higher."""
    suggestion = find(Quadratic(**options), SearchOptions("probe", 1000, 300))
    probes = tuple(dataclasses.replace(o, loss=o.loss + (level if o.probe.steps else 0)) for o in suggestion.probes)
    return dataclasses.replace(suggestion, probes=probes)


@pytest.mark.parametrize(("level", "batches"), [(0.5, 8), (0.004, 8), (0.5, 1), (0.0, 1)])
def test_terminal_and_page_say_the_same(level, batches):
    both = {"a": found(0.0, batches=batches), "b": found(level, batches=batches)}
    rows = [
        [(one.behind, one.behind_error, one.tied) for one in compared.entries]
        for compared in (compare(list(both.items())), SideBySide.of(both))
    ]
    assert rows[0] == rows[1]
    assert rows[0][1][2] is (level < 0.01)
    told = ("how sure that is cannot be told", "no detectable difference from b")
    for words in told:
        assert (words in compare(list(both.items())).verdict) == (words in SideBySide.of(both).finding)


def test_it_is_paired_where_it_can_be():
    first = max(found(0.0, noise=0.5).probes, key=lambda one: one.probe.steps)
    one = dataclasses.replace(first, loss=first.loss + 0.05)
    assert Difference.of(one, first)[1:] == (pytest.approx(0.0, abs=1e-12), False)
    assert Difference.of(one, first, paired=False).error == pytest.approx(standard_error(first.loss) * 2**0.5)
    assert not Difference.of(first, first).tied


def test_losses_before_any_step_are_alike_up_to_rounding():
    losses = np.array([2.0, 1.5, np.nan])
    assert alike(losses, losses * (1 + 5e-5))
    assert not alike(losses, losses * 1.001)
    assert not alike(losses, losses[:2])
