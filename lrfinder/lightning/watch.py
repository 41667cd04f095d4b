"""After the write-back: what the first steps of training are at, and what the loggers are told."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lrfinder.answer.suggestion import Suggestion
from lrfinder.lightning.internals import say, warn
from lrfinder.lightning.look_ahead import RatesAhead, rates_ahead
from lrfinder.lightning.module_lr import Path

__all__ = ["RateWatch", "log_suggestion"]

_STEPS = 5
"""Number of optimizer steps that are watched."""


@dataclass
class RateWatch:
    """Compares the rates of the first optimizer steps with those that were written, and warns of a difference.

    A callback that has read the rate before it was changed, for one, may set it again.

    Attributes:
        expected: the rates to come, after the write-back.
        old: those before it.
        since: the optimizer step of the trainer at which the rates were written.
        name: the callback that wrote them.
    """

    expected: RatesAhead
    old: RatesAhead
    since: int
    name: str = "LRFinder"

    @classmethod
    def of(cls, trainer: Any, old: RatesAhead, name: str = "LRFinder", in_epoch: bool = False) -> RateWatch:
        """Watch the steps to come, at which the rates are as written now."""
        return cls(rates_ahead(trainer, _STEPS, in_epoch), old, int(trainer.global_step), name)

    def look(self, trainer: Any, optimizer: Any) -> bool:
        """Compare the rates of a step that is about to be taken; return whether to look at the next step too."""
        step = trainer.global_step - self.since
        if not 0 <= step < (_STEPS if trainer.lightning_module.automatic_optimization else 1):
            return False
        row = 0
        for other in trainer.optimizers:
            groups = other.param_groups
            if other is optimizer:
                for index, group in enumerate(groups, start=row):
                    if index < len(self.expected.rates[0]) and not self._as_expected(trainer, index, group, step):
                        return False
            row += len(groups)
        return True

    def _as_expected(self, trainer: Any, index: int, group: Any, step: int) -> bool:
        got, expected = float(group["lr"]), self.expected.after(step)[index]
        known = self.expected.in_steps and not self.expected.hidden and not self.expected.by_metric
        if known or step == 0:
            wrong = not math.isclose(got, expected, rel_tol=1e-3, abs_tol=1e-30)
        else:  # only a return to the old rate is recognised
            expected, old = self.expected.rates[0][index], self.old.rates[0][index]
            wrong = math.isclose(got, old, rel_tol=1e-6) and not math.isclose(expected, old, rel_tol=1e-6)
        if wrong:
            warn(
                trainer,
                f"wrote a learning rate with which step {trainer.global_step} should be at {expected:.3g}, but it is at"
                f" {got:.3g}: something else sets the rate too (a callback, a hook, a scheduler). Training follows only"
                " if that starts from the rate that was written: check it, and let it read the optimizer's lr in"
                " on_train_start",
                self.name,
            )
        return not wrong


def log_suggestion(trainer: Any, suggestion: Suggestion, numbers: Iterable[Path]) -> None:
    """Tell the loggers: the suggestion, and the hyperparameters again with the new rate (Lightning logged the old)."""
    values: dict[str, Any] = {}
    module, datamodule = trainer.lightning_module, trainer.datamodule
    if suggestion.lr is not None and module._log_hyperparams:
        values.update(module.hparams_initial)
        changed = {path[1] for path in numbers if path[0] == "hparams"}
        values.update({name: _plain(module.hparams[name]) for name in changed if name in values})
        if datamodule is not None and datamodule._log_hyperparams:
            values.update(datamodule.hparams_initial)
        values.pop("_class_path", None)  # LightningCLI's own
    values.update({f"lrfinder/{key}": value for key, value in suggestion.summary().items()})
    for logger in trainer.loggers:
        try:
            logger.log_hyperparams(values)
            logger.save()
        except Exception as error:  # MLflow, for one, forbids to change a value; no reason to lose the run
            say(trainer, f"{type(logger).__name__} did not take the suggestion: {error}")


def _plain(value: Any) -> Any:
    """Return a configuration of OmegaConf as plain containers."""
    if not type(value).__module__.startswith("omegaconf."):
        return value
    return importlib.import_module("omegaconf").OmegaConf.to_container(value, resolve=True)
