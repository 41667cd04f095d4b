"""The names of Lightning's internals that a probe relies on, and that a probe step is a training step."""

from __future__ import annotations

from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy
from support.runs import LIGHTNINGS_REMARKS, Manual, Net, bare_trainer, fit, loader
from torch.profiler import ProfilerActivity, profile

from lrfinder import InputError, LRFinder, UnsupportedError
from lrfinder.lightning.internals import check_supported, internals
from lrfinder.lightning.training import LightningTraining

pytestmark = LIGHTNINGS_REMARKS


class AtStart(pl.Callback):
    """Calls a function with the trainer when training starts, and keeps what it returns."""

    def __init__(self, call):
        self.call, self.result = call, None

    def on_train_start(self, trainer, pl_module):
        self.result = self.call(trainer)


def at_start(tmp_path, call, **options):
    callback = AtStart(call)
    _, run = fit(tmp_path, [callback], max_epochs=1, **options)
    return callback.result, run


INTERNALS = {
    "fit_loop": ("_combined_loader", "_data_fetcher", "_data_source", "_should_accumulate", "epoch_loop"),
    "fit_loop.epoch_loop": ("_build_kwargs", "automatic_optimization", "manual_optimization", "val_loop"),
    "fit_loop.epoch_loop.automatic_optimization": ("run",),
    "fit_loop.epoch_loop.manual_optimization": ("run",),
    "fit_loop._combined_loader": ("flattened", "_iterator"),
    "strategy": ("_optimizers", "_lightning_optimizers", "lr_scheduler_configs", "model", "precision_plugin"),
    "lightning_module": ("_on_before_batch_transfer", "_log_hyperparams", "log", "log_dict", "automatic_optimization"),
    "": ("callbacks", "_loggers", "profiler", "should_stop", "accumulate_grad_batches", "_logger_connector"),
}


def test_lightning_still_has_every_internal_that_is_used(tmp_path):
    def missing(trainer):
        found = []
        for path, names in INTERNALS.items():
            holder = trainer
            for part in filter(None, path.split(".")):
                holder = getattr(holder, part)
            found += [f"{path}.{name}" for name in names if not hasattr(holder, name)]
        return found

    assert at_start(tmp_path, missing)[0] == []


def test_ddp_still_has_what_sets_up_a_second_wrapper():
    held = ("_setup_model", "_register_ddp_hooks", "_ddp_comm_state", "_model_averager", "all_gather", "reduce")
    assert [name for name in held if not hasattr(DDPStrategy(), name)] == []


# Not with workers or streams: those have drawn their first batches before training starts.
SETUPS = {
    "shuffling": {},
    "own generator": {"loaders": lambda: loader(generator=torch.Generator().manual_seed(3))},
    "clipped": {"gradient_clip_val": 0.1},
    "bfloat16": {"precision": "bf16-mixed"},
    "manual": {"module": Manual},
}


@pytest.mark.parametrize("name", SETUPS)
def test_probing_at_a_constant_rate_sees_the_losses_that_training_will_see(tmp_path, name):
    def probe(trainer):
        trainee = LightningTraining(trainer)
        with trainee.preserved():
            return [trainee.step().item() for _ in range(8)]

    losses, run = at_start(tmp_path, probe, **SETUPS[name])
    assert losses == [step[0] for step in run["steps"]][:8]


class Calm(Net):
    """Without the extra noise, whose generators every loss moves."""

    def loss(self, batch):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])


def test_accumulated_steps_report_the_mean_loss_of_their_batches(tmp_path):
    def probe(trainer):
        trainee = LightningTraining(trainer)
        with trainee.preserved():
            trainee.set_lrs([1e-12])
            return [trainee.step().item() for _ in range(4)]

    means, run = at_start(tmp_path, probe, module=Calm, accumulate_grad_batches=4)
    assert means[0] == pytest.approx(sum(step[0] for step in run["steps"][:4]) / 4, rel=1e-6)


class Skipping(Calm):
    """Returns no loss for every fifth batch; writes down what happens, in the class, which no snapshot winds back."""

    def training_step(self, batch, batch_idx):
        skipped = batch_idx % 5 == 1
        Skipping.events += "n" if skipped else "b"
        return None if skipped else super().training_step(batch, batch_idx)

    def on_before_zero_grad(self, optimizer):
        Skipping.events += "Z"

    def optimizer_step(self, *args):
        super().optimizer_step(*args)
        Skipping.events += "S"


def test_batches_without_a_loss_count_for_accumulation_as_in_training(tmp_path):
    def probe(trainer):
        trainee, Skipping.events = LightningTraining(trainer), ""
        with trainee.preserved():
            for _ in range(5):
                trainee.step()
        seen, Skipping.events = Skipping.events, ""
        return seen

    seen, _ = at_start(tmp_path, probe, module=Skipping, accumulate_grad_batches=3)
    assert seen.count("S") == 5
    assert Skipping.events.startswith(seen)


def test_a_probe_step_with_sgd_never_waits_for_the_device(tmp_path):
    class Silent(pl.LightningModule):
        def __init__(self, lr):
            super().__init__()
            self.lr, self.net, self.record = lr, torch.nn.Linear(8, 3), []

        def training_step(self, batch, batch_idx):
            loss = torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.lr)

    reads = []

    def probe(trainer):
        trainee = LightningTraining(trainer)
        with trainee.preserved():
            trainee.step()
            with profile(activities=[ProfilerActivity.CPU]) as measured:
                for _ in range(10):
                    trainee.step()
        reads.append(sum(event.name == "aten::_local_scalar_dense" for event in measured.events()))

    trainer = bare_trainer(AtStart(probe), max_steps=1, gradient_clip_val=1.0, default_root_dir=tmp_path)
    trainer.fit(Silent(0.1), loader())
    assert reads == [0]


class DeepSpeedStrategy:
    """Stands for Lightning's, which needs a package that is not here."""


UNSHOWN = {
    "FSDPStrategy": lambda: FSDPStrategy(accelerator=CPUAccelerator()),
    "DeepSpeedStrategy": lambda: DeepSpeedStrategy(),
}


@pytest.mark.parametrize("name", UNSHOWN)
def test_strategies_that_were_not_shown_to_be_exact_are_refused(name):
    trainer = SimpleNamespace(strategy=UNSHOWN[name]())
    with pytest.raises(UnsupportedError, match=rf"ModelParallelStrategy \(FSDP2\), got {name}: find the learning"):
        check_supported(trainer)


@pytest.mark.parametrize(
    ("options", "held"),
    [({"ddp_comm_state": object()}, "ddp_comm_state"), ({"model_averaging_period": 2}, "model_averager")],
)
def test_ddp_with_a_state_of_its_own_is_refused(options, held):
    strategy = DDPStrategy(**options)
    strategy._model_averager = options.get("model_averaging_period")  # made when the run is set up
    with pytest.raises(UnsupportedError, match=f"strategy must be plain DDP to be probed, got one with {held}"):
        check_supported(SimpleNamespace(strategy=strategy))


@pytest.mark.filterwarnings("ignore:Found `dataloader_iter`")
def test_a_step_that_draws_its_own_batches_is_refused(tmp_path):
    class Drawing(Net):
        def training_step(self, dataloader_iter):
            return super().training_step(next(dataloader_iter)[0], 0)

    with pytest.raises(UnsupportedError, match="draws its own batches, which cannot be replayed"):
        fit(tmp_path, [LRFinder(on_failure="raise")], module=Drawing)


def test_a_model_without_anything_to_train_is_refused(tmp_path):
    def check(trainer):
        trainer.lightning_module.requires_grad_(False)
        try:
            with pytest.raises(InputError, match="model must have a parameter that requires grad"):
                LightningTraining(trainer)
        finally:
            trainer.lightning_module.body.requires_grad_(True)

    at_start(tmp_path, check)


def test_a_foreign_trainer_is_refused():
    with pytest.raises(UnsupportedError, match="trainer must be a Trainer of lightning or pytorch_lightning, got int"):
        internals(3, "trainer.call")
