"""Lightning fits that record everything observable, so that two of them can be compared bit for bit."""

from __future__ import annotations

import csv
import hashlib
import pickle
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import torchmetrics
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lrfinder import LRFinder

LIGHTNINGS_REMARKS = [  # on workers, log intervals and its internals; ours are tested by name
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:You requested to overfit"),
    pytest.mark.filterwarnings("ignore:`training_step` returned `None`"),
    pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size`"),
    pytest.mark.filterwarnings("ignore:The ``compute`` method of metric"),
    pytest.mark.filterwarnings("ignore:`LightningModule.configure_optimizers` returned `None`"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

INPUTS = torch.randn(256, 8, generator=torch.Generator().manual_seed(1))
TARGETS = (INPUTS[:, :3] + 0.3 * torch.randn(256, 3, generator=torch.Generator().manual_seed(2))).argmax(1)


class Net(pl.LightningModule):
    """A classifier with everything a probe could disturb: dropout, batch norm, metrics, counters, odd buffers."""

    def __init__(self, lr: float = 0.01, make: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.lr, self.make = lr, make
        self.body = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2))
        self.head, self.frozen = nn.Linear(16, 3), nn.Linear(3, 3)
        self.frozen.requires_grad_(False).eval()
        self.register_buffer("average", torch.zeros(3), persistent=False)
        self.accuracy = torchmetrics.classification.MulticlassAccuracy(3)
        self.seen, self.history, self.best = 0, [], {"loss": 9.0}
        self.noise = np.random.default_rng(5)
        self.record: list[tuple[Any, ...]] = []

    def forward(self, inputs: Tensor) -> Tensor:
        return self.frozen(self.head(self.body(inputs)))

    def loss(self, batch: Any) -> Tensor:
        logits = self(batch[0]) + 1e-3 * self.noise.random() + 1e-3 * random.random() + 1e-3 * np.random.rand()
        with torch.no_grad():
            self.average.lerp_(logits.to(self.average.dtype).mean(0), 0.1)
        self.accuracy(logits, batch[1])
        return F.cross_entropy(logits, batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.seen += len(batch[0])
        self.history.append(self.seen)
        self.best["loss"] = min(self.best["loss"], loss.item())
        self.log_dict({"train_loss": loss, "accuracy": self.accuracy}, on_step=True, on_epoch=True)
        rates = [float(group["lr"]) for optimizer in self.trainer.optimizers for group in optimizer.param_groups]
        self.record.append((loss.item(), rates, _digest(batch), _digest(torch.get_rng_state()), self.global_step))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        if self.make is not None:
            return self.make(self)
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


class Manual(Net):
    """Two optimizers, stepped by hand."""

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__(lr)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        for optimizer in self.optimizers():
            loss = self.loss(batch)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        rates = [float(group["lr"]) for optimizer in self.optimizers() for group in optimizer.param_groups]
        self.record.append((loss.item(), rates, _digest(batch), _digest(torch.get_rng_state()), self.global_step))
        return loss.detach()

    def configure_optimizers(self) -> Any:
        return [
            torch.optim.SGD(self.body.parameters(), lr=self.lr),
            torch.optim.Adam(self.head.parameters(), lr=self.lr / 10),
        ]


class Counting(pl.Callback):
    """Counts every hook, and keeps what it saw of the learning rate."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_"):
            calls = object.__getattribute__(self, "calls")
            calls[name] = calls.get(name, 0) + 1
        return object.__getattribute__(self, name)


class SetByHand(pl.Callback):
    """Sets the rate at the start of an epoch as a person would: in the group, its defaults, the module."""

    def __init__(self, rates: dict[int, float]) -> None:
        self.rates = rates

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if (lr := self.rates.get(trainer.current_epoch)) is not None:
            trainer.optimizers[0].param_groups[0]["lr"] = trainer.optimizers[0].defaults["lr"] = pl_module.lr = lr


class Stream(IterableDataset):
    """An endless-looking stream that remembers where it stands, between epochs too."""

    def __init__(self) -> None:
        self.position = 0

    def __iter__(self) -> Any:
        for _ in range(192):
            index = self.position % 256
            self.position += 7
            yield INPUTS[index], TARGETS[index]


def loader(**options: Any) -> DataLoader:
    """A shuffling loader over the data."""
    return DataLoader(TensorDataset(INPUTS, TARGETS), **{"batch_size": 16, "shuffle": True, **options})


def fit(
    folder: Path,
    callbacks: Sequence[Any] = (),
    *,
    lr: float = 0.01,
    module: Callable[[float], Net] = Net,
    loaders: Callable[[], Any] = loader,
    before: Callable[[Any, Any], None] | None = None,
    ckpt_path: Path | None = None,
    **options: Any,
) -> tuple[Any, dict[str, Any]]:
    """Fit from seed 7 and return the trainer and everything observable about the run."""
    pl.seed_everything(7, verbose=False)
    model, counting = module(lr), Counting()
    defaults: dict[str, Any] = {
        "accelerator": "cpu", "max_epochs": 2, "log_every_n_steps": 1, "enable_progress_bar": False
    }  # fmt: skip
    if "plugins" in options:
        options["plugins"] = options["plugins"]()
    trainer = pl.Trainer(
        logger=CSVLogger(folder, name="", version=""),
        callbacks=[counting, *callbacks],
        enable_model_summary=False,
        default_root_dir=folder,
        **{**defaults, **options},
    )
    if before is not None:
        before(trainer, model)
    data = loaders()
    given = {"datamodule": data} if isinstance(data, pl.LightningDataModule) else {"train_dataloaders": data}
    if "datamodule" not in given:
        given["val_dataloaders"] = DataLoader(TensorDataset(INPUTS, TARGETS), 64)
    trainer.fit(model, **given, ckpt_path=ckpt_path)
    return trainer, observe(trainer, trainer.lightning_module, counting, folder)


def bare_trainer(*callbacks: Any, **options: Any) -> Any:
    """A trainer with these callbacks that shows and writes nothing."""
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return pl.Trainer(accelerator="cpu", callbacks=list(callbacks), enable_model_summary=False, **{**silent, **options})


def observe(trainer: Any, model: Net, counting: Counting, folder: Path) -> dict[str, Any]:
    """Everything a run leaves behind, in comparable form; its files in the process that writes them."""
    return {
        "steps": model.record,
        "tensors": {name: _digest(value) for name, value in [*model.named_parameters(), *model.named_buffers()]},
        "flags": [(name, part.training) for name, part in model.named_modules()],
        "requires_grad": [parameter.requires_grad for parameter in model.parameters()],
        "grads": [_digest(parameter.grad) for parameter in model.parameters()],
        "attributes": (model.seen, model.history, model.best, model.noise.bit_generator.state, model.lr),
        "module": sorted(vars(model)),
        "optimizers": [_digest(optimizer.state_dict()) for optimizer in trainer.optimizers],
        "defaults": [_digest(optimizer.defaults) for optimizer in trainer.optimizers],
        "schedulers": [_plain(config.scheduler.state_dict()) for config in trainer.lr_scheduler_configs],
        "precision": trainer.precision_plugin.state_dict(),
        "data": vars(trainer.datamodule)["moved"] if trainer.datamodule else None,
        "progress": trainer.fit_loop.state_dict(),
        "random": [_digest(torch.get_rng_state()), random.getstate(), _digest(np.random.get_state())],
        "metrics": {name: float(value) for name, value in trainer.callback_metrics.items()},
        "calls": counting.calls,
        "callbacks": {
            type(other).__name__: _without_path(other.state_dict(), folder)
            for other in trainer.callbacks
            if other.state_dict() and not isinstance(other, (LRFinder, Counting))
        },
        **(_files(folder) if trainer.is_global_zero else {}),
    }


def _files(folder: Path) -> dict[str, Any]:
    metrics = folder / "metrics.csv"
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "hparams.yaml"]
    return {
        "files": [str(path.relative_to(folder)) for path in files],
        "logged": _logged(metrics.read_text()) if metrics.exists() else [],
        "checkpoints": [_in_checkpoint(path, folder) for path in files if path.suffix == ".ckpt"],
    }


def _logged(text: str) -> list[dict[str, str]]:
    """The rows of a log but those of the range test, which the callback adds, and without their columns."""
    rows = [
        {name: value for name, value in row.items() if not name.startswith("lrfinder/")}
        for row in csv.DictReader(text.splitlines())
    ]
    return [row for row in rows if any(value for name, value in row.items() if name != "step")]


def assert_same(run: dict[str, Any], reference: dict[str, Any]) -> None:
    """Compare two observations, naming what differs."""
    different = [name for name in reference if run[name] != reference[name]]
    assert not different, {name: (run[name], reference[name]) for name in different[:2]}


def without_functions(run: dict[str, Any]) -> dict[str, Any]:
    """A run without the functions that its schedulers follow, which may be written in different ways."""
    schedulers = [{**state, "lr_lambdas": None} for state in run["schedulers"]]
    checkpoints = [re.sub(r"'lr_lambdas': \[[^]]*\]", "", content) for content in run.get("checkpoints", [])]
    return {**run, "schedulers": schedulers, "checkpoints": checkpoints}


def _in_checkpoint(path: Path, folder: Path) -> str:
    """Everything in a checkpoint but our callback, which only one of two runs has."""
    content = torch.load(path, weights_only=False)
    content["callbacks"] = {name: state for name, state in content["callbacks"].items() if "LRFinder" not in name}
    return _without_path(content, folder)


def _without_path(value: Any, folder: Path) -> str:
    return repr(_plain(value)).replace(str(folder), "")


def _digest(value: Any) -> str:
    return hashlib.sha256(pickle.dumps(_plain(value))).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.to_local() if hasattr(value, "to_local") else value
        content = value.detach().cpu().contiguous().view(-1).view(torch.uint8)
        return value.dtype, tuple(value.shape), content.numpy().tobytes()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes()
    if callable(value):
        return getattr(value, "__qualname__", str(type(value)))
    return value


def finder(method: str = "probe", **options: Any) -> LRFinder:
    """A callback with little to spend, which installs no schedule unless asked to."""
    usual = {"budget": 150, "min_lr": 1e-5, "max_lr": 1e3 if method == "probe" else 10.0}
    usual.update(policy="keep", on_failure="raise")
    return LRFinder(method, **{**usual, **options})


def by_hand(
    tmp_path: Path, callback: Any = None, others: Callable[[], list[Any]] = list, **options: Any
) -> tuple[Any, Any]:
    """Fit with the callback, then without it at the rate it wrote, and compare everything."""
    callback = callback or finder()
    trainer, run = fit(tmp_path / "tuned", [*others(), callback], **options)
    assert callback.suggestion.lr is not None
    assert trainer.lightning_module.lr != 0.01
    _, reference = fit(tmp_path / "by hand", others(), **{**options, "lr": trainer.lightning_module.lr})
    assert_same(run, reference)
    return trainer, callback


def optimizers(make: Callable[[Net], Any]) -> Callable[[float], Net]:
    """A module class with these optimizers."""
    return lambda lr: Net(lr, make)


def scheduled(make: Callable[[Any, float], Any], interval: str = "step") -> Callable[[float], Net]:
    """A module class with momentum and this scheduler."""

    def configure(net: Net) -> Any:
        optimizer = torch.optim.SGD(net.parameters(), lr=net.lr, momentum=0.9)
        return [optimizer], [{"scheduler": make(optimizer, net.lr), "interval": interval}]

    return optimizers(configure)
