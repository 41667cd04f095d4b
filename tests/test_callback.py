"""The promise: with the callback, training is bit-identical to training with that learning rate set by hand."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import (
    EarlyStopping,
    GradientAccumulationScheduler,
    LearningRateMonitor,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from runs import INPUTS, TARGETS, Manual, Net, Stream, assert_same, fit, loader
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader

from lrfinder import InputError, LRFinder, Suggestion, UnsupportedError

pytestmark = [
    # Lightning's own remarks on workers, log intervals and its internals; ours are tested by name below.
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:You requested to overfit"),
    pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size`"),
    pytest.mark.filterwarnings("ignore:The ``compute`` method of metric"),
    pytest.mark.filterwarnings("ignore:`LightningModule.configure_optimizers` returned `None`"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def finder(method="probe", **options):
    return LRFinder(method, **{"budget": 90, "min_lr": 1e-5, "max_lr": 1e3 if method == "probe" else 10.0, **options})


def by_hand(tmp_path, callback=None, others=list, **options):
    """Fit with the callback, then without it at the rate it wrote, and compare everything."""
    callback = callback or finder()
    trainer, run = fit(tmp_path / "tuned", [*others(), callback], **options)
    assert callback.suggestion.lr is not None
    assert trainer.lightning_module.lr != 0.01
    _, reference = fit(tmp_path / "by hand", others(), **{**options, "lr": trainer.lightning_module.lr})
    assert_same(run, reference)
    return trainer, callback


def optimizers(make):
    return lambda lr: Net(lr, make)


def scheduled(make, interval="step"):
    def configure(net):
        optimizer = torch.optim.SGD(net.parameters(), lr=net.lr, momentum=0.9)
        return [optimizer], [{"scheduler": make(optimizer, net.lr), "interval": interval}]

    return optimizers(configure)


def two_groups(net):
    groups = [{"params": net.body.parameters(), "lr": net.lr / 10}, {"params": net.head.parameters()}]
    return torch.optim.AdamW(groups, lr=net.lr)


def tensor_rate(net):
    return torch.optim.Adam(net.parameters(), lr=torch.tensor(net.lr), foreach=False, capturable=False)


OPTIMIZERS = {
    "momentum": Net,
    "adam": optimizers(lambda net: torch.optim.Adam(net.parameters(), lr=net.lr)),
    "adamw with two groups": optimizers(two_groups),
    "adagrad": optimizers(lambda net: torch.optim.Adagrad(net.parameters(), lr=net.lr)),
    "rmsprop": optimizers(lambda net: torch.optim.RMSprop(net.parameters(), lr=net.lr)),
    "lbfgs": optimizers(lambda net: torch.optim.LBFGS([*net.body.parameters(), *net.head.parameters()], lr=net.lr)),
    "tensor rate": optimizers(tensor_rate),
    "two by hand": Manual,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_is_as_by_hand_with_every_optimizer(tmp_path, name):
    by_hand(tmp_path, module=OPTIMIZERS[name], loaders=lambda: loader(batch_size=64 if name == "lbfgs" else 16))


SCHEDULERS = {
    "cosine": lambda o, lr: lr_scheduler.CosineAnnealingLR(o, 32),
    "warmup then cosine": lambda o, lr: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, total_iters=5), lr_scheduler.CosineAnnealingLR(o, 27)], [5]
    ),
    "one cycle": lambda o, lr: lr_scheduler.OneCycleLR(o, max_lr=lr, total_steps=40),
    "lambda": lambda o, lr: lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
    "chained": lambda o, lr: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.5, 4), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "cyclic": lambda o, lr: lr_scheduler.CyclicLR(o, lr / 10, lr, step_size_up=5),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_follow_the_new_rate(tmp_path, name):
    by_hand(tmp_path, module=scheduled(SCHEDULERS[name]))


TRAINERS = {
    "accumulation": {"accumulate_grad_batches": 3},
    "clipping by norm": {"gradient_clip_val": 0.1},
    "clipping by value": {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
    "max steps": {"max_epochs": -1, "max_steps": 21},
    "limited batches": {"limit_train_batches": 5},
    "bfloat16": {"precision": "bf16-mixed"},
    "double precision": {"precision": "64-true"},
    "overfit": {"overfit_batches": 3},
    "no validation": {"limit_val_batches": 0},
}


@pytest.mark.parametrize("name", TRAINERS)
def test_training_is_as_by_hand_under_every_trainer_option(tmp_path, name):
    by_hand(tmp_path, **TRAINERS[name])


LOADERS = {
    "workers": lambda: loader(num_workers=1),
    "persistent workers": lambda: loader(num_workers=2, persistent_workers=True),
    "own generator": lambda: loader(generator=torch.Generator().manual_seed(3)),
    "stateful stream": lambda: DataLoader(Stream(), batch_size=16),
    "two loaders": lambda: pl.utilities.CombinedLoader([loader(), loader(batch_size=8)], "max_size_cycle"),
    "no DataLoader": lambda: Slices(),
}


class Slices:
    """A loader of its own kind, which counts its epochs."""

    def __init__(self):
        self.epochs = 0

    def __iter__(self):
        self.epochs += 1
        for start in range(0, 256, 16):
            yield INPUTS[start : start + 16].roll(self.epochs, 0), TARGETS[start : start + 16].roll(self.epochs, 0)


class Pairs(Net):
    """Takes the first of two batches."""

    def training_step(self, batch, batch_idx):
        return super().training_step(batch[0], batch_idx)

    def validation_step(self, batch, batch_idx):
        """Plain batches."""


@pytest.mark.parametrize("name", LOADERS)
def test_the_data_come_in_the_order_they_would_have(tmp_path, name):
    by_hand(tmp_path, loaders=LOADERS[name], module=Pairs if name == "two loaders" else Net)


def watchers():
    return [
        EarlyStopping("val_loss", patience=1),
        ModelCheckpoint(monitor="val_loss", save_last=True),
        LearningRateMonitor("step"),
        StochasticWeightAveraging(0.02, swa_epoch_start=1),
    ]


def test_other_callbacks_see_nothing(tmp_path):
    by_hand(tmp_path, others=watchers)


def test_accumulation_from_a_scheduler_is_probed_as_it_will_train(tmp_path):
    by_hand(tmp_path, others=lambda: [GradientAccumulationScheduler({0: 2, 1: 4})])


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
    assert len(callback.curve) + taken == callback.suggestion.steps_spent <= 90
    assert f"lrfinder/lr: {callback.suggestion.lr}" in (tmp_path / "hparams.yaml").read_text()
    state = json.loads(json.dumps(callback.state_dict()))
    other = finder()
    other.load_state_dict(state)
    assert other.suggestion == callback.suggestion


def test_a_resumed_fit_is_left_alone(tmp_path):
    callback = finder()
    fit(tmp_path / "first", [callback], max_epochs=1)
    path = next((tmp_path / "first").rglob("*.ckpt"))

    def resume(folder, callbacks):
        pl.seed_everything(1, verbose=False)
        model = Net(0.01)
        fresh = pl.Trainer(
            accelerator="cpu", max_epochs=2, callbacks=callbacks, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        )  # fmt: skip
        fresh.fit(model, loader(), ckpt_path=path)
        return model.record

    again = finder()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checkpoint names a callback that the reference run does not have
        assert resume(tmp_path / "a", [again]) == resume(tmp_path / "b", [])
    assert again.suggestion == callback.suggestion


def test_a_resumed_module_gets_its_learning_rate_back(tmp_path):
    callback = finder()
    fit(tmp_path / "first", [callback], module=Hyper, max_epochs=1)
    model = Hyper(0.01)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, callbacks=[finder()], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the counting callback is in the checkpoint only
        trainer.fit(model, loader(), ckpt_path=next((tmp_path / "first").rglob("*.ckpt")))
    assert model.hparams.learning_rate == callback.suggestion.lr


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_a_fit_that_goes_on_keeps_the_suggestion(tmp_path):
    callback = finder()
    trainer, _ = fit(tmp_path, [callback], max_epochs=1)
    found = callback.suggestion
    trainer.fit_loop.max_epochs = 2
    trainer.fit(trainer.lightning_module, loader())
    assert callback.suggestion is found


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


class Warmup(lr_scheduler.LRScheduler):
    """The well-known home-made warmup that hands over to a scheduler it holds under its own name."""

    def __init__(self, optimizer, after):
        self.after_scheduler = after
        super().__init__(optimizer)

    def get_lr(self):
        if self.last_epoch < 5:
            return [base * (self.last_epoch + 1) / 5 for base in self.base_lrs]
        return self.after_scheduler.get_last_lr()

    def step(self, *args):
        if getattr(self, "last_epoch", -1) >= 5:
            self.after_scheduler.step()
        super().step()

    def state_dict(self):
        return {"last_epoch": self.last_epoch, "after": self.after_scheduler.state_dict()}


@pytest.mark.filterwarnings("ignore:Detected call of")
@pytest.mark.filterwarnings("ignore:To get the last learning rate")
def test_a_scheduler_inside_a_home_made_one_drives_the_live_optimizer(tmp_path):
    by_hand(tmp_path, module=scheduled(lambda o, lr: Warmup(o, lr_scheduler.CosineAnnealingLR(o, 27))))


def test_schedulers_stepped_by_hand_do_not_step_while_probing(tmp_path):
    class Stepping(Manual):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.lr_schedulers().step()
            return loss

        def configure_optimizers(self):
            optimizers = super().configure_optimizers()
            return optimizers, [lr_scheduler.OneCycleLR(optimizers[0], max_lr=self.lr, total_steps=32)]

    by_hand(tmp_path, module=Stepping)


def test_fast_dev_run_is_left_alone(tmp_path):
    callback = finder()
    fit(tmp_path, [callback], fast_dev_run=2)
    assert callback.suggestion is None


class Failing(Net):
    """Raises in the n-th training step while armed."""

    def __init__(self, lr, error, at):
        super().__init__(lr)
        self.bomb = {"at": at, "error": error}

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        if self.bomb["at"] == len(self.record):
            raise self.bomb["error"]
        return loss


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt(), torch.OutOfMemoryError("no")])
def test_when_the_range_test_raises_nothing_has_changed(tmp_path, error):
    model = Failing(0.01, error, at=25)
    before = {name: value.clone() for name, value in [*model.named_parameters(), *model.named_buffers()]}
    trainer = pl.Trainer(
        accelerator="cpu", callbacks=[finder()], logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, max_epochs=1,
    )  # fmt: skip
    with pytest.raises((type(error), SystemExit)):
        trainer.fit(model, loader())
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        assert torch.equal(value, before[name]), name
    assert (model.seen, model.history, model.record) == (0, [], [])
    assert trainer.global_step == 0
    assert len(trainer.callbacks) >= 1  # not left isolated
    assert "log" not in vars(model)
    assert not list(tmp_path.iterdir())


def test_after_a_failed_test_the_same_module_trains_as_if_it_had_never_been(tmp_path):
    models = []

    def failing(lr):
        models.append(Failing(lr, RuntimeError("no"), at=25))
        return models[-1]

    with pytest.raises(RuntimeError, match="no"):
        fit(tmp_path / "fails", [finder()], module=failing)
    models[0].bomb["at"] = -1
    pl.seed_everything(7, verbose=False)
    fresh = Failing(0.01, RuntimeError("no"), at=-1)  # what fit() would build from this seed
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), fresh.parameters(), strict=True))
    _, run = fit(tmp_path / "a", module=lambda lr: [Failing(lr, None, -1), models[0]][1])
    _, reference = fit(tmp_path / "b", module=lambda lr: Failing(lr, None, -1))
    assert_same(run, reference)


class Flat(Net):
    """Its loss does not depend on its parameters' values."""

    def loss(self, batch):
        return sum(parameter.sum() for parameter in self.parameters()) * 0.0 + 2.5


@pytest.mark.parametrize("method", ["probe", "range"])
def test_a_refusal_leaves_every_rate_and_warns(tmp_path, method):
    callback = finder(method)
    with pytest.warns(UserWarning, match="LRFinder left the learning rate as it was: refused. The loss did not change"):
        _, run = fit(tmp_path / "tuned", [callback], module=Flat)
    assert callback.suggestion.status == "refused"
    assert set(callback.curve.loss.tolist()) == {2.5}
    _, reference = fit(tmp_path / "plain", module=Flat)
    assert_same(run, reference)


def test_a_full_batch_run_is_tuned_with_a_caveat(tmp_path):
    callback = finder()
    fit(tmp_path, [callback], loaders=lambda: loader(batch_size=256), max_epochs=3)
    assert "Every step saw the same batch" in callback.suggestion.caveats[0]


def refused(tmp_path, match, kind=UnsupportedError, **options):
    with pytest.raises(kind, match=match):
        fit(tmp_path, [finder()], **options)
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".ckpt"]


def test_a_one_shot_loader_is_refused(tmp_path):
    refused(tmp_path, "loader must be iterable more than once", loaders=lambda: iter(list(loader())))


def test_a_rate_set_in_optimizer_step_is_refused(tmp_path):
    class Warming(Net):
        def optimizer_step(self, epoch, batch_idx, optimizer, closure):
            for group in optimizer.param_groups:
                group["lr"] = self.lr * min(1.0, (self.global_step + 1) / 10)
            optimizer.step(closure)

    refused(tmp_path, "move warmup and decay into an lr_scheduler", module=Warming)


def test_manual_optimization_without_a_loss_is_refused(tmp_path):
    class Silent(Manual):
        def training_step(self, batch, batch_idx):
            super().training_step(batch, batch_idx)

    refused(tmp_path, "training_step must return the loss", module=Silent)


def test_training_without_an_optimizer_is_refused(tmp_path):
    refused(tmp_path, "must return an optimizer", InputError, module=optimizers(lambda net: None))


def test_an_empty_epoch_is_no_accident_of_ours(tmp_path):
    callback = finder()
    fit(tmp_path, [callback], limit_train_batches=0)
    assert callback.suggestion is None


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match="min_lr must be below max_lr, got min_lr = 1, max_lr"):
        LRFinder(min_lr=1.0, max_lr=0.1)
    with pytest.raises(InputError, match="at least 10, got 3"):
        LRFinder("range", budget=3)
    with pytest.raises(InputError, match="method must be one of probe, range, got 'grid'"):
        LRFinder("grid")
    with pytest.raises(InputError, match="mode must be min or max, got 'most'"):
        LRFinder(mode="most")
    with pytest.raises(InputError, match="monitor may be given with method probe only"):
        LRFinder("range", monitor="val_loss")


OTHER_PACKAGE = """
import sys
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset
from lrfinder import LRFinder

class Net(pl.LightningModule):
    def __init__(self, lr):
        super().__init__()
        self.lr, self.net, self.losses = lr, torch.nn.Linear(8, 3), []

    def training_step(self, batch, batch_idx):
        loss = torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)

def train(lr, callbacks):
    pl.seed_everything(0)
    model, inputs = Net(lr), torch.randn(256, 8)
    trainer = pl.Trainer(accelerator="cpu", max_epochs=2, callbacks=callbacks, logger=False,
                         enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(model, DataLoader(TensorDataset(inputs, inputs[:, :3].argmax(1)), 16, shuffle=True))
    return model

finder = LRFinder(budget=90)
tuned = train(0.01, [finder])
assert tuned.lr == finder.suggestion.lr != 0.01
assert tuned.losses == train(tuned.lr, []).losses
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
        fit(tmp_path / callback.mode, [callback], module=Watching, max_epochs=1)
    assert down.suggestion.lr == up.suggestion.lr


def test_a_metric_that_is_not_logged_is_named_with_those_that_are(tmp_path):
    with pytest.raises(
        InputError, match=r"monitor must be a metric that validation logs, got 'loss', which logs val_loss"
    ):
        fit(tmp_path, [finder(monitor="loss")])
    with pytest.raises(InputError, match="got 'val_loss' in a fit without validation"):
        fit(tmp_path / "none", [finder(monitor="val_loss")], limit_val_batches=0)


@pytest.mark.parametrize("options", [{"limit_val_batches": 0}, {"num_sanity_val_steps": 0}, {"limit_val_batches": 2}])
def test_with_and_without_validation_training_is_as_by_hand(tmp_path, options):
    _, callback = by_hand(tmp_path, **options)
    held_out = callback.suggestion.probes[0].loss.size
    assert held_out == {0: 3, 2: 2}.get(options.get("limit_val_batches"), 4)
    assert any("no validation loader" in text for text in callback.suggestion.caveats) == (held_out == 3)


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


def test_ctrl_c_in_a_late_probe_keeps_the_answer_so_far_and_touches_no_rate(tmp_path):
    class Interrupted(Net):
        taken = 0  # of the class: no snapshot winds it back

        def training_step(self, batch, batch_idx):
            Interrupted.taken += 1
            if Interrupted.taken == 130:  # evaluations count too
                raise KeyboardInterrupt
            return super().training_step(batch, batch_idx)

    callback, states = finder(), []
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(tmp_path, [callback], module=Interrupted, before=lambda trainer, model: states.append(model))
    assert callback.suggestion.interrupted
    assert any("was interrupted after" in text for text in callback.suggestion.caveats)
    assert (states[0].lr, states[0].seen) == (0.01, 0)


def test_the_horizon_and_the_budget_are_of_the_trainer(tmp_path):
    callback = finder(budget="50%")
    fit(tmp_path, [callback], max_epochs=10)
    assert callback.suggestion.horizon == 160
    assert callback.suggestion.steps_spent <= 80
    little = finder(budget=0.1)  # a tenth of 32 steps is too little to search with: 60 it is
    fit(tmp_path / "small", [little])
    assert little.suggestion.steps_spent <= 60


class Picky(Watching):
    """Signatures as Lightning allows them, two loaders, and names that Lightning forks."""

    def validation_step(self, rows, number, dataloader_idx=0):
        loss = torch.nn.functional.cross_entropy(self(rows[0]), rows[1])
        self.sums.append(loss)
        self.log(name=f"loss_{dataloader_idx}", value=loss, on_step=True, on_epoch=True, add_dataloader_idx=False)
        self.log_dict(dictionary={"val_loss": loss})


@pytest.mark.parametrize("monitor", ["loss_0", "loss_1_epoch", "val_loss/dataloader_idx_1"])
def test_monitors_as_lightning_names_them(tmp_path, monitor):
    model, callback = Picky(0.01), finder(monitor=monitor, budget=60)
    pl.seed_everything(3, verbose=False)
    quiet = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
        "enable_checkpointing": False,
    }
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, callbacks=[callback], **quiet)
    trainer.fit(
        model, loader(), [DataLoader(torch.utils.data.TensorDataset(INPUTS, TARGETS), 2), loader(shuffle=False)]
    )
    assert callback.suggestion.probes[0].loss.size == 16
    missing = finder(monitor="val_loss/dataloader_idx_7")
    again = pl.Trainer(accelerator="cpu", max_epochs=1, callbacks=[missing], **quiet)
    with pytest.raises(
        InputError, match="monitor must name one of 2 validation loaders, got 'val_loss/dataloader_idx_7'"
    ):
        again.fit(model, loader(), [loader(), loader()])


def test_a_training_step_that_cannot_be_judged_says_what_to_do(tmp_path):
    class Strict(Net):
        def training_step(self, batch, batch_idx):
            if not self.training:
                raise ValueError("train mode only")
            return super().training_step(batch, batch_idx)

    with pytest.raises(UnsupportedError, match=r"give monitor=, or method='range' \(ValueError: train mode only\)"):
        fit(tmp_path, [finder()], module=Strict)
    fit(tmp_path / "monitored", [callback := finder(monitor="val_loss")], module=Net)
    assert callback.suggestion.method == "probe"


def test_the_generator_of_a_validation_loader_is_put_back(tmp_path):
    def states(callbacks):
        generator = torch.Generator().manual_seed(4)
        held_out = DataLoader(torch.utils.data.TensorDataset(INPUTS, TARGETS), 16, shuffle=True, generator=generator)
        pl.seed_everything(3, verbose=False)
        trainer = pl.Trainer(
            accelerator="cpu", max_epochs=1, callbacks=callbacks, enable_progress_bar=False, num_sanity_val_steps=0,
            check_val_every_n_epoch=2, enable_model_summary=False, logger=False, enable_checkpointing=False,
        )  # fmt: skip
        trainer.fit(Net(0.01), loader(), held_out)
        return generator.get_state().tolist()

    assert states([finder(budget=60)]) == states([])


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
