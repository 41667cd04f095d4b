"""Probing in a plain torch loop: what is found, what every probe sees, and that all is as before."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
import torch
from exactness import Picture
from test_loop import (
    LOADERS,
    OPTIMIZERS,
    Augmented,
    Diary,
    HostReads,
    Mixing,
    Noisy,
    UserError,
    groups,
    mse,
    numbers,
    seeded,
    train,
)
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder import InputError, Reason, UnsupportedError, find_lr
from lrfinder.demo import digits_demo
from lrfinder.loop import LoopTrainee, suggest_for
from lrfinder.search_options import SearchOptions

QUICK = {"steps": 200, "budget": 60}
ALL_OPTIMIZERS = {
    **OPTIMIZERS,
    "Nesterov": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=1e-4),
    "NAdam": lambda p: torch.optim.NAdam(p, 0.01),
    "RAdam": lambda p: torch.optim.RAdam(p, 0.01),
    "Adadelta": lambda p: torch.optim.Adadelta(p, 1.0),
    "Adafactor": lambda p: torch.optim.Adafactor(p, 0.01),
}


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
    assert len(suggestion.probes) > 4
    assert len({outcome.mean for outcome in suggestion.probes}) > 3


@pytest.mark.parametrize("name", LOADERS)
def test_training_afterwards_is_the_same_to_the_last_bit(name):
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
@pytest.mark.parametrize("at", [3, 25, 62])
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

    if isinstance(error, KeyboardInterrupt) and at == 62:  # three probes are done by then
        assert find_lr(model, optimizer, loss_fn, loader, steps=200, budget=80).interrupted
    else:
        with pytest.raises(type(error)):
            find_lr(model, optimizer, loss_fn, loader, **QUICK)
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
        **{"steps": 300, "budget": 120, **options},
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
    assert not any("validation" in caveat for caveat in suggestion.caveats)
    judged = {tuple(row.tolist()) for batch in evaluated for row in batch}
    assert len(judged) == 32 * 4
    assert tuple(numbers(480)[372][0].tolist()) in judged  # batches 0, 3, ..., 93 of a hundred


def test_the_same_search_gives_the_same_answer():
    first, second = (watched(DataLoader(numbers(480), 8, shuffle=True))[0] for _ in range(2))
    assert first.lr == second.lr
    assert [o.loss.tolist() for o in first.probes] == [o.loss.tolist() for o in second.probes]


def test_losses_are_read_at_most_once_in_ten_steps():
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
    assert found.steps_spent > 300
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


def test_limits_that_exclude_the_best_are_an_edge():
    assert linear(max_lr=1e-3, budget=120).reason is Reason.EDGE


def test_limits_at_which_everything_blows_up_are_refused_as_diverged():
    found = linear(min_lr=1e6, max_lr=1e9)
    assert found.reason is Reason.DIVERGED
    assert not np.isfinite(found.curves[0].loss[-1])


def test_one_batch_and_nothing_to_judge_by_is_truncated():
    assert linear(loader=[numbers()[:48]]).reason is Reason.TRUNCATED
    assert linear(loader=[numbers()[:48]], val_loader=[numbers(96)[48:96]]).lr is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "most"}, "mode must be min or max, got 'most'"),
        ({"mode": "max"}, "mode may be max with val_step only"),
        ({"budget": 30}, "budget must come to at least 60 steps, got 30"),
        ({"loader": []}, "loader must yield at least two batches, got none"),
        ({"val_loader": []}, "val_loader must yield at least one batch, got none"),
        ({"val_loader": 3}, "val_loader must be iterable, got a int"),
        ({"val_step": lambda batch: None}, "val_step must return one number, got NoneType"),
        ({"val_step": lambda batch: torch.zeros(2)}, r"val_step must return one number, got a tensor of shape \(2,\)"),
        ({"val_step": lambda batch: float("nan")}, "the untrained loss must be finite on the held-out batches, got"),
        ({"steps": 0}, "steps must be a positive whole number"),
        ({"method": "grid"}, "method must be one of probe, range, got 'grid'"),
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

    found = find_lr(model, optimizer, loss_fn, DataLoader(numbers(480), 8, shuffle=True), steps=300, budget=120)
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
    training = LoopTrainee(model, optimizer, mse, loader, train_step, val_step=val_step)
    suggestion = suggest_for(training, SearchOptions(steps=100_000, budget="3s"), clock=lambda: Ticking.now)
    longest = max(Diary.notes[1:], key=len)
    assert len({tuple(batch[0].tolist()) for batch in longest}) == len(longest) > 60
    assert 600 < suggestion.steps_spent < 750
    assert 2 < suggestion.seconds <= Ticking.now <= 3
