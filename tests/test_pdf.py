from __future__ import annotations

import dataclasses
import re

from curves import pure_noise, synthetic
from scripted import evidence, valley
from test_report import EVIL

from lrfinder import suggest
from lrfinder.choice import choose
from lrfinder.comparison import compare
from lrfinder.pdf import comparison_pdf, report_pdf

ANSWER = choose(evidence(valley(-6.0), noise=0.001), steps=500)


def pages(pdf):
    """The sizes of the pages, in points."""
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    return [tuple(map(float, box.split())) for box in re.findall(rb"/MediaBox \[ ?([^\]]*?) ?\]", pdf)]


def test_the_pages_are_a4_and_hold_every_chart():
    found = pages(report_pdf(ANSWER, "lrfinder suggest"))
    assert len(found) == 5  # answer and probes; two charts; two; one; caveats
    assert all(abs(w - 595) < 1.5 and abs(h - 842) < 1.5 for _, _, w, h in found)


def test_charts_are_drawn_not_pasted():
    assert b"/Subtype /Image" not in report_pdf(suggest(synthetic()))


def test_a_refusal_and_long_texts_get_pages():
    assert len(pages(report_pdf(suggest(pure_noise("normal", 0))))) == 2
    long = dataclasses.replace(suggest(pure_noise("normal", 0)), caveats=(EVIL * 60, "x" * 3000, "\x00 $\\frac$ 漢字"))
    assert len(pages(report_pdf(long))) > 3


def test_several_make_one_document():
    both = {"a$b": ANSWER, "_range": suggest(synthetic(), steps=500)}
    assert len(pages(comparison_pdf(compare(both), "lrfinder report a b"))) == 2
