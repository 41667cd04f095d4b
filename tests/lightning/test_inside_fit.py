from __future__ import annotations

import copy
import os
import signal
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from support.runs import LIGHTNINGS_REMARKS, Counting, Net, bare_trainer, loader

from lrfinder import InputError, LRFinder, UnsupportedError
from lrfinder.lightning.fit_search import FitSearch
from lrfinder.lightning.inside_fit import ask_within, lr_find
from lrfinder.probing.options import SearchOptions
from lrfinder.probing.search import Journal

pytestmark = LIGHTNINGS_REMARKS


def trainer(*callbacks, **options):
    return bare_trainer(*callbacks, **{"max_epochs": 4, **options})


def finder(**options):
    return LRFinder(**{"budget": 150, "progress": False, **options})


def net():
    pl.seed_everything(7, verbose=False)
    return Net()


def suggested(module, callbacks=(), journal=None):
    def question(trainer, module):
        search = FitSearch.prepare(trainer, module, SearchOptions(budget=150))
        return search.suggest(journal=None if journal is None else journal(search.options))[0]

    data = {"train_dataloaders": loader(), "val_dataloaders": loader(shuffle=False)}
    return ask_within(trainer(*callbacks), module, question, **data)


def test_it_is_what_the_callback_would_suggest_and_nothing_is_trained():
    module = net()
    found = suggested(module)
    callback, fitted = finder(), net()
    trainer(callback).fit(fitted, loader(), loader(shuffle=False))
    assert fitted.record
    assert found.lr == callback.suggestion.lr
    assert found.policy == callback.suggestion.policy
    assert [o.loss.tolist() for o in found.probes] == [o.loss.tolist() for o in callback.suggestion.probes]
    assert (module.lr, module.record, module.seen) == (0.01, [], 0)
    assert all(torch.equal(one, other) for one, other in zip(module.parameters(), net().parameters(), strict=True))
    assert os.listdir() == []


def test_processes_that_are_spawned_cannot_answer():
    spawning = trainer(strategy="ddp_spawn", devices=2)
    with pytest.raises(UnsupportedError, match=r"^a search needs strategy='ddp', got DDPStrategy that spawns$"):
        ask_within(spawning, net(), lambda trainer, module: 1, train_dataloaders=loader())


def test_other_callbacks_see_neither_start_nor_end():
    counting = Counting()
    one = trainer(counting, other := finder())
    options = SearchOptions(budget=150)
    ask_within(one, net(), lambda *fit: FitSearch.prepare(*fit, options).suggest(), train_dataloaders=loader())
    assert set(counting.calls) <= {"setup", "on_fit_start", "teardown", "on_save_checkpoint"}
    assert other.suggestion is None
    assert one.callbacks.count(counting) == one.callbacks.count(other) == 1


class Failing(Net):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        if self.training and len(self.record) == self.at:
            raise self.error
        return loss

    at, error = 9, ValueError("no")

    def on_exception(self, *args):
        raise AssertionError


def test_an_error_comes_out_and_everything_is_as_it_was():
    pl.seed_everything(7, verbose=False)
    module, counting = Failing(), Counting()
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(ValueError, match=r"^no$"):
        suggested(module, [counting])
    assert "on_exception" not in counting.calls
    assert (module.record, module.seen, module.lr) == ([], 0, 0.01)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


class Interrupted(Net):
    """Ctrl-C in the n-th step; counted in the class, which no snapshot winds back."""

    calls, at = 0, 9

    def training_step(self, batch, batch_idx):
        type(self).calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt
        return super().training_step(batch, batch_idx)


def test_ctrl_c_before_there_is_an_answer_comes_out(monkeypatch):
    monkeypatch.setattr(Interrupted, "calls", 0)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        suggested(Interrupted())
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_once_there_is_an_answer_gives_it(monkeypatch):
    monkeypatch.setattr(Interrupted, "calls", 0)
    monkeypatch.setattr(Interrupted, "at", 430)
    found = suggested(Interrupted())
    assert found.interrupted
    assert any("interrupted" in caveat for caveat in found.caveats)


def test_ctrl_c_while_the_fit_is_set_up_comes_out(monkeypatch):
    def interrupted(self, stage):
        raise KeyboardInterrupt

    monkeypatch.setattr(Net, "setup", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        suggested(net())
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_journal_gives_the_results_back():
    opened = []

    def journal(options):
        opened.append(Journal("journal.jsonl", options.journal_header()))
        return opened[-1]

    first = suggested(net(), journal=journal)
    lines = Path("journal.jsonl").read_bytes().splitlines(keepends=True)
    Path("journal.jsonl").write_bytes(b"".join(lines[:6]))
    again = suggested(net(), journal=journal)
    assert [one.resumed for one in opened] == [0, 5]
    assert again.lr == first.lr
    assert len(Path("journal.jsonl").read_bytes().splitlines()) == len(lines)


@pytest.mark.parametrize(
    ("options", "told"),
    [({"fast_dev_run": True}, "fast_dev_run must be off"), ({"max_steps": 0}, "must have a first step, got none")],
)
def test_a_fit_that_does_not_begin_is_refused(options, told):
    with pytest.raises(InputError, match=told):
        ask_within(trainer(**options), net(), lambda trainer, module: 1, train_dataloaders=loader())


def test_what_is_asked_sees_the_trainer_and_the_module_in_place():
    module, one = net(), trainer(max_steps=77)
    asked = ask_within(
        one, module, lambda trainer, module: (trainer, module, trainer.optimizers), train_dataloaders=loader()
    )
    assert asked[:2] == (one, module)
    assert len(asked[2]) == 1
    assert one.num_sanity_val_steps == 2


def trained(search=None, lr=0.01):
    """The weights after a fit, and what `lr_find` returned before it, if it was asked."""
    module, one = net(), trainer(max_epochs=2)
    module.lr = lr
    data = {"train_dataloaders": loader(), "val_dataloaders": loader(shuffle=False)}
    suggestion = None if search is None else lr_find(one, module, **data, budget=150, **search)
    rate = module.lr
    one.fit(module, **data)
    return [parameter.detach().clone() for parameter in module.parameters()], suggestion, rate


def same(one, other):
    return all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_lr_find_leaves_no_trace_but_the_rate():
    plain, _, _ = trained()
    searched, suggestion, rate = trained({"update_attr": False})
    assert same(plain, searched)
    assert rate == 0.01
    updated, suggestion, rate = trained({})
    assert rate == suggestion.lr
    assert same(updated, trained(lr=rate)[0])


def test_lr_find_gives_the_suggestion_of_the_callback():
    _, suggestion, _ = trained({})
    callback = finder()
    trainer(callback, max_epochs=2).fit(net(), loader(), loader(shuffle=False))
    assert suggestion.lr == callback.suggestion.lr
    assert suggestion.policy == callback.suggestion.policy


def test_lr_find_raises_what_makes_a_search_impossible():
    one = trainer(max_epochs=1)
    one.fit(net(), loader())
    with pytest.raises(InputError, match=r"^trainer must not have trained yet, got one at step \d+$"):
        lr_find(one, net(), loader())
    with pytest.raises(InputError, match="fast_dev_run must be off"):
        lr_find(trainer(fast_dev_run=True), net(), loader())
    with pytest.raises(InputError, match=r"^at_epochs must hold 0 for a search before training, got \[3\]$"):
        lr_find(trainer(), net(), loader(), at_epochs=[3])
