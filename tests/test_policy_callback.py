"""`PolicyCallback`: the rate of every step, checkpoints and resumption; what it cannot drive is said."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import BackboneFinetuning
from litmodels import Grouped, Rows, Scheduled, Small
from runs import LIGHTNINGS_REMARKS, Manual, loader

from lrfinder import InputError, LRFinder, Policy, PolicyCallback

pytestmark = LIGHTNINGS_REMARKS


def trained(module, *callbacks, epochs=2, **options):
    trainer = pl.Trainer(
        max_epochs=epochs,
        callbacks=list(callbacks),
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"enable_checkpointing": False, **options},
    )
    fit = {"ckpt_path": module.resume} if hasattr(module, "resume") else {}
    trainer.fit(module, datamodule=Rows(), **fit)
    return trainer


@pytest.mark.parametrize("kind", [Small, Grouped, Scheduled])
def test_every_step_is_at_the_rate_of_the_policy(kind):
    module = kind(lr=0.3)
    policy = Policy("wsd", 64, 5, {"cooldown": 0.5})
    trainer = trained(module, PolicyCallback("wsd", 64, 5, {"cooldown": 0.5}))
    assert module.rates == [0.3 * policy(step) for step in range(64)]
    groups = trainer.optimizers[0].param_groups
    assert groups[0]["initial_lr"] == (0.03 if kind is Grouped else 0.3)
    assert len(trainer.lr_scheduler_configs) == 1


def test_a_list_of_milestones_is_a_tuple_to_the_policy():
    callback = PolicyCallback("multi-step", 10, params={"milestones": [0.2, 0.4]})
    assert callback.policy == Policy("multi-step", 10, 0, {"milestones": (0.2, 0.4)})


def test_a_fit_that_resumes_goes_on_at_its_place():
    whole, half, rest = Small(lr=0.3), Small(lr=0.3), Small(lr=0.3)
    pl.seed_everything(1)
    trained(whole, PolicyCallback("cosine", 96), epochs=3)
    pl.seed_everything(1)
    trained(half, PolicyCallback("cosine", 96), epochs=1).save_checkpoint("half.ckpt")
    rest.resume = "half.ckpt"
    trained(rest, PolicyCallback("cosine", 96), epochs=3)
    assert half.rates + rest.rates == whole.rates


def test_a_second_fit_with_the_trainer_goes_on_at_its_place():
    module = Small(lr=0.3)
    trainer = trained(module, PolicyCallback("linear", 64), epochs=1)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, datamodule=Rows())
    assert module.rates == [0.3 * Policy("linear", 64)(step) for step in range(64)]


def test_plateau_follows_its_metric():
    module = Small(lr=0.3)
    trainer = trained(module, PolicyCallback("plateau", params={"patience": 1}, monitor="val_loss", mode="max"))
    (config,) = trainer.lr_scheduler_configs
    assert (type(config.scheduler), config.monitor) == (torch.optim.lr_scheduler.ReduceLROnPlateau, "val_loss")
    assert (config.scheduler.mode, config.scheduler.patience) == ("max", 1)


def test_a_policy_of_another_length_is_told(caplog):
    caplog.set_level("INFO")
    trained(Small(), PolicyCallback("linear", 50), epochs=1)
    assert "follows linear from 0.01: linear to zero over 50 steps" in caplog.text
    assert "installs a policy of 50 steps in a training of 32 steps" in caplog.text


def test_a_rate_of_zero_to_come_is_warned_of():
    trained(Small(), PolicyCallback("linear", 64), epochs=2)  # a warning would be an error
    trained(Small(), PolicyCallback("linear", 32, params={"end": 0.1}), epochs=2)
    with pytest.warns(UserWarning, match="LRFinder will train at a rate of zero from step 32 to 64: search again"):
        trained(Small(), PolicyCallback("linear", 32), epochs=2)


def test_what_it_replaces_is_told(caplog):
    caplog.set_level("INFO")
    trained(Scheduled(), PolicyCallback("linear", 32), epochs=1)
    assert "in place of StepLR" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"name": "nothing"}, "policy must be one of"),
        ({"name": "linear"}, "total_steps must be given for policy 'linear'"),
        ({"name": "plateau"}, "monitor must be given with policy 'plateau'"),
        ({"name": "constant", "mode": "up"}, "mode must be min or max, got 'up'"),
        ({"name": "linear", "total_steps": 5, "params": {"stop": 1}}, "must be among end, got 'stop'"),
    ],
)
def test_arguments_that_break_a_rule(arguments, rule):
    with pytest.raises(InputError, match=rule):
        PolicyCallback(**arguments)


def test_what_it_cannot_drive_is_said_before_the_first_step():
    trainer = pl.Trainer(max_epochs=1, callbacks=[PolicyCallback("linear", 8)], accelerator="cpu", logger=False)
    manual = Manual()
    with pytest.raises(
        InputError, match="must have one optimizer to drive, with automatic optimization, got 2 of Manual"
    ):
        trainer.fit(manual, loader())
    assert manual.record == []
    module = Small()
    module.backbone = torch.nn.Linear(1, 1)
    with pytest.raises(InputError, match="adds param groups later"):
        trained(module, PolicyCallback("linear", 64), BackboneFinetuning())
    assert module.rates == []


def test_training_is_that_after_a_search_that_installs_the_policy():
    pl.seed_everything(1)
    searched = Small(lr=0.05)
    finder = LRFinder("range", max_lr=100.0, policy=Policy("wsd", 64, 3))
    trained(searched, finder)
    peak = finder.suggestion.lr
    assert peak is not None
    pl.seed_everything(1)
    followed = Small(lr=peak)
    trained(followed, PolicyCallback("wsd", 64, 3))
    assert followed.rates == searched.rates[-64:]
    for ours, theirs in zip(followed.parameters(), searched.parameters(), strict=True):
        assert torch.equal(ours, theirs)
