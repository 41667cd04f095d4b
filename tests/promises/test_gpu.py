"""What only a GPU can show: its random numbers, half precision, no waiting for it, and memory that runs out."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from support.runs import LIGHTNINGS_REMARKS, Net, by_hand, finder, fit, loader, optimizers
from torch import nn

from lrfinder import Detector
from lrfinder.lightning.training import LightningTraining
from lrfinder.plateau.gain_test import next_look
from lrfinder.snapshot.snapshot import Snapshot

pytestmark = [
    *LIGHTNINGS_REMARKS,
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::UserWarning"),  # other versions of torch and lightning, other remarks
]

RUNS = {
    "single precision": {},
    "half precision": {"precision": "16-mixed"},
    "bfloat16": {"precision": "bf16-mixed"},
    "adam in one kernel": {
        "module": optimizers(lambda net: torch.optim.AdamW(net.parameters(), lr=net.lr, fused=True))
    },
    "pinned memory and workers": {"loaders": lambda: loader(num_workers=2, pin_memory=True)},
    "accumulation and clipping": {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1},
}


@pytest.mark.parametrize("name", RUNS)
def test_training_is_as_by_hand_on_the_gpu(tmp_path, name):
    by_hand(tmp_path, finder(budget=150), accelerator="gpu", devices=1, **RUNS[name])


def test_the_random_numbers_of_the_gpu_are_put_back(tmp_path):
    def state(callbacks):
        fit(tmp_path / str(len(callbacks)), callbacks, accelerator="gpu", devices=1, lr=0.01, max_epochs=1)
        return torch.cuda.get_rng_state().tolist()

    assert state([finder()]) == state([])


class Silent(Net):
    """Reads nothing from the device."""

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.head(self.body(batch[0])), batch[1])


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_a_probe_step_never_waits_for_the_gpu(tmp_path, make):
    steps = []

    class Probing(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            trainee = LightningTraining(trainer)
            with trainee.preserved():
                trainee.keep_batches(8)
                trainee.rewind()
                trainee.step()
                torch.cuda.set_sync_debug_mode("error")
                try:
                    steps.extend(trainee.step() for _ in range(5))
                finally:
                    torch.cuda.set_sync_debug_mode("default")

    class Configured(Silent):
        def configure_optimizers(self):
            return make(self.parameters(), lr=self.lr)

    fit(
        tmp_path, [Probing()], module=Configured, accelerator="gpu", devices=1, max_epochs=1,
        loaders=lambda: loader(pin_memory=True),
    )  # fmt: skip
    assert len(steps) == 5


def test_a_snapshot_moves_to_host_memory_and_back():
    model = nn.Linear(2048, 2048).cuda()
    expected = model.weight.detach().clone()
    before = torch.cuda.memory_allocated()
    snapshot = Snapshot(model)
    assert torch.cuda.memory_allocated() - before >= expected.nbytes
    assert snapshot.to_host()
    assert torch.cuda.memory_allocated() == before
    model.weight.data.zero_()
    snapshot.restore()
    assert torch.equal(model.weight, expected)


def test_a_snapshot_that_does_not_fit_on_the_device_is_kept_by_the_host():
    model = nn.Linear(4096, 4096, bias=False).cuda()  # the copy of a small bias would still find room
    expected = model.weight.detach().clone()
    torch.cuda.empty_cache()  # what earlier tests have left there would be room too
    whole, allowed = torch.cuda.mem_get_info()[1], torch.cuda.memory_reserved() + expected.nbytes // 2
    torch.cuda.set_per_process_memory_fraction(allowed / whole)
    try:
        snapshot = Snapshot(model)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert not snapshot.to_host()
    model.weight.data.zero_()
    snapshot.restore()
    assert torch.equal(model.weight, expected)


def test_the_detector_never_waits_for_the_gpu_but_to_look():
    steps = 3000
    losses = torch.linspace(3, 1, steps, device="cuda").split(1)
    detector = Detector()
    for step, loss in enumerate(losses, start=1):
        looks = next_look(step - 1) == step and step >= detector.min_steps
        torch.cuda.set_sync_debug_mode("default" if looks else "error")
        try:
            detector.update(loss, 0.1)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    on_host = Detector()
    on_host.extend(torch.linspace(3, 1, steps).tolist())
    assert detector.events == ()
    torch.testing.assert_close(detector.record().mean, on_host.record().mean)
