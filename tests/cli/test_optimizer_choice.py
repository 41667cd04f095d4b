from __future__ import annotations

import pytest
import torch
from support.targets import fresh, write
from torch import nn

from lrfinder import InputError
from lrfinder.cli.optimizer_choice import choices
from lrfinder.errors import TargetError

__all__ = ["fresh"]


def one(name, **texts):
    (choice,) = choices([name], texts)
    return choice


def grouped(kind=torch.optim.SGD, **options):
    """A model and an optimizer of two groups: the second learns ten times faster and has no weight decay."""
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    groups = [{"params": model[0].parameters()}, {"params": model[1].parameters(), "lr": 1.0, "weight_decay": 0.0}]
    return model, kind(groups, lr=0.1, **options)


def settings(optimizer, *names):
    return [tuple(group[name] for name in names) for group in optimizer.param_groups]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adamw", torch.optim.AdamW),
        ("AdaGrad", torch.optim.Adagrad),
        ("RMSprop", torch.optim.RMSprop),
        ("torch.optim.NAdam", torch.optim.NAdam),
    ],
)
def test_a_class_is_found_by_name_in_any_case_or_by_its_path(name, kind):
    assert one(name).kind is kind


def test_sgd_gets_momentum_unless_it_is_given_and_says_so():
    unasked, asked = one("sgd"), one("sgd", momentum="0")
    assert unasked.options == {"momentum": 0.9}
    assert unasked.notes == ("sgd has momentum 0.9, since --optimizer.momentum was not given.",)
    assert (asked.options, asked.notes) == ({"momentum": 0}, ())


def test_an_option_goes_to_all_that_take_it():
    sgd, adam = choices(["sgd", "adam"], {"betas": "[0.8, 0.9]", "weight_decay": "0.1"})
    assert sgd.options == {"weight_decay": 0.1, "momentum": 0.9}
    assert sgd.notes[-1] == "sgd does not take betas."
    assert adam.options == {"betas": (0.8, 0.9), "weight_decay": 0.1}


@pytest.mark.parametrize(
    ("names", "texts", "told"),
    [
        (["sdg"], {}, "--optimizer must be a class of torch.optim or a dotted path, got 'sdg': did you mean sgd?"),
        (["sgd", "sgd"], {}, "--optimizer must name each optimizer once, got sgd, sgd"),
        (
            ["torch.optim.Adm"],
            {},
            "--optimizer must name a class with a step method, got 'torch.optim.Adm': did you mean Adam?",
        ),
        (["nowhere.Lion"], {}, "there is no module nowhere: give FILE.py:NAME, or run where nowhere is"),
        (["sgd"], {"lr": "3"}, "--optimizer.lr must be left out, since it is what is searched for, got 3"),
    ],
)
def test_what_is_no_optimizer_is_named(names, texts, told):
    with pytest.raises(InputError) as error:
        choices(names, texts)
    assert str(error.value) == told


def test_an_option_that_none_takes_is_named():
    with pytest.raises(InputError, match=r"^--optimizer.momentm must be an option of sgd or adam, .* mean momentum\?$"):
        choices(["sgd", "adam"], {"momentm": "0.9"})


def test_groups_keep_parameters_rates_and_weight_decay():
    model, old = grouped(weight_decay=0.01, momentum=0.9)
    choice = one("adamw")
    new, dropped = choice.over(old, model)
    assert isinstance(new, torch.optim.AdamW)
    assert settings(new, "lr", "weight_decay") == [(0.1, 0.01), (1.0, 0.0)]
    assert [group["params"] for group in new.param_groups] == [group["params"] for group in old.param_groups]
    assert dropped == ["--optimizer adamw drops momentum=0.9 of SGD."]


def test_the_rate_that_names_the_others_and_what_a_scheduler_began_with_stay():
    model, old = grouped()
    torch.optim.lr_scheduler.LambdaLR(old, lambda step: (step + 1) / 100)  # a warmup lowers the rates at once
    assert settings(old, "lr") == [(0.001,), (0.01,)]
    new, _ = one("adam").over(old, model)
    assert settings(new, "lr") == [(0.1,), (1.0,)]
    assert new.defaults["lr"] == 0.1
    model, old = grouped()
    old.param_groups.reverse()
    assert one("adam").over(old, model)[0].defaults["lr"] == 0.1


def test_a_weight_decay_that_is_given_spares_the_groups_that_had_another_on_purpose():
    model, old = grouped(weight_decay=0.01)
    assert settings(one("adamw", weight_decay="0.5").over(old, model)[0], "weight_decay") == [(0.5,), (0.0,)]


def test_the_defaults_of_one_optimizer_are_not_those_of_another():
    model, old = grouped(torch.optim.AdamW)  # whose default is 0.01
    assert settings(one("sgd").over(old, model)[0], "weight_decay") == [(0,), (0.0,)]


def test_without_an_optimizer_all_that_trains_is_taken():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1).requires_grad_(False))
    (group,) = one("adam").over(None, model)[0].param_groups
    assert group["params"] == list(model[0].parameters())


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_muon_is_refused_for_parameters_that_are_not_matrices_and_names_them():
    model, old = grouped()
    with pytest.raises(InputError) as error:
        one("muon").over(old, model)
    assert str(error.value) == (
        "--optimizer muon must be left out for parameters that are not matrices, got 0.bias (3,), 1.bias (1,): it is"
        " meant for the weights of hidden layers, beside another optimizer for the rest. Give the dotted path of a"
        " class of your own that steps both"
    )
    model.append(nn.Conv2d(1, 1, 3)).append(nn.BatchNorm2d(1))
    with pytest.raises(InputError, match=r"got 0.bias \(3,\), 1.bias \(1,\), 2.weight \(1, 1, 3, 3\) and 3 more: "):
        one("muon").over(None, model)
    matrices = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 1, bias=False))
    assert isinstance(one("muon").over(None, matrices)[0], torch.optim.Muon)


def test_a_class_of_somebodys_is_used_and_blamed(fresh):
    write(
        "their_optimizers.py",
        """
        import torch
        class Mine(torch.optim.SGD):
            pass
        class Fails(torch.optim.SGD):
            def __init__(self, params, lr=1.0):
                raise ValueError("not today")
        """,
    )
    model, old = grouped()
    assert type(one("their_optimizers.Mine").over(old, model)[0]).__name__ == "Mine"
    with pytest.raises(TargetError, match=r"(?s)^their_optimizers.Fails cannot be made:\nTraceback.*not today$"):
        one("their_optimizers.Fails").over(old, model)


class Module(nn.Module):
    def __init__(self, configured):
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.configured = configured

    def configure_optimizers(self):
        return self.configured(self.layer)


def sgd(layer):
    return torch.optim.SGD(layer.parameters(), lr=0.3)


def step_lr(optimizer):
    return torch.optim.lr_scheduler.StepLR(optimizer, 1)


SHAPES = {
    "one": (sgd, False),
    "none": (lambda layer: None, False),
    "a dict": (lambda layer: {"optimizer": sgd(layer)}, False),
    "a dict with a scheduler": (lambda layer: {"optimizer": (o := sgd(layer)), "lr_scheduler": step_lr(o)}, True),
    "its configuration": (
        lambda layer: {"optimizer": (o := sgd(layer)), "lr_scheduler": {"scheduler": step_lr(o)}},
        True,
    ),
    "a list": (lambda layer: [sgd(layer)], False),
    "two lists": (lambda layer: ([o := sgd(layer)], [step_lr(o)]), True),
    "a list of dicts": (lambda layer: [{"optimizer": (o := sgd(layer)), "lr_scheduler": step_lr(o)}], True),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_module_configures_it_for_a_while(shape):
    configured, scheduled = SHAPES[shape]
    module, choice = Module(configured), one("adam")
    before = dict(vars(module))
    with choice.within(module) as dropped:
        made = module.configure_optimizers()
    assert isinstance(made, torch.optim.Adam)
    assert [group["params"] for group in made.param_groups] == [list(module.layer.parameters())]
    assert settings(made, "lr") == [(0.3,) if shape != "none" else (1e-3,)]
    assert dropped == (["--optimizer adam drops StepLR of configure_optimizers."] if scheduled else [])
    assert vars(module) == before


def test_two_optimizers_are_left_to_the_module():
    module = Module(lambda layer: [sgd(layer), sgd(layer)])
    with (
        one("adam").within(module),
        pytest.raises(InputError, match="must be left out for a module with 2 optimizers, got adam"),
    ):
        module.configure_optimizers()
