"""`Job`: the training that `lrfinder suggest` tunes, in plain torch or with Lightning."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from lrfinder.cli.code_ref import user_code_errors
from lrfinder.cli.optimizer_choice import OptimizerChoice
from lrfinder.cli.options import with_requested_policy
from lrfinder.errors import InputError
from lrfinder.lightning.internals import is_lightning, package_of
from lrfinder.probing.batches import length
from lrfinder.probing.options import SearchOptions
from lrfinder.probing.runner import Progress
from lrfinder.probing.search import Journal
from lrfinder.probing.torch_loop import TorchTraining, suggest_for
from lrfinder.schedules.policy import ENDLESS

if TYPE_CHECKING:
    from lrfinder.answer.suggestion import Suggestion


Answer = TypeVar("Answer")

OpenJournal = Callable[[SearchOptions], Journal]
"""Opens the journal of a search with these options."""

Suggest = Callable[[Progress | None, OpenJournal | None], "Suggestion"]
"""Runs the search, shows its progress, records it in a journal, and returns the suggestion."""

Question = Callable[[SearchOptions, Suggest], Answer]
"""Is called with the options, which hold the length of the training, and with the search, which it may run."""

_FIELDS = ("model", "optimizer", "loss_fn", "loader", "val_loader")

_MORE = ("train_step", "val_step", "mode", "accumulate")

_SHAPE = "(model, optimizer, loss_fn, loader[, val_loader]), or a dict or a record with these names"

_DATA = "give --data FILE.py:NAME, a LightningDataModule or a function that returns a DataLoader"

_OURS = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


@dataclass(frozen=True)
class TorchJob:
    """A training in plain torch.

    Attributes:
        parts: the arguments of `TorchTraining`, by name.
        name: its name in errors.
        notes: caveats about a replaced optimizer, a sentence each.
    """

    parts: Mapping[str, Any]
    name: str
    notes: tuple[str, ...] = ()
    is_main_process: bool = True
    seed: None = None

    @classmethod
    def of(cls, made: object, name: str, choice: OptimizerChoice | None = None) -> TorchJob:
        """Return the job that the result of a factory describes.

        Args:
            made: a tuple, dict, named tuple or object with the fields above; without an optimizer if there is a choice.
            choice: an optimizer to put in place of its own.
        """
        parts = _parts(made, name)
        model, optimizer, loss_fn = (parts.get(field) for field in ("model", "optimizer", "loss_fn"))
        if not isinstance(model, nn.Module):
            raise InputError(f"model of {name} must be a torch Module, got {type(model).__name__}")
        if not isinstance(optimizer, Optimizer) and not (optimizer is None and choice):
            raise InputError(f"optimizer of {name} must be a torch Optimizer, got {type(optimizer).__name__}")
        if not callable(loss_fn) and not ("train_step" in parts and "val_step" in parts):
            raise InputError(f"loss_fn of {name} must be callable, got {type(loss_fn).__name__}")
        notes: tuple[str, ...] = ()
        if choice is not None:
            if parts.get("train_step") is not None:
                raise InputError(
                    f"--optimizer must be left out where {name} has a train_step of its own, got {choice.name}"
                )
            optimizer, dropped = choice.over(optimizer, model)
            notes = (*choice.notes, *dropped)
        return cls({**parts, "optimizer": optimizer, "loss_fn": loss_fn}, name, notes)

    def ask(self, options: SearchOptions, question: Question[Answer]) -> Answer:
        """Answer a question where training would take its first step, and leave the training as it was."""
        mode = self.parts.get("mode", "min")
        asked = dataclasses.replace(options, steps=self._steps(options), epochs=None, mode=mode)

        def suggest(progress: Progress | None, open_journal: OpenJournal | None) -> Suggestion:
            journal = None if open_journal is None else open_journal(asked)
            suggestion = suggest_for(trainee, asked, progress, journal)
            return _finished(suggestion, asked, trainee.device, self.notes)

        with user_code_errors(f"{self.name} raised while it was tried; it is as it was"):
            trainee = TorchTraining(**self.parts)
            return question(asked, suggest)

    def _steps(self, options: SearchOptions) -> int | None:
        """Return the optimizer steps of the training; refuse options that only Lightning has."""
        if options.monitor is not None:
            raise InputError(f"--monitor must be left out for {self.name}, which logs no metric, got {options.monitor}")
        if options.policy == "keep":
            raise InputError(f"--policy keep must be left out for {self.name}, which has no scheduler to keep")
        if options.epochs is None:
            if options.steps is None and options.policy not in (None, "auto", *ENDLESS):
                raise InputError(f"--policy {options.policy} needs --steps or --epochs, got neither")
            return options.steps
        batches = length(self.parts["loader"])
        if batches is None:
            raise InputError(f"--epochs must be left out for data without length, got {options.epochs}: give --steps")
        return max(options.epochs * batches // int(self.parts.get("accumulate", 1)), 1)


def _parts(made: Any, name: str) -> dict[str, Any]:
    known = (*_FIELDS, *_MORE)
    if isinstance(made, Mapping):
        parts = dict(made)
        if unknown := [key for key in parts if key not in known]:
            raise InputError(f"{name} must return {_SHAPE}, got a dict with {unknown[0]!r}")
    elif isinstance(made, tuple) and not hasattr(made, "_fields"):
        parts = dict(zip(_FIELDS, made, strict=False)) if len(made) in (4, 5) else {}
    else:
        parts = {field: getattr(made, field) for field in known if hasattr(made, field)}
    if not parts:
        got = f"a tuple of {len(made)}" if isinstance(made, tuple) else type(made).__name__
        raise InputError(f"{name} must be, or return, a LightningModule or {_SHAPE}, got {got}")
    needed = ("model", "loader") if "train_step" in parts and "val_step" in parts else ("model", "loss_fn", "loader")
    if missing := [field for field in needed if field not in parts]:
        raise InputError(f"{name} must return {_SHAPE}, got one without {', '.join(missing)}")
    return parts


@dataclass(frozen=True)
class LightningJob:
    """The arguments of `Trainer.fit`.

    Attributes:
        trainer: set up as for training, but with nothing that writes.
        module: the LightningModule.
        data: keyword arguments of `fit`: ``datamodule``, or ``train_dataloaders`` and ``val_dataloaders``.
        name: its name in errors.
        choice: an optimizer to put in place of the module's own.
        seed: the seed of its configuration; None without.
    """

    trainer: Any
    module: Any
    data: Mapping[str, Any]
    name: str
    choice: OptimizerChoice | None = None
    seed: int | None = None

    @property
    def is_main_process(self) -> bool:
        """Whether this is the first of the processes that train together."""
        return bool(self.trainer.is_global_zero)

    def ask(self, options: SearchOptions, question: Question[Answer]) -> Answer:
        """Answer a question, see `TorchJob.ask`."""
        from lrfinder.lightning.fit_search import FitSearch
        from lrfinder.lightning.inside_fit import ask_within, quiet

        def within(trainer: Any, module: Any) -> Answer:
            search = FitSearch.prepare(trainer, module, options)
            if options.policy in (None, "keep"):
                _check_one_cycle(trainer, search.options.steps)
            notes = () if self.choice is None else (*self.choice.notes, *dropped)

            def suggest(progress: Progress | None, open_journal: OpenJournal | None) -> Suggestion:
                if open_journal is not None and trainer.world_size > 1:
                    raise InputError(
                        f"--journal must be left out with several processes, got {trainer.world_size} of them"
                    )
                journal = None if open_journal is None else open_journal(search.options)
                suggestion, _ = search.suggest(progress, journal)
                return _finished(suggestion, options, trainer.strategy.root_device, notes)

            return question(search.options, suggest)

        chosen: AbstractContextManager[list[str]] = (
            nullcontext([]) if self.choice is None else self.choice.within(self.module)
        )
        with user_code_errors(f"{self.name} raised while it was tried; it is as it was"), quiet(), chosen as dropped:
            return ask_within(self.trainer, self.module, within, **self.data)


Job = TorchJob | LightningJob
"""A training that is ready to be tuned."""


def _finished(suggestion: Suggestion, options: SearchOptions, device: Any, notes: Iterable[str]) -> Suggestion:
    suggestion = with_requested_policy(suggestion.with_environment(device=str(device)), options)
    return dataclasses.replace(suggestion, caveats=(*suggestion.caveats, *notes))


def _check_one_cycle(trainer: Any, steps: int | None) -> None:
    """Raise `InputError` if a one-cycle schedule that is kept ends before training, since torch then raises."""
    for config in trainer.lr_scheduler_configs:
        scheduler = config.scheduler
        if steps is None or config.interval != "step" or not isinstance(scheduler, OneCycleLR):
            continue
        if scheduler.last_epoch + steps // config.frequency > scheduler.total_steps:
            raise InputError(
                f"the OneCycleLR of configure_optimizers must last as long as training, {steps} steps, got"
                f" total_steps = {scheduler.total_steps}: make it as long, or give --policy auto"
            )


def loaders_of(data: Any, name: str) -> dict[str, Any]:
    """Return the data, a LightningDataModule, a loader or a pair of loaders, as keyword arguments of `fit`."""
    if is_lightning(data, "LightningDataModule"):
        return {"datamodule": data}
    if isinstance(data, (tuple, list)) and len(data) == 2:
        return {"train_dataloaders": data[0], "val_dataloaders": data[1]}
    if isinstance(data, (str, bytes, tuple)) or not (hasattr(data, "__iter__") or hasattr(data, "__getitem__")):
        raise InputError(
            f"--data must name a LightningDataModule, or a function that returns one, a DataLoader or a pair (training,"
            f" validation), got {name}, which is a {type(data).__name__}"
        )
    return {"train_dataloaders": data}


def new_trainer(module: Any, name: str, search: SearchOptions, options: Mapping[str, Any], has_data: bool) -> Any:
    """Return a Trainer of the package that the module is of, which logs and saves nothing.

    Args:
        search: its ``steps`` or ``epochs`` limit the training.
        has_data: whether there are data beside those of the module.
    """
    from lrfinder.lightning.inside_fit import quiet

    check_loader(module, name, has_data)
    if ours := [option for option in options if option in _OURS]:
        raise InputError(f"--trainer.{ours[0]} must be left out: nothing is shown or written while searching")
    until = {"max_steps": search.steps or -1, "max_epochs": search.epochs or -1}
    with user_code_errors("Lightning's Trainer cannot be made"), quiet():
        return package_of(module).Trainer(**{**until, **options, **_OURS})


def check_loader(module: Any, name: str, has_data: bool, remedy: str = _DATA) -> None:
    """Raise `InputError` with the remedy if neither the module nor anything beside it has data to train on."""
    if not has_data and type(module).train_dataloader is package_of(module).LightningModule.train_dataloader:
        raise InputError(f"{name} has no train_dataloader: {remedy}")
