"""Another optimizer over the same param groups, in place of the one that a model trains with."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lrfinder.cli.code_ref import import_module, user_code_errors
from lrfinder.cli.options import parse_argument, takes
from lrfinder.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


_ANY_LR = 1e-3
"""Learning rate of a new optimizer if there is none to take it from; the search tries its own rates."""

_MOMENTUM = 0.9

_NAMED = 3
"""Number of parameters that an error names."""


@dataclass(frozen=True)
class OptimizerChoice:
    """An optimizer class and the options to make it with.

    Attributes:
        name: the name that was requested.
        kind: the class.
        options: arguments besides param groups and the learning rate.
        notes: choices that nobody requested, a sentence each.
    """

    name: str
    kind: type[Any]
    options: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def over(self, old: Optimizer | None, model: nn.Module) -> tuple[Optimizer, list[str]]:
        """Return a new optimizer over the groups of an old one, and a sentence for each setting that is dropped.

        The groups keep their configured learning rates, so that their ratios stay, and a weight decay that was set, if
        the new optimizer has one. Every other setting is dropped. Without an old optimizer, the new one gets all
        trainable parameters of the model.
        """
        import torch

        dropped: list[str] = []
        if old is None:
            parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
            groups, rate = [{"params": parameters}], _ANY_LR
        else:
            parts = [self._group(group, old) for group in old.param_groups]
            groups = [kept for kept, _ in parts]
            dropped = list(dict.fromkeys(self._drops(what) for _, lost in parts for what in lost))
            rate = float(old.defaults.get("lr", groups[0]["lr"]))
        if self.kind is getattr(torch.optim, "Muon", None):
            self._check_matrices(model, (parameter for group in groups for parameter in group["params"]))
        own = {"lr": rate} if takes(self.kind, "lr") else {}
        with user_code_errors(f"{self.name} cannot be made"):
            made: Optimizer = self.kind(groups, **{**own, **self.options})
        return made, dropped

    @contextmanager
    def within(self, module: Any) -> Iterator[list[str]]:
        """Let a LightningModule configure this optimizer instead of its own within the block, without schedulers.

        Yields a sentence for each setting that is dropped; the list is filled when the module configures its optimizer.
        """
        from lrfinder.lightning.internals import optimizers_in

        own, held = module.configure_optimizers, vars(module).get("configure_optimizers")
        dropped: list[str] = []

        def configure_optimizers(module: Any) -> Optimizer:
            optimizers, schedulers = optimizers_in(module, own())
            if len(optimizers) > 1:
                raise InputError(
                    f"--optimizer must be left out for a module with {len(optimizers)} optimizers, got {self.name}"
                )
            made, lost = self.over(optimizers[0] if optimizers else None, module)
            names = ", ".join(type(scheduler).__name__ for scheduler in schedulers)
            dropped[:] = [*lost, *([self._drops(f"{names} of configure_optimizers")] if names else [])]
            return made

        module.configure_optimizers = types.MethodType(configure_optimizers, module)
        try:
            yield dropped
        finally:
            del module.configure_optimizers
            if held is not None:
                module.configure_optimizers = held

    def _group(self, group: Mapping[str, Any], old: Optimizer) -> tuple[dict[str, Any], list[str]]:
        """Return the settings of a param group that are kept, and those that are dropped."""
        kept: dict[str, Any] = {"params": group["params"], "lr": float(group.get("initial_lr", group["lr"]))}
        lost = []
        usual = inspect.signature(type(old)).parameters
        for name, value in group.items():
            if name in ("params", "lr") or name not in usual:
                continue
            # A group that differs from the rest does so on purpose: biases without weight decay, say.
            on_purpose = value != old.defaults.get(name, value)
            if value == usual[name].default and not on_purpose:
                continue
            if name == "weight_decay" and takes(self.kind, name) and (on_purpose or name not in self.options):
                kept[name] = value
            elif name not in self.options:
                lost.append(f"{name}={value!r} of {type(old).__name__}")
        return kept, lost

    def _check_matrices(self, model: nn.Module, parameters: Iterable[nn.Parameter]) -> None:
        names = {parameter: name for name, parameter in model.named_parameters()}
        others = [
            f"{names.get(parameter, 'one without a name')} {tuple(parameter.shape)}"
            for parameter in parameters
            if parameter.ndim != 2
        ]
        if others:
            more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
            raise InputError(
                f"--optimizer {self.name} must be left out for parameters that are not matrices, got"
                f" {', '.join(others[:_NAMED])}{more}: it is meant for the weights of hidden layers, beside another"
                " optimizer for the rest. Give the dotted path of a class of your own that steps both"
            )

    def _drops(self, what: str) -> str:
        return f"--optimizer {self.name} drops {what}."


def choices(names: Sequence[str], texts: Mapping[str, str]) -> list[OptimizerChoice]:
    """Return the requested optimizers; each option goes to all of them that take it.

    Args:
        names: names of classes of `torch.optim`, in any case, or dotted paths of others.
    """
    kinds = {name: _kind(name) for name in names}
    if len({*kinds.values()}) < len(names):
        raise InputError(f"--optimizer must name each optimizer once, got {', '.join(names)}")
    if "lr" in texts:
        raise InputError(f"--optimizer.lr must be left out, since it is what is searched for, got {texts['lr']}")
    for option in texts:
        if not any(takes(kind, option) for kind in kinds.values()):
            taken = {one: None for kind in kinds.values() for one in inspect.signature(kind).parameters}
            known = [one for one in taken if one not in ("self", "params", "lr")]
            raise InputError(
                f"--optimizer.{option} must be an option of {' or '.join(names)}, which take"
                f" {', '.join(known) or 'none'}{did_you_mean(option, known)}"
            )
    return [_choice(name, kind, texts) for name, kind in kinds.items()]


def _choice(name: str, kind: type[Any], texts: Mapping[str, str]) -> OptimizerChoice:
    import torch

    values = {
        name: parse_argument(kind, name, text, "--optimizer") for name, text in texts.items() if takes(kind, name)
    }
    options = {option: tuple(value) if isinstance(value, list) else value for option, value in values.items()}
    notes = []
    if kind is torch.optim.SGD and "momentum" not in options:
        options["momentum"] = _MOMENTUM
        notes.append(f"{name} has momentum {_MOMENTUM:g}, since --optimizer.momentum was not given.")
    if left := [option for option in texts if option not in options]:
        notes.append(f"{name} does not take {', '.join(left)}.")
    return OptimizerChoice(name, kind, options, tuple(notes))


def _kind(name: str) -> type[Any]:
    import torch

    own = {
        key.lower(): value
        for key, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
    }
    if "." not in name:
        if name.lower() not in own:
            raise InputError(
                f"--optimizer must be a class of torch.optim or a dotted path, got {name!r}{did_you_mean(name, own)}"
            )
        return own[name.lower()]
    where, _, last = name.rpartition(".")
    held = {key: value for key, value in vars(import_module(where)).items() if isinstance(value, type)}
    if not hasattr(held.get(last), "step"):
        near = did_you_mean(last, [key for key, value in held.items() if hasattr(value, "step")])
        raise InputError(f"--optimizer must name a class with a step method, got {name!r}{near}")
    return held[last]
