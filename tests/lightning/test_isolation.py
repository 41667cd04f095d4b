"""What is recorded and muted of a trainer around a probe, and what a step sees of it."""

from __future__ import annotations

import dataclasses

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.logger import DummyLogger, Logger
from support.exactness import Picture
from support.runs import LIGHTNINGS_REMARKS, Net, by_hand, finder, fit

from lrfinder.lightning.isolation import Epochs, MutedCallbacks, mute, muted_logger, side_loaders, snapshot_of

pytestmark = LIGHTNINGS_REMARKS


class Counter(pl.Callback):
    """A callback that a module uses: it can be asked, and counts."""

    def __init__(self):
        self.calls, self.notes = 0, []

    def note(self, value):
        self.calls += 1
        self.notes.append(value)
        return len(self.notes)

    def state_dict(self):
        return {"calls": self.calls, "notes": list(self.notes)}


class Curious(Net):
    """Reads everything of the trainer that a step may read, and fails where something is missing."""

    def training_step(self, batch, batch_idx):
        trainer = self.trainer
        assert trainer.log_dir.startswith(str(trainer.default_root_dir))
        assert self.logger.log_dir == trainer.log_dir
        assert isinstance(self.logger, CSVLogger)
        assert trainer.checkpoint_callback.monitor is None
        assert trainer.callbacks[0] is not None
        stopping = [callback for callback in trainer.callbacks if isinstance(callback, EarlyStopping)]
        assert stopping[0].monitor == trainer.early_stopping_callback.monitor == "train_loss_epoch"
        self.logger.log_metrics({"own": batch_idx})
        self.logger.experiment.log_metrics({"own": batch_idx}, step=1)
        loss = super().training_step(batch, batch_idx)
        self.log("plain", loss)
        self.log("doubled", 2.0, on_step=True, on_epoch=True)
        assert trainer.callback_metrics["plain"] == loss
        assert float(trainer.callback_metrics["doubled_step"]) == 2.0
        return loss

    def on_train_batch_end(self, outputs, batch, batch_idx):
        assert float(self.trainer.callback_metrics["plain"]) == float(outputs["loss"])


@pytest.mark.parametrize("method", ["probe", "range"])
def test_a_step_sees_the_trainer_as_in_training_and_leaves_nothing(tmp_path, method):
    def others():
        return [EarlyStopping("train_loss_epoch"), ModelCheckpoint()]

    _, callback = by_hand(tmp_path, finder(method), others, module=Curious)
    assert callback.failure is None


@pytest.mark.parametrize("method", ["probe", "range"])
def test_a_callback_that_the_module_drives_is_put_back(tmp_path, method):
    class Driving(Net):
        def training_step(self, batch, batch_idx):
            (counter,) = [callback for callback in self.trainer.callbacks if isinstance(callback, Counter)]
            return super().training_step(batch, batch_idx) * (1 + 1e-3 * counter.note(batch_idx))

    by_hand(tmp_path, finder(method), lambda: [Counter()], module=Driving)


class Meter(torch.nn.Module, pl.Callback):
    """A part of the network that is a callback too, and logs as one, by the method that Lightning gives it."""

    def on_train_epoch_end(self, trainer, pl_module):
        self.log("measured", 1.0)


class Metered(Net):
    def __init__(self, lr):
        super().__init__(lr)
        self.meter = Meter()

    def configure_callbacks(self):
        return [self.meter]

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)]


def test_a_part_of_the_network_that_is_a_callback_logs_on_after_the_search(tmp_path):
    trainer, _ = by_hand(tmp_path, module=Metered)
    assert float(trainer.callback_metrics["measured"]) == 1.0


@dataclasses.dataclass
class Compared(pl.Callback):
    """Compares by value, and so has no hash."""

    every: int = 1


def test_a_callback_without_a_hash_stands_beside_a_scheduler(tmp_path):
    _, callback = by_hand(tmp_path, others=lambda: [Compared()], module=Metered)
    assert callback.failure is None


def test_an_epoch_that_the_module_ends_early_is_followed_by_the_next(tmp_path):
    class Short(Net):
        def on_train_batch_start(self, batch, batch_idx):
            return -1 if batch_idx == 5 else None

    _, callback = by_hand(tmp_path, module=Short)
    assert callback.failure is None


class Hooked(Logger):
    """A logger of one's own, with a folder that must be asked for."""

    name, version, save_dir = "hooked", 3, "here"

    def __init__(self):
        super().__init__()
        self.rows = []

    def get_folder(self):
        return f"{self.save_dir}/{self.version}"

    def log_metrics(self, metrics, step=None):
        self.rows.append(metrics)

    def log_hyperparams(self, params):
        self.rows.append(params)

    def log_image(self, image):
        raise AssertionError("must not be called")


def test_a_muted_logger_is_of_the_same_class_and_records_nothing(tmp_path):
    trainer, held = pl.Trainer(logger=False, accelerator="cpu"), Hooked()
    muted = muted_logger(trainer, held)
    assert isinstance(muted, Hooked)
    assert (muted.name, muted.version, muted.save_dir, muted.get_folder()) == ("hooked", 3, "here", "here/3")
    muted.log_metrics({"a": 1}), muted.log_image(None), muted.save(), muted.experiment.anything(1)
    muted.version = 4
    assert (held.rows, held.version) == ([], 3)

    class Slotted:
        __slots__ = ("rows",)

    assert isinstance(muted_logger(trainer, Slotted()), DummyLogger)


def test_muted_callbacks_are_a_list_of_the_same_objects():
    first, second = Counter(), Counter()
    muted = MutedCallbacks([first, second])
    assert [*muted] == [first, second] == list(muted)
    assert muted[1] is second
    assert len(muted) == 2


def test_what_a_step_sets_on_the_trainer_is_put_back(tmp_path):
    class Setting(Net):
        def training_step(self, batch, batch_idx):
            trainer = self.trainer
            trainer.gradient_clip_val = 0.5 * (trainer.gradient_clip_val or 1.0)
            trainer.own_counter = getattr(trainer, "own_counter", 0) + 1
            trainer.limit_val_batches = 1.0
            assert trainer.gradient_clip_val == 0.5**trainer.own_counter
            torch.autograd.set_detect_anomaly(False)
            return super().training_step(batch, batch_idx)

    trainer, _ = fit(tmp_path, [finder()], module=Setting)
    assert trainer.own_counter == 32
    by_hand(tmp_path / "both", module=Setting)


class Within(pl.Callback):
    def on_train_start(self, trainer, pl_module):
        before = Picture(trainer, pl_module)
        snapshot = snapshot_of(trainer, True)
        mute(trainer)
        pl_module.log("loss", 1.0)
        trainer.save_checkpoint("nowhere.ckpt")
        assert float(trainer.callback_metrics["loss"]) == 1.0
        drawn = [len(batch) for batch, *_ in Epochs(side_loaders(trainer, True), 3)]
        snapshot.restore()
        changes = [change for change in before.changes(trainer, pl_module) if "callbacks" not in change]
        self.changes, self.drawn = changes, drawn


@pytest.mark.parametrize("limit", [1.0, 2])
def test_a_muted_trainer_is_put_back(tmp_path, limit):
    within = Within()
    fit(tmp_path, [within], limit_train_batches=limit)
    assert within.changes == []
    assert within.drawn == [2, 2, 2]
    assert not (tmp_path / "nowhere.ckpt").exists()
