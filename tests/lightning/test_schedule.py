"""The schedule that the callback installs: as if the module had configured it, in every way there is to look."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import warnings
from itertools import pairwise

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import BackboneFinetuning, EarlyStopping, LearningRateMonitor, ModelCheckpoint
from support.curves import synthetic
from support.litmodels import Grouped, Rows, Scheduled, Small
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
    without_functions,
)
from support.schedulers import SCHEDULERS, tensor_rate
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader

from lrfinder import InputError, LRFinder, Policy, PolicyCallback, suggest
from lrfinder.answer.ranking import Alternative, rank
from lrfinder.lightning.schedule import InstalledSchedule
from lrfinder.schedules.policy import POLICIES, UNWARMED

pytestmark = LIGHTNINGS_REMARKS


def sgd(net):
    groups = [{"params": net.body.parameters(), "lr": net.lr / 10}, {"params": net.head.parameters()}]
    return torch.optim.SGD(groups, lr=net.lr, momentum=0.9)


def adamw(net):
    return torch.optim.AdamW(net.parameters(), lr=net.lr)


def by_default(total):
    """What is installed by default, as a person writes it: warmup over 15%, constant, linear to zero over 40%."""
    warmup = round(0.15 * total)
    rest = total - warmup
    return lambda step: min((step + 1) / (warmup + 1), 1.0, max(total - step, 0) / round(0.4 * rest))


def with_scheduler(make, multiplier):
    """A module class whose optimizer follows a function of the step."""

    def configure(net):
        optimizer = make(net)
        return [optimizer], [{"scheduler": lr_scheduler.LambdaLR(optimizer, multiplier), "interval": "step"}]

    return optimizers(configure)


def rates(run):
    return [rates for _, rates, *_ in run["steps"]]


def assert_as_by_hand(tmp_path, make, steps, callback=None, module=None, others=list, **options):
    """Fit with the callback, then with rate and scheduler configured by hand, and compare everything."""
    callback = callback or finder(policy=Policy("wsd", steps, round(0.15 * steps)))
    trainer, run = fit(tmp_path / "tuned", [*others(), callback], module=module or optimizers(make), **options)
    assert callback.suggestion.lr == pytest.approx(trainer.lightning_module.lr) != 0.01
    module = with_scheduler(make, by_default(steps))
    _, reference = fit(tmp_path / "by hand", others(), module=module, lr=trainer.lightning_module.lr, **options)
    assert_same(without_functions(run), without_functions(reference))
    assert {first < second for first, second in pairwise(sorted(map(max, rates(run))))} == {True, False}
    return trainer, run


def watchers():
    return [
        EarlyStopping("val_loss", patience=2),
        ModelCheckpoint(monitor="train_loss", save_last=True, every_n_train_steps=5),
        LearningRateMonitor(log_momentum=True),
        LearningRateMonitor("epoch"),
    ]


SETUPS = {
    "two groups": (sgd, 32, {}),
    "adamw": (adamw, 32, {}),
    "tensor rate": (tensor_rate, 32, {}),
    "accumulation": (sgd, 12, {"accumulate_grad_batches": 3}),
    "clipping": (adamw, 32, {"gradient_clip_val": 0.1}),
    "bfloat16": (sgd, 32, {"precision": "bf16-mixed"}),
    "max steps": (sgd, 21, {"max_epochs": -1, "max_steps": 21}),
    "other callbacks": (adamw, 64, {"others": watchers, "max_epochs": 4}),
}


@pytest.mark.parametrize("name", SETUPS)
def test_with_the_schedule_training_is_as_by_hand(tmp_path, name):
    make, steps, options = SETUPS[name]
    assert_as_by_hand(tmp_path, make, steps, **options)


def test_a_param_group_that_is_added_in_training_keeps_its_own_rate(tmp_path, found):
    class Thawing(Net):
        def on_train_epoch_start(self):
            if self.current_epoch == 1:
                self.optimizers().add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.03})

    _, run = fit(tmp_path, [finder(policy="linear")], module=Thawing)
    assert [len(each) for each in rates(run)] == [1] * 16 + [2] * 16
    assert {each[1] for each in rates(run)[16:]} == {0.03}
    assert rates(run)[-1][0] < rates(run)[16][0]


@pytest.mark.parametrize("name", ["OneCycleLR", "SequentialLR", "CyclicLR", "ReduceLROnPlateau", "LambdaLR from zero"])
def test_in_place_of_the_modules_scheduler_training_is_as_by_hand(tmp_path, name):
    """Cycled momentum too is as if there had never been another scheduler."""

    def configure(net):
        groups = [{"params": net.head.parameters()}, {"params": net.body.parameters(), "lr": net.lr / 10}]
        optimizer = torch.optim.SGD(groups, lr=net.lr, momentum=0.7)
        scheduler = SCHEDULERS[name](optimizer, net.lr)
        return [optimizer], [{"scheduler": scheduler, "interval": "step", "monitor": "train_loss_step"}]

    def make(net):
        groups = [{"params": net.head.parameters()}, {"params": net.body.parameters(), "lr": net.lr / 10}]
        return torch.optim.SGD(groups, lr=net.lr, momentum=0.7)

    assert_as_by_hand(tmp_path, make, 32, finder(policy="wsd"), optimizers(configure))


@pytest.fixture
def found(monkeypatch):
    """Let every search come to what the dict holds, at once; keep what was said."""
    held = {"lr": 0.5, "alternatives": (), "said": [], "searches": 0}

    def choose(evidence, steps):
        held["searches"] += 1
        answer = suggest(synthetic(), steps=steps)
        return dataclasses.replace(answer, lr=held["lr"], lr_low=0.1, lr_high=1.0, alternatives=held["alternatives"])

    def said(text):
        if text.startswith("LRFinder: "):
            held["said"].append(text.removeprefix("LRFinder: "))

    monkeypatch.setattr("lrfinder.lightning.fit_search.search", lambda *asked: None)
    monkeypatch.setattr("lrfinder.lightning.fit_search.choose", choose)
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: said(record.getMessage())
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addHandler(handler)
    yield held
    logger.removeHandler(handler)


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_can_be_asked_for(tmp_path, found, name):
    callback = finder(policy=name, monitor="val_loss" if name == "plateau" else None)
    _, run = fit(tmp_path, [callback], module=optimizers(sgd))
    policy = Policy(name, 32, 0 if name in UNWARMED else 5)
    assert callback.suggestion.policy == policy
    assert rates(run) == [[0.05 * policy(step), 0.5 * policy(step)] for step in range(32)]
    (said,) = found["said"]
    assert said.startswith(f"{callback.suggestion.headline()}; installed {name}: {policy.text}. How sure: ")
    assert len(run["schedulers"]) == 1


def test_a_policy_of_ones_own_keeps_its_steps_and_parameters(tmp_path, found):
    policy = Policy("wsd", 20, 4, {"cooldown": 0.5})
    _, run = fit(tmp_path, [finder(policy=policy)])
    assert rates(run) == [[0.5 * policy(step)] for step in range(32)]
    assert rates(run)[-1] == [0.0]


def test_each_policy_has_the_peak_that_is_best_for_it(tmp_path, found):
    found["alternatives"] = tuple(
        Alternative(Policy(name, 32, 3), lr, 0.1, 0.0, 0.2, "So.") for name, lr in [("linear", 0.8), ("wsd", 0.5)]
    )
    callback = finder(policy="linear")
    trainer, run = fit(tmp_path, [callback], module=optimizers(sgd))
    policy = Policy("linear", 32, 3)
    assert callback.suggestion.lr == trainer.lightning_module.lr == 0.8
    assert rates(run) == [[pytest.approx(0.08 * policy(step)), 0.8 * policy(step)] for step in range(32)]


def test_plateau_lowers_the_rate_when_the_metric_stands_still(tmp_path, found):
    class Still(Net):
        def validation_step(self, batch, batch_idx):
            self.log("quality", 1.0)

    policy = Policy("plateau", params={"patience": 1, "factor": 0.5})
    found["lr"] = 0.25
    options = {"module": Still, "max_epochs": 9, "check_val_every_n_epoch": 2, "limit_train_batches": 2}
    _, run = fit(tmp_path, [finder(policy=policy, monitor="quality", mode="max")], **options)
    seen = [rates(run)[2 * epoch][0] for epoch in range(9)]
    assert seen == [0.25] * 6 + [0.125] * 3  # validated after every second epoch: best, one bad, two bad


def step_lr(net):
    optimizer = adamw(net)
    return [optimizer], [lr_scheduler.StepLR(optimizer, 1, 0.5)]


class Thawing(Net):
    def __init__(self, lr):
        super().__init__(lr)
        self.backbone = self.body

    def configure_optimizers(self):
        return torch.optim.Adam((p for p in self.parameters() if p.requires_grad), lr=self.lr)


WHAT = {
    "auto without a scheduler": (
        None,
        {},
        "installed wsd: 5 steps of warmup, constant, then linear to zero over the last 40% of 27 steps",
    ),
    "keep with a scheduler": (None, {"module": optimizers(step_lr)}, "kept the module's StepLR"),
    "keep asked for": ("keep", {}, "installed no schedule, the rate is constant"),
    "auto in place of a scheduler": ("auto", {"module": optimizers(step_lr)}, r"installed wsd: .*StepLR\. How sure: "),
    "no end known": (
        None,
        {"max_epochs": -1, "loaders": lambda: DataLoader(Stream(), 16), "max_time": "00:00:00:01"},
        "no schedule installed: the length of training is unknown, give max_epochs or max_steps",
    ),
    "a scheduler, no end known": (
        "auto",
        {"module": optimizers(step_lr), "max_epochs": -1, "max_time": "00:00:00:01"},
        "kept the module's StepLR",
    ),
    "constant without an end": ("constant", {"max_epochs": -1, "max_time": "00:00:00:01"}, "installed constant: "),
    "manual optimization": (None, {"module": Manual}, "installed no schedule, the rate is constant"),
}


@pytest.mark.parametrize("name", WHAT)
def test_what_becomes_of_the_schedule_is_said_in_one_line(tmp_path, found, name):
    policy, options, text = WHAT[name]
    _, run = fit(tmp_path, [finder(policy=policy)], **options)
    *_, line = found["said"]
    assert re.search(f"^learning rate 0.5, 90% interval 0.1 to 1; {text}", line)
    assert len(run["schedulers"]) == (text.startswith(("installed wsd", "installed constant", "kept")))


KEPT = {  # the scheduler, the policy whose best peak it should reach, what to set over that peak
    "cosine": (lambda o: lr_scheduler.CosineAnnealingLR(o, 32), "cosine", 1.0),
    "steps": (lambda o: lr_scheduler.StepLR(o, 11, 0.1), "step", 1.0),
    "lambda beyond its rate": (lambda o: lr_scheduler.LambdaLR(o, lambda step: 3 * (1 - step / 32)), "linear", 1 / 3),
    "one cycle": (lambda o: lr_scheduler.OneCycleLR(o, 0.01, 32), "one-cycle", 1.0),
    "plateau": (lambda o: lr_scheduler.ReduceLROnPlateau(o), "constant", 1.0),
    "below zero": (lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 - step / 20), "constant", 1.0),
    "wanting an argument": (lambda o: Wanting(o), "linear", 1.0),
    "wanting a metric": (lambda o: Measured(o), "constant", 1.0),
}


class Wanting(lr_scheduler.LRScheduler):
    """Has to be given the step, as the module does."""

    def get_lr(self):
        return [lr * (1 - self.last_epoch / 32) for lr in self.base_lrs]

    def step(self, *step):
        if not step and self.last_epoch >= 0:
            raise TypeError("step, please")
        self.last_epoch = step[0] - 1 if step else self.last_epoch
        super().step()


class Measured(Wanting):
    """Has to be given a metric, which only a step of training has."""

    def get_lr(self):
        return self.base_lrs


@pytest.mark.parametrize("name", KEPT)
def test_a_schedule_that_is_kept_reaches_the_peak_that_is_best_for_it(tmp_path, found, name):
    make, policy, share = KEPT[name]
    found["alternatives"] = rank(Policy("wsd", 32), 32, 0.4)
    peak = next(one.lr for one in found["alternatives"] if one.policy.name == policy)

    class Stepping(Net):
        def configure_optimizers(self):
            optimizer = adamw(self)
            return [optimizer], [{"scheduler": make(optimizer), "interval": "step", "monitor": "train_loss_step"}]

        def lr_scheduler_step(self, scheduler, metric):
            if isinstance(scheduler, Measured):
                assert self.seen > 0
            given = self.global_step if isinstance(scheduler, Wanting) else metric
            asks = isinstance(scheduler, (lr_scheduler.ReduceLROnPlateau, Wanting))
            scheduler.step(*[given][: int(asks)])

    callback = finder(policy=None)
    trainer, run = fit(tmp_path, [callback], module=Stepping)
    suggestion = callback.suggestion
    assert suggestion.policy is None
    assert suggestion.lr == trainer.lightning_module.lr == pytest.approx(share * peak, rel=0.03)
    if name != "below zero":
        assert max(max(step) for step in rates(run)) == pytest.approx(peak, rel=0.03)
    told = "could not be told" if name in ("below zero", "wanting a metric") else "moved there by the convex bound"
    assert told in suggestion.caveats[-1]


def test_a_later_search_without_a_schedule_is_for_a_constant_rate(tmp_path, found):
    found["alternatives"] = rank(Policy("wsd", 16), 16, 0.4)
    callback = finder(policy="keep", at_epochs=[1])
    fit(tmp_path, [callback])
    assert callback.suggestion.policy.name == "constant"
    assert callback.suggestion.lr == next(a.lr for a in found["alternatives"] if a.policy.name == "constant")


def test_a_policy_that_does_not_fit_the_training_is_said_to(tmp_path, found, caplog):
    with caplog.at_level("INFO", logger="lightning.pytorch.utilities.rank_zero"):
        fit(tmp_path, [finder(policy=Policy("cosine", 50))])
    assert "a policy of 50 steps in a training of 32 steps, as asked for" in caplog.text


def test_where_param_groups_are_added_later_no_schedule_is_installed_unasked(tmp_path, found):
    """torch's schedulers have no rate for them, and the run would end there."""

    _, run = fit(tmp_path, [finder(policy=None), BackboneFinetuning(1, train_bn=False)], module=Thawing)
    assert len(run["steps"]) == 32
    assert run["schedulers"] == []


def test_a_refusal_installs_nothing(tmp_path):
    class Flat(Net):
        def loss(self, batch):
            return sum(parameter.sum() for parameter in self.parameters()) * 0.0 + 2.5

    with pytest.warns(UserWarning, match="left the learning rate as it was"):
        _, run = fit(tmp_path, [finder(policy="wsd")], module=Flat)
    assert run["schedulers"] == []
    assert rates(run) == [[0.01]] * 32


def test_an_interrupted_search_installs_nothing(tmp_path):
    class Interrupted(Net):
        taken = 0  # of the class: no snapshot winds it back

        def training_step(self, batch, batch_idx):
            Interrupted.taken += 1
            if Interrupted.taken == 320:
                raise KeyboardInterrupt
            return super().training_step(batch, batch_idx)

    class Looking(pl.Callback):
        def on_exception(self, trainer, pl_module, exception):
            self.left = list(trainer.lr_scheduler_configs), trainer.optimizers[0].param_groups[0]["lr"]

    callback, looking = finder(policy="wsd"), Looking()
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(tmp_path, [callback, looking], module=Interrupted)
    assert callback.suggestion.interrupted
    assert looking.left == ([], 0.01)


@pytest.mark.parametrize("policy", ["fast", 3, True, ["wsd"], ""])
def test_a_policy_that_is_none_is_named(policy):
    with pytest.raises(InputError) as raised:
        LRFinder(policy=policy)
    assert str(raised.value).startswith("policy must be auto, keep, one of constant, step, ")
    assert str(raised.value).endswith(f"or a Policy, got {policy!r}")


def test_plateau_needs_a_metric_and_no_warmup():
    with pytest.raises(InputError, match=r"monitor must be given with policy 'plateau', .* got None"):
        LRFinder(policy="plateau")
    with pytest.raises(InputError, match="warmup_steps of policy 'plateau' must be 0, got 3"):
        LRFinder(policy=Policy("plateau", None, 3), monitor="val_loss")


IMPOSSIBLE = {
    "growing": (
        {"module": Thawing, "others": lambda: [BackboneFinetuning(1, train_bn=False)]},
        r"policy must be keep \(or None\) with a callback that adds param groups later",
    ),
    "no end": (
        {"max_epochs": -1},
        r"policy 'cosine' needs to know how long .* max_steps, got max_epochs = -1, max_steps = -1",
    ),
    "manual": ({"module": Manual}, r"policy must be keep \(or None\) with manual optimization, .* got 'cosine'"),
}


@pytest.mark.parametrize("epochs", [[0], [1]])
@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_be_installed_is_refused_before_anything_is_probed(tmp_path, found, name, epochs):
    options, message = IMPOSSIBLE[name]
    options = dict(options)
    others = options.pop("others", list)()
    with pytest.raises(InputError, match=message):
        fit(tmp_path, [finder(policy="cosine", at_epochs=epochs), *others], **options)
    assert found["searches"] == 0


def saving(steps):
    return ModelCheckpoint(every_n_train_steps=steps, save_top_k=-1)


def resumed(folder, source, steps, callbacks, **options):
    path = next(path for path in source.rglob("*.ckpt") if f"step={steps}" in path.name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?!LRFinder)")  # Lightning's, on the callbacks in a checkpoint
        return fit(folder, callbacks, ckpt_path=path, **options)


MODULES = {
    "no scheduler": optimizers(sgd),
    "a sequential one, replaced": optimizers(
        lambda net: (lambda o: ([o], [SCHEDULERS["SequentialLR"](o, net.lr)]))(sgd(net))
    ),
}


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(("steps", "accumulate"), [(16, 1), (21, 1), (9, 3)])
def test_a_resumed_fit_follows_the_schedule_on_as_by_hand(tmp_path, found, module, steps, accumulate):
    """From the end of an epoch and from the middle of one."""
    options = {"accumulate_grad_batches": accumulate, "max_epochs": 3}
    tuned = {"module": MODULES[module], **options}
    fit(tmp_path / "first", [finder(policy="auto"), saving(steps)], **tuned)
    again = finder(policy="auto")
    _, run = resumed(tmp_path / "a", tmp_path / "first", steps, [again, saving(steps)], **tuned)
    assert found["searches"] == 1
    assert again.suggestion.lr == 0.5
    by_hand = {"module": with_scheduler(sgd, by_default(18 if accumulate == 3 else 48)), "lr": 0.5, **options}
    fit(tmp_path / "by hand", [saving(steps)], **by_hand)
    _, reference = resumed(tmp_path / "b", tmp_path / "by hand", steps, [saving(steps)], **by_hand)
    assert_same(without_functions(run), without_functions(reference))
    assert len(set(map(tuple, rates(run)))) > 4


class Resumable:
    """A loader that checkpoints know the place of."""

    def __init__(self):
        self.next = 0

    def __len__(self):
        return 16

    def __iter__(self):
        while self.next < 16:
            self.next += 1
            rows = slice(16 * self.next - 16, 16 * self.next)
            yield INPUTS[rows], TARGETS[rows]
        self.next = 0

    def state_dict(self):
        return {"next": self.next}

    def load_state_dict(self, state):
        self.next = state["next"]


class Calm(Net):
    """Without the random numbers that no checkpoint holds."""

    def loss(self, batch):
        return torch.nn.functional.cross_entropy(self.head(self.body[:3](batch[0])), batch[1])


@pytest.mark.parametrize(("steps", "accumulate"), [(16, 1), (21, 1), (11, 2)])
def test_a_resumed_fit_trains_as_the_uninterrupted_one(tmp_path, found, steps, accumulate):
    if pl.__version__.startswith("2.4.") and accumulate > 1:
        pytest.skip("Lightning 2.4 itself loses count of batches accumulated in the middle of an epoch")
    options = {
        "module": lambda lr: Calm(lr, sgd), "loaders": Resumable, "accumulate_grad_batches": accumulate,
        "max_epochs": 3, "limit_val_batches": 0,
    }  # fmt: skip
    _, whole = fit(tmp_path / "whole", [finder(policy=None), saving(steps)], **options)
    _, run = resumed(tmp_path / "a", tmp_path / "whole", steps, [finder(policy=None)], **options)
    assert [step[:3] for step in run["steps"]] == [step[:3] for step in whole["steps"][steps * accumulate :]]
    assert run["tensors"]["head.weight"] == whole["tensors"]["head.weight"]
    assert (run["optimizers"], run["schedulers"]) == (whole["optimizers"], whole["schedulers"])


def test_a_resumed_fit_keeps_the_end_of_its_schedule(tmp_path, found):
    fit(tmp_path / "first", [finder(policy=None), saving(21)])
    with pytest.warns(UserWarning, match="LRFinder will train at a rate of zero from step 32 on: train until then"):
        _, run = resumed(tmp_path / "a", tmp_path / "first", 21, [finder(policy=None)], max_epochs=4)
    policy = Policy("wsd", 32, 5)
    assert rates(run) == [[0.5 * policy(step)] for step in range(21, 21 + len(run["steps"]))]
    assert len(run["steps"]) in (43, 44)  # Lightning 2.4 repeats the batch after which it saved
    assert "on its wsd schedule: 5 steps of warmup, constant, then linear" in found["said"][-1]


@pytest.mark.filterwarnings("ignore:Be aware that when using")
def test_a_schedule_that_has_ended_begins_anew_in_a_fit_that_goes_on(tmp_path, found):
    fit(tmp_path / "first", [finder(policy=None), saving(16)])
    path = next((tmp_path / "first").rglob("*step=32.ckpt"))
    _, run = fit(tmp_path / "again", [finder(policy=None)], ckpt_path=path, max_epochs=3)
    assert rates(run) == [[0.5 * Policy("wsd", 16, 2)(step)] for step in range(16)]


def test_a_schedule_that_has_ended_begins_anew_in_a_second_fit_of_the_trainer(found):
    module = Small()
    trainer = trained(module, finder(policy="linear"), epochs=1)
    trainer.fit_loop.max_epochs = 3
    trainer.fit(module, datamodule=Rows())
    rates = [Policy("linear", total, 5)(step) for total in (32, 64) for step in range(total)]
    assert module.rates == [0.5 * rate for rate in rates]


def test_what_a_checkpoint_was_trained_with_stands_whatever_is_asked_for_now(tmp_path, found):
    fit(tmp_path / "first", [finder(policy=None), saving(21)])
    _, other = resumed(tmp_path / "a", tmp_path / "first", 21, [finder(policy="keep")])
    _, same = resumed(tmp_path / "b", tmp_path / "first", 21, [finder(policy=None)])
    assert_same(other, same)


def test_the_schedule_is_in_the_state_of_the_callback_as_json(tmp_path, found):
    callback, other = finder(policy="cosine"), finder()
    fit(tmp_path, [callback], module=optimizers(sgd))
    state = json.loads(json.dumps(callback.state_dict()))
    assert InstalledSchedule.from_dict(state["installed"]) == InstalledSchedule(Policy("cosine", 32, 5), (0.05, 0.5), 0)
    other.load_state_dict(state)
    assert other.state_dict() == callback.state_dict()


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize("named", [True, False])
def test_a_fit_that_goes_on_finds_its_place_in_the_schedule(tmp_path, found, named):
    """Lightning configures optimizers anew for each fit, at the module's rate; by hand, schedulers start over."""

    def configure(net):
        return torch.optim.SGD(net.parameters(), lr=net.lr if named else 0.01)

    callback = finder(policy=Policy("linear", 64))
    trainer, _ = fit(tmp_path, [callback], max_epochs=1, module=optimizers(configure))
    trainer.fit_loop.max_epochs = 3
    trainer.fit(trainer.lightning_module, loader())
    policy = Policy("linear", 64)
    seen = [rates for _, rates, *_ in trainer.lightning_module.record]
    assert seen == [[0.5 * policy(step)] for step in range(48)]
    assert found["searches"] == 1


def test_a_fit_from_a_foreign_checkpoint_forgets_the_schedule_of_the_fit_before(tmp_path, found):
    fit(tmp_path / "foreign", [saving(21)])
    path = next((tmp_path / "foreign").rglob("*step=21.ckpt"))
    callback = finder(policy=None)
    trainer, _ = fit(tmp_path / "first", [callback])
    trainer.fit_loop.max_epochs = 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(trainer.lightning_module, loader(), ckpt_path=path)
    assert callback.suggestion is None
    assert {rates[0] for _, rates, *_ in trainer.lightning_module.record[32:]} == {0.01}


def test_a_later_search_scales_the_schedule_installed_before(tmp_path, found):
    callback = finder(policy="linear", at_epochs=[0, 1])

    class Lower(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            found["lr"] = 0.2

    _, run = fit(tmp_path, [callback, Lower()], module=optimizers(sgd), max_epochs=3)
    policy = Policy("linear", 48, 7)
    assert rates(run)[:16] == [[0.05 * policy(step), 0.5 * policy(step)] for step in range(16)]
    assert [high for _, high in rates(run)[16:]] == pytest.approx([0.2 * (48 - s) / 32 for s in range(16, 48)])
    assert [low for low, _ in rates(run)] == pytest.approx([high / 10 for _, high in rates(run)])
    assert found["said"][-1].partition(". How sure: ")[0].endswith("kept the schedule installed before, linear")
    assert len(run["schedulers"]) == 1
    assert callback.state_dict()["installed"]["peaks"] == pytest.approx([0.025625, 0.25625])


def test_a_first_search_before_a_later_epoch_installs_over_what_is_left(tmp_path, found):
    callback = finder(policy=None, at_epochs=[1])
    _, run = fit(tmp_path, [callback, saving(21)], max_epochs=3)
    policy = Policy("wsd", 32, 5)
    assert rates(run) == [[0.01]] * 16 + [[0.5 * policy(step)] for step in range(32)]
    _, again = resumed(tmp_path / "a", tmp_path, 21, [finder(policy=None, at_epochs=[1])], max_epochs=3)
    assert rates(again) == [[0.5 * policy(step)] for step in range(5, 5 + len(again["steps"]))]


def trained(module, *callbacks, epochs=2, **options):
    trainer = bare_trainer(*callbacks, max_epochs=epochs, **options)
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
    with pytest.warns(UserWarning, match="LRFinder will train at a rate of zero from step 32 on: search again"):
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
