"""Where a module keeps its learning rate, and how it is set there."""

from __future__ import annotations

from argparse import Namespace
from collections import namedtuple
from dataclasses import dataclass, field

import numpy as np
import pytest
from torch import nn

from lrfinder import InputError
from lrfinder.lightning.module_lr import number_at, numbers_of_lr, put_number, put_numbers, settable


@dataclass(frozen=True)
class Optim:
    lr: float = 0.01
    weight_decay: float = 0.01


@dataclass
class Config:
    optim: Optim = field(default_factory=Optim)


class Module(nn.Module):
    """As far as numbers go, a LightningModule."""

    def __init__(self, hparams=None, **attributes):
        super().__init__()
        self._hparams = hparams or {}
        vars(self).update(attributes)


class Derived(Module):
    """Keeps its rate behind a property."""

    @property
    def lr(self):
        return self.conf["rate"]

    @lr.setter
    def lr(self, value):
        self.conf["rate"] = value


Frozen = namedtuple("Frozen", "lr")

FOUND = {
    "an attribute": (Module(lr=0.01), [("lr",)]),
    "a hyperparameter": (Module({"learning_rate": 0.01}), [("hparams", "learning_rate")]),
    "both": (Module({"lr": 0.01}, lr=0.01), [("lr",), ("hparams", "lr")]),
    "a number of NumPy": (Module(lr=np.float32(0.01)), [("lr",)]),
    "nested hyperparameters": (Module({"optim": {"lr": 0.01}}), [("hparams", "optim", "lr")]),
    "a dataclass": (Module(cfg=Config()), [("cfg", "optim", "lr")]),
    "a namespace": (Module(args=Namespace(learning_rate=0.01)), [("args", "learning_rate")]),
    "a property with a setter": (Derived(conf={"rate": 0.01}), [("lr",)]),
    "another name": (Module(rate=0.01), []),
    "another value": (Module(cfg=Namespace(lr=5.0)), []),
    "first and highest": (
        Module(init_lr=0.01, max_lr=0.1, final_lr=0.5),
        [("init_lr",), ("max_lr",)],
    ),
    "no number": (Module(lr="0.01", cfg=Config(Optim(None))), []),
}


@pytest.mark.parametrize("name", FOUND)
def test_the_numbers_of_the_learning_rate_are_found_and_set(name):
    module, expected = FOUND[name]
    configured = [float(np.float32(0.01))] if "NumPy" in name else [0.01]
    found = numbers_of_lr(module, None, configured, [0.01, 0.1])
    assert found == expected
    for path in found:
        put_number(module, path, 0.25)
        assert number_at(module, path) == 0.25


def test_an_unrelated_number_of_the_other_name_is_not_taken():
    assert numbers_of_lr(Module(lr=0.01, learning_rate=5.0), None, [0.01], []) == [("lr",)]
    assert numbers_of_lr(Module(lr=0.02, learning_rate=5.0), None, [0.01], []) == [("lr",), ("learning_rate",)]


def test_a_name_with_dots_leads_to_an_attribute_or_a_hyperparameter():
    module = Module({"cfg": {"rate": 0.3}}, cfg=Namespace(rate=0.2), groups=({"lr": 0.1},))
    assert numbers_of_lr(module, "cfg.rate", [], []) == [("cfg", "rate"), ("hparams", "cfg", "rate")]
    with pytest.raises(InputError, match=r"attribute must name a number of Module, got 'cfg\.speed', which is none"):
        numbers_of_lr(module, "cfg.speed", [], [])


def test_what_cannot_be_set_is_told_from_what_can():
    class Fixed(Module):
        lr = property(lambda self: 0.01)

    module = Fixed({"lr": 0.01}, frozen=Frozen(0.01))
    paths = [("lr",), ("frozen", "lr"), ("hparams", "lr")]
    assert settable(module, paths, 2.0) == [("hparams", "lr")]
    assert number_at(module, ("hparams", "lr")) == 0.02


def test_configurations_of_omegaconf_are_read_and_set_also_read_only_ones():
    config = pytest.importorskip("omegaconf").OmegaConf
    for text, flag in (("{optim: {lr: 0.01}}", "readonly"), ("{lr: 0.01, optim: {lr: '${lr}'}}", "struct")):
        made = config.create(text)
        (config.set_readonly if flag == "readonly" else config.set_struct)(made, True)
        module = Module(made)
        found = numbers_of_lr(module, None, [0.01], [])
        put_numbers(module, dict.fromkeys(found, 0.2))
        assert made.optim.lr == 0.2
        assert bool(config.is_readonly(made)) == (flag == "readonly")
    assert config.to_container(made) == {"lr": 0.2, "optim": {"lr": "${lr}"}}
