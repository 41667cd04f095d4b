"""A rate that a detector lowers stays low, whatever drives it, or nothing is changed and a warning says so."""

from __future__ import annotations

import warnings

import pytest
import torch
from support.runs import LIGHTNINGS_REMARKS, Net, Stream, assert_same, fit, loader
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader

from lrfinder import InputError, PlateauDetector, UnsupportedError

pytestmark = LIGHTNINGS_REMARKS


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


def test_a_rate_that_cannot_be_lowered_is_left_and_said_once(tmp_path):
    watcher = detector()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, run = fit(tmp_path / "a", [watcher], module=noise(InCode), max_epochs=8)
    ours = [str(warning.message) for warning in caught if "PlateauDetector" in str(warning.message)]
    assert len(ours) == 1
    assert "leaves the learning rate alone: the learning rate cannot be changed here: InCode" in ours[0]
    assert watcher.events
    _, plain = fit(tmp_path / "b", [PlateauDetector(delta=0.05, min_steps=48)], module=noise(InCode), max_epochs=8)
    assert_same({**run, "callbacks": {}}, {**plain, "callbacks": {}})
    with pytest.raises(UnsupportedError, match="InCode takes it from where it cannot be reached"):
        fit(tmp_path / "c", [detector(on_failure="raise")], module=noise(InCode), max_epochs=8)


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
