from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from support.targets import EXAMPLE, PLAIN, fresh, lrfinder, unread, write

from lrfinder import InputError
from lrfinder.cli.suggest_target import split_dotted

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
    "t.py:M --budget 5": "--budget must come to at least 20 steps, got 5, which is 5",
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
    "network": "network needs hidden: add --init.hidden VALUE",
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
        "plain.py:parts", "--steps", "500", "--budget", "150", "--quiet", "--optimizer", "sgd", "--optimizer", "adam"
    )
    import plain

    assert code in (0, 1)
    one, other = (torch.cat([p.flatten() for p in model.parameters()]) for model in plain.MADE)
    assert torch.equal(one, other)


def test_a_configuration_of_lightningcli_in_and_out(lrfinder):
    """The rate found goes where the configuration has its own, and the steps asked for with it."""
    for name in ("config.yaml", "lit_digits.py"):
        write(name, (Path(EXAMPLE).parent / name).read_text())
    words = ["--config", "config.yaml", "--model.init_args.hidden", "16", "--steps", "200", "--precision", "32"]
    code, out, _ = lrfinder(*words, "--budget", "150", "--write-config", "out.yaml", "--out", "out.json", "--quiet")
    assert code == 0
    before, after = (Path(name).read_text() for name in ("config.yaml", "out.yaml"))
    found = json.loads(Path("out.json").read_text())
    assert "    lr: 0.01  # a guess\n" in before
    assert f"    lr: {found['lr']!r} # a guess\n" in after
    assert "    hidden: 16\n" in after
    assert "max_steps: 200\n" in after
    assert f"Peak LR   {found['lr']:.3g}\n" in out


def configured(**changes):
    """Write the example's configuration with lines replaced, and what it imports."""
    write("lit_digits.py", (Path(EXAMPLE).parent / "lit_digits.py").read_text())
    text = (Path(EXAMPLE).parent / "config.yaml").read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return write("config.yaml", text)


def test_a_configuration_says_nothing_of_its_own_and_leaves_no_byte_code(lrfinder, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    code, _, err = lrfinder("--config", configured(), "--dry-run")
    assert (code, err) == (0, "")
    assert sorted(os.listdir()) == ["config.yaml", "lit_digits.py"]
    assert not sys.dont_write_bytecode


@pytest.mark.parametrize(("words", "seed"), [([], 1), (["--seed", "3"], 3)])
def test_the_seed_of_a_configuration_holds_unless_one_is_given(lrfinder, words, seed):
    _, out, _ = lrfinder("--config", configured(), "--budget", "200", "--json", "--write-config", "out.yaml", *words)
    assert json.loads(out)["environment"]["seed"] == seed
    assert f"seed_everything: {seed}\n" in Path("out.yaml").read_text()


def test_an_answer_that_the_configuration_cannot_hold_is_given_all_the_same(lrfinder):
    path = configured()
    code = Path("lit_digits.py").read_text().replace("lr=self.hparams.lr,", "lr=2 * self.hparams.lr,")
    Path("lit_digits.py").write_text(code)
    words = ["--config", path, "--budget", "150", "--write-config", "out.yaml", "--out", "out.json", "--quiet"]
    code, out, err = lrfinder(*words)
    assert code == 2
    assert out.startswith("Peak LR   ")
    assert err.startswith("lrfinder: model.init_args.lr must be the learning rate that the search started from, 0.02")
    assert json.loads(Path("out.json").read_text())["status"] == "ok"
    assert not Path("out.yaml").exists()


def test_a_refusal_writes_no_configuration_and_says_so(lrfinder):
    words = ["--config", configured(), "--budget", "150", "--max-lr", "1e-6", "--write-config", "out.yaml"]
    code, out, _ = lrfinder(*words)
    assert code == 1
    assert out.endswith("Config    out.yaml was not written: there is no rate to put there\n")
    assert not Path("out.yaml").exists()


def test_options_of_lightningcli_without_a_dot_are_passed_on(lrfinder):
    path = configured(**{"trainer:\n": "ckpt_path: last\ntrainer:\n"})
    code, _, err = lrfinder("--config", path, "--dry-run")
    assert (code, "add --ckpt_path null" in err) == (2, True)
    assert lrfinder("--config", path, "--dry-run", "--ckpt_path", "null")[0] == 0


def test_a_journal_belongs_to_one_trainer_and_one_configuration(lrfinder):
    words = ["--config", configured(), "--budget", "150", "--journal", "j.jsonl", "--quiet"]
    assert lrfinder(*words)[0] == 0
    code, _, err = lrfinder(*words, "--precision", "32")
    assert (code, "belongs to a search with precision = None, got '32'" in err) == (2, True)
    configured(**{"max_epochs: 10": "max_epochs: 10\n  gradient_clip_val: 1.0"})
    code, _, err = lrfinder(*words)
    assert (code, "belongs to a search with config = " in err) == (2, True)


def test_a_configuration_without_data_is_told_what_to_add(lrfinder):
    text = (Path(EXAMPLE).parent / "config.yaml").read_text()
    path = configured()
    Path(path).write_text(text[: text.index("data:")] + text[text.index("trainer:") :])
    code, _, err = lrfinder("--config", path, "--quiet")
    assert code == 2
    assert err == "lrfinder: config.yaml has no train_dataloader: add a data section, or give --data FILE.py:NAME\n"


def test_what_a_configuration_lacks_is_said(lrfinder):
    write("config.yaml", "trainer:\n  max_epochs: 1\n")
    code, _, err = lrfinder("--config", "config.yaml", "--write-config", "out.yaml", "--quiet")
    assert code == 2
    assert "model" in err
    assert not Path("out.yaml").exists()


def test_an_exit_in_the_code_is_an_error_with_its_traceback(lrfinder):
    write(
        "e.py",
        PLAIN.replace("nn.CrossEntropyLoss()", "lambda *_: sys.exit(3)").replace(
            "import torch", "import sys, torch", 1
        ),
    )
    code, out, err = lrfinder("e.py:parts", "--steps", "300", "--quiet")
    assert (code, out) == (2, "")
    assert err.startswith(
        "lrfinder: e.py:parts raised while it was tried; it is as it was; it must not exit:\nTraceback"
    )
    assert err.endswith("SystemExit: 3\n")
