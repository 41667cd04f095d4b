"""How a Lightning module is judged on held-out batches: by the loss of `training_step`, or by a metric it logs."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lrfinder.errors import InputError, UnsupportedError
from lrfinder.lightning.internals import (
    hook,
    internals,
    live_data,
    on_device,
    probe_loader,
    strategy_hook,
    validation_loaders,
)
from lrfinder.lightning.isolation import logged_metrics, silence
from lrfinder.probing.batch_cache import HELD_OUT, ProbeBatches, spread
from lrfinder.probing.batches import LoaderState, prepare_for_evaluation, scalar
from lrfinder.snapshot.snapshot import Snapshot


class Judge:
    """Judges the module of a trainer. Nothing here talks to other processes, unless the module's own code does.

    Args:
        trainer: at the start of an epoch of `fit`.
        monitor: the metric of `validation_step` to judge by; None for the loss of `training_step`.
        exact: whether validation data that cannot be rewound are refused.

    Attributes:
        in_train_mode: whether the module is judged in train mode.
        caveats: why it is.
    """

    def __init__(self, trainer: Any, monitor: str | None = None, mode: str = "min", exact: bool = True) -> None:
        self._trainer, self._module, self._exact = trainer, trainer.lightning_module, exact
        self.monitor, self._sign = monitor, 1 if mode == "min" else -1
        self.in_train_mode = False
        self.caveats: tuple[str, ...] = ()
        self._loaders_as_before: Snapshot | None = None

    def restore(self) -> None:
        """Put back the state of validation loaders that were first set up here."""
        if self._loaders_as_before is not None:
            self._loaders_as_before.restore()

    def validation(self) -> Iterable[Any] | None:
        """Return validation batches, as (batch, batch_idx, dataloader_idx); None where the fit has none."""
        trainer = self._trainer
        if not trainer.enable_validation:
            return None
        val_loop: Any = trainer.fit_loop.epoch_loop.val_loop
        if val_loop._combined_loader is None:  # without a sanity check, the first validation would do this
            val_loop.setup_data()
            new = LoaderState.of(validation_loaders(trainer))  # the snapshot does not know them
            leave = [*live_data(trainer), *new.leave]
            self._loaders_as_before = Snapshot(
                data=new.data, lenient_data=new.lenient_data, leave=leave, exact_data=self._exact
            )
        loaders = [probe_loader(loader, self._exact, "val_loader") for loader in validation_loaders(trainer)]
        index = (self.monitor or "").partition("/dataloader_idx_")[2]
        if index and not (index.isdigit() and int(index) < len(loaders)):
            raise InputError(f"monitor must name one of {len(loaders)} validation loaders, got {self.monitor!r}")
        chosen = [int(index)] if index else range(len(loaders))
        batches = _ValidationBatches(loaders, val_loop.max_batches, chosen)
        return batches if len(batches) else None

    def trial(self, kept: ProbeBatches) -> Exception | None:
        """Find out in which mode `training_step` can be judged; return what goes wrong in both, None if nothing does.

        It is judged in eval mode, unless it raises there or means something else: its loss before training is of
        another size than in train mode, on the same batches.
        """
        self.in_train_mode, self.caveats = True, ()
        in_train, training = self._tried(kept.held_out), self._tried(kept.training, _COMPARED)
        self.in_train_mode = False
        try:
            self._enter_evaluation(kept)
            in_eval, evaluated = self._tried(kept.held_out), self._tried(kept.training, _COMPARED)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # while statistics are renewed
            in_eval = evaluated = error
        reason = ""
        if isinstance(in_eval, Exception):
            reason = f"raises {type(in_eval).__name__} ({str(in_eval)[:80]}) in eval mode"
        elif isinstance(training, list) and isinstance(evaluated, list) and _differ(training, evaluated):
            means = (np.nanmean(losses) for losses in (evaluated, training))
            reason = "returns about {:.3g} in eval mode and {:.3g} in train mode, before training".format(*means)
        if not reason:
            return None
        if isinstance(in_train, Exception):
            return in_eval if isinstance(in_eval, Exception) else UnsupportedError(f"training_step {reason}")
        self.in_train_mode = True
        self.caveats = (
            f"training_step {reason}, so it means something else there: judged in train mode. To judge by a metric of"
            " validation_step, pass monitor=.",
        )
        return None

    def _tried(self, batches: Iterable[Any], most: int | None = None) -> list[float] | Exception:
        """Return the losses of `training_step`, or what it raises."""
        try:
            with torch.no_grad():
                items = itertools.islice(batches, most)
                return [float(scalar(self._loss_of(item), "training_step")) for item in items]
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever the module does with data it was not made for
            return error

    def _enter_evaluation(self, kept: ProbeBatches) -> None:
        """Put the module into the mode in which Lightning validates it, with fresh statistics."""
        if self.in_train_mode:
            return
        automatic = self._module.automatic_optimization
        prepare_for_evaluation(self._module, self._loss_of if automatic else self._validate, kept.training)
        hook(self._trainer, "on_validation_model_eval")  # which a module may have overridden

    def evaluate(self, kept: ProbeBatches) -> Tensor:
        """Return what is to be minimised, of each held-out batch, (m,), or one value of all of them, ()."""
        self._enter_evaluation(kept)
        with torch.no_grad():
            if self.monitor is not None:
                losses = self._sign * self._monitored(self.monitor, kept)
            else:
                losses = torch.stack([scalar(self._loss_of(item), "training_step") for item in kept.held_out])
        overridden = internals(self._trainer, "utilities.model_helpers").is_overridden
        if overridden("on_validation_model_train", self._module):  # as Lightning does; it may close what was opened
            hook(self._trainer, "on_validation_model_train")
        return losses

    def _loss_of(self, item: tuple[Any, int, int]) -> Any:
        """Return the loss of `training_step` on a batch, without an update."""
        batch, batch_idx, dataloader_idx = item
        batch = on_device(self._trainer, batch, dataloader_idx)
        arguments = self._trainer.fit_loop.epoch_loop._build_kwargs(OrderedDict(), batch, batch_idx)
        outputs = strategy_hook(self._trainer, "training_step", *arguments.values())
        return outputs["loss"] if isinstance(outputs, Mapping) else outputs

    def _validate(self, item: tuple[Any, int, int]) -> None:
        """Run `validation_step` and the hooks around it on a batch."""
        trainer, (batch, batch_idx, dataloader_idx) = self._trainer, item
        batch = on_device(trainer, batch, dataloader_idx)
        several = len(validation_loaders(trainer)) > 1
        takes = internals(trainer, "utilities.signature_utils").is_param_in_hook_signature
        indexed = takes(self._module.validation_step, "batch_idx", min_args=2)
        arguments = [batch, *([batch_idx] if indexed else []), *([dataloader_idx] if several else [])]
        hook(trainer, "on_validation_batch_start", batch, batch_idx, dataloader_idx)
        outputs = strategy_hook(trainer, "validation_step", *arguments)
        hook(trainer, "on_validation_batch_end", outputs, batch, batch_idx, dataloader_idx)

    def _monitored(self, monitor: str, kept: ProbeBatches) -> Tensor:
        """Run the user's validation; return the metric of each batch, or the one value of all."""
        name = monitor.partition("/dataloader_idx_")[0]
        names = (monitor, name, name.removesuffix("_epoch"))  # Lightning forks what is logged per step and per epoch
        found: list[Any] = []
        others: dict[str, None] = {}

        readable = logged_metrics(self._trainer)

        def log(name: str, value: Any, *args: Any, **kwargs: Any) -> None:
            if name in names:
                found.append(value)
            others[name] = None
            readable(name, value, *args, **kwargs)

        silence(self._module, log)
        hook(self._trainer, "on_validation_start")
        hook(self._trainer, "on_validation_epoch_start")
        for item in kept.held_out:
            self._validate(item)
        batchwise = [value for value in found if not hasattr(value, "compute")]
        if batchwise:
            return torch.stack([scalar(value, monitor) for value in batchwise])
        hook(self._trainer, "on_validation_epoch_end")
        if not found:
            known = f", which logs {', '.join(others)}" if others else ", which logs nothing"
            raise InputError(f"monitor must be a metric that validation logs, got {monitor!r}{known}")
        return scalar(found[-1].compute() if hasattr(found[-1], "compute") else found[-1], monitor)


_COMPARED = 8
"""Maximum number of batches on which train and eval mode are compared."""


def _differ(training: Sequence[float], evaluated: Sequence[float]) -> bool:
    """Whether losses are of another sign or size in eval mode: by more than a factor of three and their spread."""
    both = np.array([training, evaluated])
    finite = both[:, np.isfinite(both).all(axis=0)]
    if not finite.size:
        return False
    (first, second), (spread, _) = finite.mean(axis=1), finite.std(axis=1)
    tolerated = 2 * min(abs(first), abs(second)) if first * second > 0 else 0.0
    return bool(abs(first - second) > tolerated + 4 * spread)


class _ValidationBatches:
    """Validation batches of one loader after the other, spread over each: (batch, batch_idx, dataloader_idx)."""

    def __init__(self, loaders: Sequence[Any], most: Sequence[float], chosen: Sequence[int]) -> None:
        self._parts = [(index, loaders[index], most[index]) for index in chosen if most[index] > 0]

    def __len__(self) -> int:
        return min(HELD_OUT, len(self._parts) * self._share) if self._parts else 0

    @property
    def _share(self) -> int:
        return max(HELD_OUT // len(self._parts), 1)

    def __iter__(self) -> Iterator[tuple[Any, int, int]]:
        for dataloader_idx, loader, most in self._parts:
            for batch_idx, batch in enumerate(spread(loader, self._share, most)):
                yield batch, batch_idx, dataloader_idx
