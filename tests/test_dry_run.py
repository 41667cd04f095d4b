from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from lrfinder import find_lr
from lrfinder.estimate import estimate
from lrfinder.loop import LoopTrainee
from lrfinder.settings import Settings


class Watched(torch.optim.SGD):
    """Fails when it is asked for a step."""

    def step(self, closure=None):
        raise AssertionError("a step was taken")


def trainee(kind=torch.optim.SGD, batches=40, accumulate=1):
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    batch = (torch.randn(16, 4), torch.randint(0, 2, (16,)))
    loader = [batch] * batches
    optimizer = kind(model.parameters(), lr=0.1)
    return LoopTrainee(model, optimizer, nn.CrossEntropyLoss(), loader, None, accumulate, loader[:5])


def test_it_tells_the_plan_of_the_search_that_follows():
    told = estimate(trainee(), Settings("probe", 2000, 300))
    one = trainee()
    done = find_lr(one.model, one.optimizer, one.loss_fn, one.loader, one.val_loader, steps=2000, budget=300)
    steps = {outcome.probe.stage: outcome.probe.steps for outcome in done.probes}
    assert (told.short, told.long) == (steps["rung 1"], steps["rung 2"])
    assert told.held_out == done.probes[0].loss.size == 5
    assert told.budget_steps == 300 >= done.steps_spent
    assert (told.horizon, told.min_lr, told.max_lr) == (2000, 1e-7, 100.0)


def test_no_step_is_taken_and_everything_is_put_back():
    one = trainee(Watched)
    state = {name: value.clone() for name, value in one.model.state_dict().items()}
    random = torch.get_rng_state()
    estimate(one, Settings("probe", 2000))
    assert all(torch.equal(value, state[name]) for name, value in one.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert one.model.training


def test_memory_is_that_of_state_and_batches():
    told = estimate(trainee(), Settings("probe", 2000, 300))
    state = sum(value.nbytes for value in trainee().model.state_dict().values())
    assert state <= told.snapshot_bytes < 1.2 * state + 1000
    batch = 16 * 4 * 4 + 16 * 8
    assert told.batch_bytes == batch * (max(told.long, told.range_steps) + told.held_out)


def test_accumulation_takes_longer(monkeypatch):
    monkeypatch.setattr("lrfinder.estimate._timed", lambda trainee: 5.0)  # 1 s per forward pass
    one, four = (estimate(trainee(accumulate=count), Settings("probe", 2000, 300)) for count in (1, 4))
    assert one.forward_seconds == four.forward_seconds == 1.0
    assert one.seconds == 300 * 3 + 12 * 5
    assert four.seconds == 4 * 300 * 3 + 12 * 5


def test_a_time_that_is_given_is_what_it_takes():
    told = estimate(trainee(), Settings("probe", None, "60s"))
    assert (told.budget_steps, told.seconds) == (None, 60.0)
    lines = dict(told.lines())
    assert lines["Plan"] == "60 s for a training of unknown length; no step was taken to say so"
    assert lines["Time"] == "about 60 s, as given"
    assert "(more, if the time allows)" in lines["Probes"]


def test_a_range_test_is_neither_evaluated_nor_timed():
    told = estimate(trainee(), Settings("range", 2000))
    assert (told.range_steps, told.short, told.long, told.seconds, told.forward_seconds) == (100, 0, 0, None, None)
    assert set(dict(told.lines())) == {"Plan", "Range", "Time", "Memory"}


@pytest.mark.parametrize("method", ["probe", "range"])
def test_the_text_is_aligned_and_the_document_is_json(method):
    told = estimate(trainee(), Settings(method, 2000))
    assert all(line[9] == " " and line[10] != " " for line in str(told).splitlines())
    document = json.loads(json.dumps(told.to_dict(), allow_nan=False))
    assert document["range_steps"] == told.range_steps
    assert document["caveats"] == list(told.caveats)
