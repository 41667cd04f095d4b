"""A rate that is written takes effect, also if schedulers keep rates of their own, or everything is as it was."""

from __future__ import annotations

import copy
import warnings

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from support.runs import LIGHTNINGS_REMARKS, Net, assert_same, by_hand, finder, fit, loader, optimizers
from torch.optim import lr_scheduler

from lrfinder import LRFinder
from lrfinder.lightning.write_back import AppliedRates

pytestmark = LIGHTNINGS_REMARKS


class ByEpoch:
    """A scheduler of the timm kind: none of torch's, with base values of its own, stepped with the epoch."""

    def __init__(self, optimizer, rate):
        self.optimizer, self.base_values, self.share = optimizer, [rate], 0.125

    def step(self, epoch):
        for group, base in zip(self.optimizer.param_groups, self.base_values, strict=True):
            group["lr"] = base * (1 - epoch * self.share)

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class WarmRestarts(lr_scheduler.LRScheduler):
    """Rises from a fixed rate to one of its own, whatever the optimizer's."""

    def __init__(self, optimizer, rate):
        self.max_lr, self.min_lr = rate, 1e-5
        super().__init__(optimizer)
        for group in optimizer.param_groups:
            group["lr"] = self.min_lr

    def get_lr(self):
        return [self.min_lr + (self.max_lr - self.min_lr) * min(self.last_epoch / 4, 1.0)]


class Table(lr_scheduler.LRScheduler):
    """Reads the rate of every step from a table."""

    def __init__(self, optimizer, rate):
        self.table = np.linspace(rate, rate / 10, 64)
        super().__init__(optimizer)

    def get_lr(self):
        return [float(self.table[self.last_epoch])]


class OfItsClass(lr_scheduler.LRScheduler):
    """Keeps its rate in the class."""

    peak = 0.02

    def __init__(self, optimizer, rate):
        if rate != 0.02:
            self.peak = rate
        super().__init__(optimizer)

    def get_lr(self):
        return [self.peak * 0.99**self.last_epoch]


class Slotted:
    """Of no class of torch, and without ``__dict__``."""

    __slots__ = ("optimizer", "rate", "steps")

    def __init__(self, optimizer, rate):
        self.optimizer, self.rate, self.steps = optimizer, rate, -1
        self.step()

    def step(self):
        self.steps += 1
        self.optimizer.param_groups[0]["lr"] = self.rate * 0.99**self.steps

    def state_dict(self):
        return {"rate": self.rate, "steps": self.steps}

    def load_state_dict(self, state):
        self.rate, self.steps = state["rate"], state["steps"]


class InCode(lr_scheduler.LRScheduler):
    """Has its rate in the code, where nobody can change it."""

    def __init__(self, optimizer, rate):
        super().__init__(optimizer)

    def get_lr(self):
        return [0.02 * 0.99**self.last_epoch]


def with_scheduler(kind, rate_of=lambda net: 0.02, interval="step"):
    """A module class that gives a scheduler a rate, and its optimizer the module's."""

    class Scheduled(Net):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)
            return [optimizer], [{"scheduler": kind(optimizer, rate_of(self)), "interval": interval}]

        def lr_scheduler_step(self, scheduler, metric):
            scheduler.step(*[self.current_epoch + 1][: int(isinstance(scheduler, ByEpoch))])

    return Scheduled


OWN = {
    "timm": (ByEpoch, "epoch"),
    "max_lr": (WarmRestarts, "step"),
    "table": (Table, "step"),
    "class": (OfItsClass, "step"),
    "slots": (Slotted, "step"),
}
QUICK = {"budget": 90}


def rates(run):
    return [rates[0] for _, rates, *_ in run["steps"]]


@pytest.mark.parametrize("name", OWN)
def test_a_rate_that_a_scheduler_keeps_to_itself_is_scaled_too(tmp_path, name):
    kind, interval = OWN[name]
    callback = finder(**QUICK)
    _, run = fit(tmp_path / "tuned", [callback], module=with_scheduler(kind, interval=interval), lr=0.02)
    lr = callback.suggestion.lr
    assert max(rates(run)[1:]) == pytest.approx(lr, rel=0.02)
    reference = with_scheduler(kind, lambda net: lr, interval)
    _, expected = fit(tmp_path / "by hand", module=reference, lr=lr)
    assert rates(run)[4:] == pytest.approx(rates(expected)[4:], rel=1e-9)  # a rise may begin at a fixed rate


@pytest.mark.parametrize("name", OWN)
def test_a_scheduler_that_is_given_the_modules_rate_follows_it_as_by_hand(tmp_path, name):
    kind, interval = OWN[name]
    by_hand(tmp_path, finder(**QUICK), module=with_scheduler(kind, lambda net: net.lr, interval))


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_rate_that_cannot_be_changed_is_said_to_and_nothing_is(tmp_path, epoch):
    callback = finder(**QUICK, at_epochs=[epoch], on_failure="warn")
    with pytest.warns(UserWarning, match="the learning rate cannot be changed here: InCode takes it from where it"):
        _, run = fit(tmp_path / "tuned", [callback], module=with_scheduler(InCode))
    _, reference = fit(tmp_path / "plain", module=with_scheduler(InCode))
    assert_same(run, reference)


@pytest.mark.parametrize("name", ["timm", "max_lr", "table"])
def test_a_later_search_scales_what_a_scheduler_keeps_to_itself(tmp_path, name):
    kind, interval = OWN[name]
    callback = finder(**QUICK, at_epochs=[1])
    _, run = fit(tmp_path / "a", [callback], module=with_scheduler(kind, interval=interval), max_epochs=3)
    _, plain = fit(tmp_path / "b", module=with_scheduler(kind, interval=interval), max_epochs=3)
    factor = callback.suggestion.lr / max(rates(plain)[16:])
    assert rates(run)[:16] == rates(plain)[:16]
    assert rates(run)[16:] == pytest.approx([lr * factor for lr in rates(plain)[16:]], rel=1e-9)


class Settled(Net):
    """What hooks set before training stays."""

    def on_fit_start(self):
        self.trainer.optimizers[0].param_groups[0]["weight_decay"] = 0.1


class Slower(pl.Callback):
    def on_fit_start(self, trainer, pl_module):
        trainer.optimizers[0].param_groups[0]["momentum"] = 0.5


def test_only_what_depends_on_the_rate_is_written(tmp_path):
    trainer, _ = by_hand(tmp_path, finder(**QUICK), lambda: [Slower()], module=Settled)
    group = trainer.optimizers[0].param_groups[0]
    assert (group["weight_decay"], group["momentum"]) == (0.1, 0.5)


class Remembering(torch.optim.SGD):
    """Divides by the rate that it was made with."""

    def __init__(self, params, lr):
        super().__init__(params, lr, momentum=0.9)
        self.first_lr = lr

    def step(self, closure=None):
        loss = super().step(closure)
        with torch.no_grad():
            for parameter in self.param_groups[0]["params"]:
                parameter *= 1 - 0.01 * self.param_groups[0]["lr"] / self.first_lr
        return loss


@pytest.mark.parametrize("named", [True, False])
def test_what_an_optimizer_derives_from_its_rate_follows(tmp_path, named):
    if named:
        by_hand(tmp_path, finder(**QUICK), module=optimizers(lambda net: Remembering(net.parameters(), net.lr)))
        return
    callback = finder(**QUICK)
    trainer, _ = fit(tmp_path, [callback], module=optimizers(lambda net: Remembering(net.parameters(), 0.05)))
    assert trainer.optimizers[0].first_lr == callback.suggestion.lr


def test_an_attribute_that_the_module_derives_when_it_configures_follows(tmp_path):
    class Floored(Net):
        def configure_optimizers(self):
            self.floor = 0.001 / self.lr
            optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
            return [optimizer], [lr_scheduler.LambdaLR(optimizer, lambda epoch: max(self.floor, 0.5**epoch))]

    trainer, _ = by_hand(tmp_path, finder(**QUICK), module=Floored)
    assert trainer.lightning_module.floor == 0.001 / trainer.lightning_module.lr


class Pair(Net):
    """Warms up from one number of its own to another."""

    def __init__(self, lr):
        super().__init__(lr)
        del self.lr
        self.init_lr, self.max_lr, self.lr = lr / 10, lr, None

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.init_lr)
        rise = self.max_lr / self.init_lr
        return [optimizer], [
            {"scheduler": lr_scheduler.LambdaLR(optimizer, lambda step: rise ** min(step / 8, 1)), "interval": "step"}
        ]


def test_several_numbers_that_make_up_the_schedule_are_scaled_together(tmp_path):
    trainer, run = fit(tmp_path / "tuned", [finder(**QUICK)], module=Pair)
    module = trainer.lightning_module
    assert module.max_lr == pytest.approx(10 * module.init_lr) != 0.01
    _, reference = fit(tmp_path / "by hand", module=Pair, lr=module.max_lr)
    assert rates(run) == pytest.approx(rates(reference), rel=1e-9)


class Peak(Pair):
    """Warms up from a number that is none of the rate's to one that is."""

    def __init__(self, lr, init_lr=0.001):
        super().__init__(lr)
        self.init_lr = init_lr


@pytest.mark.parametrize(("lr", "init_lr"), [(0.02, 0.001), (0.02, 0.016)])
def test_a_named_number_that_is_the_peak_of_the_schedule_alone_is_set(tmp_path, lr, init_lr):
    def module(lr):
        return Peak(lr, init_lr)

    trainer, run = fit(tmp_path / "tuned", [finder(**QUICK, attribute="max_lr")], module=module, lr=lr)
    tuned, found = trainer.lightning_module, trainer.callbacks[0].suggestion
    assert tuned.max_lr == found.lr == found.param_group_lrs[0]
    assert tuned.init_lr == rates(run)[0] == init_lr
    assert max(rates(run)) == pytest.approx(found.lr, rel=1e-9)
    _, reference = fit(tmp_path / "by hand", module=module, lr=found.lr)
    assert_same(run, reference)


def test_a_schedule_that_begins_above_the_rate_that_was_found_is_scaled_as_a_whole(tmp_path):
    def module(lr):
        return Peak(lr, init_lr=0.9)

    trainer, run = fit(tmp_path, [finder(**QUICK, attribute="max_lr")], module=module, lr=1.0)
    found = trainer.callbacks[0].suggestion
    assert found.lr < 0.9
    assert max(rates(run)) == pytest.approx(found.lr, rel=1e-9)
    assert rates(run)[0] == pytest.approx(0.9 * found.lr, rel=1e-9)


class Coded(Net):
    """Its rate stands in the code."""

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.03, momentum=0.9)


SECOND = {
    "in the code": (Coded, {}),
    "its own base values": (with_scheduler(ByEpoch, interval="epoch"), {}),
    "an attribute": (Net, {}),
}


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize("name", SECOND)
def test_another_fit_of_the_same_trainer_keeps_the_rate(tmp_path, name):
    module, _ = SECOND[name]
    callback = finder(**QUICK)
    trainer, run = fit(tmp_path, [callback], module=module, lr=0.02)
    before = len(run["steps"])
    trainer.fit_loop.max_epochs = 4
    trainer.fit(trainer.lightning_module, loader())
    assert rates(run)[before] == pytest.approx(callback.suggestion.lr, rel=1e-9)


@pytest.mark.parametrize("name", ["in the code", "its own base values"])
def test_a_resumed_fit_keeps_a_rate_that_no_state_holds(tmp_path, name):
    module, _ = SECOND[name]
    callback = finder(**QUICK)
    fit(tmp_path / "first", [callback, pl.callbacks.ModelCheckpoint(save_top_k=-1)], module=module, max_epochs=3)
    path = next(path for path in (tmp_path / "first").rglob("*.ckpt") if "epoch=0" in path.name)
    _, whole = fit(tmp_path / "again", [finder(**QUICK)], module=module, max_epochs=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checkpoint names callbacks that the resumed run does not have
        _, run = fit(tmp_path / "resumed", [finder(**QUICK)], module=module, max_epochs=3, ckpt_path=path)
    assert rates(run) == pytest.approx(rates(whole)[16:], rel=1e-9)


def test_a_copy_shares_its_answer_with_the_callback_that_it_was_copied_from(tmp_path):
    """Libraries train with copies of the callbacks that they are given."""
    original = finder(**QUICK)
    twin = copy.deepcopy(original)
    fit(tmp_path, [twin])
    assert original.suggestion is twin.suggestion is not None
    assert copy.deepcopy(LRFinder()).suggestion is None


def test_what_was_applied_is_repeated_on_the_same_configuration_only():
    def made(lr):
        optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr)
        return type("Trainer", (), {"optimizers": [optimizer], "lr_scheduler_configs": []})()

    applied = AppliedRates((0.1,), (0.3,))
    assert AppliedRates.from_dict(applied.to_dict()) == applied
    for configured, expected in ((0.1, 0.3), (0.3, 0.3), (0.7, 0.7)):
        trainer = made(configured)
        applied.again(trainer)
        assert trainer.optimizers[0].param_groups[0]["lr"] == expected
