from __future__ import annotations

import sys
import types

import lightning.pytorch as pl
import pytest
import torch
from targets import EXAMPLE, PLAIN, fresh, lrfinder, unread, write

from lrfinder import InputError
from lrfinder.cli_target import split_dotted

__all__ = ["fresh", "lrfinder", "unread"]

pytestmark = pytest.mark.usefixtures("unread")


def test_options_with_dots_are_taken_out_with_their_values():
    words = [
        "suggest",
        "t.py:M",
        "--init.hidden",
        "256",
        "--steps",
        "9",
        "--data.a=-1",
        "--trainer.callbacks+=x",
        "--json",
    ]
    assert split_dotted(words) == (
        ["suggest", "t.py:M", "--steps", "9", "--json"],
        [("init.hidden", "256"), ("data.a", "-1"), ("trainer.callbacks+", "x")],
    )
    assert split_dotted(["--init.rate", "-1e-3"])[1] == [("init.rate", "-1e-3")]
    assert split_dotted(["--init.text", ""])[1] == split_dotted(["--init.text="])[1] == [("init.text", "")]


@pytest.mark.parametrize("words", [["--init.hidden"], ["--init.hidden", "--steps"]])
def test_an_option_without_a_value_is_named(words):
    with pytest.raises(InputError, match=r"^--init.hidden must be given a value, got "):
        split_dotted(words)


BAD = {
    "--data x.py:D": "--data must be given with a target or --config, got 'x.py:D'",
    "--epochs 3": "--epochs must be given with a target or --config, got 3",
    "--precision 16": "--precision must be given with a target or --config, got '16'",
    "--init.x 3": "--init.x must be given with a target",
    "--trainer.x 3": "--trainer.x must be given with a target",
    "--model.x 3": "--model.x must be given with --config",
    "t.py:M --model.x 3": "--model.x must be given with --config",
    "t.py:M --config c.yaml --init.x 3": "--init.x must be given as --model.x with --config",
    "t.py:M --steps 3 --epochs 3": "--steps and --epochs must not both be given, got 3 and 3",
    "t.py:M --budget 5": "budget must come to at least 60 steps, got 5, which is 5",
    "--budget 9s --optimizer sgd --optimizer adam": "--budget must be steps or a share to compare optimizers, got '9s'",
    "--policy cosin": "--policy must be one of auto, keep, constant, step",
    "--optimizer.momentum 0.9": "--optimizer.momentum must be given with --optimizer NAME",
    "plain.py:parts --data.x 3": "--data.x must be left out for plain.py:parts, which is no LightningModule",
    "plain.py:parts --devices 2": "--devices must be left out for plain.py:parts, which is no LightningModule",
    "plain.py:parts --policy keep": "--policy keep must be left out for plain.py:parts, which has no scheduler to keep",
    "plain.py:parts --monitor x": "--monitor must be left out for plain.py:parts, which logs no metric, got x",
    "plain.py:parts --init.width wide": "--init.width must be int, got 'wide'",
    "plain.py:part": "plain.py has no part, which has parts: did you mean parts?",
    "plain.py": "target must be FILE.py:NAME or package.module:NAME, got 'plain.py': one of plain.py:parts?",
}


@pytest.mark.parametrize("words", BAD)
def test_what_does_not_go_together_is_one_line_and_exits_with_2(lrfinder, words):
    write("plain.py", PLAIN)
    code, out, err = lrfinder(*words.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"lrfinder: {BAD[words]}")
    assert err.count("\n") == 1


LIGHTNING = {
    "LitModel": "has no train_dataloader: give --data FILE.py:NAME, a LightningDataModule or a function that",
    "LitModel --data.batch_size 3": "--data.batch_size must be given with --data FILE.py:NAME",
    "LitModel --init.hiden 3": "--init.hiden must be a parameter of LitModel, which has hidden, lr, weight_decay:",
    "Data": "target must be a model, got the data ",
    "network": "network needs hidden: give --init.hidden VALUE",
    "network --init.hidden 3": "must be, or return, a LightningModule or (model, optimizer, loss_fn, loader",
}


@pytest.mark.parametrize("words", LIGHTNING)
def test_what_is_no_training_is_one_line_and_exits_with_2(lrfinder, words):
    name, *options = words.split()
    code, out, err = lrfinder(f"{EXAMPLE}:{name}", *options, "--quiet")
    assert (code, out) == (2, "")
    assert LIGHTNING[words] in err
    assert err.count("\n") == 1


def test_every_optimizer_begins_with_the_same_weights(lrfinder):
    write("plain.py", PLAIN)
    code, *_ = lrfinder(
        "plain.py:parts", "--steps", "500", "--budget", "60", "--quiet", "--optimizer", "sgd", "--optimizer", "adam"
    )
    import plain

    assert code in (0, 1)
    one, other = (torch.cat([p.flatten() for p in model.parameters()]) for model in plain.MADE)
    assert torch.equal(one, other)


def test_a_configuration_is_left_to_lightning(lrfinder, monkeypatch):
    """The functions of `lrfinder.config`, as this module calls them."""
    calls = []

    def load_config(paths, overrides, **classes):
        import train

        calls.append((list(paths), list(overrides), classes))
        options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = pl.Trainer(max_steps=500, accelerator="cpu", enable_model_summary=False, **options)
        return types.SimpleNamespace(trainer=trainer, module=train.LitModel(), datamodule=train.Data())

    def write_config(source, out, suggestion):
        calls.append((source, out, suggestion.lr))

    stub = types.SimpleNamespace(load_config=load_config, write_config=write_config)
    monkeypatch.setitem(sys.modules, "lrfinder.config", stub)
    words = ["--config", "a.yaml", "--model.hidden", "3", "--optimizer.lr=1", "--steps", "500", "--precision", "32"]
    code, out, _ = lrfinder(f"{EXAMPLE}:LitModel", *words, "--budget", "60", "--write-config", "out.yaml")
    import train

    (paths, overrides, classes), written = calls
    assert code == 0
    assert paths == ["a.yaml"]
    assert overrides == [
        "--model.hidden=3", "--optimizer.lr=1", "--trainer.precision=32", "--trainer.max_steps=500",
        "--trainer.max_epochs=-1",
    ]  # fmt: skip
    assert classes == {"model_class": train.LitModel}
    assert written[:2] == ("a.yaml", "out.yaml")
    assert f"Peak LR   {written[2]:.3g}\n" in out
    assert out.endswith("Config    out.yaml\n")
