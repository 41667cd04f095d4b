"""A LightningModule with its data and a Trainer that never trains, to be tuned from the command line."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lrfinder.code_ref import user_code_errors
from lrfinder.errors import InputError
from lrfinder.estimate import Estimate, estimate
from lrfinder.journal import Journal
from lrfinder.settings import Settings
from lrfinder.subject import Search, noted

if TYPE_CHECKING:
    from lrfinder.callback import LRFinder
    from lrfinder.optimizer_choice import OptimizerChoice
    from lrfinder.suggestion import Suggestion

__all__ = ["TrainerSubject", "check_loader", "is_lightning", "loaders_of", "new_trainer"]

_ROOTS = ("lightning.pytorch", "pytorch_lightning")
_DATA = "give --data FILE.py:NAME, a LightningDataModule or a function that returns a DataLoader"
_OURS = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


@dataclass(frozen=True)
class TrainerSubject:
    """What `Trainer.fit` would be given.

    Attributes:
        trainer: set up as it would train, without what writes.
        module: the LightningModule.
        data: keyword arguments of `fit`: ``datamodule``, or ``train_dataloaders`` and ``val_dataloaders``.
        name: what it is called in errors.
        choice: an optimizer to put in place of the module's own.
        seed: of its configuration; None without.
    """

    trainer: Any
    module: Any
    data: Mapping[str, Any]
    name: str
    choice: OptimizerChoice | None = None
    seed: int | None = None

    @property
    def speaks(self) -> bool:
        """Whether this is the first of the processes that train together."""
        return bool(self.trainer.is_global_zero)

    def suggest(
        self, search: Search, journal: Callable[[Settings], Journal] | None = None, shown: bool = False
    ) -> Suggestion:
        """Search as `LRFinder` would at the start of training."""
        from lrfinder.standalone import quiet, suggest_within

        with (
            user_code_errors(f"{self.name} raised while it was tried; it is as it was"),
            quiet(),
            self._chosen() as notes,
        ):
            finder = _finder(search, shown)
            found = suggest_within(self.trainer, self.module, finder=finder, journal=journal, **self.data)
        return noted(search.for_policy(found.with_environment(device=str(self.trainer.strategy.root_device))), notes)

    def estimate(self, search: Search) -> Estimate:
        """Say what `suggest` would do and cost."""
        from lrfinder.standalone import ask_within, quiet

        with user_code_errors(f"{self.name} raised while it was evaluated; it is as it was"), quiet(), self._chosen():
            finder = _finder(search, shown=False)

            def question(trainer: Any, module: Any) -> Estimate:
                return estimate(finder.trainee(trainer, module)[0], finder.settings(trainer))

            return ask_within(self.trainer, self.module, question, **self.data)

    @contextmanager
    def _chosen(self) -> Iterator[list[str]]:
        """Train with the chosen optimizer for a while; yield what is to be noted about it."""
        notes: list[str] = []
        if self.choice is None:
            yield notes
            return
        with self.choice.within(self.module) as dropped:
            yield notes
            notes += [*self.choice.notes, *dropped]


def is_lightning(found: object, kind: str = "LightningModule") -> bool:
    """Whether it is a LightningModule, or a LightningDataModule, of either package of Lightning; loads none of them."""
    return _root(found, kind) is not None


def loaders_of(data: Any, name: str) -> dict[str, Any]:
    """Return the data as keyword arguments of `fit`.

    Raises:
        InputError: they are neither a LightningDataModule, nor a loader, nor a pair of loaders.
    """
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


def new_trainer(module: Any, name: str, search: Search, options: Mapping[str, Any], has_data: bool) -> Any:
    """Return a Trainer of the package that the module is of, that logs and saves nothing.

    Args:
        module: the LightningModule.
        name: what to call it in errors.
        search: says how long training is to be.
        options: of the Trainer.
        has_data: whether there are data beside those of the module.

    Raises:
        InputError: there is nothing to train on, or Lightning does not take an option.
    """
    check_loader(module, name, has_data)
    root = _package(module)
    if ours := [option for option in options if option in _OURS]:
        raise InputError(f"--trainer.{ours[0]} must be left out: nothing is shown or written while searching")
    length = {"max_steps": search.steps or -1, "max_epochs": search.epochs or -1}
    from lrfinder.standalone import quiet

    with user_code_errors("Lightning's Trainer cannot be made"), quiet():
        return root.Trainer(**{**length, **options, **_OURS})


def check_loader(module: Any, name: str, has_data: bool, remedy: str = _DATA) -> None:
    """Complain where there is nothing to train on.

    Args:
        module: the LightningModule.
        name: what to call it.
        has_data: whether there are data beside those of the module.
        remedy: what to do.

    Raises:
        InputError: there are none at all.
    """
    if not has_data and type(module).train_dataloader is _package(module).LightningModule.train_dataloader:
        raise InputError(f"{name} has no train_dataloader: {remedy}")


def _package(module: Any) -> Any:
    return importlib.import_module(_root(module, "LightningModule") or _ROOTS[0])


def _root(found: object, kind: str) -> str | None:
    """Return the package of Lightning that it is of, as an instance or a class."""
    for base in (found if isinstance(found, type) else type(found)).__mro__:
        for root in _ROOTS:
            if base.__name__ == kind and base.__module__.startswith(root + "."):
                return root
    return None


def _finder(search: Search, shown: bool) -> LRFinder:
    from lrfinder.callback import LRFinder

    # "plateau" follows a metric where it is installed, but none is installed here.
    policy = "auto" if search.policy == "plateau" else search.policy
    return LRFinder(
        search.method, budget=search.budget, min_lr=search.min_lr, max_lr=search.max_lr, monitor=search.monitor,
        mode=search.mode, policy=policy, progress=shown,
    )  # fmt: skip
