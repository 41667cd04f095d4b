"""Another optimizer in place of the one a model trains with, over the same param groups."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lrfinder.arguments import did_you_mean, literal, takes
from lrfinder.blame import blame
from lrfinder.errors import InputError
from lrfinder.target import imported

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

__all__ = ["OptimizerChoice", "choices"]

_ANY_LR = 1e-3
"""Where there was no optimizer to take a rate from. The search tries its own."""
_MOMENTUM = 0.9


@dataclass(frozen=True)
class OptimizerChoice:
    """An optimizer class and how it is to be made.

    Attributes:
        name: as it was asked for.
        kind: the class.
        options: what to make it with, besides param groups.
        notes: what was decided unasked, a sentence each.
        dropped: what of an optimizer that was replaced is lost, a sentence each; filled by `over`.
    """

    name: str
    kind: type[Any]
    options: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    dropped: list[str] = field(default_factory=list, compare=False)

    def over(self, old: Optimizer | None, model: nn.Module) -> Optimizer:
        """Return a new optimizer over the groups of an old one, or over all that trains.

        The groups keep their learning rates, so that their ratios stay, and a weight decay that was set, where this one
        has any; everything else of the old one is dropped.

        Raises:
            InputError: it cannot be made so.
            TargetError: the code of a class that is not torch's own raises.
        """
        if old is None:
            parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
            groups: list[dict[str, Any]] = [{"params": parameters, "lr": _ANY_LR}]
        else:
            groups = [self._group(group, old) for group in old.param_groups]
        rate = {"lr": groups[0]["lr"]} if takes(self.kind, "lr") else {}
        with blame(f"{self.name} cannot be made"):
            made: Optimizer = self.kind(groups, **{**rate, **self.options})
        return made

    @contextmanager
    def within(self, module: Any) -> Iterator[None]:
        """Let a LightningModule configure this optimizer instead of its own for a while; its schedulers go."""
        own, held = module.configure_optimizers, vars(module).get("configure_optimizers")

        def configure_optimizers(module: Any) -> Optimizer:
            optimizers, schedulers = _parts(own())
            if len(optimizers) > 1:
                raise InputError(
                    f"--optimizer must be left out for a module with {len(optimizers)} optimizers, got {self.name}"
                )
            if schedulers:
                self._drop(f"{', '.join(schedulers)} of configure_optimizers")
            return self.over(optimizers[0] if optimizers else None, module)

        module.configure_optimizers = types.MethodType(configure_optimizers, module)
        try:
            yield
        finally:
            del module.configure_optimizers
            if held is not None:
                module.configure_optimizers = held

    def _group(self, group: Mapping[str, Any], old: Optimizer) -> dict[str, Any]:
        kept: dict[str, Any] = {"params": group["params"], "lr": float(group["lr"])}
        usual = inspect.signature(type(old)).parameters
        for name, value in group.items():
            if name in ("params", "lr", *_SCHEDULERS) or name not in usual:
                continue
            # A group that differs from the rest does so on purpose: biases without weight decay, say.
            on_purpose = value != old.defaults.get(name, value)
            if value == usual[name].default and not on_purpose:
                continue
            if name == "weight_decay" and takes(self.kind, name) and (on_purpose or name not in self.options):
                kept[name] = value
            elif name not in self.options:
                self._drop(f"{name}={value!r} of {type(old).__name__}")
        return kept

    def _drop(self, what: str) -> None:
        text = f"--optimizer {self.name} drops {what}."
        if text not in self.dropped:
            self.dropped.append(text)


def choices(names: Sequence[str], texts: Mapping[str, str]) -> list[OptimizerChoice]:
    """Return the optimizers asked for; each option goes to all that take it.

    Args:
        names: of classes of `torch.optim`, in any case, or dotted paths of others.
        texts: options, as given.

    Raises:
        InputError: there is no such class, a name twice, or an option that none of them takes.
    """
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise InputError(f"--optimizer must name each optimizer once, got {doubled} twice")
    kinds = {name: _kind(name) for name in names}
    if "lr" in texts:
        raise InputError(f"--optimizer.lr must be left out, since it is what is searched for, got {texts['lr']}")
    for option in texts:
        if not any(takes(kind, option) for kind in kinds.values()):
            known = dict.fromkeys(one for kind in kinds.values() for one in _options(kind))
            raise InputError(
                f"--optimizer.{option} must be an option of {' or '.join(names)}, which take"
                f" {', '.join(known) or 'none'}{did_you_mean(option, known)}"
            )
    return [_choice(name, kind, texts) for name, kind in kinds.items()]


def _choice(name: str, kind: type[Any], texts: Mapping[str, str]) -> OptimizerChoice:
    import torch

    values = {option: literal(text) for option, text in texts.items() if takes(kind, option)}
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
    kind = getattr(imported(where), last, None)
    if not (isinstance(kind, type) and hasattr(kind, "step")):
        raise InputError(f"--optimizer must name a class with a step method, got {name!r}{did_you_mean(last, own)}")
    return kind


def _options(kind: type[Any]) -> Iterable[str]:
    return (name for name in inspect.signature(kind).parameters if name not in ("self", "params", "lr"))


_SCHEDULERS = ("initial_lr", "max_lr", "min_lr", "swa_lr", "max_momentum", "base_momentum")


def _parts(configured: Any) -> tuple[list[Any], list[str]]:
    """Return the optimizers and the names of the schedulers in what `configure_optimizers` may return."""
    if configured is None:
        return [], []
    if isinstance(configured, Mapping):
        schedulers = [configured["lr_scheduler"]] if configured.get("lr_scheduler") is not None else []
        return [configured["optimizer"]], [_name(one) for one in schedulers]
    if not isinstance(configured, (list, tuple)):
        return [configured], []
    if len(configured) == 2 and all(isinstance(part, (list, tuple)) for part in configured):
        return list(configured[0]), [_name(one) for one in configured[1]]
    parts = [_parts(one) for one in configured]
    return [one for optimizers, _ in parts for one in optimizers], [name for _, names in parts for name in names]


def _name(scheduler: Any) -> str:
    held = scheduler.get("scheduler", scheduler) if isinstance(scheduler, Mapping) else scheduler
    return type(held).__name__
