"""What schedulers will give is what they then give, and looking leaves no trace."""

from __future__ import annotations

import warnings

import lightning.pytorch as pl
import pytest
import torch
from support.exactness import Picture
from support.runs import LIGHTNINGS_REMARKS, Net, finder, fit, optimizers
from torch.optim import lr_scheduler

from lrfinder.lightning.look_ahead import RatesAhead, rates_ahead

pytestmark = LIGHTNINGS_REMARKS


class Looking(pl.Callback):
    """Looks ahead once, in an epoch or at its start, and compares everything before and after."""

    def __init__(self, step, in_epoch):
        self.step, self.in_epoch, self.ahead, self.changes = step, in_epoch, None, None

    def look(self, trainer, pl_module):
        if trainer.global_step == self.step and self.ahead is None:
            before = Picture(pl_module, trainer.fit_loop, trainer.optimizers, trainer.lr_scheduler_configs)
            ahead = rates_ahead(trainer, in_epoch=self.in_epoch)
            changes = before.changes(pl_module, trainer.fit_loop, trainer.optimizers, trainer.lr_scheduler_configs)
            self.ahead, self.changes = ahead, changes

    def on_train_epoch_start(self, trainer, pl_module):
        if not self.in_epoch:
            self.look(trainer, pl_module)

    def on_train_batch_end(self, trainer, pl_module, *args):
        if self.in_epoch:
            self.look(trainer, pl_module)


def scheduled(*configs):
    def configure(net):
        optimizer = torch.optim.SGD(net.parameters(), lr=net.lr, momentum=0.9)
        return [optimizer], [{"scheduler": make(optimizer), **config} for make, config in configs]

    return optimizers(configure)


class Told(Net):
    """Steps its scheduler with the counters of the trainer, as modules with schedulers of other libraries do."""

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
        return [optimizer], [{"scheduler": lr_scheduler.LambdaLR(optimizer, lambda _: 1.0), "interval": self.interval}]

    def lr_scheduler_step(self, scheduler, metric):
        self.seen += 1
        for group in scheduler.optimizer.param_groups:
            group["lr"] = 0.01 / (1 + self.global_step + 100 * self.current_epoch)


BY_THREE = {"interval": "step", "frequency": 3}
STEP, EPOCH = {"interval": "step"}, {"interval": "epoch"}
KINDS = {
    "by step": {"module": scheduled((lambda o: lr_scheduler.ExponentialLR(o, 0.9), STEP))},
    "by epoch": {"module": scheduled((lambda o: lr_scheduler.ExponentialLR(o, 0.9), EPOCH))},
    "every third batch": {"module": scheduled((lambda o: lr_scheduler.ExponentialLR(o, 0.9), BY_THREE))},
    "every second epoch": {"module": scheduled((lambda o: lr_scheduler.StepLR(o, 1), {**EPOCH, "frequency": 2}))},
    "one cycle": {"module": scheduled((lambda o: lr_scheduler.OneCycleLR(o, 0.1, 64), STEP))},
    "two": {
        "module": scheduled(
            (lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=20), STEP),
            (lambda o: lr_scheduler.ExponentialLR(o, 0.5), EPOCH),
        )
    },
    "accumulation that leaves a rest": {
        "module": scheduled((lambda o: lr_scheduler.ExponentialLR(o, 0.9), STEP)), "accumulate_grad_batches": 3
    },
    "told the step": {"module": type("ByStep", (Told,), {"interval": "step"})},
    "told the epoch": {"module": type("ByEpoch", (Told,), {"interval": "epoch"})},
    "none": {"module": Net},
}  # fmt: skip


@pytest.mark.parametrize(("step", "in_epoch"), [(0, False), (2, False), (1, True), (2, True)])
@pytest.mark.parametrize("name", KINDS)
def test_the_rates_ahead_are_those_that_come(tmp_path, name, step, in_epoch):
    options = {**KINDS[name], "max_epochs": 4}
    per_epoch = 6 if "accumulate_grad_batches" in options else 16
    start = step * per_epoch - 3 if in_epoch and step == 1 else step * per_epoch
    looking = Looking(start, in_epoch)
    _, run = fit(tmp_path, [looking], **options)
    every = options.get("accumulate_grad_batches", 1)
    seen = [rates[0] for index, (_, rates, *_) in enumerate(run["steps"]) if index % 16 % every == 0]
    ahead = looking.ahead
    assert looking.changes == []
    assert ahead.complete
    assert [ahead.after(step)[0] for step in range(len(seen) - start)] == pytest.approx(seen[start:], rel=1e-12)


def test_a_rate_that_never_changes_is_constant():
    def rates(*rows, **options):
        return RatesAhead(rows, tuple(map(float, range(len(rows)))), **{"complete": True, **options})

    assert rates((0.1,), (0.1,)).constant
    assert not rates((0.1,), (0.2,)).constant
    for unknown in ({"complete": False}, {"hidden": ("Some",)}, {"by_metric": True}):
        assert not rates((0.1,), (0.1,), **unknown).constant
    assert rates((0.1, 3.0), (0.2, 1.0)).peaks == (0.2, 3.0)


def test_what_cannot_be_looked_ahead_is_named_and_left(tmp_path):
    class Asking(Net):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
            return [optimizer], [lr_scheduler.ExponentialLR(optimizer, 0.9)]

        def lr_scheduler_step(self, scheduler, metric):
            scheduler.step()
            assert self.seen > 0

    looking = Looking(0, False)
    fit(tmp_path, [looking], module=Asking, num_sanity_val_steps=0)
    assert looking.ahead.hidden == ("ExponentialLR",)
    assert looking.changes == []


class Warming(pl.Callback):
    """Reads the rate when the fit starts, and sets it in every step."""

    def __init__(self, steps):
        self.steps = steps

    def on_fit_start(self, trainer, pl_module):
        self.rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step >= self.steps:
            trainer.optimizers[0].param_groups[0]["lr"] = self.rate


@pytest.mark.parametrize("steps", [0, 2])
def test_a_callback_that_sets_its_own_rate_is_noticed_once(tmp_path, steps):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(tmp_path, [finder(budget=90), Warming(steps)])
    ours = [str(warning.message) for warning in caught if "LRFinder" in str(warning.message)]
    assert len(ours) == 1
    assert f"step {steps} should be at" in ours[0]
    assert "but it is at 0.01: something else sets the rate too" in ours[0]
