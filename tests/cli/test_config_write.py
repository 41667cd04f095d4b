"""Suggestions written into configurations: what changes, what LightningCLI makes of it, and what is refused."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import textwrap
from pathlib import Path

import pytest
import torch
from lightning.pytorch.cli import LightningCLI
from support.curves import synthetic
from support.litmodels import Small
from support.runs import LIGHTNINGS_REMARKS

from lrfinder import InputError, LRFinder, Policy, Reason, suggest
from lrfinder.cli.config_read import load_config, parse_config, value_at
from lrfinder.cli.config_write import rate_setting, write_config

pytestmark = [
    *LIGHTNINGS_REMARKS,
    pytest.mark.filterwarnings("ignore:.*configure_optimizers. will be overridden"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:jsonargparse"),
]

PLAIN = """\
# a comment at the top
seed_everything: 3   # aligned
model:
  class_path: "support.litmodels.Small"  # quoted
  init_args: {hidden: 4, lr: 1e-3}  # a guess

data: {class_path: support.litmodels.Rows}
trainer:
  max_epochs: 2
  accelerator: cpu
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  enable_model_summary: false
  # the end of it
"""
ODD = """\
# a comment at the top
seed_everything: 3   # aligned
model:
    class_path:   "support.litmodels.Small"  # quoted
    init_args:   {hidden: 4, lr: 1e-3}  # a guess

data: {class_path: support.litmodels.Rows}
trainer:
  max_epochs: 2
  accelerator: cpu
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  enable_model_summary: false
  # the end of it
"""
OPTIMIZER = """\
optimizer:  # of our own
  class_path: torch.optim.SGD
  init_args:
    momentum: 0.9
    lr: 0.05  # rate
# after all
"""
SCHEDULER = "lr_scheduler: {class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 1}}\n"
WSD = Policy("wsd", 64, 3)
ENTRY = """\
  callbacks:
    - class_path: lrfinder.PolicyCallback
      init_args:
        name: wsd
        total_steps: 64
        warmup_steps: 3
        params:
          cooldown: 0.4
          end: 0.0
"""


def suggestion(lr=0.25, policy=WSD, groups=None, **environment):
    found = suggest(synthetic())
    groups = (lr,) if groups is None else groups
    return dataclasses.replace(found, lr=lr, policy=policy, param_group_lrs=groups, environment=environment)


def written(text, name="a.yaml"):
    Path(name).write_text(text)
    return name


def changed(new, old):
    return "".join(
        line for line in difflib.ndiff(old.splitlines(True), new.splitlines(True)) if line[:2] in ("- ", "+ ")
    )


def lines(text, before="+ "):
    return "".join(f"{before}{line}" for line in text.splitlines(True))


def patched_config(source, found, **options):
    """The text of the copy."""
    write_config(source, "copy.yaml", found, **options)
    return Path("copy.yaml").read_text()


def trained_with(path, monkeypatch):
    """What a person's `python train.py fit --config PATH` does."""
    monkeypatch.setattr("sys.argv", ["train.py", "fit", "--config", path])
    return LightningCLI(save_config_callback=None)


def test_the_model_s_argument_is_set_and_the_policy_added():
    new = patched_config(written(PLAIN), suggestion())
    assert changed(new, PLAIN) == (
        "-   init_args: {hidden: 4, lr: 1e-3}  # a guess\n"
        "+   init_args: {hidden: 4, lr: 0.25}  # a guess\n" + lines(ENTRY)
    )


def test_the_optimizer_section_is_set_rather_than_the_model():
    text = PLAIN + OPTIMIZER
    assert changed(patched_config(written(text), suggestion(1e-5)), text) == (
        lines(ENTRY) + "-     lr: 0.05  # rate\n+     lr: 1.0e-05 # rate\n"
    )


def test_a_policy_in_place_of_a_scheduler():
    text = PLAIN + SCHEDULER
    new = patched_config(written(text), suggestion())
    assert new.endswith("lr_scheduler: null\n")
    assert parse_config(["b.yaml"], text=new)["lr_scheduler"] is None


def test_without_a_policy_only_the_rate_is_set():
    text = PLAIN + SCHEDULER
    assert patched_config(written(text), suggestion(policy=None)) == text.replace("1e-3", "0.25")
    assert patched_config(written(PLAIN), suggestion(policy=Policy("constant", 64))) == PLAIN.replace("1e-3", "0.25")


LIST = (
    "  callbacks:  # mine\n  - class_path: lrfinder.LRFinder  # ours\n    init_args: {budget: 90}\n  - class_path: {}\n"
)
STOPPING = "lightning.pytorch.callbacks.TQDMProgressBar"


def test_our_callbacks_make_room_for_the_policy():
    text = PLAIN + LIST.replace("{}", STOPPING)
    new = patched_config(written(text.replace("progress_bar: false", "progress_bar: true")), suggestion())
    paths = [one["class_path"] for one in parse_config(["b.yaml"], text=new)["trainer"]["callbacks"]]
    assert paths == ["lrfinder.PolicyCallback", STOPPING]
    again = patched_config(written(new), suggestion())
    assert again == new
    gone = patched_config(written(new), suggestion(policy=None))
    assert "PolicyCallback" not in gone
    assert f"  callbacks:  # mine\n  - class_path: {STOPPING}\n" in gone


def test_the_only_callback_being_ours_leaves_none():
    text = PLAIN + "  callbacks: {class_path: lrfinder.LRFinder}\n"
    without = patched_config(written(text), suggestion(policy=None))
    assert parse_config(["b.yaml"], text=without)["trainer"]["callbacks"] == []
    assert patched_config("a.yaml", suggestion()) == PLAIN.replace("1e-3", "0.25") + ENTRY


def test_overrides_of_the_search_are_in_the_copy():
    text = PLAIN + OPTIMIZER
    overrides = ["--trainer.max_epochs", "7", "--model.init_args.hidden", "16", "--optimizer", "torch.optim.Adam"]
    new = patched_config(written(text), suggestion(), overrides=overrides)
    parsed, asked = parse_config(["b.yaml"], text=new), parse_config(["a.yaml"], overrides)
    assert parsed["optimizer"].pop("init_args") == {**asked["optimizer"].pop("init_args"), "lr": 0.25}
    for section in ("model", "optimizer", "data", "seed_everything"):
        assert parsed[section] == asked[section]
    assert parsed["trainer"].pop("callbacks") is not asked["trainer"].pop("callbacks")
    assert parsed["trainer"] == asked["trainer"]
    assert "  max_epochs: 7\n" in new
    assert "init_args: {hidden: 16, lr: 1e-3} # a guess\n" in new


def test_the_last_of_several_configurations_is_patched():
    written(PLAIN + OPTIMIZER + "# base\n", "base.yaml")
    text = "trainer:\n  max_epochs: 5\n"
    new = patched_config(written(text), suggestion(), before=["base.yaml"])
    assert new == "optimizer:\n  init_args:\n    lr: 0.25\ntrainer:\n" + ENTRY + "  max_epochs: 5\n"
    parsed = parse_config(["base.yaml", "b.yaml"], text=new)
    assert (parsed["optimizer"]["init_args"]["momentum"], parsed["trainer"]["max_epochs"]) == (0.9, 5)
    with_one = PLAIN + f"  callbacks: [{{class_path: {STOPPING}}}]\n"
    written(with_one.replace("progress_bar: false", "progress_bar: true"), "base.yaml")
    parsed = parse_config(
        ["base.yaml", "b.yaml"], text=patched_config(written(text), suggestion(), before=["base.yaml"])
    )
    assert [one["class_path"] for one in parsed["trainer"]["callbacks"]] == [STOPPING, "lrfinder.PolicyCallback"]
    written(with_one.replace(STOPPING, "lrfinder.LRFinder"), "base.yaml")
    with pytest.raises(InputError, match=r"trainer.callbacks must hold none of lrfinder's in .* before the last"):
        patched_config(written(text), suggestion(), before=["base.yaml"])


def test_sections_under_fit_and_fixed_classes():
    under = "fit:\n" + textwrap.indent(PLAIN, "  ")
    new = patched_config(written(under), suggestion())
    assert parse_config(["b.yaml"], text=new)["model"]["init_args"] == {"hidden": 4, "lr": 0.25}
    assert changed(new, under) == (
        "-     init_args: {hidden: 4, lr: 1e-3}  # a guess\n"
        "+     init_args: {hidden: 4, lr: 0.25}  # a guess\n" + lines(ENTRY, "+   ")
    )
    fixed = "model: {lr: 0.1}\ntrainer: {max_epochs: 1}\n"
    new = patched_config(written(fixed), suggestion(policy=None), model_class=Small)
    assert new == "model: {lr: 0.25}\ntrainer: {max_epochs: 1}\n"


def test_json_stays_json():
    text = json.dumps({"model": {"class_path": "support.litmodels.Small"}, "trainer": {"max_epochs": 2}}, indent=2)
    new = json.loads(patched_config(written(text, "a.json"), suggestion(1e-5)))
    assert new["model"]["init_args"] == {"lr": 1e-5}
    assert new["trainer"]["callbacks"][0]["init_args"]["params"] == {"cooldown": 0.4, "end": 0.0}


def test_a_model_in_a_file_of_its_own_is_written_in():
    written("class_path: support.litmodels.Small\ninit_args: {hidden: 9}\n", "model.yaml")
    new = patched_config(written("model: model.yaml  # elsewhere\n"), suggestion(policy=None))
    assert re.sub(" +# elsewhere", "", new) == (
        "model:\n  class_path: support.litmodels.Small\n  init_args:\n    hidden: 9\n    lr: 0.25\n"
    )
    assert "# elsewhere" in new


@pytest.mark.parametrize(("model", "place"), [("Injected", "optimizer.init_args.lr"), ("Grouped", "lr")])
def test_the_rate_is_found_among_the_arguments_of_the_model(model, place):
    text = PLAIN.replace("Small", model).replace("init_args: {hidden: 4, lr: 1e-3}", "init_args: {}")
    new = patched_config(written(text), suggestion(groups=(0.025, 0.25) if model == "Grouped" else None))
    assert value_at(parse_config(["b.yaml"], text=new)["model"]["init_args"], place.split(".")) == 0.25


CODED = PLAIN.replace("Small", "Coded").replace(", lr: 1e-3", "")


def test_a_rate_in_the_code_becomes_an_optimizer_section():
    found = suggestion(optimizer="torch.optim.Adam(betas=(0.8, 0.9), weight_decay=0.1)")
    new = patched_config(written(CODED), found)
    parsed = parse_config(["b.yaml"], text=new)["optimizer"]
    assert parsed["class_path"] == "torch.optim.Adam"
    assert {**parsed["init_args"], "lr": 0.25, "betas": [0.8, 0.9], "weight_decay": 0.1} == parsed["init_args"]
    for other in (suggestion(), dataclasses.replace(found, policy=None)):
        with pytest.raises(
            InputError, match=r"must have a place for the learning rate, 0.25, got none: give the model"
        ):
            patched_config("a.yaml", other)


@pytest.mark.parametrize(
    ("text", "found", "more", "message"),
    [
        (PLAIN, suggestion(policy=Policy("plateau")), {}, "monitor must be given with policy 'plateau'"),
        (PLAIN + "optimizer: {class_path: SGD, init_args: {lr: 0.1}}\noptimizer: {class_path: SGD}\n",
         suggestion(), {}, "^a.yaml must be YAML that ruamel.yaml can rewrite, got found duplicate key"),
        (PLAIN, dataclasses.replace(suggestion(), lr=None, reason=Reason.FLAT), {}, "must have a learning rate"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_leaves_everything_as_it_was(text, found, more, message):
    written(text)
    written("before\n", "out.yaml")
    with pytest.raises(InputError, match=message):
        write_config("a.yaml", "out.yaml", found, **more)
    assert {path.name: path.read_text() for path in Path().iterdir()} == {"a.yaml": text, "out.yaml": "before\n"}


def test_what_lightningcli_does_not_take_is_not_put_in_place():
    Path("whole_rates.py").write_text(
        "from support.litmodels import Small\n"
        "class Whole(Small):\n  def __init__(self, lr: int = 1): super().__init__(4, lr)\n"
    )
    text = PLAIN.replace("support.litmodels.Small", "whole_rates.Whole").replace("{hidden: 4, lr: 1e-3}", "{lr: 1}")
    with pytest.raises(InputError, match=r"out.yaml: .*Expected a <class 'int'>"):
        write_config(written(text), "out.yaml", suggestion())
    assert not Path("out.yaml").exists()


def test_an_odd_layout_may_change_but_comments_quotes_and_order_stay():
    new = patched_config(written(ODD), suggestion())
    assert re.findall("#.*", new) == re.findall("#.*", ODD)
    ours = re.search(r"  callbacks:\n.*?(?=  max_epochs)", new, re.DOTALL)[0]
    assert re.findall(r"\w+(?=:)", new.replace(ours, "")) == re.findall(r"\w+(?=:)", ODD)
    assert '"support.litmodels.Small"' in new
    assert {**parse_config(["b.yaml"], text=new), "config": None, "trainer": None, "model": None} == {
        **parse_config(["a.yaml"]), "config": None, "trainer": None, "model": None,
    }  # fmt: skip


def test_comments_below_a_replaced_callback_stay():
    text = """\
model: {class_path: support.litmodels.Small}
trainer:
  logger: null
  callbacks:  # mine
  - class_path: lrfinder.LRFinder
    init_args:
      budget: 90  # steps

# About the data.
data: {class_path: support.litmodels.Rows}
"""
    new = patched_config(written(text), suggestion())
    assert "  logger: null\n  callbacks:  # mine\n  - class_path: lrfinder.PolicyCallback\n" in new
    assert new.endswith("\n\n# About the data.\ndata: {class_path: support.litmodels.Rows}\n")


def test_an_anchor_is_kept_and_the_rate_that_shares_it_is_set_alone():
    text = PLAIN.replace("lr: 1e-3", "lr: &lr 1e-3") + "optimizer: {class_path: SGD, init_args: {lr: *lr}}\n"
    new = patched_config(written(text), suggestion())
    assert "lr: &lr 1e-3}" in new
    assert new.endswith("init_args: {lr: 0.25}}\n")


def test_what_a_shared_section_would_change_elsewhere_is_refused():
    Path("shared_rates.py").write_text(
        "from support.litmodels import Rows\nclass Rated(Rows):\n  def __init__(self, lr: float): super().__init__(8)\n"
    )
    text = PLAIN.replace("{hidden: 4, lr: 1e-3}", "&shared {lr: 1e-3}")
    text = text.replace("{class_path: support.litmodels.Rows}", "{class_path: shared_rates.Rated, init_args: *shared}")
    with pytest.raises(InputError, match=r"as it was, but for the suggestion, got another data.init_args.lr"):
        patched_config(written(text), suggestion())


def test_relative_paths_must_hold_where_the_copy_goes():
    Path("sub").mkdir()
    written("class_path: support.litmodels.Small\n", "sub/model.yaml")
    text = PLAIN.replace("data: {class_path: support.litmodels.Rows}", "data: rows.yaml")
    written("class_path: support.litmodels.Rows\n", "rows.yaml")
    write_config(written(text), "b.yaml", suggestion())
    with pytest.raises(InputError, match=r"^b.yaml|rows.yaml"):
        write_config("a.yaml", "sub/b.yaml", suggestion())
    assert not Path("sub/b.yaml").exists()


def test_the_random_state_and_a_bad_path():
    state = torch.get_rng_state()
    write_config(written(PLAIN), "out.yaml", suggestion())
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(InputError, match=r"out: the folder .*nowhere does not exist"):
        write_config("a.yaml", "nowhere/out.yaml", suggestion())


@pytest.mark.parametrize("more", ["", OPTIMIZER, OPTIMIZER + SCHEDULER], ids=["model", "optimizer", "scheduler"])
def test_training_with_the_copy_is_training_after_the_search(more, monkeypatch):
    """LightningCLI trains with the copy: every rate, and every weight, is that of the run that searched."""
    policy = Policy("wsd", 64, 3)
    finder = LRFinder("range", max_lr=100.0, policy=policy)
    searched = load_config([written(PLAIN + more)])
    searched.trainer.callbacks.append(finder)
    searched.trainer.fit(searched.module, datamodule=searched.datamodule)
    found = finder.suggestion
    assert found.policy == policy
    write_config("a.yaml", "tuned.yaml", found)
    cli = trained_with("tuned.yaml", monkeypatch)
    assert cli.model.rates == [found.policy(step) * found.lr for step in range(64)]
    assert cli.model.rates == searched.module.rates[-64:]
    for ours, theirs in zip(cli.model.parameters(), searched.module.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert sorted(path.name for path in Path().iterdir()) == ["a.yaml", "tuned.yaml"]


def test_a_scheduler_that_is_kept_is_kept_by_the_copy(monkeypatch):
    text = (PLAIN + OPTIMIZER + SCHEDULER).replace("max_epochs: 2", "max_epochs: 3")
    finder = LRFinder("range", max_lr=100.0)
    searched = load_config([written(text)])
    searched.trainer.callbacks.append(finder)
    searched.trainer.fit(searched.module, datamodule=searched.datamodule)
    write_config("a.yaml", "tuned.yaml", finder.suggestion)
    cli = trained_with("tuned.yaml", monkeypatch)
    assert cli.model.rates == searched.module.rates[-96:]
    assert len(set(cli.model.rates)) == 3


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
