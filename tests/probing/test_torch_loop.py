"""Probing in a plain torch loop: what is found, what every probe sees, and that all is as before."""

from __future__ import annotations

import math
import multiprocessing
import random
from collections import namedtuple
from typing import ClassVar

import numpy as np
import pytest
import torch
from support.exactness import Picture
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, OneCycleLR
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, TensorDataset

from lrfinder import InputError, Reason, UnsupportedError, find_lr, range_test, suggest
from lrfinder.demo import digits_demo
from lrfinder.evidence.range_fit import fit_range
from lrfinder.probing.options import SearchOptions
from lrfinder.probing.torch_loop import TorchTraining, suggest_for


@pytest.fixture(autouse=True)
def _empty_diary():
    Diary.notes = []


SHORT = {"min_lr": 1e-4, "max_lr": 1e-1, "steps": 12}


class UserError(Exception):
    """One that the user's own code raises."""


class Diary:
    """No snapshot looks into a class: what is noted here survives."""

    notes: ClassVar[list[object]] = []


class Noisy(nn.Module):
    """Everything that a step may move: dropout, running statistics, plain attributes, four kinds of random numbers."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3)
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.last = nn.Linear(8, 1)
        self.register_buffer("average", torch.zeros(()), persistent=False)
        self.calls, self.history = 0, []
        self.generator = torch.Generator().manual_seed(5)
        self.rng = np.random.default_rng(5)

    def forward(self, x):
        self.calls += 1
        self.history.append(self.rng.random() + random.random() + np.random.rand())
        h = self.drop(self.norm(self.first(x)).relu())
        self.average = 0.9 * self.average + 0.1 * h.detach().mean()
        h = h + 0.01 * torch.randn(h.shape, generator=self.generator) + 0.01 * self.history[-1]
        return self.last(self.frozen(h))[:, 0]


def numbers(rows=48):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 4, generator=generator)
    return TensorDataset(x, x @ torch.tensor([1.0, -2.0, 0.5, 0.0]) + 1)


class Augmented(Dataset):
    """Rows that change with every look at them."""

    def __init__(self):
        self.rows, self.rng, self.looks = numbers(), np.random.default_rng(2), 0

    def __len__(self):
        return 48

    def __getitem__(self, index):
        self.looks += 1
        x, y = self.rows[index]
        return x + 0.1 * self.rng.standard_normal() + 0.1 * torch.rand(()), y


class Stream(IterableDataset):
    """Goes on where it stopped, over and over."""

    def __init__(self):
        self.rows, self.position = numbers(), 0

    def __iter__(self):
        for _ in range(30):
            self.position = (self.position + 1) % 48
            yield self.rows[self.position]


class Growing(Sampler):
    """Starts each epoch one row later."""

    def __init__(self):
        self.epoch = 0

    def __len__(self):
        return 40

    def __iter__(self):
        self.epoch += 1
        return iter(range(self.epoch % 9, 40 + self.epoch % 9))


class Mixing:
    """A collate function with random numbers of its own."""

    def __init__(self):
        self.rng = random.Random(3)

    def __call__(self, rows):
        x, y = torch.utils.data.default_collate(rows)
        return x * self.rng.uniform(0.9, 1.1), y


LOADERS = {
    "shuffled": lambda: DataLoader(numbers(), 8, shuffle=True),
    "own generator": lambda: DataLoader(numbers(), 8, shuffle=True, generator=torch.Generator().manual_seed(9)),
    "2 workers": lambda: DataLoader(Augmented(), 8, num_workers=2, generator=torch.Generator().manual_seed(9)),
    "2 persistent workers": lambda: DataLoader(Augmented(), 8, shuffle=True, num_workers=2, persistent_workers=True),
    "data with state": lambda: DataLoader(Augmented(), 8, shuffle=True),
    "stream": lambda: DataLoader(Stream(), 8),
    "sampler with state": lambda: DataLoader(numbers(), 8, sampler=Growing()),
    "collate with state": lambda: DataLoader(numbers(), 8, shuffle=True, collate_fn=Mixing()),
    "list": lambda: [numbers()[i : i + 8] for i in range(0, 48, 8)],
    "whole batch twice": lambda: [numbers()[:]] * 2,
}

OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, 0.05),
    "momentum": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, 0.01),
    "Adam, tensor lr": lambda p: torch.optim.Adam(p, torch.tensor(0.01)),
    "AdamW": lambda p: torch.optim.AdamW(p, 0.01, amsgrad=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 0.01),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 0.01),
    "LBFGS": lambda p: torch.optim.LBFGS(p, 0.1, max_iter=3),
}


def seeded():
    torch.manual_seed(0), random.seed(0), np.random.seed(0)


def groups(model, lr=0.05):
    return [{"params": model.first.parameters(), "lr": lr}, {"params": model.last.parameters(), "lr": lr / 10}]


def train(model, optimizer, batches):
    """Train on ``batches``; return the loss of each."""
    losses = []
    for x, y in batches:

        def closure():
            optimizer.zero_grad()
            loss = (model(x) - y).square().mean()  # noqa: B023  # used at once
            loss.backward()
            return loss

        losses.append(optimizer.step(closure).item())
    return losses


def mse(prediction, target):
    return (prediction - target).square().mean()


@pytest.mark.parametrize("warm", [False, True], ids=["fresh", "in training"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_everything_is_as_before(name, warm):
    seeded()
    model, loader = Noisy(), LOADERS["data with state"]()
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    if warm:
        train(model, optimizer, loader)
    model.eval()
    model.norm.train()
    before = Picture(model, optimizer, loader)
    curve = range_test(model, optimizer, mse, loader, **SHORT)
    assert before.changes(model, optimizer, loader) == []
    assert len(set(curve.loss.tolist())) == len(curve)


@pytest.mark.parametrize("name", LOADERS)
def test_an_epoch_that_was_under_way_goes_on_as_if_nothing_had_been(name):
    def run(tested):
        seeded()
        model, loader = Noisy(), LOADERS[name]()
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        epoch = iter(loader)
        losses = train(model, optimizer, [next(epoch)])
        if tested:
            range_test(model, optimizer, mse, loader, **SHORT)
        return losses + train(model, optimizer, epoch) + train(model, optimizer, loader)

    assert run(tested=True) == run(tested=False)


def test_the_first_loss_is_the_first_loss_of_training():
    seeded()
    model, loader = Noisy(), LOADERS["shuffled"]()
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    curve = range_test(model, optimizer, mse, loader, **SHORT)
    assert curve.loss[0] == train(model, optimizer, loader)[0]


@pytest.mark.parametrize(
    "make",
    [
        lambda o: LinearLR(o, 0.1, total_iters=5),
        lambda o: CosineAnnealingLR(o, 20),
        lambda o: OneCycleLR(o, [0.5, 0.05], total_steps=50),
    ],
)
def test_an_attached_scheduler_is_as_before_and_its_peak_is_what_is_scaled(make):
    seeded()
    model, loader = Noisy(), LOADERS["shuffled"]()
    optimizer = torch.optim.SGD(groups(model, 0.5), momentum=0.9)
    scheduler = make(optimizer)
    train(model, optimizer, [next(iter(loader))])
    scheduler.step()
    before = Picture(model, optimizer, loader, scheduler)

    def step(batch):
        loss = mse(model(batch[0]), batch[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        return loss

    curve = range_test(model, optimizer, mse, loader, train_step=step, **SHORT)
    assert before.changes(model, optimizer, loader, scheduler) == []
    assert curve.group_ratios == pytest.approx((1, 0.1))


def test_the_model_is_probed_in_train_mode_with_gradients_whatever_it_was_in():
    model = Noisy().eval()
    model.drop.train()
    model.drop.register_forward_hook(lambda *_: Diary.notes.append((model.norm.training, torch.is_grad_enabled())))
    with torch.no_grad():
        range_test(model, torch.optim.SGD(model.parameters(), 0.1), mse, LOADERS["list"](), **SHORT)
        assert not torch.is_grad_enabled()
    assert Diary.notes == [(True, True)] * 12
    assert [module.training for module in (model, model.norm, model.drop)] == [False, False, True]


def test_a_large_batch_of_a_list_that_a_step_edits_is_as_before():
    batch = -torch.ones(600, 1000)  # above what a snapshot copies of data
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(1000, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    range_test(model, optimizer, torch.mean, [batch] * 2, **SHORT)
    assert (batch == -1).all()


def lrs_of_each_step(optimizer, model, **options):
    def step(batch):
        Diary.notes.append([float(group["lr"]) for group in optimizer.param_groups])
        return model(batch).square().sum()

    range_test(model, optimizer, mse, [torch.ones(1, 1)] * 2, train_step=step, **options)
    return Diary.notes


def test_the_ladder_reaches_the_optimizer_exactly_and_ratios_are_kept():
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1))
    rates = [0.3, 0.03, 0.0]
    layers = [{"params": layer.parameters(), "lr": lr} for layer, lr in zip(model, rates, strict=True)]
    optimizer = torch.optim.SGD(layers, lr=0.3)
    seen = lrs_of_each_step(optimizer, model, min_lr=3e-5, max_lr=0.7, steps=11)
    assert (seen[0][0], seen[-1][0]) == (3e-5, 0.7)
    assert all(b == pytest.approx(a / 10, rel=1e-12) and c == 0 for a, b, c in seen)
    assert [group["lr"] for group in optimizer.param_groups] == rates


def test_a_tensor_learning_rate_is_set_in_place_and_comes_back():
    model, lr = nn.Linear(1, 1), torch.tensor(0.25)
    optimizer = torch.optim.Adam(model.parameters(), lr)
    seen = lrs_of_each_step(optimizer, model, min_lr=2.0**-10, max_lr=1.0, steps=11)
    assert [lrs[0] for lrs in seen] == pytest.approx([2.0 ** (i - 10) for i in range(11)], rel=1e-6)
    assert optimizer.param_groups[0]["lr"] is lr
    assert lr.item() == 0.25


class Point(nn.Module):
    """Parameters, and nothing else; the batch is ignored."""

    def __init__(self, *start):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start, dtype=torch.float64))

    def forward(self, batch):
        return self.w


def descend(loss_fn, *start, optimizer=torch.optim.SGD, **options):
    model = Point(*start)
    curve = range_test(model, optimizer(model.parameters(), lr=1.0), loss_fn, [torch.zeros(1)] * 2, **options)
    assert model.w.tolist() == [*start]
    return curve


@pytest.mark.parametrize("constant", [1.0, -2.5, 0.0, 1e-30, 1e30])
def test_a_constant_loss_is_recorded_as_that_constant(constant):
    curve = descend(lambda w: w.sum() * 0 + constant, 1.0, steps=37)
    assert curve.loss.tolist() == [constant] * 37


def test_a_quadratic_is_followed_exactly():
    curve = descend(lambda w: 0.5 * w.square().sum(), 3.0, min_lr=1e-3, max_lr=1.0, steps=20)
    w, expected = 3.0, []
    for lr in curve.lr:
        expected.append(0.5 * w * w)
        w -= lr * w
    assert curve.loss.tolist() == pytest.approx(expected, rel=1e-12)


def test_negative_losses_are_recorded_before_each_update():
    """The loss is the parameter itself, so that it must be copied before the update moves it."""
    curve = descend(lambda w: w.view(()), -1.0, min_lr=1e-3, max_lr=1.0, steps=20)
    assert curve.loss.tolist() == pytest.approx([-1.0 - curve.lr[:i].sum() for i in range(20)], rel=1e-12)


def test_lbfgs_records_the_loss_before_each_update_however_often_it_evaluates():
    def loss_fn(w):
        Diary.notes.append(0.5 * w.square().sum().item())
        return 0.5 * w.square().sum()

    curve = descend(loss_fn, 3.0, optimizer=torch.optim.LBFGS, **SHORT)
    assert curve.loss[0] == 4.5
    assert len(Diary.notes) > 12
    assert [Diary.notes.index(loss) for loss in curve.loss] == sorted(Diary.notes.index(loss) for loss in curve.loss)
    assert curve.loss[1] != Diary.notes[1]


def test_nan_ends_the_test():
    def loss_fn(w):
        Diary.notes.append(1)
        return w.sum() * (math.nan if len(Diary.notes) > 15 else 1)

    curve = descend(loss_fn, 1.0, steps=100)
    assert len(curve) == 16
    assert math.isnan(curve.loss[-1])
    assert len(Diary.notes) == 20  # the next look at the losses


def test_an_error_of_the_user_because_training_blew_up_ends_the_test():
    def loss_fn(w):
        loss = w.square().sum()
        if loss > 1e6:
            raise UserError("not finite")
        return loss

    curve = descend(loss_fn, 1.0, min_lr=0.1, max_lr=1e3, steps=60)
    assert len(curve) < 60
    assert curve.loss.max() <= 1e6


def test_an_error_of_the_user_for_another_reason_passes_through():
    def loss_fn(w):
        raise UserError("unrelated")

    with pytest.raises(UserError, match="unrelated"):
        descend(loss_fn, 1.0, min_lr=0.1, max_lr=1e3, steps=60)


Named = namedtuple("Named", "x y")


@pytest.mark.parametrize(
    ("batch", "loss_fn"),
    [
        ((torch.ones(2, 4), torch.ones(2)), mse),
        ([torch.ones(2, 4), torch.ones(2)], mse),
        (Named(torch.ones(2, 4), torch.ones(2)), mse),
        (torch.ones(2, 4), lambda out: out.square().mean()),
        ({"x": torch.ones(2, 4)}, lambda out: out.square().mean()),
        ((torch.ones(2, 4), 1, "id"), lambda out: out.square().mean()),
    ],
    ids=["pair", "list", "named pair", "tensor", "dict", "triple"],
)
def test_batches_of_every_common_kind(batch, loss_fn):
    class Model(Noisy):
        def forward(self, batch):
            x = batch if isinstance(batch, torch.Tensor) else batch["x"] if isinstance(batch, dict) else batch[0]
            return super().forward(x)

    model = Model()
    curve = range_test(model, torch.optim.SGD(model.parameters(), 0.1), loss_fn, [batch] * 2, **SHORT)
    assert len(curve) == 12


@pytest.mark.parametrize(
    ("loss", "got"),
    [
        (lambda w: w, r"a tensor of shape \(2,\)"),
        (lambda w: w.sum().item(), "float"),
        (lambda w: None, "NoneType"),
        (lambda w: {"loss": w.sum()}, "dict"),
    ],
)
def test_a_loss_that_is_no_scalar_tensor_is_an_input_error(loss, got):
    with pytest.raises(InputError, match=f"loss_fn must return one scalar tensor, got {got}"):
        descend(loss, 1.0, 2.0, **SHORT)
    with pytest.raises(InputError, match=f"train_step must return one scalar tensor, got {got}"):
        descend(None, 1.0, 2.0, train_step=lambda batch: loss(torch.ones(2)), **SHORT)


def test_a_loss_of_one_element_will_do():
    assert len(descend(lambda w: w.square().reshape(1, 1), 1.0, **SHORT)) == 12


def test_the_state_of_a_users_own_step_comes_back():
    seeded()
    model, loader = Noisy(), LOADERS["shuffled"]()
    optimizer = torch.optim.SGD(groups(model), momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn())
    counter, log, micro = [0], {"losses": []}, 0

    def step(batch):
        nonlocal micro
        micro += 1
        optimizer.zero_grad()
        for half in (slice(None, 4), slice(4, None)):
            with torch.autocast("cpu", torch.bfloat16):
                loss = mse(model(batch[0][half]), batch[1][half]) / 2
            scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        average.update_parameters(model)
        counter[0] += 1
        log["losses"].append(loss)
        return loss

    state = (model, optimizer, loader, scaler, average, counter, log)
    for _ in range(2):
        before = Picture(*state)
        curve = range_test(model, optimizer, mse, loader, train_step=step, **SHORT)
        assert len(curve) == 12
        assert before.changes(*state) == []
        assert micro == counter[0]
        for batch in loader:
            step(batch)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_accumulated_batches_are_one_step_on_all_of_them(name):
    """Without batch normalisation or noise, two batches of eight rows are as good as one of sixteen."""
    curves, calls = [], []
    for size, accumulate in ((16, 1), (8, 2)):
        seeded()
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0))
        loader, Diary.notes = DataLoader(numbers(), size), []

        def counted(prediction, target):
            Diary.notes.append(len(target))
            return mse(prediction, target)

        optimizer = OPTIMIZERS[name](list(model.parameters()))
        curves.append(range_test(model, optimizer, counted, loader, accumulate=accumulate, **SHORT))
        calls.append(len(Diary.notes))
    assert curves[0].loss == pytest.approx(curves[1].loss, rel=1e-4)
    assert calls[1] == 2 * calls[0] >= 24


def test_a_search_with_accumulation_leaves_everything_as_before():
    seeded()
    model, loader = Noisy(), LOADERS["data with state"]()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    before = Picture(model, optimizer, loader)
    suggestion = find_lr(model, optimizer, mse, loader, steps=200, budget=150, accumulate=3)
    assert before.changes(model, optimizer, loader) == []
    assert suggestion.steps_spent <= 150


@pytest.mark.parametrize("bad", [0, 1.5, True, "2"])
def test_a_bad_number_of_batches_is_named(bad):
    with pytest.raises(InputError, match=f"accumulate must be a whole number of batches, at least 1, got {bad!r}"):
        descend(torch.sum, 1.0, 2.0, accumulate=bad, **SHORT)
    with pytest.raises(InputError, match="accumulate may be given without train_step only"):
        descend(torch.sum, 1.0, 2.0, accumulate=2, train_step=torch.sum, **SHORT)


SCRIPT = """
import copy, torch
from lrfinder import range_test

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(), torch.nn.Linear(8, 1))
average = copy.deepcopy(model)
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=100)
scaler = torch.amp.GradScaler("cpu", growth_interval=3)
batches = list(torch.randn(6, 8, 4))
count, losses = 0, []

def update_average():
    for a, b in zip(average.parameters(), model.parameters()):
        a.data.lerp_(b.detach(), 0.1)

def step(batch):
    global count
    count += 1
    loss = model(batch).square().mean() * (1 + count)
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    scheduler.step()
    update_average()
    losses.append(loss.item())
    return loss

if PROBE:
    range_test(model, optimizer, None, batches, train_step=step, steps=12, max_lr=0.1)
for batch in batches:
    step(batch)
weights = [value.tolist() for value in [*model.parameters(), *average.parameters()]]
"""


def test_a_script_whose_step_keeps_everything_in_globals_trains_on_as_without():
    def run(probe):
        names = {"PROBE": probe}
        exec(SCRIPT, names)
        return names["losses"], names["weights"], names["scaler"].get_scale()

    assert run(probe=True) == run(probe=False)


def test_the_state_of_the_loss_function_comes_back():
    class Centred(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.zeros(()))
            self.calls = 0

        def forward(self, prediction, target):
            self.calls += 1
            self.mean.lerp_(prediction.detach().mean(), 0.1)
            return (prediction - target - self.mean).square().mean()

    model, loss_fn = Noisy(), Centred()
    before = Picture(loss_fn)
    range_test(model, torch.optim.SGD(model.parameters(), 0.1), loss_fn, LOADERS["list"](), **SHORT)
    assert before.changes(loss_fn) == []


class HostReads(TorchDispatchMode):
    """Counts how often the host waits for a number from the device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_the_count_of_host_reads_works():
    with HostReads() as reads:
        torch.ones(1).item()
    assert reads.count == 1


def no_groups(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    optimizer.param_groups = []
    return optimizer


class FileRows(Dataset):
    def __init__(self):
        self.rows = iter([1, 2])


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"loader": []}, InputError, "loader must yield at least two batches per epoch, got none"),
        ({"loader": [numbers()[:8]]}, InputError, "loader must yield at least two batches per epoch, got 1"),
        ({"loader": iter([1, 2])}, UnsupportedError, "loader must be iterable more than once, got a list_iterator"),
        ({"loader": (i for i in [])}, UnsupportedError, "loader must be iterable more than once, got a generator"),
        ({"loader": None}, InputError, "loader must be iterable, got a NoneType"),
        ({"loader": DataLoader(FileRows())}, UnsupportedError, "the data holds a list_iterator"),
        ({"optimizer": no_groups}, InputError, "a param group with lr > 0, .*, got no param groups"),
        ({"optimizer": lambda m: torch.optim.SGD(groups(m, 0.0))}, InputError, "lr > 0, .*, got lr = 0, 0"),
        ({"min_lr": 0.0}, InputError, "min_lr must be positive and finite, got min_lr = 0"),
    ],
)
def test_what_breaks_a_rule_is_named_and_nothing_has_changed(change, error, text):
    seeded()
    model = Noisy().eval()
    arguments = {
        "optimizer": lambda m: torch.optim.Adam(m.parameters()),
        "loader": LOADERS["list"](),
        **SHORT,
        **change,
    }
    optimizer = arguments["optimizer"] = arguments["optimizer"](model)
    before = Picture(model, optimizer)
    with pytest.raises(error, match=text):
        range_test(model, loss_fn=mse, **arguments)
    assert before.changes(model, optimizer) == []


def test_a_model_without_anything_to_train_is_an_input_error():
    model = Noisy().requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(InputError, match="model must have a parameter that requires grad, got none"):
        range_test(model, optimizer, mse, LOADERS["list"]())


def test_a_model_without_memory_is_an_input_error():
    model = Noisy().to("meta")
    with pytest.raises(InputError, match="model must hold its parameters in memory, got one on the meta device"):
        range_test(model, torch.optim.SGD(model.parameters(), 0.1), mse, LOADERS["list"]())


def test_a_lazy_model_is_refused_before_it_takes_shape():
    model = nn.LazyLinear(1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(UnsupportedError, match="a lazy parameter has no shape yet"):
        range_test(model, optimizer, mse, LOADERS["list"]())
    assert model.has_uninitialized_params()


class Bowl(torch.nn.Module):
    """Half the sum of curvature times weight squared."""

    def __init__(self, curvatures):
        super().__init__()
        self.register_buffer("curvatures", torch.tensor(curvatures, dtype=torch.float64))
        self.weight = torch.nn.Parameter(torch.ones(len(curvatures), dtype=torch.float64))

    def forward(self, inputs):
        return 0.5 * (self.curvatures * self.weight**2).sum()


@pytest.mark.parametrize("sharpness", [0.5, 0.8, 1.3, 2.1, 3.4, 5.5, 8.9, 14.4, 23.3, 37.7])
def test_gradient_descent_is_found_to_diverge_at_two_over_the_largest_curvature(sharpness):
    model = Bowl([sharpness, sharpness / 3, sharpness / 10, sharpness / 100])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    curve = range_test(model, optimizer, lambda loss: loss, [torch.zeros(1)] * 2, min_lr=1e-5, max_lr=1e2)
    assert fit_range(curve).lr_diverge == pytest.approx(2 / sharpness, rel=0.02)
    assert suggest(curve).lr < suggest(curve).lr_high <= 2 / sharpness * 1.02


QUICK = {"steps": 200, "budget": 100}

ALL_OPTIMIZERS = {
    **OPTIMIZERS,
    "Nesterov": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=1e-4),
    "NAdam": lambda p: torch.optim.NAdam(p, 0.01),
    "RAdam": lambda p: torch.optim.RAdam(p, 0.01),
    "Adadelta": lambda p: torch.optim.Adadelta(p, 1.0),
}
if hasattr(torch.optim, "Adafactor"):
    ALL_OPTIMIZERS["Adafactor"] = lambda p: torch.optim.Adafactor(p, 0.01)


def validation():
    return DataLoader(Augmented(), 8, shuffle=True, collate_fn=Mixing())


@pytest.mark.parametrize("name", ALL_OPTIMIZERS)
def test_everything_is_as_before_and_every_optimizer_is_probed(name):
    seeded()
    model, loader, held_out = Noisy(), LOADERS["data with state"](), validation()
    optimizer = ALL_OPTIMIZERS[name](list(model.parameters()))
    train(model, optimizer, loader)
    model.eval()
    model.norm.train()
    before = Picture(model, optimizer, loader, held_out)
    suggestion = find_lr(model, optimizer, mse, loader, held_out, **QUICK)
    assert before.changes(model, optimizer, loader, held_out) == []
    assert len(suggestion.probes) == 4
    assert len({outcome.mean for outcome in suggestion.probes}) > 2


@pytest.mark.parametrize("name", LOADERS)
def test_training_afterwards_is_the_same_to_the_last_bit_of_find_lr(name):
    def run(tuned):
        seeded()
        model, loader, held_out = Noisy(), LOADERS[name](), validation()
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        if tuned:
            find_lr(model, optimizer, mse, loader, None if tuned == "no validation" else held_out, **QUICK)
        losses = train(model, optimizer, loader) + train(model, optimizer, loader)
        return losses, [value.tolist() for value in model.state_dict().values()], model.history, next(iter(held_out))[1]

    plain, *others = (run(tuned) for tuned in (False, "validation", "no validation"))
    for other in others:
        assert str(other) == str(plain)


@pytest.mark.parametrize("error", [UserError("in a probe"), KeyboardInterrupt(), SystemExit()])
@pytest.mark.parametrize("at", [3, 25, 140])
def test_everything_is_as_before_when_something_raises(error, at):
    seeded()
    model, loader = Noisy(), LOADERS["2 persistent workers"]()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    train(model, optimizer, loader)
    before, workers = Picture(model, optimizer, loader), set(multiprocessing.active_children())
    Diary.notes = []

    def loss_fn(prediction, target):
        Diary.notes.append(1)
        if len(Diary.notes) == at:
            raise error
        return mse(prediction, target)

    if isinstance(error, KeyboardInterrupt) and at == 140:  # two probes are done by then
        assert find_lr(model, optimizer, loss_fn, loader, steps=200, budget=150).interrupted
    else:
        with pytest.raises(type(error)):
            find_lr(model, optimizer, loss_fn, loader, steps=200, budget=150)
    assert set(multiprocessing.active_children()) == workers
    assert before.changes(model, optimizer, loader) == []


def watched(loader, held_out=None, **options):
    """Search; return the suggestion and, per run (range test, then probes), the rows it trained on."""
    seeded()
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 1), nn.Flatten(0))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    start = [p.clone() for p in model.parameters()]
    Diary.notes = [[], []]  # no snapshot looks into a class

    def train_step(batch):
        if all(torch.equal(a, b) for a, b in zip(start, model.parameters(), strict=True)):
            Diary.notes[0].append([])
        Diary.notes[0][-1].append(batch[0].clone())
        optimizer.zero_grad()
        loss = mse(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss

    def val_step(batch):
        Diary.notes[1].append(batch[0].clone())
        return mse(model(batch[0]), batch[1])

    suggestion = find_lr(
        model,
        optimizer,
        mse,
        loader,
        held_out,
        train_step=train_step,
        val_step=val_step,
        **{"steps": 300, "budget": 150, **options},
    )
    return suggestion, *Diary.notes


def test_every_probe_sees_the_same_batches_in_the_same_order():
    suggestion, runs, _ = watched(DataLoader(numbers(480), 8, shuffle=True))
    probes = runs[1:]
    assert len(probes) == len(suggestion.probes) - 1
    longest = max(probes, key=len)
    for rows in probes:
        assert all(torch.equal(a, b) for a, b in zip(rows, longest, strict=False))
    assert not torch.equal(longest[0], longest[1])
    first = {outcome.train_loss[0] for outcome in suggestion.probes[1:]}
    assert len(first) == 1  # the same dropout too


def test_held_out_batches_are_not_trained_on_even_over_several_epochs():
    suggestion, runs, evaluated = watched(DataLoader(numbers(80), 8, shuffle=True))
    trained = {tuple(row.tolist()) for rows in runs for batch in rows for row in batch}
    judged = {tuple(row.tolist()) for batch in evaluated for row in batch}
    assert len(judged) == 16
    assert trained.isdisjoint(judged)
    assert max(len(rows) for rows in runs) > 8
    assert "judged on 2 training batches that the probes left out" in suggestion.caveats[0]


def test_a_validation_loader_judges_and_nothing_is_said():
    suggestion, _, evaluated = watched(DataLoader(numbers(80), 8), DataLoader(TensorDataset(*numbers(480)[:400]), 4))
    assert not any("validation data" in caveat for caveat in suggestion.caveats)
    judged = {tuple(row.tolist()) for batch in evaluated for row in batch}
    assert len(judged) == 32 * 4
    assert tuple(numbers(480)[372][0].tolist()) in judged  # batches 0, 3, ..., 93 of a hundred


def test_the_same_search_gives_the_same_answer():
    first, second = (watched(DataLoader(numbers(480), 8, shuffle=True))[0] for _ in range(2))
    assert first.lr == second.lr
    assert [o.loss.tolist() for o in first.probes] == [o.loss.tolist() for o in second.probes]


def test_losses_are_read_at_most_once_in_ten_steps_of_find_lr():
    model = nn.Linear(4, 1)
    batches = [numbers()[i : i + 8] for i in range(0, 48, 8)]
    with HostReads() as reads:
        found = find_lr(
            model,
            torch.optim.SGD(model.parameters(), 0.1),
            lambda out, y: mse(out[:, 0], y),
            batches,
            steps=900,
            budget=400,
        )
    assert found.steps_spent > 250
    assert reads.count <= found.steps_spent // 10


def test_the_digits_are_answered_well_by_probes():
    demo = digits_demo(0)
    found = find_lr(demo.model, demo.optimizer, demo.loss_fn, demo.loader, demo.val_loader, steps=demo.steps)
    assert 0.01 < found.lr < 0.1  # docs/measured.md: the best of nine is 0.03
    assert found.lr_low < 0.03 < found.lr_high
    assert found.steps_spent <= 300


def test_to_maximise_is_to_minimise_the_opposite():
    def run(sign, mode):
        seeded()
        model = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
        optimizer = torch.optim.SGD(model.parameters(), 0.05)
        val_step = lambda batch: sign * mse(model(batch[0]), batch[1]).item()
        return find_lr(model, optimizer, mse, DataLoader(numbers(), 8), val_step=val_step, mode=mode, **QUICK)

    up, down = run(-1, "max"), run(1, "min")
    assert up.lr == down.lr is not None


def test_groups_keep_their_ratio_and_frozen_ones_stay():
    seeded()
    model = Noisy()
    optimizer = torch.optim.SGD([*groups(model), {"params": model.norm.parameters(), "lr": 0.0}], 0.05)
    found = find_lr(model, optimizer, mse, DataLoader(numbers(), 8, shuffle=True), **QUICK)
    assert found.param_group_lrs == pytest.approx((found.lr, found.lr / 10, 0.0))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this version of torch has no Muon")
def test_matrices_with_muon():
    seeded()
    model = nn.Sequential(nn.Linear(4, 16, bias=False), nn.ReLU(), nn.Linear(16, 1, bias=False), nn.Flatten(0))
    optimizer = torch.optim.Muon(model.parameters(), 0.01)
    found = find_lr(model, optimizer, mse, DataLoader(numbers(), 8, shuffle=True), **QUICK)
    assert found.lr is not None


def test_a_recurrent_network_with_clipping_and_lists_of_batches():
    seeded()
    model, head = nn.GRU(2, 8, batch_first=True), nn.Linear(8, 1)
    both = nn.ModuleList([model, head])
    optimizer = torch.optim.RMSprop(both.parameters(), 0.01)
    batches = [(x.view(-1, 2, 2), y) for x, y in (numbers()[i : i + 8] for i in range(0, 48, 8))]

    def loss_of(batch):
        return mse(head(model(batch[0])[0][:, -1])[:, 0], batch[1])

    def train_step(batch):
        optimizer.zero_grad()
        loss = loss_of(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimizer.step()
        return loss

    found = find_lr(both, optimizer, mse, batches, train_step=train_step, val_step=loss_of, **QUICK)
    assert found.lr is not None


def linear(**options):
    seeded()
    model = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
    return find_lr(
        model,
        torch.optim.SGD(model.parameters(), 0.05),
        **{"loss_fn": mse, "loader": DataLoader(numbers(), 8, shuffle=True), **QUICK, **options},
    )


def test_a_loss_without_parameters_is_flat():
    found = linear(loss_fn=lambda out, y: out.sum() * 0 + 1.5)
    assert found.reason is Reason.FLAT


def test_a_sign_mistake_only_rises():
    found = linear(loss_fn=lambda out, y: -mse(out, y), val_step=lambda batch: 0.0)
    assert found.reason is Reason.FLAT
    ascent = torch.optim.SGD
    seeded()
    model = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
    optimizer = ascent(model.parameters(), 0.05, maximize=True)
    assert find_lr(model, optimizer, mse, DataLoader(numbers(), 8, shuffle=True), **QUICK).reason is Reason.RISING


def test_limits_below_which_nothing_is_learnt_are_refused_as_flat():
    found = linear(max_lr=1e-3, budget=79)
    assert found.reason is Reason.FLAT
    assert "a higher max_lr" in found.reason.remedy


def test_limits_at_which_everything_blows_up_are_refused_as_diverged():
    found = linear(min_lr=1e6, max_lr=1e9)
    assert found.reason is Reason.DIVERGED
    assert not np.isfinite(found.curves[0].loss[-1])


def test_a_batch_that_is_not_finite_at_any_rate_is_blamed_on_the_data():
    samples = [(x.clone(), y) for x, y in numbers()]
    samples[20][0][0] = torch.nan
    with pytest.raises(InputError, match="on batch 3, with a learning rate of 1e-16 as well: check the data"):
        linear(loader=DataLoader(samples, 8), val_loader=DataLoader(numbers(), 8))
    samples = [(x.clone(), y) for x, y in numbers(240)]
    samples[8 * 25][0][0] = torch.nan
    found = linear(loader=DataLoader(samples, 8), val_loader=DataLoader(numbers(), 8), max_lr=1e-2)
    assert any("not finite at step 26" in caveat and "check the data" in caveat for caveat in found.caveats)


def test_one_batch_and_nothing_to_judge_by_is_answered_by_the_range_test():
    assert linear(loader=[numbers()[:48]], budget=200).method == "range"
    assert linear(loader=[numbers()[:48]], val_loader=[numbers(96)[48:96]]).lr is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "max"}, "mode may be max with val_step only"),
        ({"loader": []}, "loader must yield at least two batches, got none"),
        ({"val_loader": []}, "val_loader must yield at least one batch, got none"),
        ({"val_loader": 3}, "val_loader must be iterable, got a int"),
        ({"val_step": lambda batch: None}, "val_step must return one number, got NoneType"),
        ({"val_step": lambda batch: torch.zeros(2)}, r"val_step must return one number, got a tensor of shape \(2,\)"),
        ({"val_step": lambda batch: float("nan")}, "the untrained loss must be finite on the held-out batches, got"),
        ({"steps": 0}, "steps must be a positive whole number"),
    ],
)
def test_bad_input_is_named(options, message):
    with pytest.raises(InputError, match=message):
        linear(**options)


def test_a_one_shot_validation_loader_is_refused():
    with pytest.raises(UnsupportedError, match="val_loader must be iterable more than once, got a list_iterator"):
        linear(val_loader=iter([numbers()[:8]]))


def test_a_journal_may_be_named(tmp_path):
    first = linear(journal=tmp_path / "search.jsonl")
    seeded()
    again = linear(journal=str(tmp_path / "search.jsonl"), train_step=lambda batch: pytest.fail("trained again"))
    assert again.lr == first.lr
    with pytest.raises(InputError, match="belongs to a search with steps = 200, got steps = 300"):
        linear(journal=tmp_path / "search.jsonl", steps=300)


def test_the_range_test_alone_is_the_old_one():
    found = linear(method="range", budget=50)
    assert (found.method, found.probes, len(found.curves[0]) <= 50) == ("range", (), True)


def test_a_step_that_raises_once_the_weights_are_gone_is_a_divergence():
    seeded()
    model = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)

    def loss_fn(out, y):
        if not torch.isfinite(out).all():
            raise FloatingPointError("nan")
        return (out**3 - y).square().mean()

    found = find_lr(model, optimizer, loss_fn, DataLoader(numbers(480), 8, shuffle=True), steps=300, budget=150)
    assert any(outcome.diverged for outcome in found.probes)


class Ticking:
    """The time of a clock that only steps and evaluations move; no snapshot looks into a class."""

    now = 0.0


def test_a_time_budget_is_kept_and_its_long_probes_see_batches_of_their_own():
    seeded()
    model = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    start = [p.clone() for p in model.parameters()]
    Ticking.now, Diary.notes = 0.0, []

    def train_step(batch):
        Ticking.now += 0.004
        if all(torch.equal(a, b) for a, b in zip(start, model.parameters(), strict=True)):
            Diary.notes.append([])
        Diary.notes[-1].append(batch[0].clone())
        optimizer.zero_grad()
        loss = mse(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss

    def val_step(batch):
        Ticking.now += 0.001
        return mse(model(batch[0]), batch[1])

    loader = DataLoader(numbers(8000), 8, shuffle=True)
    training = TorchTraining(model, optimizer, mse, loader, train_step, val_step=val_step)
    suggestion = suggest_for(training, SearchOptions(steps=100_000, budget="3s"), clock=lambda: Ticking.now)
    longest = max(Diary.notes[1:], key=len)
    assert len({tuple(batch[0].tolist()) for batch in longest}) == len(longest) > 60
    assert 400 < suggestion.steps_spent < 750
    assert 1 < suggestion.seconds <= Ticking.now + 1e-9 <= 3
