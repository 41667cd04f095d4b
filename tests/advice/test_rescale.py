"""Rules against bounds whose best rate is known, and the change of a whole answer."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.curves import pure_noise
from support.scripted import evidence, valley

from lrfinder import InputError, suggest
from lrfinder.advice.gradients import NoiseScale
from lrfinder.advice.rescale import BY_NOISE, BY_STEPS, FAMILIES, batch_shift, decay_time, family_of
from lrfinder.answer.choose import choose

SIZES = st.integers(1, 10**5)


def answer(steps=500):
    return choose(evidence(valley(-6.0)), steps=steps)


@given(SIZES, SIZES, st.floats(0.1, 1e6), st.integers(1, 10**6))
def test_with_a_noise_scale_the_rate_is_the_one_that_the_convex_bound_puts_best(old, new, noise, steps):
    def best(batch_size):  # of 1 / (lr T) + lr (1 + noise / B), whose minimum is known
        return math.sqrt(1 / (steps * (1 + noise / batch_size)))

    octaves, _ = batch_shift((old, new), 0.0, "sgd", noise)
    assert octaves == pytest.approx(math.log2(best(new) / best(old)), abs=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_noise_decides_what_a_larger_batch_does(family):
    flat, _ = batch_shift((64, 1024), 0.0, family, 1e-6)  # curvature alone limits the rate
    steep, _ = batch_shift((64, 1024), 0.0, family, 1e9)
    assert flat == pytest.approx(0.0, abs=1e-6)
    assert steep == pytest.approx(4 * BY_NOISE, abs=1e-6)


@given(SIZES, SIZES, st.sampled_from([*FAMILIES]), st.one_of(st.none(), st.floats(0.1, 1e6)))
def test_there_and_back_is_no_change(old, new, family, noise):
    there, back = (batch_shift(sizes, 0.0, family, noise) for sizes in ((old, new), (new, old)))
    assert there[0] == pytest.approx(-back[0], abs=1e-9)
    assert there[1] == pytest.approx(back[1])


def test_adam_at_as_many_examples_follows_the_square_root():
    scaled = answer().rescale((64, 256), optimizer="adam")
    assert scaled.factor == pytest.approx(2.0)
    assert scaled.steps == 125
    assert scaled.batch_size == (64, 256)


def test_sgd_over_as_many_steps_follows_the_square_root():
    scaled = answer().rescale((64, 256), steps=500, optimizer="sgd")
    assert scaled.factor == pytest.approx(2.0)
    assert scaled.steps == 500


def test_half_of_the_steps_offsets_half_of_the_batch():
    factors = [answer().rescale((64, 256), steps=steps, optimizer="adam").factor for steps in (500, 250, 125)]
    assert [math.log2(after / before) for before, after in itertools.pairwise(factors)] == pytest.approx(
        [BY_STEPS] * 2, abs=0.01
    )


def test_the_interval_widens_with_what_is_unknown():
    own, scaled = answer(), answer().rescale((64, 1024), optimizer="sgd")
    assert scaled.lr_low < scaled.lr < scaled.lr_high
    assert scaled.lr_high / scaled.lr_low > 1.5 * own.lr_high / own.lr_low
    assert scaled.lr == pytest.approx(scaled.factor * own.lr)


def test_a_longer_training_moves_the_rate_as_a_search_for_it_would():
    assert answer(500).rescale(steps=5000).lr == pytest.approx(answer(5000).lr, rel=1e-6)
    assert answer(500).rescale(steps=500).factor == 1.0


def test_devices_count_as_a_larger_batch():
    one, other = answer().rescale((64, 512), optimizer="adam"), answer().rescale((64, 64), devices=8, optimizer="adam")
    assert one == other
    assert answer().rescale((64, 32), devices=(2, 4), steps=500).batch_size is None


def test_the_batch_size_of_the_search_is_that_of_all_its_devices():
    made = answer().with_environment(batch_size=128)
    assert made.rescale(64, devices=8, optimizer="adam") == answer().rescale((128, 512), optimizer="adam")
    assert made.rescale(64, devices=(2, 8), optimizer="adam") == made.rescale(64, devices=8, optimizer="adam")
    assert made.rescale(128, steps=1000).batch_size is None


def test_an_unknown_length_stays_unknown():
    scaled = answer(None).rescale((64, 256), optimizer="adam")
    assert scaled.steps is None
    assert scaled.factor == pytest.approx(2.0)


def test_a_noise_scale_ends_the_rise():
    noise = NoiseScale(32.0, 20.0, 50.0, 8, 32)
    assert answer().rescale((64, 512), optimizer="sgd", steps=500, noise_scale=noise).factor < 1.3


def test_the_texts_of_a_change():
    lines = dict(answer().rescale((64, 4096), optimizer="sgd").lines())
    assert lines["Rule"] == "A batch 64 times as large over as many examples: 22.6 times the rate."
    assert lines["Valid"].endswith("this goes further.")
    assert lines["Batch"] == "64 to 4,096 examples per step"
    assert str(answer().rescale(steps=5000)).startswith("Peak LR ")


def test_families_go_by_the_name_of_the_class():
    assert [family_of(name) for name in ("torch.optim.SGD", "AdamW", "torch.optim.Adagrad")] == ["sgd", "adam", None]
    made = answer().with_environment(optimizer="torch.optim.AdamW(betas=(0.9, 0.95))")
    assert made.rescale((64, 256)).factor == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "nothing changes"),
        ({"batch_size": (64, 64)}, "nothing changes"),
        (
            {"batch_size": 64},
            "a pair, before and after, or the one after if the search recorded its own, got 64",
        ),
        ({"batch_size": (1, 2, 3)}, "must be a pair"),
        ({"batch_size": (0, 64), "optimizer": "sgd"}, "positive whole number of examples"),
        ({"devices": 8}, "batch_size must be a pair"),
        ({"batch_size": (1, 2), "devices": (1, 2, 3)}, "devices must be"),
        ({"batch_size": (64, 128)}, "optimizer must be sgd or adam, got None"),
        ({"batch_size": (64, 128), "optimizer": "lion"}, "optimizer must be sgd or adam, got 'lion'"),
        ({"batch_size": (64, 128), "optimizer": "sgd", "noise_scale": -1.0}, "noise_scale must be positive"),
        ({"steps": 0}, "steps must be"),
    ],
)
def test_what_cannot_be_rescaled_is_an_error(arguments, text):
    with pytest.raises(InputError, match=text):
        answer().rescale(**arguments)


def test_a_refusal_cannot_be_rescaled():
    refused = suggest(pure_noise("normal", 0), steps=500)
    with pytest.raises(InputError, match="refused"):
        refused.rescale(steps=100)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.AdamW, {"weight_decay": 0.1}),
        (torch.optim.AdamW, {}),
        (torch.optim.SGD, {"weight_decay": 0.05}),
        (torch.optim.SGD, {"weight_decay": 0.05, "momentum": 0.9}),
    ],
)
def test_weights_shrink_by_e_in_the_time_that_is_returned(kind, settings):
    lr = 0.01
    _, steps = decay_time(f"torch.optim.{kind.__name__}", settings, lr)
    weight = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
    weight.grad = torch.zeros((), dtype=torch.float64)
    optimizer = kind([weight], lr, **settings)
    for _ in range(round(steps)):
        optimizer.step()
    assert weight.item() == pytest.approx(math.exp(-1), rel=0.02)


@pytest.mark.parametrize(("kind", "settings"), [("SGD", {}), ("Adam", {"weight_decay": 0.1}), ("Lion", {})])
def test_no_decay_and_no_time_scale(kind, settings):
    assert decay_time(kind, settings, 0.1) is None


def test_a_rate_must_be_positive():
    with pytest.raises(InputError, match="lr must be positive"):
        decay_time("AdamW", {}, 0.0)
