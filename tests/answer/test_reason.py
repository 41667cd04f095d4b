from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from support.curves import pure_noise, synthetic
from support.scripted import evidence, valley

from lrfinder import Curve, Reason
from lrfinder.answer.reason import refusal
from lrfinder.evidence.probe import Evidence

LOSSES = valley(-6.0, lengths=(40,))


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_says_why_and_what_to_do_and_is_read_again_by_why(reason):
    assert reason.value == f"{reason.why} {reason.remedy}"
    assert Reason.of_text(reason.value) is reason
    assert Reason.of_text(f"{reason.why} Do something else.") is reason


def test_another_text_is_no_reason():
    assert Reason.of_text("Because.") is None


def test_a_range_test_that_falls_has_an_answer_and_noise_has_none():
    assert refusal(Evidence.of_range_test(synthetic())) is None
    assert refusal(Evidence.of_range_test(pure_noise("normal", 0))) is Reason.FLAT


def test_a_range_test_that_blows_up_at_once_diverged():
    curve = Curve(np.geomspace(1e-7, 1, 12), [2.0, 9.0, *[math.nan] * 10])
    assert refusal(Evidence.of_range_test(curve)) is Reason.DIVERGED


def test_probes_that_gained_have_an_answer_whatever_the_range_test_showed():
    assert refusal(evidence(LOSSES)) is None


def test_probes_without_gain_are_outweighed_by_a_range_test_of_the_same_loss_alone():
    found = dataclasses.replace(evidence(dict.fromkeys(LOSSES, 2.0), noise=0.05), curve=synthetic())
    assert refusal(found) is None
    assert refusal(dataclasses.replace(found, comparable=False)) is Reason.FLAT


def test_harm_at_every_rate_is_rising_and_the_end_of_all_probes_diverged():
    assert refusal(evidence(dict.fromkeys(LOSSES, 3.0), noise=0.01)) is Reason.RISING
    assert refusal(evidence(dict.fromkeys(LOSSES, math.inf))) is Reason.DIVERGED
