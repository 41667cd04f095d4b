from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfinder import InputError, Policy
from lrfinder.schedules import POLICIES


@st.composite
def policies(draw):
    total = draw(st.integers(1, 10_000))
    return Policy(draw(st.sampled_from(sorted(POLICIES))), total, draw(st.integers(0, total - 1)))


@given(policies())
def test_warmup_rises_evenly_to_the_peak_and_decay_never_rises(policy):
    warmup = policy.warmup_steps
    values = [policy(step) for step in range(policy.total_steps + 3)]
    assert all(0 <= value <= 1 for value in values)
    assert values[:warmup] == pytest.approx([(t + 1) / (warmup + 1) for t in range(warmup)])
    assert values[warmup] == 1
    assert values[warmup:] == sorted(values[warmup:], reverse=True)


@given(policies())
def test_every_policy_ends_where_it_says_and_stays_there(policy):
    end = {"constant": 1.0, "linear": 0.0, "cosine": 0.0, "wsd": 0.0}[policy.name]
    for step in (policy.total_steps, policy.total_steps + 1, 10**9):
        assert policy(step) == pytest.approx(end, abs=1e-12)


@pytest.mark.parametrize(("name", "half"), [("constant", 1.0), ("linear", 0.5), ("cosine", 0.5), ("wsd", 1.0)])
def test_half_way_through(name, half):
    assert Policy(name, 100)(50) == pytest.approx(half)


def test_wsd_falls_over_the_last_two_fifths():
    assert [Policy("wsd", 100)(step) for step in (0, 60, 80, 100)] == pytest.approx([1.0, 1.0, 0.5, 0.0])


def test_cosine_is_above_linear_first_and_below_it_later():
    assert Policy("cosine", 100)(25) > Policy("linear", 100)(25)
    assert Policy("cosine", 100)(75) < Policy("linear", 100)(75)


def test_a_constant_rate_needs_no_end():
    assert [Policy("constant", warmup_steps=1)(step) for step in (0, 1, 10**9)] == [0.5, 1.0, 1.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("exponential", 10), "name must be one of constant, linear, cosine, wsd, got 'exponential'"),
        (("linear",), "total_steps must be given for policy 'linear', got None"),
        (("linear", 10, 10), r"warmup_steps must be in \[0, total_steps\), got warmup_steps = 10, total_steps = 10"),
        (("linear", 10, -1), "got warmup_steps = -1"),
        (("constant", 0), "got warmup_steps = 0, total_steps = 0"),
    ],
)
def test_a_broken_rule_is_named_with_the_value(arguments, message):
    with pytest.raises(InputError, match=message):
        Policy(*arguments)


def test_a_policy_is_ready_for_json():
    assert Policy("linear", 100, 5).to_dict() == {
        "name": "linear",
        "params": {},
        "warmup_steps": 5,
        "total_steps": 100,
        "predicted_gain": None,
        "predicted_gain_low": None,
        "predicted_gain_high": None,
    }
