"""Configurations read and built by LightningCLI: as it builds them, but for what writes; errors in one line."""

from __future__ import annotations

import sys
from inspect import signature
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, GradientAccumulationScheduler
from lightning.pytorch.loggers.logger import DummyLogger
from support import litmodels
from support.runs import LIGHTNINGS_REMARKS

from lrfinder import InputError, LRFinder
from lrfinder.cli.config_read import check_installed, load_config, parse_config, parse_yaml

pytestmark = [
    *LIGHTNINGS_REMARKS,
    pytest.mark.filterwarnings("ignore:.*configure_optimizers. will be overridden"),
]

PLAIN = """\
seed_everything: 3
model: {class_path: support.litmodels.Small, init_args: {hidden: 4}}
data: {class_path: support.litmodels.Rows}
trainer: {max_epochs: 2, accelerator: cpu, enable_progress_bar: false, enable_model_summary: false}
"""


def written(**texts):
    for name, text in texts.items():
        Path(f"{name}.yaml").write_text(text)
    return [f"{name}.yaml" for name in texts]


def test_everything_is_built_as_configured():
    torch.rand(7)
    configured = load_config(written(a=PLAIN))
    torch.manual_seed(3)
    assert torch.equal(configured.module.body.weight, litmodels.Small(4).body.weight)
    assert (type(configured.module), dict(configured.module.hparams)["hidden"]) == (litmodels.Small, 4)
    assert type(configured.datamodule) is litmodels.Rows
    assert configured.trainer.max_epochs == 2
    assert configured.seed == 3


def test_overrides_and_later_files_win():
    paths = written(a=PLAIN, b="trainer: {max_epochs: 4, accumulate_grad_batches: 2}\nseed_everything: false\n")
    configured = load_config(paths, ["--trainer.max_epochs", "7", "--model.init_args.hidden=5"])
    assert configured.trainer.max_epochs == 7
    assert configured.trainer.accumulate_grad_batches == 2
    assert configured.module.body.out_features == 5
    assert configured.seed is None


def test_the_optimizer_and_the_scheduler_sections_are_in_the_module():
    sections = """\
optimizer: {class_path: Adam, init_args: {lr: 0.25, betas: [0.8, 0.9]}}
lr_scheduler: {class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 2}}
"""
    configured = load_config(written(a=PLAIN + sections))
    (optimizer,), (scheduler,) = configured.module.configure_optimizers()
    assert (type(optimizer), type(scheduler)) == (torch.optim.Adam, torch.optim.lr_scheduler.StepLR)
    assert optimizer.param_groups[0]["lr"] == 0.25
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)


WRITERS = """\
  logger:
  - {class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: here}}
  - {class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: there}}
  profiler: {class_path: lightning.pytorch.profilers.SimpleProfiler, init_args: {dirpath: p, filename: p}}
  default_root_dir: root
  callbacks:
  - class_path: lrfinder.LRFinder
  - {class_path: lrfinder.PolicyCallback, init_args: {name: linear, total_steps: 5}}
  - {class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: {every_n_train_steps: 1}}
  - {class_path: lightning.pytorch.callbacks.OnExceptionCheckpoint, init_args: {dirpath: x}}
  - class_path: lightning.pytorch.callbacks.LearningRateFinder
  - class_path: lightning.pytorch.callbacks.BatchSizeFinder
  - {class_path: lightning.pytorch.callbacks.GradientAccumulationScheduler, init_args: {scheduling: {0: 2}}}
  - {class_path: lightning.pytorch.callbacks.LearningRateMonitor, init_args: {logging_interval: step}}
  - {class_path: lightning.pytorch.callbacks.EarlyStopping, init_args: {monitor: val_loss}}
"""


def test_a_search_writes_nothing(capsys):
    head, _, trainer = PLAIN.partition("trainer: ")
    lines = trainer.strip().strip("{}").replace(", ", "\n  ")
    configured = load_config(written(a=f"{head}trainer:\n  {lines}\n{WRITERS}"))
    kinds = [type(callback) for callback in configured.trainer.callbacks]
    assert {kind.__name__ for kind in kinds}.isdisjoint(
        {"LRFinder", "PolicyCallback", "ModelCheckpoint", "OnExceptionCheckpoint", "LearningRateFinder"}
    )
    assert "BatchSizeFinder" not in {kind.__name__ for kind in kinds}
    assert GradientAccumulationScheduler in kinds
    assert EarlyStopping in kinds
    assert [type(logger) for logger in configured.trainer.loggers] == [DummyLogger]
    finder = LRFinder("range", max_lr=100.0)
    configured.trainer.callbacks.append(finder)
    configured.trainer.fit(configured.module, datamodule=configured.datamodule)
    assert finder.suggestion is not None
    assert [path.name for path in Path().rglob("*")] == ["a.yaml"]


def test_no_logger_stays_no_logger():
    configured = load_config(written(a=PLAIN), ["--trainer.logger", "false"])
    assert configured.trainer.loggers == []


def test_a_config_saved_by_fit_and_one_under_fit_are_read():
    asked = [name for name in ("ckpt_path", "weights_only") if name in signature(pl.Trainer.fit).parameters]
    saved = PLAIN.replace("seed_everything: 3", "seed_everything: true") + "".join(f"{name}: null\n" for name in asked)
    under = "fit:\n" + "".join(f"  {line}\n" for line in saved.splitlines()) + "test:\n  trainer: {max_epochs: 9}\n"
    paths = written(under=under, saved=saved, more="trainer: {max_epochs: 5}\n")
    for given, epochs in (([paths[1]], 2), ([paths[0]], 2), ([paths[0], paths[2]], 5)):
        configured = load_config(given)
        assert configured.trainer.max_epochs == epochs
        assert isinstance(configured.seed, int)
    with pytest.raises(InputError, match=r"under a top-level fit must come before .*, got more.yaml, under.yaml"):
        load_config([paths[2], paths[0]])


def test_fixed_classes_are_given_beside_the_configuration():
    paths = written(a="model: {hidden: 6}\ndata: {batch_size: 2}\ntrainer: {accelerator: cpu}\n")
    configured = load_config(paths, ["--model.lr", "0.5"], litmodels.Small, litmodels.Rows)
    assert (configured.module.body.out_features, configured.module.hparams.lr) == (6, 0.5)
    assert configured.datamodule.batch_size == 2
    with pytest.raises(
        InputError, match=r"^a.yaml must name the model .*lrfinder suggest train.py:LitModel --config a"
    ):
        load_config(paths)


def test_a_class_path_beside_a_class_is_one_of_its_kind():
    paths = written(a=PLAIN.replace("Small", "Coded"))
    assert type(load_config(paths, (), litmodels.Small, litmodels.Rows).module) is litmodels.Coded
    with pytest.raises(InputError, match=r"support.litmodels.Coded does not correspond to a subclass of Grouped"):
        load_config(paths, (), litmodels.Grouped)


def test_a_class_of_the_present_folder_is_found(monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    Path("my_own_model.py").write_text("from support.litmodels import Small\nclass Mine(Small): pass\n")
    configured = load_config(written(a=PLAIN.replace("support.litmodels.Small", "my_own_model.Mine")))
    assert type(configured.module).__name__ == "Mine"


def test_the_module_of_pytorch_lightning_gets_its_own_trainer():
    other = pytest.importorskip("pytorch_lightning")
    Path("other_model.py").write_text(
        "import pytorch_lightning as pl\nclass Other(pl.LightningModule):\n  def __init__(self, lr: float = 1.0):\n"
        "    super().__init__()\n"
    )
    paths = written(a="model: {class_path: other_model.Other}\ntrainer: {accelerator: cpu}\n")
    assert isinstance(load_config(paths).trainer, other.Trainer)


def test_parsing_builds_nothing_and_leaves_random_numbers_and_the_folder_alone():
    paths = written(a=PLAIN.replace("Small", "Broken").replace("{hidden: 4}", "{}"))
    state, here = torch.get_rng_state(), Path.cwd()
    parsed = parse_config(paths, ["--trainer.max_epochs", "3"])
    assert parsed["model"]["class_path"] == "support.litmodels.Broken"
    assert (parsed["trainer"]["max_epochs"], parsed["seed_everything"]) == (3, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert Path.cwd() == here


def test_a_text_is_read_as_from_its_folder():
    Path("sub").mkdir()
    Path("sub/model.yaml").write_text("class_path: support.litmodels.Small\ninit_args: {hidden: 9}\n")
    parsed = parse_config(["sub/new.yaml"], text="# see https://example.org\nmodel: model.yaml\n")
    assert parsed["model"]["init_args"] == {"hidden": 9, "lr": 0.01}
    assert not Path("sub/new.yaml").exists()


SMALL = "seed_everything: 3\nmodel: {class_path: support.litmodels.Small}\ntrainer: {accelerator: cpu}\n"


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("model: [1\nb: 2", [], r"a.yaml must be YAML that holds data only, got expected .* in line 2, column 2"),
        (
            "model: !!python/object/apply:os.mkdir [pwned]",
            [],
            r"a.yaml must be YAML that holds data only, got could not",
        ),
        ("just words", [], "a.yaml must hold sections such as model and trainer, got str"),
        ("trainer: {max_epochs: 1}", [], r"a.yaml must name the model \(model: class_path: train.LitModel\)"),
        (SMALL, ["--model.init_args.hiden", "3"], r"""a.yaml: Parser key "model": .*Option 'hiden' is not accepted"""),
        (SMALL, ["--model.init_args.hidden", "x"], r'a.yaml: .*Parser key "hidden": Expected a <class .int.>'),
        (SMALL, ["--trainer.epochs", "3"], "a.yaml: .*trainer.epochs"),
        (SMALL, ["--trainer.precision", "7x"], r"a.yaml: .*precision.*, got 7x"),
        (SMALL.replace("Small", "Nope"), [], "a.yaml: .*module 'support.litmodels' has no attribute 'Nope'"),
        (SMALL.replace("litmodels", "nowhere"), [], "a.yaml: .*has no attribute 'nowhere'"),
        (SMALL.replace("Small", "Rows"), [], "a.yaml: .*does not correspond to a subclass of LightningModule"),
        (SMALL.replace("support.litmodels.Small", "os.system"), [], "a.yaml: .*does not correspond to a subclass"),
        (
            SMALL.replace("support.litmodels.Small", "broken_code.A"),
            [],
            "a.yaml must describe what can be built, got SyntaxErr",
        ),
        (SMALL.replace("Small", "Broken"), [], r"got ZeroDivisionError: no model today \(.*litmodels.py, line \d+\)$"),
        (
            SMALL,
            ["--trainer.gradient_clip_algorithm", "odd"],
            "a.yaml must describe what can be built, got Misconfiguration",
        ),
        (SMALL, ["junk"], "a.yaml: unrecognized arguments: junk"),
        (SMALL, ["--print_config"], "overrides must set values, such as .*, got one that prints"),
        (SMALL, ["--ckpt_path", "x.ckpt"], "ckpt_path must be null, .* got ckpt_path = x.ckpt: add --ckpt_path null"),
        (SMALL, ["--trainer.fast_dev_run", "true"], "trainer.fast_dev_run must be false for a search, got True"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text, overrides, message, capsys):
    Path("broken_code.py").write_text("def f(:\n")
    with pytest.raises(InputError, match=message) as caught:
        load_config(written(a=text), overrides)
    assert "\n" not in str(caught.value)
    assert not Path("pwned").exists()
    assert "usage:" not in "".join(capsys.readouterr())


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match=r"^cannot read nowhere.yaml: No such file or directory$"):
        load_config(["nowhere.yaml"])
    with pytest.raises(InputError, match="paths must name at least one configuration, got none"):
        load_config([])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1\nb: 2", "got expected ',' or ']', but got ':' in line 2, column 2"),
        ("a: !!python/object/apply:os.getcwd []", "got could not determine a constructor .* in line 1, column 4"),
        ("a: 2020-13-45", "that can be read, got month must be in 1..12"),
        ("[" * 3000, "that can be read|that holds data only"),
    ],
)
def test_only_data_is_read(text, problem):
    with pytest.raises(InputError, match=f"^c.yaml must be YAML .*{problem}"):
        parse_yaml(text, "c.yaml")


@pytest.mark.parametrize("package", ["jsonargparse", "docstring_parser", "ruamel.yaml"])
def test_a_missing_package_is_named_with_its_remedy(package, monkeypatch):
    check_installed()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        InputError, match=rf"^LightningCLI configurations need {package}, .*: pip install 'lrfinder\[config\]'$"
    ):
        check_installed()
