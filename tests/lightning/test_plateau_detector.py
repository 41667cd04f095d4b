"""`PlateauDetector` in a trainer: what it watches, what it does then, and what it leaves alone."""

from __future__ import annotations

import logging
import warnings
from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from support.runs import LIGHTNINGS_REMARKS, Manual, Net, Stream, assert_same, finder, fit, loader, scheduled
from torch import nn
from torch.optim import lr_scheduler
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lrfinder import Detector, InputError, LRFinder, PlateauDetector, UnsupportedError
from lrfinder.lightning.internals import steps_to_come

pytestmark = LIGHTNINGS_REMARKS

FALLING = np.r_[np.linspace(3, 1, 60), np.ones(1000)] + 0.002 * np.random.default_rng(0).standard_normal(1060)
"""Flat from the sixtieth step on."""


class Scripted(pl.LightningModule):
    """Its losses are known."""

    def __init__(self, losses=FALLING, manual=False, logged=False, groups=1):
        super().__init__()
        self.losses = torch.tensor(losses, dtype=torch.float32)
        self.weights = nn.ParameterList([nn.Parameter(torch.zeros(1)) for _ in range(groups)])
        self.automatic_optimization = not manual
        self.logged, self.batches, self.rates = logged, 0, []

    def training_step(self, batch, batch_idx):
        self.rates.append([group["lr"] for group in self.trainer.optimizers[0].param_groups])
        loss = self.losses[self.batches % len(self.losses)] + 0 * sum(weight.sum() for weight in self.weights)
        self.batches += 1
        if self.logged:
            self.log("quality", -loss.detach())
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            self.manual_backward(loss)
            optimizer.step()
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val", self.losses[self.current_epoch])

    def configure_optimizers(self):
        return torch.optim.SGD([{"params": [w], "lr": 0.1 * 2**i} for i, w in enumerate(self.weights)], lr=0.1)


def train(module, *callbacks, steps=300, batches=20, ckpt_path=None, **options):
    data = TensorDataset(torch.zeros(batches, 1))
    options = {"max_steps": steps, "max_epochs": -1, "limit_val_batches": 0, **options}
    trainer = pl.Trainer(
        accelerator="cpu", callbacks=list(callbacks), enable_model_summary=False,
        **{"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, **options},
    )  # fmt: skip
    trainer.fit(module, DataLoader(data), DataLoader(TensorDataset(torch.zeros(2, 1))), ckpt_path=ckpt_path)
    return trainer


def first(callback):
    return callback.events[0].step if callback.events else None


def by_hand(losses, **options):
    detector = Detector(**{"min_steps": 24, **options})
    for loss in losses:
        detector.update(float(np.float32(loss)))
    return detector.events


def test_it_sees_what_the_detector_sees_by_hand():
    callback = PlateauDetector(min_steps=24)
    train(Scripted(), callback)
    (found,), (expected,) = callback.events, by_hand(FALLING[:300])
    assert (found.step, found.gain, found.delta) == (expected.step, expected.gain, expected.delta)
    assert found.lrs == (0.1,)


def test_by_default_losses_are_watched_for_768_steps_first():
    callback = PlateauDetector()
    train(Scripted(), callback, steps=900)
    assert 768 <= first(callback) <= 900


def test_advice_changes_nothing(tmp_path):
    _, watched = fit(tmp_path / "watched", [PlateauDetector(min_steps=24)], max_epochs=4)
    _, alone = fit(tmp_path / "alone", max_epochs=4)
    assert watched["steps"] == alone["steps"]
    assert watched["tensors"] == alone["tensors"]
    assert watched["random"] == alone["random"]
    assert watched["logged"] == alone["logged"]


def test_the_rates_are_annealed_to_zero_over_the_remaining_steps():
    module, callback = Scripted(groups=2), PlateauDetector("decay", min_steps=24, latest=None)
    train(module, callback)
    at = first(callback)
    rates = np.array(module.rates)
    assert (rates[:at] == [0.1, 0.2]).all()
    line = 1 - np.arange(300 - at) / (300 - at)
    np.testing.assert_allclose(rates[at:], np.outer(line, [0.1, 0.2]), rtol=1e-9)


def test_a_factor_is_applied_at_every_plateau_that_is_lower_and_once_at_each():
    levels = np.r_[FALLING[:600], 0.8 * FALLING[100:700], 0.7 * FALLING[100:700]]
    module, callback = Scripted(levels, groups=2), PlateauDetector("decay", factor=0.1, min_steps=100, delta=0.05)
    train(module, callback, steps=1800)
    steps = [event.step for event in callback.events]
    rates = np.array(module.rates)
    cuts = np.flatnonzero(rates[1:, 0] < rates[:-1, 0]) + 1
    assert [step // 600 for step in steps] == [0, 0, 1, 2, 2]
    assert cuts.tolist() == [steps[0], steps[2], steps[3]]  # the others came after a cut that gained nothing
    assert rates[-1] == pytest.approx(np.array([0.1, 0.2]) * 0.1**3)


def test_a_fit_that_goes_on_after_the_annealing_is_warned(tmp_path):
    options = {"min_steps": 24}
    trainer = train(Scripted(), callback := PlateauDetector("decay", **options), steps=200)
    trainer.save_checkpoint(tmp_path / "done.ckpt")
    assert callback.state_dict()["installed"] is not None
    with pytest.warns(UserWarning, match="PlateauDetector trains on at a learning rate of zero"):
        train(Scripted(), PlateauDetector("decay", **options), steps=220, ckpt_path=tmp_path / "done.ckpt")


def test_a_rate_is_not_lowered_for_ever():
    """At every lower rate there is a plateau again; once that gained nothing, it is enough."""
    module, callback = Scripted(), PlateauDetector("decay", factor=0.1, min_steps=24)
    train(module, callback, steps=900)
    assert len(callback.events) > 1
    assert module.rates[-1] == pytest.approx([0.01])


def test_a_scheduler_of_the_module_goes_on_from_the_lower_rate(tmp_path):
    module = scheduled(lambda optimizer, lr: torch.optim.lr_scheduler.StepLR(optimizer, 10_000))
    plateau = by_hand(FALLING)[0]

    class AtStep20(PlateauDetector):
        def setup(self, trainer, pl_module, stage):
            super().setup(trainer, pl_module, stage)
            self.detector.update = lambda value, lr: plateau if trainer.global_step == 20 else None

    trainer, run = fit(tmp_path, [AtStep20("decay", factor=0.5)], module=module)
    assert [rates[0] for _, rates, *_ in run["steps"]] == [0.01] * 20 + [0.005] * 12
    assert trainer.lr_scheduler_configs[0].scheduler.base_lrs == [0.005]


def test_it_stops_or_calls():
    trainer = train(Scripted(), stopping := PlateauDetector("stop", min_steps=24))
    assert trainer.global_step == first(stopping)
    seen = []
    callback = PlateauDetector(lambda *args: seen.append(args), min_steps=24)
    module = Scripted()
    trainer = train(module, callback)
    assert seen == [(trainer, module, callback.events[0])]


def test_nan_steps_are_counted_and_never_a_reason_to_cut():
    losses = 3 - np.log(1 + np.arange(400)) / 3
    losses[100:140] = np.nan
    module, callback = Scripted(losses), PlateauDetector("decay", factor=0.1, min_steps=24)
    train(module, callback, steps=400)
    assert {rate for rates in module.rates for rate in rates} == {0.1}
    assert callback.detector.skipped == 40


def test_losses_of_accumulated_batches_are_averaged():
    callback = PlateauDetector(min_steps=24)
    train(Scripted(FALLING), callback, steps=100, accumulate_grad_batches=3, batches=20)  # 7 steps of an epoch, 6 full
    losses, at = [], 0
    while len(losses) < 100:
        for size in (3, 3, 3, 3, 3, 3, 2):
            losses.append(np.float32(FALLING[at : at + size]).mean())
            at += size
    assert callback.detector.steps == 100
    np.testing.assert_allclose(callback.detector.record().mean, np.array(losses[:100]), rtol=1e-5)


def test_manual_optimization_and_a_step_without_a_loss():
    callback = PlateauDetector("decay", factor=0.5, min_steps=24)
    module = Scripted(manual=True)
    train(module, callback, steps=200)
    assert first(callback) == by_hand(FALLING[:200])[0].step
    assert module.rates[-1] == [0.05]

    class Silent(Scripted):
        def training_step(self, batch, batch_idx):
            super().training_step(batch, batch_idx)

    class Many(Scripted):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx).expand(3)

    for kind in (Silent, Many):
        with pytest.warns(UserWarning, match="PlateauDetector sees no plateaus: training_step returns no single loss"):
            trainer = train(kind(manual=True), PlateauDetector(), steps=30)
        assert trainer.global_step == 30


def test_a_metric_of_the_epoch():
    callback = PlateauDetector(monitor="val", delta=0.1)
    trainer = train(Scripted(), callback, batches=2, limit_val_batches=1, max_epochs=110, steps=-1)
    (found,) = callback.events
    assert (found.step, found.unit) == (by_hand(FALLING[:110], delta=0.1)[0].step, "epochs")
    assert callback.detector.steps == trainer.current_epoch == 110


def test_a_metric_of_every_other_epoch_or_twice_in_one():
    for options, count in (({"check_val_every_n_epoch": 2}, 20), ({"val_check_interval": 0.5}, 80)):
        callback = PlateauDetector(monitor="val")
        train(Scripted(), callback, batches=4, limit_val_batches=1, max_epochs=40, steps=-1, **options)
        assert callback.detector.steps == count


def test_a_metric_of_the_step_to_be_maximised():
    callback = PlateauDetector(monitor="quality", mode="max", min_steps=24)
    train(Scripted(logged=True), callback)
    assert first(callback) == by_hand(FALLING[:300])[0].step
    assert callback.events[0].unit == "steps"
    assert callback.events[0].level == pytest.approx(-1, abs=0.01)


def test_a_metric_that_is_not_logged_in_every_step_counts_once():
    class Rare(Scripted):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            if batch_idx % 2 == 0:
                self.log("rare", loss.detach())
            return loss

    callback = PlateauDetector(monitor="rare")
    train(Rare(), callback, steps=100)
    assert callback.detector.steps == 50


def test_a_metric_that_nobody_logs_is_said():
    with pytest.warns(UserWarning, match=r"monitor must name a metric that is logged \(val\), got 'vla'"):
        train(Scripted(), PlateauDetector(monitor="vla"), limit_val_batches=1, steps=60)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended")
@pytest.mark.parametrize("asked", ["decay", "advise"])
def test_a_fit_that_resumes_goes_on_as_if_it_had_not_stopped(tmp_path, asked):
    def run(name, *others, ckpt_path=None):
        module, callback = Scripted(), PlateauDetector(asked, min_steps=24, latest=None)
        keep = ModelCheckpoint(tmp_path / name, save_last=True, every_n_train_steps=20)
        if ckpt_path:
            module.batches = 200
        options = {"enable_checkpointing": True, "default_root_dir": tmp_path}
        train(module, callback, keep, *others, ckpt_path=ckpt_path, **options)
        return module, callback

    whole, watched = run("whole")
    at = first(watched)
    assert at < 200

    class Enough(pl.Callback):
        def on_train_batch_end(self, trainer, *args):
            trainer.should_stop = trainer.global_step == 200

    module, _ = run("part", Enough())
    resumed, again = run("resumed", ckpt_path=tmp_path / "part" / "last.ckpt")
    assert module.rates + resumed.rates == whole.rates
    assert again.events == watched.events
    assert again.detector.state_dict() == watched.detector.state_dict()


def test_the_event_is_told_and_logged(tmp_path, caplog):
    kept = []

    class Kept(pl.loggers.logger.DummyLogger):
        def log_metrics(self, metrics, step=None, **_):
            kept.append((step, metrics))

    callback = PlateauDetector(min_steps=24)
    with caplog.at_level(logging.INFO):
        trainer = train(Scripted(), callback, logger=Kept(), log_every_n_steps=1000)
    (found,) = callback.events
    assert f"PlateauDetector: {found}" in caplog.text
    (logged,) = [entry for entry in kept if "plateau/gain" in entry[1]]
    assert logged[0] == found.step
    assert logged[1] == {
        f"plateau/{name}": getattr(found, name) for name in ("gain", "gain_high", "delta", "p_value", "level")
    }
    assert trainer.progress_bar_metrics["plateaus"] == 1


def test_by_default_it_anneals_after_three_tenths_where_that_is_possible():
    falling = Scripted(np.linspace(5, 1, 100))
    train(falling, PlateauDetector("decay"), steps=100)
    assert np.flatnonzero(np.diff(falling.rates, axis=0)[:, 0])[0] == 30
    latest = [PlateauDetector(*args).latest for args in (("decay",), ("advise",), ("stop",))]
    assert latest == [0.3, None, None]
    assert PlateauDetector("decay", factor=0.1).latest is None


def test_a_latest_time_to_anneal():
    falling = Scripted(3 - np.log(1 + np.arange(300)) / 3)
    train(falling, callback := PlateauDetector("decay", latest=0.6, min_steps=24))
    rates = np.array(falling.rates)[:, 0]
    assert callback.events == ()
    assert (rates[:180] == 0.1).all()
    np.testing.assert_allclose(rates[180:], 0.1 * (1 - np.arange(120) / 120), rtol=1e-9)


def test_the_host_reads_no_loss_but_at_looks():
    counts = {}
    for name, callbacks in (("alone", []), ("watched", [PlateauDetector()])):
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            train(Scripted(), *callbacks, steps=250)  # the first look is after 256
        events = {event.key: event.count for event in seen.key_averages()}
        counts[name] = events.get("aten::_local_scalar_dense", 0)
    assert counts["watched"] == counts["alone"]


def test_a_second_fit_begins_anew_and_one_that_goes_on_does_not():
    callback = PlateauDetector(min_steps=24)
    train(Scripted(), callback, steps=100)
    train(Scripted(), callback, steps=60)
    assert callback.detector.steps == 60


def test_within_lrfinder(tmp_path):
    assert finder(plateau="decay").plateau.latest == 0.3
    callback = finder(plateau="advise")
    trainer, run = fit(tmp_path, [callback], max_epochs=3)
    inner = callback.plateau
    assert isinstance(inner, PlateauDetector)
    assert trainer.callbacks[:2] == [callback, inner]
    assert inner.detector.steps == 48 == len(run["steps"])
    assert inner.detector.state_dict()["lrs"][0] == callback.suggestion.lr
    fit(tmp_path / "again", [callback], max_epochs=1)
    assert inner.detector.steps == 16


def test_within_lrfinder_it_decays_a_constant_rate(tmp_path):
    callback = LRFinder(plateau=PlateauDetector("decay"), budget=150, min_lr=1e-5)
    fit(tmp_path, [callback], max_epochs=40)
    assert callback.suggestion.policy.name == "constant"


@pytest.mark.parametrize(
    ("args", "options", "text"),
    [
        (("cut",), {}, "on_plateau must be advise, decay, stop or a function, got on_plateau = 'cut'"),
        (("decay",), {"factor": 1.0}, r"factor must be in \(0, 1\), or None to anneal to zero, got factor = 1.0"),
        (("stop",), {"factor": 0.1}, "factor is for on_plateau decay, got factor = 0.1"),
        ((), {"latest": 0.5}, "latest is for on_plateau decay without factor"),
        (("decay",), {"latest": 2.0}, r"latest must be a share of the training in \(0, 1\)"),
        (("decay",), {"latest": 0.5, "factor": 0.1}, "latest is for on_plateau decay without factor"),
        ((), {"mode": "max"}, "mode must be min without monitor, for a loss, got mode = 'max'"),
        ((), {"alpha": 1}, "alpha must be a rate"),
    ],
)
def test_arguments_are_checked(args, options, text):
    with pytest.raises(InputError, match=text):
        PlateauDetector(*args, **options)


def test_annealing_needs_an_end_and_one_optimizer(tmp_path):
    with pytest.raises(
        InputError, match=r"factor must be given with on_plateau decay, since annealing needs a training"
    ):
        train(Scripted(), PlateauDetector("decay", on_failure="raise"), steps=-1)
    with pytest.raises(InputError, match="annealing needs one optimizer and automatic optimization"):
        fit(tmp_path, [PlateauDetector("decay", on_failure="raise")], module=Manual)


def test_lrfinder_checks_its_argument():
    with pytest.raises(InputError, match="plateau must be True, an on_plateau or a PlateauDetector, got plateau = 3"):
        LRFinder(plateau=3)


def test_beside_early_stopping_and_a_step_that_is_left_out(tmp_path):
    class Skipping(Net):
        def training_step(self, batch, batch_idx):
            return None if batch_idx % 5 == 4 else super().training_step(batch, batch_idx)

    callback = PlateauDetector()
    fit(tmp_path, [callback, EarlyStopping("val_loss")], module=Skipping, loaders=loader)
    assert callback.detector.steps == 26  # 13 of 16 batches an epoch


def test_the_steps_to_come_are_known_at_any_time():
    seen = []

    class Counting(pl.Callback):
        def on_train_batch_end(self, trainer, *args):
            seen.append(trainer.global_step + steps_to_come(trainer))

        def on_train_epoch_end(self, trainer, module):
            seen.append(trainer.global_step + steps_to_come(trainer))

    trainer = train(Scripted(), Counting(), batches=20, accumulate_grad_batches=3, max_epochs=2, steps=-1)
    assert set(seen) == {trainer.global_step} == {14}
    seen.clear()
    trainer = train(Scripted(), Counting(), batches=20, accumulate_grad_batches=3, max_epochs=2, steps=10)
    assert set(seen) == {10}


def test_a_second_fit_on_fewer_batches_is_annealed_to_its_own_end():
    """Its steps before were of other epochs than those that are left."""
    module, callback = Scripted(), PlateauDetector("decay", latest=0.9, min_steps=24)
    trainer = train(Scripted(3 - np.log(1 + np.arange(300)) / 3), batches=100, max_epochs=2, steps=-1)
    trainer.fit_loop.max_epochs = 12
    trainer.callbacks.append(callback)
    trainer.fit(module, DataLoader(TensorDataset(torch.zeros(30, 1))))
    rates = np.array(module.rates)[:, 0]
    assert len(rates) == 300
    at = np.flatnonzero(rates < 0.1)[0] - 1
    np.testing.assert_allclose(rates[at:], 0.1 * (1 - np.arange(300 - at) / (300 - at)), rtol=1e-9)


def test_annealing_needs_data_of_known_length():
    class Endless(IterableDataset):
        def __iter__(self):
            return iter(torch.zeros(20, 1))

    watcher = PlateauDetector("decay", latest=0.5, on_failure="raise")
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, callbacks=[watcher],
    )  # fmt: skip
    with pytest.raises(InputError, match="annealing needs a training of known length"):
        trainer.fit(Scripted(), DataLoader(Endless()))


def test_one_for_the_loss_and_one_for_a_metric(tmp_path):
    watched = [PlateauDetector(), PlateauDetector(monitor="val"), PlateauDetector(monitor="quality", mode="max")]
    keep = ModelCheckpoint(tmp_path, save_last=True, every_n_train_steps=20)
    options = {"enable_checkpointing": True, "default_root_dir": tmp_path, "limit_val_batches": 1}
    train(Scripted(logged=True), *watched, keep, steps=60, **options)
    states = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]
    assert [states[one.state_key]["detector"]["run"]["steps"] for one in watched] == [60, 2, 60]


def test_a_logger_that_fails_does_not_end_the_run(caplog):
    class Failing(pl.loggers.logger.DummyLogger):
        def log_metrics(self, metrics, step=None, **_):
            if "plateau/gain" in metrics:
                raise OSError("no space left")

    callback = PlateauDetector(min_steps=24)
    with caplog.at_level(logging.INFO):
        trainer = train(Scripted(), callback, logger=Failing())
    assert callback.events
    assert trainer.global_step == 300
    assert "PlateauDetector: Failing did not take the plateau: no space left" in caplog.text


def test_many_losses_of_half_precision_are_added_up_in_single():
    class Half(Scripted):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx).bfloat16()

    callback = PlateauDetector()
    train(Half([2.3125]), callback, steps=4, batches=128, accumulate_grad_batches=128)
    assert callback.detector.record().mean == pytest.approx([2.3125] * 4, rel=1e-3)


def test_a_metric_of_training_is_not_read_again_at_every_validation():
    class Epochs(Scripted):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.log("mean", loss.detach(), on_step=False, on_epoch=True)
            return loss

    options = {"batches": 4, "limit_val_batches": 1, "max_epochs": 10, "steps": -1}
    for validated in ({"val_check_interval": 0.25}, {"check_val_every_n_epoch": 2}, {}):
        callback = PlateauDetector(monitor="mean")
        train(Epochs(), callback, **options, **validated)
        assert (callback.detector.steps, callback.detector.unit) == (10, "epochs")


def test_a_metric_that_is_logged_last_is_read_an_epoch_later():
    class Late(Scripted):
        def on_train_epoch_end(self):
            self.log("late", torch.tensor(1.0))

    callback = PlateauDetector(monitor="late")
    train(Late(), callback, batches=2, max_epochs=5, steps=-1)
    assert callback.detector.steps == 4


def test_what_is_counted_is_said():
    for validated, unit in (({"val_check_interval": 0.5}, "validations"), ({}, "epochs")):
        callback = PlateauDetector(monitor="val")
        train(Scripted(), callback, batches=4, limit_val_batches=1, max_epochs=3, steps=-1, **validated)
        assert callback.detector.unit == unit


def test_processes_average_on_their_devices_and_not_after_the_end():
    """NCCL takes nothing from the host, and a single process that looks after training would wait for the others."""
    strategy = SimpleNamespace(root_device=torch.device("meta"), reduce=lambda tensor: tensor)
    trainer, callback = SimpleNamespace(world_size=2, strategy=strategy, global_step=0), PlateauDetector()
    callback.on_train_start(trainer, None)
    assert callback.detector.average(torch.ones(1)).device.type == "meta"
    callback.on_train_end(trainer, None)
    assert callback.detector.average is None


def test_a_checkpoint_settles_no_argument_and_leaves_nothing_of_the_fit_before():
    kept = PlateauDetector().state_dict()
    callback = PlateauDetector(min_steps=100)
    for loss in FALLING:
        callback.update(loss)
    callback.on_load_checkpoint(SimpleNamespace(state=SimpleNamespace(fn="fit")), None, {})
    assert callback.detector.steps == 0
    callback.load_state_dict(kept)
    assert callback.detector.min_steps == 100


class OwnPeak(lr_scheduler.LRScheduler):
    """Gives a rate of its own."""

    def __init__(self, optimizer):
        self.peak = 0.02
        super().__init__(optimizer)

    def get_lr(self):
        return [self.peak for _ in self.base_lrs]


class InCode(OwnPeak):
    """Gives a rate that nobody can reach."""

    def get_lr(self):
        return [0.02]


class ByCount:
    """A scheduler that is none of torch's, with base values of its own."""

    def __init__(self, optimizer):
        self.optimizer, self.base_values = optimizer, [group["lr"] for group in optimizer.param_groups]

    def step(self, count):
        for group, base in zip(self.optimizer.param_groups, self.base_values, strict=True):
            group["lr"] = base

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class Noise(Net):
    """Has nothing to gain."""

    kind = None

    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) * 0 + 1 + 0.01 * torch.randn(())

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.02)
        return [optimizer], ([{"scheduler": self.kind(optimizer), "interval": "step"}] if self.kind else [])

    def lr_scheduler_step(self, scheduler, metric):
        scheduler.step(*[self.global_step][: int(isinstance(scheduler, ByCount))])


def noise(kind):
    return type("Noisy", (Noise,), {"kind": staticmethod(kind) if kind else None})


def detector(**options):
    return PlateauDetector("decay", **{"factor": 0.5, "delta": 0.05, "min_steps": 48, **options})


def rates(run):
    return [rates[0] for _, rates, *_ in run["steps"]]


KINDS = {
    "none": None,
    "a lambda": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: 1.0),
    "its own peak": OwnPeak,
    "base values": ByCount,
}


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize("name", KINDS)
def test_a_lower_rate_lasts_also_in_another_fit(tmp_path, name):
    watcher = detector()
    trainer, run = fit(tmp_path, [watcher], module=noise(KINDS[name]), max_epochs=5)
    assert rates(run)[0] == 0.02
    assert rates(run)[watcher.events[0].step :] == [0.01] * (80 - watcher.events[0].step)
    trainer.fit_loop.max_epochs = 6
    trainer.fit(trainer.lightning_module, loader())
    assert rates(run)[80:] == [0.01] * 16


class Drawn(lr_scheduler.LRScheduler):
    """Draws its rates from a generator."""

    def __init__(self, optimizer):
        self.rates = (0.02 / (1 + number) for number in range(200))
        super().__init__(optimizer)

    def get_lr(self):
        return [next(self.rates)]

    def state_dict(self):
        return {}


@pytest.mark.filterwarnings("ignore:LRFinder skipped the search before training. what a step uses holds a generator")
def test_a_scheduler_that_draws_its_rates_is_not_stepped_ahead(tmp_path):
    _, plain = fit(tmp_path / "a", module=noise(Drawn), max_epochs=8)
    for name, watcher in {"b": LRFinder(), "c": PlateauDetector("decay"), "d": detector(delta=1e-9)}.items():
        _, run = fit(tmp_path / name, [watcher], module=noise(Drawn), max_epochs=8)
        assert rates(run)[:38] == rates(plain)[:38]  # annealed from 0.3 of 128 steps on


class Stubborn(lr_scheduler.LRScheduler):
    """Minds that somebody else changes its rate."""

    def get_lr(self):
        if self.optimizer.param_groups[0]["lr"] < 0.019:
            raise RuntimeError("somebody changed the rate")
        return list(self.base_lrs)


@pytest.mark.parametrize("kind", [InCode, Stubborn])
def test_a_rate_that_cannot_be_lowered_is_left_and_said_once(tmp_path, kind):
    watcher = detector()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, run = fit(tmp_path / "a", [watcher], module=noise(kind), max_epochs=8)
    ours = [str(warning.message) for warning in caught if "PlateauDetector" in str(warning.message)]
    assert len(ours) == 1
    assert f"leaves the learning rate alone: the learning rate cannot be changed here: {kind.__name__}" in ours[0]
    assert watcher.events
    _, plain = fit(tmp_path / "b", [PlateauDetector(delta=0.05, min_steps=48)], module=noise(kind), max_epochs=8)
    assert_same({**run, "callbacks": {}}, {**plain, "callbacks": {}})
    with pytest.raises(UnsupportedError, match=f"{kind.__name__} takes it from where it cannot be reached"):
        fit(tmp_path / "c", [detector(on_failure="raise")], module=noise(kind), max_epochs=8)


@pytest.mark.parametrize("name", ["a rate of None", "no known end", "a scheduler stepped in its own way"])
def test_what_cannot_be_done_is_reported_and_training_goes_on(tmp_path, name):
    class Rateless(Noise):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()[0][0]
            optimizer.param_groups[0]["lr"] = None
            optimizer.step = lambda closure=None: closure()
            return optimizer

        def training_step(self, batch, batch_idx):
            return self.loss(batch) * 0 + 1 + 0.01 * torch.randn(())

    class Counting(Noise):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.02)
            return [optimizer], [ByCount(optimizer)]

        def lr_scheduler_step(self, scheduler, metric):
            scheduler.step(count=self.global_step)

    options = {
        "a rate of None": {"module": Rateless},
        "no known end": {"module": noise(None), "loaders": lambda: DataLoader(Stream(), 16), "max_epochs": 1},
        "a scheduler stepped in its own way": {"module": Counting},
    }[name]
    watcher = detector(factor=0.5 if "None" in name else None)
    with pytest.warns(UserWarning, match="PlateauDetector reports plateaus and leaves the learning rate alone"):
        fit(tmp_path, [watcher], **{"max_epochs": 5, **options})
    if "end" in name:
        with pytest.raises(InputError, match="a training of known length"):
            fit(tmp_path / "raise", [detector(factor=None, on_failure="raise")], **options)


def test_a_detector_that_advises_watches_where_there_is_no_rate(tmp_path):
    class Rateless(Noise):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()[0][0]
            del optimizer.param_groups[0]["lr"]
            optimizer.step = lambda closure=None: closure()
            return optimizer

        def training_step(self, batch, batch_idx):
            return self.loss(batch) * 0 + 1 + 0.01 * torch.randn(())

    watcher = PlateauDetector(delta=0.05, min_steps=48)
    fit(tmp_path, [watcher], module=Rateless, max_epochs=5)
    assert watcher.events
