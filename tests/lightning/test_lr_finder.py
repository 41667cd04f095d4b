"""What the callback searches by, finds, writes, says and keeps."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import lightning.pytorch as pl
import pytest
import torch
from support.runs import (
    INPUTS,
    LIGHTNINGS_REMARKS,
    TARGETS,
    Manual,
    Net,
    bare_trainer,
    by_hand,
    finder,
    fit,
    loader,
    optimizers,
)
from torch.utils.data import DataLoader

from lrfinder import InputError, LRFinder, Suggestion, UnsupportedError

pytestmark = LIGHTNINGS_REMARKS


class Hyper(Net):
    """Keeps its learning rate among the hyperparameters only."""

    def __init__(self, learning_rate=0.01):
        super().__init__(learning_rate)
        self.save_hyperparameters()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.learning_rate)


def test_hyperparameters_carry_the_new_rate_into_logs_and_checkpoints(tmp_path):
    callback = finder()
    trainer, _ = fit(tmp_path, [callback], module=Hyper)
    assert trainer.lightning_module.hparams.learning_rate == callback.suggestion.lr
    assert f"learning_rate: {callback.suggestion.lr}" in (tmp_path / "hparams.yaml").read_text()
    checkpoint = torch.load(next(tmp_path.rglob("*.ckpt")), weights_only=True)
    assert checkpoint["hyper_parameters"]["learning_rate"] == callback.suggestion.lr


def test_a_rate_without_a_name_is_written_into_the_groups(tmp_path):
    def configure(net):
        return torch.optim.SGD(
            [{"params": net.body.parameters()}, {"params": net.head.parameters(), "lr": 0.5}], lr=0.05
        )

    callback = finder()
    trainer, _ = fit(tmp_path, [callback], module=optimizers(configure))
    first, second = (group["lr"] for group in trainer.optimizers[0].param_groups)
    assert first == callback.suggestion.lr
    assert second == pytest.approx(10 * first, rel=1e-12)
    assert callback.suggestion.param_group_lrs == (first, second)


def test_a_rate_under_another_name_is_found_by_that_name(tmp_path):
    class Named(Net):
        def __init__(self, lr):
            super().__init__(lr)
            del self.lr
            self.step_size, self.lr = 0.02, None

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.step_size)

    callback = finder(attribute="step_size")
    trainer, _ = fit(tmp_path, [callback], module=Named)
    assert trainer.lightning_module.step_size == callback.suggestion.lr
    with pytest.raises(InputError, match="attribute must name a number of Named, got 'rate'"):
        fit(tmp_path / "again", [finder(attribute="rate")], module=Named)


def test_the_suggestion_is_kept_logged_and_survives_a_checkpoint(tmp_path):
    callback = finder()
    fit(tmp_path, [callback])
    assert isinstance(callback.suggestion, Suggestion)
    assert callback.suggestion.horizon == 32
    taken = sum(outcome.train_loss.size for outcome in callback.suggestion.probes)
    assert len(callback.curve) + taken <= callback.suggestion.steps_spent <= 150
    assert f"lrfinder/lr: {callback.suggestion.lr}" in (tmp_path / "hparams.yaml").read_text()
    state = json.loads(json.dumps(callback.state_dict()))
    other = finder()
    other.load_state_dict(state)
    assert other.suggestion == callback.suggestion


def test_a_resumed_module_gets_its_learning_rate_back(tmp_path):
    callback = finder()
    fit(tmp_path / "first", [callback], module=Hyper, max_epochs=1)
    model = Hyper(0.01)
    trainer = bare_trainer(finder(), max_epochs=2, default_root_dir=tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the counting callback is in the checkpoint only
        trainer.fit(model, loader(), ckpt_path=next((tmp_path / "first").rglob("*.ckpt")))
    assert model.hparams.learning_rate == callback.suggestion.lr


def test_a_learning_rate_that_is_a_property_is_left_to_follow(tmp_path):
    class Derived(Hyper):
        lr = property(lambda self: self.hparams.learning_rate, lambda self, value: None)

    callback = finder()
    trainer, _ = fit(tmp_path, [callback], module=Derived)
    assert trainer.lightning_module.lr == trainer.lightning_module.hparams.learning_rate == callback.suggestion.lr


def test_an_unrelated_number_of_the_other_name_stays(tmp_path):
    class Both(Net):
        def __init__(self, lr):
            super().__init__(lr)
            self.learning_rate = 5.0

    trainer, _ = fit(tmp_path, [finder()], module=Both)
    assert trainer.lightning_module.learning_rate == 5.0


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match="min_lr must be below max_lr, got min_lr = 1, max_lr"):
        LRFinder(min_lr=1.0, max_lr=0.1)


OTHER_PACKAGE = """
import sys
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset
from lrfinder import LRFinder

class Net(pl.LightningModule):
    def __init__(self, lr, multiplier=None):
        super().__init__()
        self.lr, self.multiplier, self.net, self.losses = lr, multiplier, torch.nn.Linear(8, 3), []

    def training_step(self, batch, batch_idx):
        loss = torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
        if self.multiplier is None:
            return optimizer
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.multiplier)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

def train(lr, callbacks, multiplier=None):
    pl.seed_everything(0)
    model, inputs = Net(lr, multiplier), torch.randn(256, 8)
    trainer = pl.Trainer(accelerator="cpu", max_epochs=2, callbacks=callbacks, logger=False,
                         enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(model, DataLoader(TensorDataset(inputs, inputs[:, :3].argmax(1)), 16, shuffle=True))
    return model

finder = LRFinder(budget=150)
tuned = train(0.01, [finder])
assert tuned.lr == finder.suggestion.lr != 0.01
cooldown = lambda step: min((step + 1) / 6, 1.0, (32 - step) / 11)
assert tuned.losses == train(tuned.lr, [], cooldown).losses != train(tuned.lr, []).losses
assert "lightning.pytorch" not in sys.modules
"""


def test_users_of_the_package_pytorch_lightning_are_served_too(tmp_path):
    pytest.importorskip("pytorch_lightning")
    done = subprocess.run([sys.executable, "-c", OTHER_PACKAGE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- what is optimised -----------------------------------------------------------------------------------------------


class Watching(Net):
    """Logs metrics in every way: per batch, of all batches, and an object that computes itself."""

    def on_validation_epoch_start(self):
        self.sums = []

    def validation_step(self, batch, batch_idx):
        logits = self(batch[0])
        loss = torch.nn.functional.cross_entropy(logits, batch[1])
        self.sums.append(loss)
        self.log_dict({"val_loss": loss, "val_quality": -loss})
        self.accuracy(logits, batch[1])
        self.log("val_accuracy", self.accuracy)

    def on_validation_epoch_end(self):
        self.log("val_mean", torch.stack(self.sums).mean())


@pytest.mark.parametrize(
    ("monitor", "mode", "batches"),
    [("val_loss", "min", 4), ("val_quality", "max", 4), ("val_accuracy", "max", 1), ("val_mean", "min", 1)],
)
def test_the_monitored_metric_decides_and_training_is_as_by_hand(tmp_path, monitor, mode, batches):
    callback = finder(monitor=monitor, mode=mode)
    by_hand(tmp_path, callback, module=Watching)
    assert {outcome.loss.size for outcome in callback.suggestion.probes if not outcome.diverged} == {batches}


def test_a_metric_and_its_negative_decide_alike(tmp_path):
    down, up = finder(monitor="val_loss"), finder(monitor="val_quality", mode="max")
    for callback in (down, up):
        fit(tmp_path / callback.options.mode, [callback], module=Watching, max_epochs=1)
    assert down.suggestion.lr == up.suggestion.lr


def test_a_metric_that_is_not_logged_is_named_with_those_that_are(tmp_path):
    with pytest.raises(
        InputError, match=r"monitor must be a metric that validation logs, got 'loss', which logs val_loss"
    ):
        fit(tmp_path, [finder(monitor="loss")])
    with pytest.raises(InputError, match="got 'val_loss' in a fit without validation"):
        fit(tmp_path / "none", [finder(monitor="val_loss")], limit_val_batches=0)


def test_validation_batches_that_training_step_cannot_take_are_done_without(tmp_path):
    class Odd(Net):
        def training_step(self, batch, batch_idx):
            if len(batch[0]) != 16:
                raise ValueError("training batches have 16 rows")
            return super().training_step(batch, batch_idx)

    _, callback = by_hand(tmp_path, module=Odd)
    assert (
        "training_step could not take a validation batch (training batches have 16 rows)"
        in callback.suggestion.caveats[0]
    )
    assert "judged on 3 training batches" in callback.suggestion.caveats[1]


def test_manual_optimization_gets_a_range_test_unless_something_is_monitored(tmp_path):
    plain, monitored = finder(), finder(monitor="val_loss")
    fit(tmp_path / "plain", [plain], module=Manual, max_epochs=1)
    assert (plain.suggestion.method, plain.suggestion.probes) == ("range", ())
    by_hand(tmp_path / "monitored", monitored, module=Manual)
    assert monitored.suggestion.method == "probe"


def test_the_horizon_and_the_budget_are_of_the_trainer(tmp_path):
    callback = finder(budget="50%")
    fit(tmp_path, [callback], max_epochs=10)
    assert callback.suggestion.horizon == 160
    assert callback.suggestion.steps_spent <= 80
    little = finder(budget=0.1)  # a tenth of 32 steps is too little to search with: 20 it is
    with pytest.warns(UserWarning, match="left the learning rate as it was"):
        fit(tmp_path / "small", [little])
    assert little.suggestion.steps_spent <= 20


class Picky(Watching):
    """Signatures as Lightning allows them, two loaders, and names that Lightning forks."""

    def validation_step(self, rows, number, dataloader_idx=0):
        loss = torch.nn.functional.cross_entropy(self(rows[0]), rows[1])
        self.sums.append(loss)
        self.log(name=f"loss_{dataloader_idx}", value=loss, on_step=True, on_epoch=True, add_dataloader_idx=False)
        self.log_dict(dictionary={"val_loss": loss})


@pytest.mark.parametrize("monitor", ["loss_0", "loss_1_epoch", "val_loss/dataloader_idx_1"])
def test_monitors_as_lightning_names_them(tmp_path, monitor):
    model, callback = Picky(0.01), finder(monitor=monitor, budget=150)
    pl.seed_everything(3, verbose=False)
    bare_trainer(callback, max_epochs=1).fit(
        model, loader(), [DataLoader(torch.utils.data.TensorDataset(INPUTS, TARGETS), 2), loader(shuffle=False)]
    )
    assert callback.suggestion.probes[0].loss.size == 16
    missing = finder(monitor="val_loss/dataloader_idx_7")
    again = bare_trainer(missing, max_epochs=1)
    with pytest.raises(
        InputError, match="monitor must name one of 2 validation loaders, got 'val_loss/dataloader_idx_7'"
    ):
        again.fit(model, loader(), [loader(), loader()])


def test_a_training_step_that_cannot_be_judged_says_what_to_do(tmp_path):
    class Strict(Net):
        def training_step(self, batch, batch_idx):
            if not self.training:
                raise ValueError("train mode only")
            if not torch.is_grad_enabled():
                raise ValueError("training only")
            return super().training_step(batch, batch_idx)

    with pytest.raises(
        UnsupportedError,
        match=r"training_step raised ValueError for a held-out batch in eval mode, and has none for it in train mode"
        r" either: pass monitor=, or method='range' \(train mode only\)",
    ):
        fit(tmp_path, [finder()], module=Strict)
    fit(tmp_path / "monitored", [callback := finder(monitor="val_loss")], module=Net)
    assert callback.suggestion.method == "probe"


def test_probes_keep_to_the_batches_of_a_limited_epoch(tmp_path):
    seen = set()

    class Limited(Net):
        def training_step(self, batch, batch_idx):
            Limited.rows.update(float(x) for x in batch[0][:, 0])
            return super().training_step(batch, batch_idx)

    Limited.rows = seen
    fit(
        tmp_path, [finder()], module=Limited, limit_train_batches=4, limit_val_batches=0, max_epochs=20,
        loaders=lambda: loader(shuffle=False),
    )  # fmt: skip
    assert seen <= {float(x) for x in INPUTS[:64, 0]}
