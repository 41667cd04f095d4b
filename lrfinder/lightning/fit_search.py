"""A search at the start of an epoch of a Lightning fit: prepared, made, and turned into what training will follow."""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lrfinder.answer.choose import choose
from lrfinder.answer.suggestion import Suggestion
from lrfinder.evidence.curve import Curve
from lrfinder.lightning.internals import check_supported, horizon, say, schedulers_of
from lrfinder.lightning.look_ahead import rates_ahead
from lrfinder.lightning.module_lr import Path, number_at, numbers_of_lr
from lrfinder.lightning.schedule import InstalledSchedule, check_installed, install, plan_schedule, resolve_policy
from lrfinder.lightning.training import LightningTraining
from lrfinder.lightning.write_back import WriteBack
from lrfinder.probing.options import SearchOptions
from lrfinder.probing.runner import Progress
from lrfinder.probing.search import Journal, search
from lrfinder.schedules.code import describe_optimizer
from lrfinder.schedules.optimizer_lr import configured_lrs
from lrfinder.schedules.policy import Policy

_LOGGED_POINTS = 50
"""Maximum number of points of a range test that are logged."""

_CHART = "lrfinder/suggestion"
"""Under which the chart is logged."""


@dataclass(frozen=True)
class FitSearch:
    """A search that has been checked, and of which nothing has run.

    Attributes:
        trainee: the training to probe.
        options: what to do, with the optimizer steps that the trainer will take.
        resolved: what to do about the schedule, as `resolve_policy` returns it.
        writer: writes the rate that is found into the training.
    """

    trainee: LightningTraining
    options: SearchOptions
    resolved: str | Policy
    writer: WriteBack

    @classmethod
    def prepare(
        cls,
        trainer: Any,
        module: Any,
        options: SearchOptions,
        attribute: str | None = None,
        exact: bool = True,
        rehearse: bool = False,
    ) -> FitSearch:
        """Prepare a search with the trainer inside ``fit``, before its first step or a later epoch.

        Args:
            options: what to do; the length of the training is that of the trainer.
            attribute: where the module keeps its learning rate, if it is neither ``lr`` nor ``learning_rate``.
            exact: whether data that cannot be rewound are refused.
            rehearse: whether to check now that training will follow a rate that is written.
        """
        check_supported(trainer, exact)
        ahead = rates_ahead(trainer)
        configured = configured_lrs(trainer.optimizers, schedulers_of(trainer))
        paths = numbers_of_lr(module, attribute, configured, {rate for row in ahead.rates for rate in row})
        named = [number for path in reversed(paths) if (number := number_at(module, path)) is not None]
        trainee = LightningTraining(trainer, named, options.monitor, options.mode, exact)
        steps = horizon(trainer)
        resolved = resolve_policy(options.policy, trainer, steps, ahead.constant)
        options = dataclasses.replace(options, steps=steps, epochs=None)
        if not module.automatic_optimization and options.monitor is None and options.method == "probe":
            say(trainer, "manual optimization without monitor: a range test only")
            options = dataclasses.replace(options, method="range", budget=None)
        writer = WriteBack(trainee, paths, ahead, scheduled=resolved == "keep")
        if rehearse:
            if not paths:
                say(
                    trainer,
                    f"found no number of {type(module).__name__} that holds the learning rate, and will write it into"
                    " the optimizers; attribute= names such a number",
                )
            writer.rehearse(attribute)
            if resolved != "keep" and len(trainer.optimizers) == 1:
                with trainee.undone():
                    step = int(trainer.global_step)
                    trial = InstalledSchedule(Policy("linear", steps or 100), trainee.lrs(), step)
                    install(trainer, trial, step)
                    check_installed(trainer, trial)
        return cls(trainee, options, resolved, writer)

    def suggest(
        self, progress: Progress | None = None, journal: Journal | None = None
    ) -> tuple[Suggestion, Policy | None]:
        """Search, put everything back, and write nothing; return the suggestion, and the policy to install, if any."""
        trainee = self.trainee
        evidence = search(trainee, self.options, progress, journal)
        suggestion = choose(evidence, steps=self.options.steps)
        if suggestion.interrupted:
            return suggestion, None
        suggestion = trainee.processes.first(suggestion)  # they differ in seconds
        suggestion = suggestion.with_environment(configured_lr=trainee.as_configured(1.0)[1])
        if len(optimizers := trainee.trainer.optimizers) == 1:
            suggestion = suggestion.with_environment(optimizer=describe_optimizer(optimizers[0], trainee.module))
        suggestion = suggestion.with_environment(batch_size=suggestion.evidence.step_examples)
        return plan_schedule(suggestion, self.resolved, trainee)


def log_suggestion(trainer: Any, suggestion: Suggestion, numbers: Iterable[Path]) -> None:
    """Give the loggers the suggestion, its range test, its chart, and the hyperparameters again with the new rate.

    The range test is logged as metrics, a point per step from the present one on. Lightning logged the old rate.
    """
    values: dict[str, Any] = {}
    module, datamodule = trainer.lightning_module, trainer.datamodule
    if suggestion.lr is not None and module._log_hyperparams:
        values.update(module.hparams_initial)
        changed = {path[1] for path in numbers if path[0] == "hparams"}
        values.update({name: _plain(module.hparams[name]) for name in changed if name in values})
        if datamodule is not None and datamodule._log_hyperparams:
            values.update(datamodule.hparams_initial)
        values.pop("_class_path", None)  # LightningCLI's own
    for logger in trainer.loggers:
        _log(trainer, logger, suggestion, values)


def _log(trainer: Any, logger: Any, suggestion: Suggestion, values: dict[str, Any]) -> None:
    summary = {f"lrfinder/{key}": value for key, value in suggestion.summary().items()}
    step = trainer.global_step
    for log in (
        lambda: logger.log_hyperparams(summary),
        lambda: _log_curve(logger, suggestion.evidence.curve, step),
        lambda: _log_chart(logger, suggestion, step) if trainer.is_global_zero else None,
        lambda: logger.log_hyperparams({**values, **summary}) if values else None,
        logger.save,
    ):
        try:
            log()
        except Exception as error:  # MLflow, for one, forbids to change a value; no reason to lose the run
            say(trainer, f"{type(logger).__name__} did not take the suggestion: {error}")


def _log_curve(logger: Any, curve: Curve, since: int) -> None:
    every = -(-len(curve) // _LOGGED_POINTS)
    points = zip(curve.lr[::every].tolist(), curve.loss[::every].tolist(), strict=True)
    for step, (lr, loss) in enumerate(points, start=since):
        if math.isfinite(loss):
            logger.log_metrics({"lrfinder/range_test_lr": lr, "lrfinder/range_test_loss": loss}, step=step)


def _log_chart(logger: Any, suggestion: Suggestion, step: int) -> None:
    """Log the chart of a suggestion, if the logger is one of TensorBoard, Weights & Biases or MLflow."""
    kinds = {base.__name__ for base in type(logger).__mro__}
    if kinds.isdisjoint(("TensorBoardLogger", "WandbLogger", "MLFlowLogger")):
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    suggestion.plot(figure.subplots())
    if "TensorBoardLogger" in kinds:
        logger.experiment.add_figure(_CHART, figure, step, close=False)
    elif "WandbLogger" in kinds:
        logger.log_image(_CHART, [figure])
    else:
        logger.experiment.log_figure(logger.run_id, figure, f"{_CHART}.png")


def _plain(value: Any) -> Any:
    """Return a configuration of OmegaConf as plain containers."""
    if not type(value).__module__.startswith("omegaconf."):
        return value
    return importlib.import_module("omegaconf").OmegaConf.to_container(value, resolve=True)
