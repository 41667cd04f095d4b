"""A plain torch training, as a factory returns it, to be tuned from the command line."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import Optimizer

from lrfinder.batches import length
from lrfinder.code_ref import user_code_errors
from lrfinder.errors import InputError
from lrfinder.estimate import Estimate, estimate
from lrfinder.journal import Journal
from lrfinder.loop import LoopTrainee, find_lr
from lrfinder.optimizer_choice import OptimizerChoice
from lrfinder.policy import ENDLESS
from lrfinder.progress import progress_bar
from lrfinder.settings import Settings
from lrfinder.subject import Search, noted
from lrfinder.trainee import trainable

if TYPE_CHECKING:
    from lrfinder.suggestion import Suggestion

__all__ = ["PlainSubject"]

_FIELDS = ("model", "optimizer", "loss_fn", "loader", "val_loader")
_MORE = ("train_step", "val_step", "mode", "accumulate")
_SHAPE = "(model, optimizer, loss_fn, loader[, val_loader]), or a dict or a record with these names"


@dataclass(frozen=True)
class PlainSubject:
    """Model, optimizer, loss function and loaders, as `lrfinder.find_lr` takes them.

    Attributes:
        model: the network.
        optimizer: over its parameters.
        loss_fn: as `find_lr` has it.
        loader: training batches.
        val_loader: batches to judge by; None to hold out training batches.
        more: other arguments of `find_lr`: ``train_step``, ``val_step``, ``mode``, ``accumulate``.
        name: what it is called in errors.
        notes: what became of another optimizer that it had, a sentence each.
    """

    model: nn.Module
    optimizer: Optimizer
    loss_fn: Any
    loader: Iterable[Any]
    val_loader: Iterable[Any] | None
    more: Mapping[str, Any]
    name: str
    notes: tuple[str, ...] = ()
    speaks: bool = True
    seed: None = None

    @classmethod
    def of(cls, made: object, name: str, choice: OptimizerChoice | None = None) -> PlainSubject:
        """Read what a factory returned.

        Args:
            made: a tuple, dict, named tuple or object with the fields above; without an optimizer if there is a choice.
            name: what to call it in errors.
            choice: an optimizer to put in place of its own.

        Raises:
            InputError: it is something else, or one of the parts is.
        """
        parts = _parts(made, name)
        model, optimizer = parts.get("model"), parts.get("optimizer")
        for field, kind in (("model", nn.Module), ("optimizer", Optimizer)):
            if not isinstance(parts.get(field), kind) and not (field == "optimizer" and optimizer is None and choice):
                raise InputError(
                    f"{field} of {name} must be a torch {kind.__name__}, got {type(parts.get(field)).__name__}"
                )
        assert isinstance(model, nn.Module)
        notes: tuple[str, ...] = ()
        if not callable(parts.get("loss_fn")) and not ("train_step" in parts and "val_step" in parts):
            raise InputError(f"loss_fn of {name} must be callable, got {type(parts.get('loss_fn')).__name__}")
        if choice is not None:
            if parts.get("train_step") is not None:
                raise InputError(
                    f"--optimizer must be left out where {name} has a train_step of its own, got {choice.name}"
                )
            optimizer, dropped = choice.over(optimizer, model)
            notes = (*choice.notes, *dropped)
        more = {field: parts[field] for field in _MORE if field in parts}
        assert optimizer is not None
        return cls(model, optimizer, parts.get("loss_fn"), parts["loader"], parts.get("val_loader"), more, name, notes)

    def suggest(
        self, search: Search, journal: Callable[[Settings], Journal] | None = None, shown: bool = False
    ) -> Suggestion:
        """Search as `find_lr` does."""
        steps = self._steps(search)
        with user_code_errors(f"{self.name} raised while it was tried; it is as it was"), progress_bar(shown) as bar:
            found = find_lr(
                self.model, self.optimizer, self.loss_fn, self.loader, self.val_loader, steps=steps,
                method=search.method, budget=search.budget, min_lr=search.min_lr, max_lr=search.max_lr, progress=bar,
                journal=None if journal is None else journal(search.settings(steps)), **self.more,
            )  # fmt: skip
        return noted(search.for_policy(found.with_environment(device=self._device())), self.notes)

    def estimate(self, search: Search) -> Estimate:
        """Say what `suggest` would do and cost."""
        train_step, val_step = self.more.get("train_step"), self.more.get("val_step")
        settings, accumulate = search.settings(self._steps(search)), self.more.get("accumulate", 1)
        with user_code_errors(f"{self.name} raised while it was evaluated; it is as it was"):
            trainee = LoopTrainee(
                self.model, self.optimizer, self.loss_fn, self.loader, train_step, accumulate, self.val_loader, val_step
            )
            return estimate(trainee, settings)

    def _device(self) -> str:
        return str(trainable(self.model)[0].device)

    def _steps(self, search: Search) -> int | None:
        """Return the horizon.

        Raises:
            InputError: something was asked for that plain torch does not have.
        """
        if search.monitor is not None:
            raise InputError(f"--monitor must be left out for {self.name}, which logs no metric, got {search.monitor}")
        if search.policy == "keep":
            raise InputError(f"--policy keep must be left out for {self.name}, which has no scheduler to keep")
        if search.epochs is None:
            if search.steps is None and search.policy not in (None, "auto", *ENDLESS):
                raise InputError(f"--policy {search.policy} needs --steps or --epochs, got neither")
            return search.steps
        batches = length(self.loader)
        if batches is None:
            raise InputError(f"--epochs must be left out for data without length, got {search.epochs}: give --steps")
        return max(search.epochs * batches // int(self.more.get("accumulate", 1)), 1)


def _parts(made: Any, name: str) -> dict[str, Any]:
    if isinstance(made, tuple) and not hasattr(made, "_fields") and len(made) in (4, 5):
        return dict(zip(_FIELDS, made, strict=False))
    if isinstance(made, Mapping):
        if unknown := [key for key in made if key not in (*_FIELDS, *_MORE)]:
            raise InputError(f"{name} must return {_SHAPE}, got a dict with {unknown[0]!r}")
        found = dict(made)
    elif hasattr(made, "_asdict"):
        found = made._asdict()
    elif dataclasses.is_dataclass(made) or isinstance(made, types.SimpleNamespace):
        found = {field: getattr(made, field) for field in (*_FIELDS, *_MORE) if hasattr(made, field)}
    else:
        got = f"a tuple of {len(made)}" if isinstance(made, tuple) else type(made).__name__
        raise InputError(f"{name} must be, or return, a LightningModule or {_SHAPE}, got {got}")
    needed = ("model", "loader") if "train_step" in found and "val_step" in found else ("model", "loss_fn", "loader")
    if missing := [field for field in needed if field not in found]:
        raise InputError(f"{name} must return {_SHAPE}, got one without {', '.join(missing)}")
    return found
