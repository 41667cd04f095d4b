"""What a search in a fit is prepared with."""

from __future__ import annotations

import csv
import logging

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from support.runs import LIGHTNINGS_REMARKS, Net, bare_trainer, finder, fit, loader, optimizers
from torch.optim import lr_scheduler

from lrfinder import InputError

pytestmark = LIGHTNINGS_REMARKS

QUICK = {"budget": 90}


def in_code(net):
    return torch.optim.SGD(net.parameters(), lr=0.03)


def test_a_rate_that_no_number_of_the_module_holds_is_said_to_be_written_into_the_optimizers(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        fit(tmp_path, [finder(**QUICK)], module=lambda lr: Coded(lr))
    assert "found no number of Coded that holds the learning rate" in caplog.text


class Coded(Net):
    def __init__(self, lr):
        super().__init__(lr)
        self.lr = None

    def configure_optimizers(self):
        return in_code(self)


def test_a_number_that_cannot_be_set_is_found_before_anything_is_searched(tmp_path):
    class Fixed(Net):
        steps = 0

        @property
        def rate(self):
            return 0.01

        def training_step(self, batch, batch_idx):
            Fixed.steps += 1
            return super().training_step(batch, batch_idx)

    with pytest.raises(
        InputError, match="attribute must name a number that can be set, got 'rate', which is read-only"
    ):
        fit(tmp_path, [finder(attribute="rate")], module=Fixed)
    assert Fixed.steps == 0


@pytest.mark.parametrize("epochs", [2, 8])
def test_a_scheduler_that_never_changes_the_rate_counts_as_none(tmp_path, epochs):
    def configure(net):
        optimizer = torch.optim.SGD(net.parameters(), lr=net.lr)
        return [optimizer], [lr_scheduler.StepLR(optimizer, 5)]

    callback = finder(**QUICK, policy=None)
    trainer, _ = fit(tmp_path, [callback], module=optimizers(configure), max_epochs=epochs)
    kept = isinstance(trainer.lr_scheduler_configs[0].scheduler, lr_scheduler.StepLR)
    assert kept == (epochs == 8)


def test_the_hyperparameters_that_loggers_get_hold_nested_rates(tmp_path):
    class Nested(Net):
        def __init__(self, lr):
            super().__init__(lr)
            self.save_hyperparameters({"optim": {"lr": lr, "name": "sgd"}})
            self.lr = None

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.hparams.optim["lr"])

    callback = finder(**QUICK)
    trainer, _ = fit(tmp_path, [callback], module=Nested)
    assert trainer.lightning_module.hparams.optim == {"lr": callback.suggestion.lr, "name": "sgd"}
    assert f"\n  lr: {callback.suggestion.lr}\n" in (tmp_path / "hparams.yaml").read_text()


def searched(logger, folder, module=Net):
    """A fit with a search, and what it logged."""
    callback = finder(**QUICK)
    more = {"logger": logger, "default_root_dir": folder, "log_every_n_steps": 1}
    trainer = bare_trainer(callback, max_epochs=1, limit_train_batches=3, **more)
    trainer.fit(module(0.01), loader())
    return callback.suggestion


def test_csv_gets_the_suggestion_and_the_range_test(tmp_path):
    suggestion = searched(CSVLogger(tmp_path, name="", version=""), tmp_path)
    with (tmp_path / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["lrfinder/range_test_lr"]]
    curve = suggestion.curves[0]
    assert 2 <= len(rows) <= 50
    stride = -(-len(curve) // 50)
    assert [float(row["lrfinder/range_test_lr"]) for row in rows] == pytest.approx(curve.lr[::stride])
    assert [float(row["lrfinder/range_test_loss"]) for row in rows] == pytest.approx(curve.loss[::stride])
    assert f"lrfinder/lr: {suggestion.lr}\n" in (tmp_path / "hparams.yaml").read_text()


def test_tensorboard_gets_the_chart_too(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    searched(TensorBoardLogger(tmp_path, name="", version=""), tmp_path)
    events = reader.EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Tags()["images"] == ["lrfinder/suggestion"]
    assert {"lrfinder/range_test_lr", "lrfinder/range_test_loss"} <= set(events.Tags()["scalars"])


class Recorded(Logger):
    """What a logger is given, through Lightning's interface."""

    name, version, run_id = "recorded", "0", "7"

    def __init__(self):
        super().__init__()
        self.metrics, self.hyperparameters, self.charts = [], [], []

    def log_metrics(self, metrics, step=None):
        self.metrics.append((step, metrics))

    def log_hyperparams(self, params, *_):
        self.hyperparameters.append(dict(params))


class WandbLogger(Recorded):
    """Stands in for Lightning's: `log_image(key, images, step=None)`."""

    def log_image(self, key, images, step=None):
        self.charts += [(key, type(image).__name__) for image in images]


class MLFlowLogger(Recorded):
    """Stands in for Lightning's, whose experiment is a client with `log_figure(run_id, figure, artifact_file)`.

    Like MLflow, it takes no second value of a hyperparameter.
    """

    @property
    def experiment(self):
        return self

    def log_figure(self, run_id, figure, artifact_file):
        self.charts.append((run_id, artifact_file))

    def log_hyperparams(self, params, *_):
        for known in self.hyperparameters:
            for name in known.keys() & dict(params).keys():
                if known[name] != params[name]:
                    raise ValueError(f"{name} may not change")
        super().log_hyperparams(params)


class Broken(Recorded):
    def log_metrics(self, metrics, step=None):
        raise OSError("no disk left")


class Named(Net):
    def __init__(self, lr):
        super().__init__(lr)
        self.save_hyperparameters()


def test_weights_and_biases_gets_the_chart(tmp_path):
    logger = WandbLogger()
    searched(logger, tmp_path)
    assert logger.charts == [("lrfinder/suggestion", "Figure")]
    assert any("lrfinder/range_test_loss" in metrics for _, metrics in logger.metrics)


def test_mlflow_gets_all_but_a_hyperparameter_that_has_changed(tmp_path):
    logger = MLFlowLogger()
    suggestion = searched(logger, tmp_path, Named)
    assert logger.charts == [("7", "lrfinder/suggestion.png")]
    assert logger.hyperparameters[0]["lr"] == 0.01
    assert logger.hyperparameters[-1]["lrfinder/lr"] == suggestion.lr


def test_a_logger_that_fails_does_not_end_the_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(Net, "log", lambda *args, **kwargs: None)
    assert searched(Broken(), tmp_path).lr is not None


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_examples_of_an_optimizer_step_are_recorded(tmp_path, accumulate):
    callback = finder(**QUICK)
    fit(tmp_path, [callback], accumulate_grad_batches=accumulate)
    assert callback.suggestion.environment["batch_size"] == accumulate * loader().batch_size
