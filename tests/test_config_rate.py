"""Where the learning rate stands in a configuration that LightningCLI has read."""

from __future__ import annotations

import dataclasses

import pytest
from curves import synthetic

from lrfinder import InputError, Policy, suggest
from lrfinder.config_rate import rate_setting

FOUND = dataclasses.replace(
    suggest(synthetic()), lr=0.25, param_group_lrs=(0.25,), policy=Policy("linear", 9), environment={}
)
SGD = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "momentum": 0.9}}


def whole(arguments, **sections):
    return {"model": {"class_path": "a.B", "init_args": arguments}, "optimizer": None, **sections}


@pytest.mark.parametrize(
    ("config", "attribute", "place"),
    [
        (whole({"lr": 0.1}, optimizer=SGD), None, "optimizer.init_args.lr"),
        (whole({"lr": 0.1}), None, "model.init_args.lr"),
        (whole({"learning_rate": 1}), None, "model.init_args.learning_rate"),
        (whole({"eta": 0.1, "lr": 0.2}), "eta", "model.init_args.eta"),
        (whole({"make": SGD, "width": 3}), None, "model.init_args.make.init_args.lr"),
        (whole({"parts": [{"make": SGD}]}), None, "model.init_args.parts.0.make.init_args.lr"),
        (whole({"lr": 0.1, "make": SGD}), "make.init_args.lr", "model.init_args.make.init_args.lr"),
        ({"model": {"lr": 0.1}}, None, "model.lr"),
    ],
)
def test_the_place_of_the_rate(config, attribute, place):
    found, value = rate_setting(config, FOUND, attribute)
    assert (".".join(map(str, found)), value) == (place, 0.25)


@pytest.mark.parametrize(
    ("text", "init_args"),
    [
        ("torch.optim.SGD()", {"lr": 0.25}),
        ("torch.optim.Adam(betas=(0.8, 0.9), amsgrad=True)", {"lr": 0.25, "betas": [0.8, 0.9], "amsgrad": True}),
    ],
)
def test_a_rate_in_the_code_becomes_a_section(text, init_args):
    place, section = rate_setting(whole({}), FOUND.with_environment(optimizer=text), None)
    assert (place, section) == (("optimizer",), {"class_path": text.partition("(")[0], "init_args": init_args})


@pytest.mark.parametrize(
    ("config", "found", "attribute", "rule"),
    [
        (whole({}), FOUND, None, "must have a place for the learning rate, 0.25, got none"),
        (whole({"lr": None}), FOUND, None, "must have a place for the learning rate"),
        (whole({"lr": True}), FOUND, "lr", "attribute must name a number among the model's arguments, got 'lr'"),
        (
            whole({"lr": 0.1, "learning_rate": 0.1}),
            FOUND,
            None,
            "attribute must say which .*, one of lr, learning_rate$",
        ),
        (
            whole({}, optimizer={"class_path": "a.Free", "init_args": {}}),
            FOUND,
            None,
            "optimizer must have a number lr",
        ),
        (
            whole({}, optimizer=SGD),
            dataclasses.replace(FOUND, param_group_lrs=(0.25, 0.5)),
            None,
            "optimizer must have one param group, .* got a suggestion for groups at 0.25, 0.5",
        ),
        (whole({"lr": 0.1}), FOUND.with_environment(configured_lr=0.05), None, "started from, 0.05, got 0.1"),
        (
            whole({}),
            dataclasses.replace(FOUND, policy=None, environment={"optimizer": "torch.optim.SGD()"}),
            None,
            "must have a place",
        ),
        (whole({}), FOUND.with_environment(optimizer="__import__('os')"), None, "must have a place"),
    ],
)
def test_what_has_no_place_is_said(config, found, attribute, rule):
    with pytest.raises(InputError, match=rule):
        rate_setting(config, found, attribute)
