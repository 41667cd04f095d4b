"""One process agrees with itself, and fails and ends as Lightning does; several are tested in promises/test_ddp.py."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lrfinder import InputError
from lrfinder.lightning.processes import TrainerProcesses
from lrfinder.probing.runner import BlewUpError


@pytest.fixture
def trainer():
    return pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)


@pytest.fixture
def processes(trainer):
    return TrainerProcesses(trainer)


def test_one_process_agrees_with_itself(processes):
    losses = torch.tensor([1.0, 2.0])
    assert processes.alone
    assert processes.mean(losses) is losses
    assert processes.first("value") == "value"
    assert processes.all(True)
    assert not processes.all(False)
    assert processes.least(3) == 3
    assert processes.gathered(losses).tolist() == [1.0, 2.0]
    assert processes.gathered(torch.tensor(1.5)).tolist() == [1.5]


def test_an_error_within_the_block_is_raised_and_shared(processes):
    with pytest.raises(InputError, match="mine") as caught, processes.together():
        raise InputError("mine")
    assert processes.share(caught.value)
    with processes.together():
        pass


def test_errors_that_every_process_raises_are_shared(trainer):
    several = TrainerProcesses(trainer)
    assert several.share(BlewUpError([1.0], "blew up"))
    assert several.share(ValueError("alone, so that nobody waits"))


def test_a_noted_sigterm_ends_the_search_as_it_ends_a_fit(trainer, processes):
    processes.stop_if_terminated()
    trainer._signal_connector.received_sigterm = True
    with pytest.raises(SIGTERMException):
        processes.stop_if_terminated()


def test_a_module_without_a_wrapper_is_probed_as_it_is(trainer, processes):
    before = trainer.strategy.model
    with processes.second_wrapper():
        assert trainer.strategy.model is before
