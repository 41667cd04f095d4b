"""The promise: with the callback, training is bit-identical to training with that learning rate set by hand."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    EarlyStopping,
    GradientAccumulationScheduler,
    LearningRateMonitor,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.profilers import SimpleProfiler
from support.runs import (
    INPUTS,
    LIGHTNINGS_REMARKS,
    TARGETS,
    Manual,
    Net,
    Stream,
    assert_same,
    bare_trainer,
    by_hand,
    finder,
    fit,
    loader,
    optimizers,
    scheduled,
)
from support.schedulers import SCHEDULERS, tensor_rate
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader

pytestmark = LIGHTNINGS_REMARKS


def two_groups(net):
    groups = [{"params": net.body.parameters(), "lr": net.lr / 10}, {"params": net.head.parameters()}]
    return torch.optim.AdamW(groups, lr=net.lr)


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


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_follows_the_new_rate(tmp_path, name):
    def configure(net):
        groups = [{"params": net.head.parameters()}, {"params": net.body.parameters(), "lr": net.lr / 10}]
        optimizer = torch.optim.SGD(groups, lr=net.lr, momentum=0.9)
        scheduler = SCHEDULERS[name](optimizer, net.lr)
        return [optimizer], [{"scheduler": scheduler, "interval": "step", "monitor": "train_loss_step"}]

    trainer, _ = by_hand(tmp_path, module=optimizers(configure))
    rates = [rates for _, rates, *_ in trainer.lightning_module.record]
    assert len(rates) == 32
    assert all(second == pytest.approx(first / 10) or name == "LambdaLR" for first, second in rates)


def half_precision():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=5)  # skips steps, and grows in between
    return [MixedPrecision("16-mixed", "cpu", scaler)]


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
    "half precision with a scaler": {"plugins": half_precision},
    "true bfloat16": {"precision": "bf16-true"},
    "validation within epochs": {"val_check_interval": 5},
    "loaders anew each epoch": {"reload_dataloaders_every_n_epochs": 1},
    "a share of the batches": {"limit_train_batches": 0.4, "max_epochs": 3},
    "without inference mode": {"inference_mode": False},
    "anomalies detected": {"detect_anomaly": True, "max_epochs": 1},
}


@pytest.mark.parametrize("name", TRAINERS)
def test_training_is_as_by_hand_under_every_trainer_option(tmp_path, name):
    by_hand(tmp_path, **TRAINERS[name])


def test_skipped_steps_of_a_scaler_are_in_the_test_above(tmp_path):
    trainer, _ = fit(tmp_path, plugins=half_precision)
    assert trainer.precision_plugin.scaler.get_scale() != 2.0**20


LOADERS = {
    "workers": lambda: loader(num_workers=1),
    "persistent workers": lambda: loader(num_workers=2, persistent_workers=True),
    "own generator": lambda: loader(generator=torch.Generator().manual_seed(3)),
    "stateful stream": lambda: DataLoader(Stream(), batch_size=16),
    "two loaders": lambda: pl.utilities.CombinedLoader([loader(), loader(batch_size=8)], "max_size_cycle"),
    "no DataLoader": lambda: Slices(),
    "no length": lambda: DataLoader(Stream(), batch_size=16, num_workers=1),
    "data module": lambda: Data(),
}


class Data(pl.LightningDataModule):
    """Counts the batches it has moved, and makes them noisier with every one."""

    def __init__(self):
        super().__init__()
        self.moved, self.generator = 0, torch.Generator().manual_seed(8)

    def train_dataloader(self):
        return loader(generator=self.generator)

    def val_dataloader(self):
        return loader(shuffle=False)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        self.moved += self.trainer.training
        return batch[0] + 1e-3 * self.moved * torch.randn_like(batch[0]), batch[1]


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


class Harder(torch.utils.data.Dataset):
    """Samples that are noisier at a higher level."""

    def __init__(self):
        self.level = 0.0

    def __len__(self):
        return len(INPUTS)

    def __getitem__(self, index):
        return INPUTS[index] + self.level, TARGETS[index]


class Curriculum(Net):
    """Sets the level in its data set, in a hook and in a step."""

    def on_train_epoch_start(self):
        self.trainer.train_dataloader.dataset.level += 0.1

    def training_step(self, batch, batch_idx):
        self.trainer.train_dataloader.dataset.level += 0.01
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("workers", [0, 1])
def test_what_the_module_changes_in_its_data_set_is_put_back(tmp_path, workers):
    by_hand(tmp_path, module=Curriculum, loaders=lambda: DataLoader(Harder(), 16, shuffle=True, num_workers=workers))


class Bars(pl.callbacks.ProgressBar):
    """A progress bar that keeps what it shows."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def disable(self):
        """Nothing to switch off."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.shown.append((self.total_train_batches, batch_idx, sorted(self.get_metrics(trainer, pl_module).items())))

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self.shown.append(("validation", batch_idx))

    def state_dict(self):
        return {"shown": self.shown}


class WithBackbone(Net):
    """Trains its head first."""

    def __init__(self, lr):
        super().__init__(lr)
        self.backbone = self.body

    def configure_optimizers(self):
        return torch.optim.Adam((p for p in self.parameters() if p.requires_grad), lr=self.lr)


class Ema(getattr(pl.callbacks, "EMAWeightAveraging", pl.Callback)):
    """Lightning's, which keeps its average to itself, with the average in its state."""

    def state_dict(self):
        average = self._average_model
        return {**super().state_dict(), "average": dict(average.state_dict()) if average is not None else None}


WATCHERS = {
    "stopping, checkpoints, rates, stochastic weight averaging": lambda: [
        EarlyStopping("val_loss", patience=1),
        ModelCheckpoint(monitor="val_loss", save_last=True),
        LearningRateMonitor("step", log_momentum=True),
        StochasticWeightAveraging(0.02, swa_epoch_start=1),
    ],
    "exponential moving average of weights": lambda: [Ema(decay=0.9)],
    "a backbone that thaws": lambda: [BackboneFinetuning(1, train_bn=False)],
    "progress bar": lambda: [Bars()],
    "checkpoints within an epoch": lambda: [ModelCheckpoint(every_n_train_steps=7, save_top_k=-1)],
}


@pytest.mark.parametrize("name", WATCHERS)
def test_other_callbacks_see_nothing(tmp_path, name):
    if "moving" in name and Ema.__mro__[1] is pl.Callback:
        pytest.skip("this Lightning has no EMAWeightAveraging")
    options = {"module": WithBackbone} if "backbone" in name else {}
    by_hand(tmp_path, others=WATCHERS[name], enable_progress_bar=name == "progress bar", **options)


def test_the_profiler_sees_nothing(tmp_path):
    def counted(folder, callbacks, lr):
        profiler = SimpleProfiler()
        trainer, _ = fit(folder, callbacks, lr=lr, profiler=profiler)
        actions = profiler.recorded_durations.items()
        return trainer, {name: len(seconds) for name, seconds in actions if "LRFinder" not in name}

    trainer, seen = counted(tmp_path / "tuned", [finder()], 0.01)
    assert counted(tmp_path / "by hand", [], trainer.lightning_module.lr)[1] == seen


def test_a_plateau_scheduler_and_early_stopping_on_one_metric_see_nothing(tmp_path):
    def configure(net):
        optimizer = torch.optim.Adam(net.parameters(), lr=net.lr)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}

    others = lambda: [EarlyStopping("val_loss", patience=2)]
    by_hand(tmp_path, others=others, module=optimizers(configure), max_epochs=4)


def test_accumulation_from_a_scheduler_is_probed_as_it_will_train(tmp_path):
    by_hand(tmp_path, others=lambda: [GradientAccumulationScheduler({0: 2, 1: 4})])


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
    _, run = fit(tmp_path / "a", [callback], fast_dev_run=2)
    _, reference = fit(tmp_path / "b", fast_dev_run=2)
    assert callback.suggestion is None
    assert_same(run, reference)


@pytest.mark.parametrize("options", [{"limit_val_batches": 0}, {"num_sanity_val_steps": 0}, {"limit_val_batches": 2}])
def test_with_and_without_validation_training_is_as_by_hand(tmp_path, options):
    _, callback = by_hand(tmp_path, **options)
    held_out = callback.suggestion.probes[0].loss.size
    assert held_out == {0: 3, 2: 2}.get(options.get("limit_val_batches"), 4)
    assert any("no validation loader" in text for text in callback.suggestion.caveats) == (held_out == 3)


def test_the_generator_of_a_validation_loader_is_put_back(tmp_path):
    def states(callbacks):
        generator = torch.Generator().manual_seed(4)
        held_out = DataLoader(torch.utils.data.TensorDataset(INPUTS, TARGETS), 16, shuffle=True, generator=generator)
        pl.seed_everything(3, verbose=False)
        trainer = bare_trainer(*callbacks, max_epochs=1, num_sanity_val_steps=0, check_val_every_n_epoch=2)
        trainer.fit(Net(0.01), loader(), held_out)
        return generator.get_state().tolist()

    assert states([finder(budget=150)]) == states([])


class Shortcut(Manual):
    """Calls `backward` and a bare optimizer itself, and accumulates over two batches."""

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers(use_pl_optimizer=False)[0]
        loss = self.loss(batch)
        loss.backward()
        if batch_idx % 2:
            torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        self.record.append((loss.item(), [float(group["lr"]) for group in optimizer.param_groups]))
        return loss.detach()


class Exploding(Net):
    """Its gradients are NaN, while its losses are not, at every higher learning rate."""

    def on_after_backward(self):
        if self.optimizers().param_groups[0]["lr"] > 50:
            self.head.weight.grad[0] = float("nan")


class Skipping(Net):
    """Returns no loss for some batches, which Lightning then skips."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return None if self.training and batch_idx % 4 == 1 else loss


MODULES = {
    "no loss now and then": Skipping,
    "bare backward, accumulating by hand": Shortcut,
    "gradients that are not numbers": Exploding,
}


@pytest.mark.parametrize("name", MODULES)
def test_training_is_as_by_hand_whatever_the_module_does(tmp_path, name):
    _, callback = by_hand(tmp_path, module=MODULES[name])
    assert callback.suggestion.lr <= 50 or name != "gradients that are not numbers"


class Simple(Net):
    """Keeps no record, which would be compiled anew at every step."""

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])


def compiled(what):
    def make(lr):
        net = Net(lr) if what == "a part" else Simple(lr)
        if what == "a part":
            net.body = torch.compile(net.body, backend="eager")
        return net if what == "a part" else torch.compile(net, backend="eager")

    return make


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("what", ["a part", "the whole module"])
def test_compiled_modules_train_as_by_hand(tmp_path, what):
    by_hand(tmp_path, module=compiled(what), max_epochs=1)
