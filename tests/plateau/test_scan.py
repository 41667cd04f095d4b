from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lrfinder import Detector, InputError, Plateau, TrainingLog, find_plateaus, read_log

CURVES = Path(__file__).parents[3] / "shared/data/llm_curves/25M"


def decay(n, seed=0, noise=0.02):
    """Values that fall from 2 to 1 within a tenth of the rows, and stay there."""
    return 1 + np.exp(-np.arange(n) / (0.02 * n)) + noise * np.random.default_rng(seed).normal(size=n)


@pytest.fixture(scope="module")
def drops():
    """A log of every tenth step with two plateaus, at a rate each, and a value that is none."""
    value = np.concatenate([decay(1000, 0), decay(1000, 1) * 0.5])
    value[1005] = np.nan
    lr = np.repeat([0.1, 0.01], 1000)
    return TrainingLog("made.csv", 10 * np.arange(2000) + 9, value, lr)


def test_events_are_those_of_a_live_detector_at_the_steps_of_the_log(drops):
    live = Detector(min_steps=24)
    for value, lr in zip(drops.value, drops.lr, strict=True):
        live.update(value, lr)
    scan = find_plateaus(drops)
    assert len(live.events) == 2
    assert [one.step for one in scan.plateaus] == [10 * one.step - 1 for one in live.events]
    assert [one.since for one in scan.plateaus] == [10 * one.since + 9 for one in live.events]
    assert [one.ahead for one in scan.plateaus] == [10 * one.ahead for one in live.events]
    assert [one.lrs for one in scan.plateaus] == [(0.1,), (0.01,)]
    assert [one.skipped for one in scan.plateaus] == [0, 1]
    for one, other in zip(scan.plateaus, live.events, strict=True):
        for name in ("gain", "gain_high", "delta", "p_value", "level", "level_error"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-6), name
    assert scan.lr_changes == (10009,)
    assert scan.on_plateau
    assert scan.caveats == ()
    middle = scan.block_step[0] + scan.blocks.length * 10 * np.arange(scan.blocks.mean.size)
    np.testing.assert_allclose(scan.block_step, middle)
    assert scan.block_step[0] == 9 + 10 * (scan.blocks.length - 1) / 2


def test_it_prints_what_was_found(drops):
    scan = find_plateaus(drops)
    assert str(scan).splitlines() == [
        "Log       made.csv: loss, 2000 rows, 1 of them not finite, steps 9 to 19999",
        *(
            line
            for one, text in (
                (scan.plateaus[0], f"Plateau   seen at step {scan.plateaus[0].step}, learning rate 0.1"),
                (scan.plateaus[1], f"Plateau   seen at step {scan.plateaus[1].step}, learning rate 0.01"),
                (
                    scan.ending,
                    f"End       step 19999: on the plateau seen at step {scan.plateaus[1].step}, although the"
                    " last rows alone do not show it",
                ),
            )
            for line in (
                text,
                f"  window  steps {one.since} to {one.step}, level {one.level:.5g} ± {one.level_error:.1g}",
                f"  gain    {one.gain:.2g} expected over the next {one.ahead} steps, upper limit {one.gain_high:.2g}",
                f"  test    against a tolerance of {one.delta:.2g}: p = {one.p_value:.2g}",
            )
        ),
    ]


def test_the_document_is_plain_and_holds_it_all(drops):
    scan = find_plateaus(drops, alpha=0.04)
    document = json.loads(json.dumps(scan.to_dict(), allow_nan=False))
    assert document["log"] == {
        "name": "made.csv", "column": "loss", "read_as": "", "rows": 2000, "skipped": 1, "first_step": 9,
        "last_step": 19999,
    }  # fmt: skip
    assert tuple(map(Plateau.from_dict, document["plateaus"])) == scan.plateaus
    assert Plateau.from_dict(document["ending"]) == scan.ending
    assert document["blocks"]["mean"] == scan.blocks.mean.tolist()
    assert {name: document[name] for name in ("schema_version", "mode", "alpha", "on_plateau", "lr_changes")} == {
        "schema_version": 1, "mode": "min", "alpha": 0.04, "on_plateau": True, "lr_changes": [10009],
    }  # fmt: skip
    assert list(document) == [
        "schema_version", "log", "mode", "alpha", "plateaus", "on_plateau", "ending", "lr_changes", "blocks", "caveats",
    ]  # fmt: skip


def test_numbers_that_are_not_finite_are_null():
    document = find_plateaus([1.0, np.nan, 2.0]).to_dict()
    assert document["blocks"]["mean"] == [1.0, None, 2.0]


@pytest.mark.parametrize(("scale", "offset", "seed"), [(0.1, 0, 0), (1, -100, 1), (300, 7, 2)])
def test_scale_offset_and_direction_do_not_matter(scale, offset, seed):
    value = decay(2000, seed)
    one, other = find_plateaus(value), find_plateaus(offset - scale * value, mode="max")
    assert len(one.plateaus) == 1
    assert [(p.step, p.since) for p in one.plateaus] == [(p.step, p.since) for p in other.plateaus]
    assert other.ending.gain == pytest.approx(scale * one.ending.gain, rel=1e-4, abs=1e-6 * scale)
    assert other.ending.level == pytest.approx(offset - scale * one.ending.level, rel=1e-6, abs=1e-6 * scale)


def test_the_end_is_looked_at_even_where_no_look_was_due():
    value = 1 + 0.002 * np.random.default_rng(0).normal(size=800)  # looks are at 789 and 824
    live = Detector(min_steps=792, delta=0.002)
    assert [live.update(number) for number in value] == [None] * 800
    scan = find_plateaus(value, min_rows=792, delta=0.002)
    assert [one.step for one in scan.plateaus] == [800]
    assert scan.ending == scan.plateaus[0]


def test_a_log_that_falls_off_its_plateau_does_not_end_on_it():
    noise = 0.02 * np.random.default_rng(1).normal(size=2000)
    value = np.append(decay(1000), np.linspace(1, -5, 2000) + noise)
    before, after = find_plateaus(value[:1000], lr=0.1), find_plateaus(value, lr=0.1)
    assert [plateau.step for plateau in before.plateaus] == [plateau.step for plateau in after.plateaus]
    assert (len(after.plateaus), before.on_plateau, after.on_plateau) == (1, True, False)
    assert after.lr_changes == ()


def test_ahead_is_in_steps_of_the_log(drops):
    short, long = (find_plateaus(drops, ahead=ahead, delta=0.02) for ahead in (500, 5000))
    assert {one.ahead for one in (*short.plateaus, short.ending)} == {500}
    assert long.ending.gain == pytest.approx(10 * short.ending.gain)
    assert short.plateaus[0].step <= long.plateaus[0].step


def test_where_there_is_more_to_gain_there_is_no_plateau():
    scan = find_plateaus(np.linspace(2, 1, 200) + 0.001 * np.random.default_rng(0).normal(size=200))
    assert (scan.plateaus, scan.on_plateau) == ((), False)
    assert scan.ending.gain == pytest.approx(0.5, rel=0.05)
    assert "End       step 200: no plateau: the expected gain is above the tolerance" in str(scan)


def test_where_noise_hides_it_that_is_said():
    noise = np.random.default_rng(0).normal(size=30)
    scan = find_plateaus(np.append(1 + noise, 1 - noise[::-1]) + 0.01 * np.arange(60), delta=1e-6)
    assert "no plateau for certain: a gain above the tolerance cannot be ruled out" in str(scan)


@pytest.mark.parametrize(
    ("value", "arguments", "caveat"),
    [
        (np.ones(23), {}, "Too few rows to test: 23, at least 24 are needed."),
        (
            np.ones(100),
            {"lr": np.repeat(2.0 ** np.arange(10), 10)},
            "The learning rate changes too often to test at any rate: the longest stretch at one rate has 10 rows, at"
            " least 24 are needed.",
        ),
        (
            np.ones(100),
            {"lr": np.repeat([1.0, 0.1], [95, 5])},
            "Too few rows since the last plateau or change of the learning rate to test at the end: 5, at least 24 are"
            " needed.",
        ),
        (
            np.where(np.arange(60) % 3, 1.0, np.nan),
            {},
            "The end could not be tested: more than a tenth of its values are not finite.",
        ),
        (
            np.arange(60.0) / 128,
            {"alpha": 0.01},
            "From step 9 to 32 the metric got worse, not merely no better. If larger is better, use mode max.",
        ),
        (
            -np.arange(60.0) / 128,
            {"mode": "max"},
            "From step 9 to 32 the metric got worse, not merely no better. If smaller is better, use mode min.",
        ),
        (
            TrainingLog("a", [*range(40), *range(50, 850, 20)], np.ones(80)),
            {},
            "Rows are 1 to 20 steps apart but were treated as evenly spaced, so the number of coming steps is"
            " approximate.",
        ),
    ],
)
def test_what_cannot_be_said_is_said(value, arguments, caveat):
    scan = find_plateaus(value, **arguments)
    assert scan.caveats == (caveat,)
    assert str(scan).splitlines()[-1] == f"Caveat    {caveat}"
    if scan.ending is None:
        assert f"End       step {scan.log.step[-1]}: could not be tested, see the caveats" in str(scan)


def test_caveats_of_the_log_come_first():
    log = TrainingLog("a", [1, 2], [1, 2], caveats=["First."])
    assert find_plateaus(log).caveats == ("First.", "Too few rows to test: 2, at least 24 are needed.")


def test_a_rate_given_takes_the_place_of_that_of_the_log(drops):
    assert find_plateaus(drops, lr=0.5).lr_changes == ()
    assert find_plateaus(drops, lr=0.5).plateaus[0].lrs == (0.5,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_rows": 23}, "min_rows must be a whole number, at least 24, got min_rows = 23"),
        ({"ahead": 0}, "ahead must be a positive whole number, got ahead = 0"),
        ({"alpha": 0.5}, r"alpha must be a rate in (0, 0.5), got alpha = 0.5"),
        ({"delta": -1.0}, "delta must be a finite number of at least 0, in units of the loss, got delta = -1.0"),
        ({"mode": "up"}, "mode must be min or max, got 'up'"),
        ({"lr": [1, 2]}, "values: step and lr must be lists of one length, got shapes (30,), (2,)"),
        ({"log": "metrics.csv"}, "log must be a TrainingLog or a list of numbers, got log = 'metrics.csv'"),
        ({"log": []}, "values: a log needs at least one row, got none"),
    ],
)
def test_arguments_keep_their_rules(arguments, message):
    with pytest.raises(InputError) as error:
        find_plateaus(**{"log": np.ones(30), **arguments})
    assert str(error.value) == message


@pytest.mark.skipif(not CURVES.is_dir(), reason="needs the published curves")
@pytest.mark.parametrize("name", ["constant_24000", "constant_72000", "wsdcon_3", "wsdcon_9", "wsdcon_18"])
def test_language_models_still_gain_at_a_constant_rate(name):
    scan = find_plateaus(read_log(CURVES / f"{name}.csv"))
    assert scan.plateaus == ()
    assert scan.ending.gain > scan.ending.delta
    assert scan.caveats == ()


def test_a_rate_that_never_rests_is_answered_with_what_to_use():
    step = np.arange(1, 401)
    scan = find_plateaus(3 / step, lr=0.1 * (1 + np.cos(np.pi * step / 400)))
    assert scan.ending is None
    (caveat,) = scan.caveats
    assert caveat.startswith("The learning rate changes from row to row, and a plateau is that of one rate")
    assert "lrfinder forecast" in caveat
