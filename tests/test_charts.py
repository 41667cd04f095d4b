from __future__ import annotations

import dataclasses
import re

import pytest
from curves import synthetic
from matplotlib.figure import Figure
from scripted import evidence, valley

from lrfinder import suggest
from lrfinder.charts import TITLES, drawings, texts_of
from lrfinder.choice import choose
from lrfinder.findings import Findings
from lrfinder.plot import Palette

ANSWER = choose(evidence(valley(-6.0), noise=0.001), steps=500)


@pytest.mark.parametrize(
    ("suggestion", "names"),
    [
        (ANSWER, ["probes", "drift", "curve", "rates", "losses", "gains"]),
        (choose(evidence(valley(-6.0))), ["probes", "drift", "curve"]),
        (choose(evidence(dict.fromkeys(valley(-6.0), 2.0)), steps=500), ["probes", "curve"]),
        (choose(evidence({}), steps=500), ["curve"]),
        (suggest(synthetic(), steps=500), ["curve", "rates"]),
        (suggest(synthetic()), ["curve"]),
        (dataclasses.replace(ANSWER, alternatives=()), ["probes", "drift", "curve", "rates"]),
    ],
    ids=[
        "searched",
        "no horizon",
        "flat",
        "no probes",
        "range test",
        "range test, no horizon",
        "policies not compared",
    ],
)
def test_what_there_is_evidence_for_is_drawn_in_order_and_described(suggestion, names):
    findings = Findings.of(suggestion)
    found = drawings(findings)
    assert list(found) == names
    assert [name for name in TITLES if name in found] == names
    for name, draw in found.items():
        assert re.search(r"\d", texts_of(findings)[name])
        figure = Figure()
        draw(figure, Palette())
        assert figure.axes[0].has_data()


def test_the_descriptions_hold_the_numbers():
    texts = texts_of(Findings.of(ANSWER))
    lowest = min((o for o in ANSWER.probes if o.probe.steps == 40), key=lambda o: o.mean)
    assert (
        f"6 probes of 40 steps from 0.002 to 0.062, the lowest {lowest.mean:.4g} at {lowest.probe.lr:.2g}."
        in texts["probes"]
    )
    assert f"wsd: {ANSWER.policy.text}, from {ANSWER.lr:.3g}" in texts["rates"]
    assert f"wsd {1 - ANSWER.chosen.gain:.3g}" in texts["losses"]
    assert "after 500 steps" in texts["drift"]
