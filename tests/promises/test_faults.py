"""What goes wrong in a search, or is refused, changes nothing."""

from __future__ import annotations

import signal
import warnings

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from support.exactness import Picture
from support.runs import (
    INPUTS,
    LIGHTNINGS_REMARKS,
    TARGETS,
    Manual,
    Net,
    Stream,
    assert_same,
    bare_trainer,
    finder,
    fit,
    loader,
    optimizers,
)
from torch.utils.data import DataLoader

from lrfinder import InputError, LRFinder, UnsupportedError
from lrfinder.snapshot.snapshot import Snapshot

pytestmark = LIGHTNINGS_REMARKS


class Bomb(Net):
    """Goes off at the n-th call of one of its hooks; counts in the class, which no snapshot winds back."""

    where, at, calls = "training_step", 25, 0

    def _go_off(self):
        raise RuntimeError("no")

    def _count(self, where):
        if self.where == where:
            type(self).calls += 1
            if self.calls == self.at:
                self._go_off()

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self._count("training_step" if self.training else "evaluation")
        return loss

    def on_train_epoch_start(self):
        self._count("on_train_epoch_start")

    def on_after_backward(self):
        self._count("on_after_backward")

    def optimizer_step(self, *args):
        super().optimizer_step(*args)
        self._count("optimizer_step")

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        self._count("transfer")
        return super().transfer_batch_to_device(batch, device, dataloader_idx)


class Watched(LRFinder):
    """Looks at everything that the trainer and its module reach, before the search and after it failed."""

    changes = None

    def on_train_start(self, trainer, pl_module):
        before = Picture(trainer, pl_module)
        try:
            super().on_train_start(trainer, pl_module)
        except BaseException:
            self.changes = [change for change in before.changes(trainer, pl_module) if not expected(change)]
            raise


def expected(change):
    """Whether a change is of a clock, of what tells that the process is to end, or of our own answers."""
    return any(name in change for name in ("_start_time", "_last_val_time", "received_sigterm", "callbacks.[0]"))


def fails(tmp_path, kind, error, where="training_step", at=25, **options):
    """Fit until the bomb goes off; return the callback, which has looked at what changed."""
    armed = type("Armed", (kind,), {"where": where, "at": at, "calls": 0})
    callback = Watched(budget=150, min_lr=1e-5, max_lr=1e3, on_failure="raise")
    trainer = bare_trainer(callback, default_root_dir=tmp_path, max_epochs=1, **options)
    with pytest.raises(error):
        trainer.fit(armed(0.01), loader(generator=torch.Generator().manual_seed(3)), loader(shuffle=False))
    assert armed.calls == at
    assert callback.changes == []
    assert not list(tmp_path.iterdir())
    return callback


# The first 51 training steps and 40 evaluations find out how to judge, and what they raise is no reason to stop; the
# next dozen steps are of the range test; batches are evaluated before it and after every probe.
PLACES = [
    ("training_step", 53), ("training_step", 66), ("training_step", 85), ("evaluation", 60),
    ("on_train_epoch_start", 1), ("on_train_epoch_start", 5), ("on_after_backward", 20), ("optimizer_step", 20),
    ("transfer", 110),
]  # fmt: skip


@pytest.mark.parametrize(("where", "at"), PLACES)
def test_an_error_in_the_module_leaves_everything_as_it_was(tmp_path, where, at):
    fails(tmp_path, Bomb, (RuntimeError, UnsupportedError), where, at)


def test_the_picture_would_show_a_change(tmp_path):
    class Changing(Watched):
        def _tune(self, trainer, module):
            module.head.bias.data[0] += 1e-7
            trainer.fit_loop.epoch_loop.batch_progress.total.ready += 1
            raise RuntimeError("no")

    callback = Changing(on_failure="raise")
    with pytest.raises(RuntimeError, match="no"):
        fit(tmp_path, [callback])
    assert any("head" in change for change in callback.changes)
    assert any("ready" in change for change in callback.changes)


def test_ctrl_c_leaves_everything_as_it_was(tmp_path):
    class Interrupted(Bomb):
        def _go_off(self):
            signal.raise_signal(signal.SIGINT)

    held = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
    try:
        callback = fails(tmp_path, Interrupted, (KeyboardInterrupt, SystemExit), at=12)
    finally:
        signal.signal(signal.SIGINT, held)  # Lightning leaves Ctrl-C ignored
    assert callback.suggestion is None


def test_sigterm_ends_the_search_as_it_ends_training(tmp_path):
    class Terminated(Bomb):
        def _go_off(self):
            signal.raise_signal(signal.SIGTERM)

    fails(tmp_path, Terminated, SIGTERMException, at=90)


@pytest.mark.parametrize(("where", "at"), [("training_step", 60), ("evaluation", 3), ("evaluation", 60)])
def test_out_of_memory_leaves_everything_as_it_was_and_says_so(tmp_path, where, at):
    """Also where held-out batches are tried first, when any other error would only mean to do without them."""

    class Large(Bomb):
        def _go_off(self):
            raise torch.OutOfMemoryError("no memory for activations")

    fails(tmp_path, Large, torch.OutOfMemoryError, where, at)


def test_out_of_memory_with_a_snapshot_on_the_device_is_tried_again_with_it_in_host_memory(tmp_path, monkeypatch):
    class Large(Bomb):
        at = 60

        def _go_off(self):
            raise torch.OutOfMemoryError("no memory for activations")

    moved = []
    monkeypatch.setattr(Snapshot, "to_host", lambda snapshot: moved.append(snapshot) is None)
    callback = finder()
    trainer, run = fit(tmp_path / "tuned", [callback], module=Large)
    assert len(moved) == 1
    Large.at = -1
    _, reference = fit(tmp_path / "by hand", module=Large, lr=trainer.lightning_module.lr)
    assert_same(run, reference)


class Saboteur(pl.Callback):
    """A user's callback that raises in the middle of training."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 5:
            raise RuntimeError("mine")


def test_a_callback_that_raises_finds_the_run_as_by_hand(tmp_path):
    modules = []

    def kept(lr):
        modules.append(Net(lr))
        return modules[-1]

    with pytest.raises(RuntimeError, match="mine"):
        fit(tmp_path / "tuned", [finder(), Saboteur()], module=kept)
    with pytest.raises(RuntimeError, match="mine"):
        fit(tmp_path / "by hand", [Saboteur()], module=kept, lr=modules[0].lr)
    first, second = modules
    assert first.record == second.record
    assert len(first.record) == 5
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_nothing_is_saved_while_probing(tmp_path):
    """A module that saves a checkpoint itself, or SLURM asking for one, would keep the state of a probe."""

    class Saving(Net):
        def training_step(self, batch, batch_idx):
            self.trainer.save_checkpoint(self.trainer.default_root_dir + f"/own-{self.global_step}.ckpt")
            return super().training_step(batch, batch_idx)

    trainer, run = fit(tmp_path / "tuned", [finder()], module=Saving, max_epochs=1)
    assert "save_checkpoint" not in vars(trainer)
    _, reference = fit(tmp_path / "by hand", module=Saving, max_epochs=1, lr=trainer.lightning_module.lr)
    assert_same(run, reference)


def test_after_a_failed_test_the_same_module_trains_as_if_it_had_never_been(tmp_path):
    models = []

    class Failing(Bomb):
        """Fails once."""

        at = 60

    def failing(lr):
        models.append(Failing(lr))
        return models[-1]

    with pytest.raises(RuntimeError, match="no"):
        fit(tmp_path / "fails", [finder()], module=failing)
    pl.seed_everything(7, verbose=False)
    fresh = Failing(0.01)  # what fit() would build from this seed
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), fresh.parameters(), strict=True))
    _, run = fit(tmp_path / "a", module=lambda lr: [Failing(lr), models[0]][1])
    _, reference = fit(tmp_path / "b", module=Failing)
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


class OwnSteps(torch.optim.SGD):
    """Sets the length of its steps itself, and has no learning rate."""

    def __init__(self, parameters):
        super().__init__(parameters, 0.01)
        self.param_groups[0]["lr"] = self.defaults["lr"] = None

    def step(self, closure=None):
        loss = closure()
        with torch.no_grad():
            for parameter in self.param_groups[0]["params"]:
                parameter -= 0 if parameter.grad is None else 0.01 * parameter.grad.sign()
        return loss


class Unready(Net):
    """Its steps need something that only exists once training runs."""

    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) * self.scale

    def on_train_batch_start(self, batch, batch_idx):
        (running,) = [callback for callback in self.trainer.callbacks if isinstance(callback, Running)]
        self.scale = torch.ones(()) if running.trains else None


class Running(pl.Callback):
    trains = False

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.trains = True


class NaNs(Net):
    """Has no finite loss at low rates."""

    def training_step(self, batch, batch_idx):
        low = self.trainer.optimizers[0].param_groups[0]["lr"] < 1e-3
        return super().training_step(batch, batch_idx) * (float("nan") if low else 1.0)


class Once(Stream):
    """Data that hold a generator, as many a streaming library does."""

    def __init__(self):
        super().__init__()
        self.source = (index % 256 for index in range(10_000))

    def __iter__(self):
        for _ in range(192):
            index = next(self.source)
            yield INPUTS[index], TARGETS[index]


class Rateless(Net):
    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def configure_optimizers(self):
        return OwnSteps(self.parameters())


class Growing(Net):
    """Adds a param group to its optimizer in its second step."""

    def training_step(self, batch, batch_idx):
        if batch_idx == 1 and len(self.trainer.optimizers[0].param_groups) == 1:
            self.optimizers().optimizer.add_param_group({"params": torch.nn.Linear(2, 2).parameters()})
        return super().training_step(batch, batch_idx)


def failing(error):
    """Return a module class that raises an error outside of training."""

    class Failing(Net):
        def on_train_batch_start(self, batch, batch_idx):
            if not any(isinstance(callback, Running) and callback.trains for callback in self.trainer.callbacks):
                raise error

    return Failing


NOTED = RuntimeError("not in training")
NOTED.__notes__ = ["a note"]  # as PEP 678 adds it


def no_optimizer(lr):
    return Net(lr, lambda net: None)


HOPELESS = {
    "a rate of None": ("got lr = None", {"module": Rateless}),
    "no optimizer": ("must return an optimizer, got None", {"module": no_optimizer}),
    "an error of the module": ("has no attribute 'scale'", {"module": Unready}),
    "an error without a text": ("AssertionError", {"module": failing(AssertionError())}),
    "an error with a note": ("RuntimeError: not in training", {"module": failing(NOTED)}),
    "a param group added": ("must leave the number of param groups as it is", {"module": Growing}),
    "data that hold a generator": ("holds a generator", {"loaders": lambda: DataLoader(Once(), 16)}),
    "NaN in a range test": ("loss must stay finite", {"module": NaNs, "method": "range"}),
    "a name that is none": ("attribute must name", {"attribute": "rate"}),
    "a metric without validation": ("without validation", {"monitor": "val_loss", "limit_val_batches": 0}),
}


@pytest.mark.parametrize("name", HOPELESS)
def test_what_cannot_be_probed_trains_as_without_the_callback_and_one_warning_says_why(tmp_path, name):
    why, options = HOPELESS[name]
    asked = {key: options[key] for key in ("method", "attribute", "monitor") if key in options}
    rest = {key: value for key, value in options.items() if key not in asked}
    callback = finder(on_failure="warn", **asked)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, run = fit(tmp_path / "tuned", [callback, Running()], **rest)
    ours = [str(warning.message) for warning in caught if "LRFinder" in str(warning.message)]
    assert len(ours) == 1
    assert why in ours[0]
    assert ": ." not in ours[0]
    assert "Everything is as it was, and training goes on" in ours[0]
    assert why in callback.failure
    assert callback.suggestion is None
    _, reference = fit(tmp_path / "plain", [Running()], **rest)
    assert_same(run, reference)


def test_data_that_cannot_be_rewound_are_searched_if_asked_for_and_a_caveat_says_so(tmp_path):
    callback = finder(exact=False)
    fit(tmp_path, [callback], loaders=lambda: DataLoader(Once(), 16))
    assert callback.suggestion.lr is not None
    assert "hold a generator, which cannot be rewound" in " ".join(callback.suggestion.caveats)
    fit(tmp_path / "loader", [callback := finder("range", exact=False)], loaders=lambda: iter([*loader()] * 20))
    assert "hold a list_iterator" in " ".join(callback.suggestion.caveats)


def test_an_error_that_is_to_end_the_fit_ends_it(tmp_path):
    with pytest.raises(InputError, match="must return an optimizer"):
        fit(tmp_path, [finder(on_failure="raise")], module=no_optimizer)
    with pytest.raises(InputError, match="on_failure must be warn or raise, got 'stop'"):
        LRFinder(on_failure="stop")


def test_an_empty_epoch_is_no_accident_of_ours(tmp_path):
    callback = finder()
    fit(tmp_path, [callback], limit_train_batches=0)
    assert callback.suggestion is None


def test_ctrl_c_in_a_late_probe_keeps_the_answer_so_far_and_touches_no_rate(tmp_path):
    class Interrupted(Net):
        taken = 0  # of the class: no snapshot winds it back

        def training_step(self, batch, batch_idx):
            Interrupted.taken += 1
            if Interrupted.taken == 320:  # evaluations count too
                raise KeyboardInterrupt
            return super().training_step(batch, batch_idx)

    callback, states = finder(), []
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(tmp_path, [callback], module=Interrupted, before=lambda trainer, model: states.append(model))
    assert callback.suggestion.interrupted
    assert any("was interrupted after" in text for text in callback.suggestion.caveats)
    assert (states[0].lr, states[0].seen) == (0.01, 0)
