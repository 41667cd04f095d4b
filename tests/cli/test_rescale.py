"""`lrfinder rescale` as it is typed."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
from support.curves import pure_noise
from support.scripted import evidence, valley

from lrfinder import suggest
from lrfinder.answer.choose import choose


@pytest.fixture
def result():
    return choose(evidence(valley(-6.0)), steps=500).with_environment(optimizer="torch.optim.AdamW()")


@pytest.fixture
def rescaling(lrfinder):
    """Run `lrfinder rescale` in this process; return ``(exit code, stdout, stderr)``."""
    return functools.partial(lrfinder, "rescale")


def saved(suggestion, name="result.json"):
    Path(name).write_text(json.dumps(suggestion.to_dict()), encoding="utf-8")
    return name


def test_text_and_json_are_those_of_the_call(result, rescaling):
    result = result.with_environment(batch_size=64)
    scaled = result.rescale(128, devices=8, steps=1000)
    arguments = (saved(result), "--batch-size", "128", "--devices", "8", "--steps", "1000")
    assert rescaling(*arguments) == (0, f"{scaled}\n", "")
    code, out, _ = rescaling(*arguments, "--json")
    assert (code, json.loads(out)) == (0, scaled.to_dict())


def test_devices_before_and_after_a_noise_scale_and_a_family(result, rescaling):
    scaled = result.rescale((64, 32), devices=(2, 16), noise_scale=100.0, optimizer="sgd")
    options = ("--batch-size", "64:32", "--devices", "2:16", "--noise-scale", "100", "--optimizer", "sgd")
    assert rescaling(saved(result), *options) == (0, f"{scaled}\n", "")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--batch-size", "64"], "--batch-size must be a pair"),
        (["--batch-size", "64:x"], "--batch-size"),
        ([], "--steps must be given, or a --batch-size or devices that change"),
    ],
)
def test_bad_input_is_named(result, rescaling, options, text):
    code, out, error = rescaling(saved(result), *options)
    assert (code, out) == (2, "")
    assert text in error


def test_a_refusal_and_a_comparison_are_bad_input(result, rescaling):
    code, _, error = rescaling(saved(suggest(pure_noise("normal", 0))), "--steps", "100")
    assert code == 2
    assert "refused" in error
    entries = [{"optimizer": name, **result.to_dict()} for name in ("a", "b")]
    Path("both.json").write_text(json.dumps({"schema_version": 1, "comparison": entries}))
    code, _, error = rescaling("both.json", "--steps", "100")
    assert (code, "must hold one result, got 2" in error) == (2, True)
