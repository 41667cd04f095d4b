from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from support.curves import SPECTRA, answered, descended, random_shape, refused, synthetic

from lrfinder import Curve, InputError, Policy, Reason, Suggestion, suggest
from lrfinder.answer.ranking import Alternative
from lrfinder.evidence.probe import Evidence
from lrfinder.schedules.policy import POLICIES

ANSWER = ("lr", "lr_low", "lr_high")

# A fit takes a tenth of a second: few examples.
few = settings(max_examples=6)


def assert_same_answer(one: Suggestion, other: Suggestion, factor: float = 1.0, rel: float = 1e-6) -> None:
    assert one.reason == other.reason
    if one.reason is None:
        expected = [factor * getattr(one, name) for name in ANSWER]
        assert [getattr(other, name) for name in ANSWER] == pytest.approx(expected, rel=rel)


def test_the_answer_lies_more_than_an_octave_below_the_lowest_place_inside_its_interval():
    suggestion = answered(steps=1000)
    assert suggestion.status == "ok"
    assert suggestion.reason is None
    assert suggestion.lr == pytest.approx(10**-0.76 / 2.7, rel=0.1)  # the made loss is lowest at 10**-0.76
    assert suggestion.lr == pytest.approx(suggestion.fit["lr_lowest"] / 2.7, rel=0.1)
    assert suggestion.lr_low < suggestion.lr < suggestion.lr_high
    # The best rates of whole trainings scatter by about 2.6 octaves about that place: 1.645 times that either way.
    assert math.log2(suggestion.lr_high / suggestion.lr_low) == pytest.approx(2 * 1.645 * 2.6, rel=0.05)


@given(st.integers(0, 10**6), st.floats(-6, 6), st.floats(-1000, 1000))
@few
def test_scaling_or_shifting_the_loss_leaves_the_answer_alone(seed, decades, shift):
    curve = random_shape(seed)
    answer = suggest(curve)
    assert_same_answer(answer, suggest(Curve(curve.lr, 10**decades * curve.loss)))
    assert_same_answer(answer, suggest(Curve(curve.lr, curve.loss + shift)))


@given(st.integers(0, 10**6), st.floats(-3, 3))
@few
def test_scaling_the_learning_rates_scales_the_answer(seed, decades):
    curve = random_shape(seed)
    scaled = suggest(Curve(10**decades * curve.lr, curve.loss))
    assert_same_answer(suggest(curve), scaled, 10**decades, rel=1e-3)  # candidate rates lie on a grid


def test_a_negative_loss_is_as_good_as_any():
    curve = synthetic()
    assert suggest(Curve(curve.lr, curve.loss - 50)).status == "ok"


@pytest.mark.parametrize("constant", [0.0, -3.0, 1e30, 1e-30])
def test_a_constant_loss_is_refused_and_its_curve_holds_exactly_that_constant(constant):
    suggestion = suggest(Curve(np.geomspace(1e-7, 10, 100), [constant] * 100))
    assert suggestion.reason is Reason.FLAT
    assert set(suggestion.curves[0].loss) == {constant}


REFUSALS = [reason.name for reason in Reason]


@pytest.mark.parametrize("name", REFUSALS)
def test_each_refusal_gives_its_reason_a_remedy_and_no_number(name):
    suggestion = refused(name)
    assert suggestion.reason is Reason[name]
    assert suggestion.status == "refused"
    assert [getattr(suggestion, field) for field in ANSWER] == [None] * 3
    assert suggestion.param_group_lrs == ()
    assert suggestion.policy is None
    assert suggestion.reason.value in str(suggestion)
    assert any(word in suggestion.reason.value for word in ("Raise", "Lower", "Take", "Give"))
    with pytest.raises(InputError, match="no learning rate to apply"):
        suggestion.apply(None)


def test_a_plateau_that_only_blows_up_is_refused_as_rising():
    lr = np.geomspace(1e-7, 10, 100)
    loss = 2.3 + np.exp((np.log10(lr) + 1) / 0.1) + 0.01 * np.random.default_rng(0).standard_normal(100)
    assert suggest(Curve(lr, np.minimum(loss, 1e6))).reason is Reason.RISING


def test_a_descent_that_ends_in_nan_has_found_its_upper_end():
    curve = synthetic(rise=9)
    suggestion = suggest(Curve(curve.lr[:60], [*curve.loss[:59], math.nan]))
    assert suggestion.status == "ok"
    assert suggestion.lr < curve.lr[59]


def test_the_answer_stays_below_the_limit_that_the_blow_up_shows():
    suggestion = suggest(descended(SPECTRA["power law"]))
    assert suggestion.lr <= 2.0 / 2
    assert suggestion.lr_high <= 2.0 * 1.01


@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_a_range_test_alone_is_weak_and_says_what_would_narrow_the_interval(noise):
    suggestion = suggest(synthetic(noise=noise), steps=1000)
    assert suggestion.confidence == "weak"
    assert any("budget=400 would narrow the interval" in caveat for caveat in suggestion.caveats)


@pytest.mark.parametrize(
    ("either_way", "word"),
    [(1.0, "sharp"), (1.9, "sharp"), (2.1, "fair"), (3.9, "fair"), (9.9, "rough"), (10.1, "weak"), (1e6, "weak")],
)
def test_confidence_goes_by_the_width_of_the_interval_alone(either_way, word):
    # The rate may lie anywhere in the interval.
    suggestion = dataclasses.replace(answered(), lr=0.1, lr_low=0.1, lr_high=0.1 * either_way**2)
    assert suggestion.confidence == word
    assert dict(suggestion.lines())["How sure"].startswith(f"{word}: the best rate may be 1 times lower or ")
    assert Suggestion.from_dict(suggestion.to_dict()).confidence == word


def test_confidence_stays_with_another_policy_and_is_empty_for_a_refusal():
    assert answered(steps=1000).with_policy("linear").confidence == answered(steps=1000).confidence == "weak"
    assert refused("FLAT").confidence == ""


@pytest.mark.parametrize("steps", [0, -5, 1.5, "100", True])
def test_a_number_of_steps_that_is_none_is_named(steps):
    with pytest.raises(InputError, match=f"steps must be a positive whole number .*, got steps = {steps!r}"):
        suggest(synthetic(), steps=steps)


def test_the_number_of_steps_decides_the_policy_and_is_missed_where_it_is_not_given():
    known, unknown = answered(steps=1000), answered()
    assert (known.policy, known.horizon) == (Policy("wsd", 1000, 150), 1000)
    assert (unknown.policy, unknown.horizon) == (Policy("constant"), None)
    assert any("Give steps." in caveat for caveat in unknown.caveats)
    assert not any("Give steps." in caveat for caveat in known.caveats)


def test_doubts_are_caveats():
    curve = synthetic(rise=0.9)  # the loss turns, but training does not diverge before the last rate
    suggestion = suggest(Curve(curve.lr, curve.loss, caveats=["Said by the recording."]), steps=50)
    assert suggestion.status == "ok"
    text = " ".join(suggestion.caveats)
    for doubt in ("Said by the recording.", "A range test alone gives a bracket", "only faintly"):
        assert doubt in text


def test_every_param_group_keeps_its_ratio():
    curve = synthetic()
    suggestion = suggest(Curve(curve.lr, curve.loss, group_ratios=[1.0, 0.1]))
    assert suggestion.param_group_lrs == pytest.approx([suggestion.lr, suggestion.lr / 10])
    assert "Groups" in dict(suggestion.lines())


def test_steps_and_seconds_are_those_of_the_curve():
    curve = synthetic()
    suggestion = suggest(Curve(curve.lr, curve.loss, np.arange(100) * 3, seconds=1.5))
    assert (suggestion.steps_spent, suggestion.seconds) == (298, 1.5)


@pytest.mark.parametrize("name", ["OK", *REFUSALS])
def test_json_gives_back_the_same_suggestion(name):
    suggestion = answered(steps=1000) if name == "OK" else refused(name)
    suggestion = suggestion.with_environment(device="cpu", seed=3)
    document = json.loads(json.dumps(suggestion.to_dict(), allow_nan=False))
    assert Suggestion.from_dict(document) == suggestion
    assert document["status"] == suggestion.status


def test_the_fields_of_the_json_document_are_pinned():
    document = answered(steps=1000).to_dict()
    assert list(document) == [
        *("schema_version", "status", "reason", "lr", "lr_low", "lr_high", "param_group_lrs", "policy"),
        *("alternatives", "method", "horizon", "steps_spent", "seconds", "caveats", "curves", "fit", "environment"),
        *("probes", "cost_of_error", "interrupted"),
    ]
    assert document["schema_version"] == 1
    assert {"lrfinder", "python", "platform", "torch", "lightning", "numpy", "scipy"} <= set(document["environment"])


def test_the_answer_in_words():
    suggestion = dataclasses.replace(
        answered(steps=1000), lr=0.0123456, lr_low=0.002, lr_high=0.07, caveats=("Beware.",)
    )
    curve = dataclasses.replace(suggestion.curves[0], seconds=2.0)
    suggestion = dataclasses.replace(suggestion, evidence=Evidence.of_range_test(curve))
    assert suggestion.headline() == "learning rate 0.0123, 90% interval 0.002 to 0.07"
    assert str(suggestion).splitlines() == [
        "Peak LR   0.0123",
        "Interval  0.002 to 0.07 holds the best rate with 90% probability",
        f"Policy    {suggestion.policy.text}",
        "How sure  rough: the best rate may be 6.2 times lower or 5.7 times higher",
        "Spent     100 optimizer steps for a training of 1,000, 2.0 s",
        "Read too  1 caveat, in the report and with details()",
    ]
    assert suggestion.details().splitlines() == [
        *str(suggestion).splitlines()[:-1],
        "Ran       a range test of 100 steps",
        "Caveat    Beware.",
    ]


def test_a_refusal_in_words():
    suggestion = refused("FLAT")
    assert suggestion.headline() == f"refused. {Reason.FLAT.value}"
    assert str(suggestion).splitlines() == [
        f"Refused   {Reason.FLAT.value}",
        "Spent     100 optimizer steps for a training of 1,000",
    ]


def test_the_scalars_for_a_logger_hold_no_text_of_the_curve():
    assert answered().summary().keys() == {*("status", "lr", "lr_low", "lr_high", "method", "horizon", "steps_spent")}


# --- another policy, and what follows it -----------------------------------------------------------------------------


def considered(*entries: tuple[Policy, float]) -> Suggestion:
    """A suggestion of 0.5 for 1,000 steps with 150 of warmup, and of 0.05 for a second group."""
    alternatives = tuple(Alternative(policy, lr, 0.1, 0.05, 0.2, "It fits.") for policy, lr in entries)
    return dataclasses.replace(
        answered(steps=1000), lr=0.5, lr_low=0.1, lr_high=1.0, param_group_lrs=(0.05, 0.5),
        policy=Policy("wsd", 1000, 150), alternatives=alternatives,
    )  # fmt: skip


def test_another_policy_takes_its_own_peak_and_everything_is_scaled_along():
    linear = Policy("linear", 1000, 20)
    suggestion = considered((linear, 0.75), (Policy("wsd", 1000, 150), 0.5)).with_policy("linear")
    assert (suggestion.policy, suggestion.lr, suggestion.param_group_lrs) == (
        linear,
        0.75,
        (pytest.approx(0.075), 0.75),
    )
    assert (suggestion.lr_low, suggestion.lr_high) == pytest.approx((0.15, 1.5))
    assert suggestion.chosen.policy == linear
    assert Suggestion.from_dict(suggestion.to_dict()) == suggestion


def test_a_policy_that_was_not_considered_takes_the_same_peak_and_warmup():
    suggestion = considered()
    assert suggestion.with_policy("cosine") == dataclasses.replace(suggestion, policy=Policy("cosine", 1000, 150))
    assert suggestion.with_policy("plateau").policy == Policy("plateau", 1000)  # which torch cannot warm up
    assert suggestion.with_policy("wsd") is suggestion
    assert suggestion.with_policy(Policy("wsd", 1000, 150)) is suggestion


def test_a_policy_with_parameters_takes_the_peak_of_its_like_or_else_of_its_name():
    early, late = (Policy("wsd", 1000, 0, {"cooldown": share}) for share in (0.8, 0.1))
    suggestion = considered((early, 0.7), (late, 0.3), (Policy("linear", 1000), 0.9))
    for policy, lr in [(late, 0.3), (early, 0.7), (Policy("wsd", 77), 0.7), (Policy("cosine", 10), 0.5)]:
        other = suggestion.with_policy(policy)
        assert (other.policy, other.lr) == (policy, lr)


def test_a_policy_that_cannot_be_is_named():
    with pytest.raises(InputError, match=r"policy must be one of constant, .*, got 'fast'"):
        answered(steps=1000).with_policy("fast")
    with pytest.raises(InputError, match=r"steps must be given for policy 'linear', .*, got steps = None"):
        answered().with_policy("linear")
    assert answered().with_policy("plateau").policy == Policy("plateau")
    with pytest.raises(InputError, match=r"a refused suggestion has no learning rate to apply: refused\. "):
        refused("FLAT").with_policy("linear")


def optimizer_of_two(used: bool = False) -> torch.optim.SGD:
    optimizer = torch.optim.SGD(
        [{"params": [torch.zeros(1)], "lr": 0.002}, {"params": [torch.zeros(1)]}], lr=0.02, momentum=0.9
    )
    if used:
        torch.optim.lr_scheduler.OneCycleLR(optimizer, [0.002, 0.02], total_steps=10)
    return optimizer


@pytest.mark.parametrize("name", [name for name in POLICIES if name != "plateau"])
@pytest.mark.parametrize("before", ["nothing", "applied", "another scheduler"])
def test_its_scheduler_takes_every_group_from_its_peak_along_the_policy(name, before):
    suggestion, optimizer = considered().with_policy(name), optimizer_of_two(before == "another scheduler")
    if before == "applied":
        suggestion.apply(optimizer)
    scheduler = suggestion.scheduler(optimizer)
    rates = []
    for _ in range(1003):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    assert rates == [[0.05 * suggestion.policy(step), 0.5 * suggestion.policy(step)] for step in range(1003)]
    assert [group["momentum"] for group in optimizer.param_groups] == [0.9, 0.9]
    assert optimizer.defaults["lr"] == 0.5


def test_the_scheduler_of_plateau_is_torchs_own():
    optimizer = optimizer_of_two()
    scheduler = considered().with_policy("plateau").scheduler(optimizer)
    for _ in range(13):
        scheduler.step(1.0)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.005, 0.05])


def test_a_refusal_has_no_scheduler():
    with pytest.raises(InputError, match="no learning rate to apply"):
        refused("FLAT").scheduler(optimizer_of_two())


def test_the_interval_is_a_range_to_search_in():
    suggestion = answered(1000)
    assert suggestion.interval == (suggestion.lr_low, suggestion.lr_high)
    with pytest.raises(InputError, match="refused suggestion has no learning rate"):
        _ = refused("FLAT").interval


def test_plot_draws_the_range_test_and_marks_the_rate():
    ax = Figure().subplots()
    assert answered(1000).plot(ax) is ax
    assert any("suggested" in line.get_label() for line in ax.lines)
