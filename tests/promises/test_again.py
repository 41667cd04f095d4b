"""Searching again before later epochs, and what a resumed fit makes of it."""

from __future__ import annotations

import warnings

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from support.runs import (
    LIGHTNINGS_REMARKS,
    Manual,
    Net,
    SetByHand,
    Stream,
    assert_same,
    finder,
    fit,
    loader,
    optimizers,
    scheduled,
)
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader

from lrfinder import InputError, LRFinder, UnsupportedError

pytestmark = LIGHTNINGS_REMARKS


def adam(net):
    return torch.optim.Adam(net.parameters(), lr=net.lr)


def quick_adam(net):
    return torch.optim.Adam(net.parameters(), lr=net.lr, betas=(0.5, 0.9))


def test_later_searches_leave_training_as_if_their_rates_had_been_set_by_hand(tmp_path):
    callback = finder(at_epochs=[1, 2], min_lr=1e-6)
    options = {"module": optimizers(quick_adam), "max_epochs": 4}
    trainer, run = fit(tmp_path / "tuned", [callback], **options)
    assert list(callback.suggestions) == [1, 2]
    assert callback.suggestion is callback.suggestions[2]
    first, last = (found.lr for found in callback.suggestions.values())
    assert [run["steps"][step][1] for step in (0, 15, 16, 31, 32)] == [[0.01], [0.01], [first], [first], [last]]
    assert trainer.lightning_module.lr == last
    _, reference = fit(tmp_path / "by hand", [SetByHand({1: first, 2: last})], **options)
    assert_same(run, reference)


def test_horizon_caveat_and_budget_are_of_what_is_left(tmp_path):
    callback = finder(at_epochs=[1], budget="50%")
    fit(tmp_path, [callback], max_epochs=11)
    assert callback.suggestion.horizon == 160
    assert callback.suggestion.steps_spent <= 80
    assert callback.suggestion.caveats[0].startswith("Searched at step 16 of training")


DECAYS = {
    "cosine": lambda o, lr: lr_scheduler.CosineAnnealingLR(o, 48),
    "steps": lambda o, lr: lr_scheduler.StepLR(o, 10, 0.3),
    "warmup over two epochs": lambda o, lr: lr_scheduler.LinearLR(o, 0.001, total_iters=32),
    "one cycle": lambda o, lr: lr_scheduler.OneCycleLR(o, lr, total_steps=48, pct_start=0.6),
    "from zero": lambda o, lr: lr_scheduler.LambdaLR(o, lambda step: max(0.0, (step - 20) / 40)),
}


@pytest.mark.parametrize("name", DECAYS)
def test_the_highest_rate_still_to_come_becomes_the_suggestion_and_the_shape_stays(tmp_path, name):
    callback = finder(at_epochs=[1])
    _, run = fit(tmp_path / "tuned", [callback], module=scheduled(DECAYS[name]), max_epochs=3)
    _, plain = fit(tmp_path / "plain", module=scheduled(DECAYS[name]), max_epochs=3)
    tuned, before = ([rates[0] for _, rates, *_ in seen["steps"]] for seen in (run, plain))
    assert tuned[:16] == before[:16]
    assert max(tuned[16:]) == pytest.approx(callback.suggestion.lr, rel=1e-9)
    factor = callback.suggestion.lr / max(before[16:])
    assert tuned[16:] == pytest.approx([lr * factor for lr in before[16:]], rel=1e-9)
    assert callback.suggestion.param_group_lrs == pytest.approx((callback.suggestion.lr,))


def test_a_schedule_that_has_ended_is_left_alone(tmp_path):
    ended = scheduled(lambda o, lr: lr_scheduler.LambdaLR(o, lambda step: float(step < 8)))
    with pytest.warns(
        UserWarning, match="skipped the search before epoch 1: lr must be > 0 at some step to come, got 0"
    ):
        _, run = fit(tmp_path / "a", [finder(at_epochs=[1], on_failure="warn")], module=ended)
    _, reference = fit(tmp_path / "b", module=ended)
    assert_same(run, reference)


def test_what_cannot_be_searched_at_all_is_refused_at_the_start(tmp_path):
    with pytest.raises(UnsupportedError, match="loader must be iterable more than once"):
        fit(tmp_path, [finder(at_epochs=[1])], loaders=lambda: iter(list(loader())))


def reached(tmp_path, callback, **options):
    """Fit; return the highest rate of each batch from the latest search on."""
    trainer, run = fit(tmp_path, [callback], **options)
    begun = max(callback.suggestions) * (len(run["steps"]) // trainer.max_epochs)
    return max(max(rates) for _, rates, *_ in run["steps"][begun:])


def warming(interval, over, frequency=1):
    def configure(net):
        optimizer = torch.optim.SGD(net.parameters(), lr=net.lr, momentum=0.9)
        scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / (over + 0 * net.seen)))
        return [optimizer], [{"scheduler": scheduler, "interval": interval, "frequency": frequency}]

    return optimizers(configure)


WARMUPS = {
    "by step": {"module": warming("step", 40)},
    "by epoch": {"module": warming("epoch", 5)},
    "every third step": {"module": warming("step", 15, 3)},
    "every second epoch": {"module": warming("epoch", 3, 2)},
    "accumulation that leaves a rest": {"module": warming("step", 20), "accumulate_grad_batches": 3},
    "by epoch, accumulation that leaves a rest": {"module": warming("epoch", 5), "accumulate_grad_batches": 3},
    "data without length, by step": {"module": warming("step", 40), "loaders": lambda: DataLoader(Stream(), 16)},
    "data without length, by epoch": {"module": warming("epoch", 5), "loaders": lambda: DataLoader(Stream(), 16)},
    "until max_steps": {"module": warming("step", 90), "max_epochs": 9, "max_steps": 50},
}


@pytest.mark.parametrize("name", WARMUPS)
def test_a_warmup_under_way_ends_at_the_suggestion(tmp_path, name):
    """The lambdas hold the module, as many do, and so everything that hangs on it."""
    callback = finder(at_epochs=[1], budget=150)
    assert reached(tmp_path, callback, **{"max_epochs": 4, **WARMUPS[name]}) == pytest.approx(callback.suggestion.lr)


def test_several_optimizers_by_hand_end_at_the_suggestion(tmp_path):
    class Warming(Manual):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            for scheduler in self.lr_schedulers():
                scheduler.step()
            return loss

        def configure_optimizers(self):
            first, second = super().configure_optimizers()
            linear = [
                {"scheduler": lr_scheduler.LinearLR(o, 0.001, total_iters=60), "interval": "step"}
                for o in (first, second)
            ]
            return [first, second], linear

    callback = finder(at_epochs=[2], monitor="val_loss", budget=150)
    highest = reached(tmp_path, callback, module=Warming, max_epochs=4)
    assert highest == pytest.approx(callback.suggestion.lr)
    assert callback.suggestion.horizon == 32


def test_the_horizon_knows_of_accumulation_to_come(tmp_path):
    callback = finder(at_epochs=[1], budget=150)
    fit(tmp_path, [callback, GradientAccumulationScheduler({0: 1, 1: 4})], max_epochs=3)
    assert callback.suggestion.horizon == 8


@pytest.mark.parametrize("needs", ["epoch", "metric"])
def test_a_scheduler_that_takes_an_argument_is_looked_ahead_or_a_caveat_says_why_not(tmp_path, needs):
    class Wanting(lr_scheduler.LambdaLR):
        def step(self, epoch=None):
            if epoch is None and self._step_count > 0:
                raise TypeError("step() missing 1 required positional argument: 'epoch'")
            super().step()

    class Stepping(Net):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
            self.scheduler = Wanting(optimizer, lambda step: 0.5**step)
            return [optimizer], [self.scheduler]

        def lr_scheduler_step(self, scheduler, metric):
            assert needs == "epoch" or self.history[-1] == len(self.history) * 16 > 256 * self.current_epoch
            scheduler.step(self.current_epoch)

    callback = finder(at_epochs=[1], budget=150)
    assert reached(tmp_path, callback, module=Stepping, max_epochs=3) == pytest.approx(callback.suggestion.lr)
    hidden = any("Wanting could not be looked ahead" in text for text in callback.suggestion.caveats)
    assert hidden == (needs == "metric")


def test_a_search_that_finds_nothing_leaves_the_run_alone(tmp_path):
    class Done(Net):
        """Has nothing left to learn after an epoch."""

        def loss(self, batch):
            return super().loss(batch) * (0.0 if self.current_epoch else 1.0)

    with pytest.warns(UserWarning, match="left the learning rate as it was"):
        _, run = fit(tmp_path / "a", [finder(at_epochs=[1])], module=Done)
    _, reference = fit(tmp_path / "b", module=Done)
    assert_same(run, reference)


def checkpoint_of(folder, name="epoch=0"):
    return next(path for path in folder.rglob("*.ckpt") if name in path.name)


@pytest.mark.parametrize("with_us", [True, False])
@pytest.mark.parametrize("steps", [16, 21])
def test_a_resumed_fit_goes_on_as_without_us(tmp_path, with_us, steps):
    """From the end of an epoch and from the middle of one; from a checkpoint made with the callback and without."""
    saving = pl.callbacks.ModelCheckpoint(every_n_train_steps=steps, save_top_k=-1)
    fit(tmp_path / "first", [saving, *([finder()] if with_us else [])], module=optimizers(adam))
    path = checkpoint_of(tmp_path / "first", f"step={steps}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checkpoint names callbacks that the resumed run does not have
        again = finder()
        _, run = fit(tmp_path / "a", [again], module=optimizers(adam), max_epochs=3, ckpt_path=path)
        by_hand = again.suggestion.lr if with_us else 0.01  # what a person would construct the module with
        _, reference = fit(tmp_path / "b", module=optimizers(adam), max_epochs=3, ckpt_path=path, lr=by_hand)
    assert (again.suggestion is not None) == with_us
    assert_same(run, reference)


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_fit_resumed_before_a_search_to_come_makes_it(tmp_path, epoch):
    fit(tmp_path / "first", [finder(at_epochs=[0, 1])], max_epochs=1, module=optimizers(adam))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        resumed = finder(at_epochs=[0, epoch])
        path = checkpoint_of(tmp_path / "first")
        trainer, run = fit(tmp_path / "a", [resumed], max_epochs=3, module=optimizers(adam), ckpt_path=path)
    assert list(resumed.suggestions) == [0, epoch]
    first, second = (found.lr for found in resumed.suggestions.values())
    rates = [rates[0] for _, rates, *_ in run["steps"]]
    assert rates == [first] * 16 * (epoch - 1) + [second or first] * 16 * (3 - epoch)
    assert trainer.lightning_module.lr == (second or first)


def test_a_fit_resumed_in_the_epoch_of_a_search_does_not_repeat_it(tmp_path):
    saving = pl.callbacks.ModelCheckpoint(every_n_train_steps=21, save_top_k=-1)
    first = finder(at_epochs=[0, 1], min_lr=1e-6, budget=200)
    fit(tmp_path / "first", [saving, first], module=optimizers(adam))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path, resumed = checkpoint_of(tmp_path / "first", "step=21"), finder(at_epochs=[0, 1])
        _, run = fit(tmp_path / "a", [resumed], module=optimizers(adam), ckpt_path=path)
    assert resumed.suggestions == first.suggestions
    assert {rates[0] for _, rates, *_ in run["steps"]} == {first.suggestion.lr}


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Lightning, on the callbacks and paths in a checkpoint
def test_a_callback_used_again_forgets_the_fit_before(tmp_path):
    callback = finder()
    fit(tmp_path / "one", [callback])
    fit(tmp_path / "other", max_epochs=1, module=optimizers(adam))
    path = checkpoint_of(tmp_path / "other")
    trainer, _ = fit(tmp_path / "resumed", [callback], module=optimizers(adam), ckpt_path=path)
    assert callback.suggestions == {}
    assert trainer.lightning_module.lr == 0.01


@pytest.mark.parametrize("epochs", [3, "12", (), [-1], [1.5], [True]])
def test_bad_epochs_are_named(epochs):
    with pytest.raises(InputError, match="at_epochs must be epochs, counted from 0, got"):
        LRFinder(at_epochs=epochs)
