"""Tuning a plain torch loop: no Trainer, no callback."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from lrfinder.answer.choose import choose
from lrfinder.answer.suggestion import Suggestion
from lrfinder.errors import InputError
from lrfinder.evidence.curve import Curve
from lrfinder.evidence.range_test import Ladder
from lrfinder.probing.batch_cache import ProbeBatches
from lrfinder.probing.batch_loss import batch_loss, judged_loss, scalar_loss, takes_closure
from lrfinder.probing.batches import (
    LoaderState,
    endless,
    examples_per_step,
    length,
    prepare_for_evaluation,
    scalar,
    side_loader,
    to_device,
)
from lrfinder.probing.options import SearchOptions
from lrfinder.probing.progress import progress_bar
from lrfinder.probing.runner import Clock, OneProcess, Progress, all_finite, run_range_test, trainable
from lrfinder.probing.search import Journal, search
from lrfinder.schedules.code import describe_optimizer
from lrfinder.schedules.optimizer_lr import configured_lrs, own_lrs, reference_lr, set_lrs
from lrfinder.snapshot.snapshot import Snapshot, interrupts_deferred


def range_test(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: Callable[..., Tensor] | None,
    loader: Iterable[Any],
    *,
    min_lr: float = 1e-7,
    max_lr: float = 10.0,
    steps: int = 100,
    train_step: Callable[[Any], Tensor] | None = None,
    accumulate: int = 1,
    progress: Progress | bool | None = None,
) -> Curve:
    """Raise the learning rate geometrically, one optimizer step per rung, record the loss, and put everything back.

    Model, optimizer, buffers, gradients, train/eval mode, random number generators, samplers and data set are as
    before afterwards, bit for bit, also when a step raises or Ctrl-C is pressed. The model runs in train mode on
    the device of its parameters; the loader starts anew when it is exhausted.

    Args:
        model: the network, as it is when training starts.
        optimizer: over the model's parameters; all its param groups are scaled together.
        loss_fn: the loss function, as `find_lr` takes it.
        loader: yields batches; iterable more than once, at least two batches.
        min_lr: first learning rate, of the groups at the optimizer's own ``lr`` (the first group where none is).
        max_lr: last learning rate.
        steps: rungs of the ladder, at least 10. The test ends earlier where training blows up.
        train_step: replaces forward, backward and `optimizer.step` with your own, for AMP, clipping or other batches:
            takes a batch on the model's device, returns the loss. ``loss_fn`` is then not called.
        accumulate: batches over which each optimizer step averages the gradients.
        progress: as in `find_lr`.

    Returns:
        The raw `Curve`.

    Raises:
        InputError: an argument, the loader, the model or the optimizer breaks a rule.
        UnsupportedError: the loader or the data cannot be wound back.

    Source: Smith 2017, "Cyclical learning rates for training neural networks", section 3.3 (arXiv 1506.01186).
    """
    ladder = Ladder(min_lr, max_lr, steps)
    trainee = TorchTraining(model, optimizer, loss_fn, loader, train_step, accumulate)
    with progress_bar(progress) as update:
        return run_range_test(trainee, ladder, update)


def find_lr(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: Callable[..., Tensor] | None,
    loader: Iterable[Any],
    val_loader: Iterable[Any] | None = None,
    *,
    steps: int | None = None,
    method: str = "probe",
    budget: float | str | None = None,
    min_lr: float = 1e-7,
    max_lr: float | None = None,
    train_step: Callable[[Any], Tensor] | None = None,
    val_step: Callable[[Any], Any] | None = None,
    mode: str = "min",
    accumulate: int = 1,
    progress: Progress | bool | None = None,
    journal: str | os.PathLike[str] | None = None,
) -> Suggestion:
    """Find the learning rate that trains best for ``steps`` steps, and put everything back.

    A range test finds where to look. Then probes, short trainings from the same state on the same batches with the same
    random numbers, are judged on held-out batches; a fit says where the best rate of the whole training lies, and how
    sure that is. Model, optimizer, random state, loaders and data are as before afterwards, bit for bit.
    Ctrl-C ends the search with the best answer so far, as soon as two probes are done.

    Args:
        model: the network, as it is when training starts.
        optimizer: over the model's parameters; its param groups keep the ratios of their rates.
        loss_fn: ``loss_fn(model(inputs), targets)`` for batches ``(inputs, targets)``, ``loss_fn(model(batch))`` for
            any other; returns a scalar. Mappings are passed to the model by name if it has such arguments. None if the
            model's output is the loss or holds one, as those of Hugging Face's models.
        loader: training batches; iterable more than once.
        val_loader: batches to judge by, at most 32 of them are kept; without, some training batches are held out.
        steps: optimizer steps you are going to train; None where unknown.
        method: "probe", or "range" for the range test alone, a bracket.
        budget: what to spend: a share of ``steps`` (0.05 or "5%"), optimizer steps (300) or a time ("60s"). By default
            5% of ``steps``, but at least 100 and at most half of them. Of a range test: rungs, 100 by default.
        min_lr: lowest learning rate to try.
        max_lr: highest; by default 100, of a range test 10.
        train_step: replaces forward, backward and `optimizer.step` with your own; takes a batch on the model's device,
            returns the loss. Without ``val_step``, ``loss_fn`` still judges, and must then be able to.
        val_step: replaces ``loss_fn`` in evaluation: takes a batch, returns one number, in eval mode without gradients.
            With ``train_step`` and batch normalisation it sees training batches too, to renew running statistics.
        mode: "min" or "max", of what ``val_step`` returns.
        accumulate: batches over which each optimizer step averages the gradients; steps are optimizer steps throughout.
        progress: whether to show a bar, by default in a terminal and in a notebook; or a function that is called after
            each step with (done, planned).
        journal: a file to record results in as they come; a search that was killed goes on from it. Give the same
            model, data and seed again: only the arguments can be checked.

    Returns:
        The `Suggestion`, or a refused one.

    Raises:
        InputError: an argument, the loaders, the model, the optimizer or the journal breaks a rule.
        UnsupportedError: the loaders or the data cannot be wound back.
    """
    options = SearchOptions(method, steps, budget, min_lr, max_lr, mode=mode)
    trainee = TorchTraining(model, optimizer, loss_fn, loader, train_step, accumulate, val_loader, val_step, mode)
    header = {**options.journal_header(), "mode": mode, "accumulate": accumulate}
    record = None if journal is None else Journal(journal, header)
    with progress_bar(progress) as update:
        return suggest_for(trainee, options, update, record)


def suggest_for(
    trainee: TorchTraining,
    options: SearchOptions,
    progress: Progress | None = None,
    journal: Journal | None = None,
    clock: Clock = time.perf_counter,
) -> Suggestion:
    """Search with a plain torch training, put everything back, and draw the conclusion."""
    suggestion = choose(search(trainee, options, progress, journal, clock), steps=options.steps)
    made = describe_optimizer(trainee.optimizer, trainee.model)
    return suggestion.with_environment(optimizer=made, batch_size=suggestion.evidence.step_examples)


_LBFGS = "LBFGS evaluates the loss several times per step, and its rate scales whole steps: 1 is the usual choice."


class TorchTraining:
    """A plain torch loop as a `lrfinder.probing.runner.Training`.

    Args:
        model, optimizer, loss_fn, loader, train_step, accumulate: as `range_test` has them.
        val_loader: held-out batches; without, some training batches are held out.
        val_step: from a batch to what is minimised, in eval mode and without gradients; `loss_fn` by default.
        mode: "max" to maximise what ``val_step`` returns instead.
    """

    processes = OneProcess()

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loss_fn: Callable[..., Tensor] | None,
        loader: Iterable[Any],
        train_step: Callable[[Any], Tensor] | None = None,
        accumulate: int = 1,
        val_loader: Iterable[Any] | None = None,
        val_step: Callable[[Any], Any] | None = None,
        mode: str = "min",
    ) -> None:
        if not isinstance(accumulate, int) or isinstance(accumulate, bool) or accumulate < 1:
            raise InputError(f"accumulate must be a whole number of batches, at least 1, got {accumulate!r}")
        if train_step is not None and accumulate > 1:
            raise InputError(f"accumulate may be given without train_step only, which steps itself, got {accumulate}")
        if mode == "max" and val_step is None:
            raise InputError("mode may be max with val_step only: a loss is to be minimised, got val_step = None")
        self.accumulate = accumulate
        parameters = trainable(model)
        if any(not is_lazy(parameter) and parameter.is_inference() for parameter in parameters):
            raise InputError("model must have been built outside torch.inference_mode, in which nothing can be trained")
        self.device = parameters[0].device
        self.model, self.optimizer, self.loss_fn, self.loader = model, optimizer, loss_fn, loader
        self.train_step, self.val_loader, self.val_step = train_step, val_loader, val_step
        self.sign, self._takes_closure = 1 if mode == "min" else -1, takes_closure(optimizer)
        self.side_loader = side_loader(loader)
        self.side_val_loader = None if val_loader is None else side_loader(val_loader, "val_loader")
        self._fresh()

    def _fresh(self) -> None:
        self.batches: Iterator[Any] = iter(())
        self.kept = ProbeBatches.none()

    def lrs(self) -> tuple[float, ...]:
        """Return the rate set for every group."""
        return tuple(configured_lrs([self.optimizer]))

    def reference(self) -> float:
        """Return the optimizer's own rate, else the first."""
        return reference_lr(self.lrs(), own_lrs([self.optimizer]))

    def set_lrs(self, lrs: Sequence[float]) -> None:
        """Set the rate of every group."""
        set_lrs(self.optimizer.param_groups, lrs)

    def step(self) -> Tensor:
        """Take one optimizer step; return the mean loss of its batches."""
        if self.train_step is not None:
            return scalar_loss(self.train_step(to_device(next(self.batches), self.device)), "train_step")
        batches = [next(self.batches) for _ in range(self.accumulate)]
        losses: list[Tensor] = []

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            parts: list[Tensor] = []
            for batch in batches:
                loss = self._loss(to_device(batch, self.device))
                parts.append(scalar_loss(loss, "loss_fn"))  # a copy: a loss may share memory with a parameter
                (loss / self.accumulate).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            losses.append(torch.stack(parts).mean())
            return losses[-1]

        if self._takes_closure:  # such as L-BFGS, which evaluates it several times per step
            self.optimizer.step(closure)  # type: ignore[arg-type]  # a tensor will do
        else:
            closure()
            self.optimizer.step()
        return losses[0]

    def keep_batches(self, steps: int) -> bool:
        """Keep training and held-out batches."""
        self.kept = ProbeBatches.of(
            self.side_loader, steps * self.accumulate, self.side_val_loader, epoch=length(self.loader)
        )
        self.batches = self.kept.training
        return self.kept.apart

    def rewind(self) -> None:
        """Put everything back, and begin again with the first batch kept."""
        with interrupts_deferred():
            self.snapshot.restore()
            self.kept.training.rewind()
            self._start()

    def evaluate(self) -> Tensor:
        """Return what is minimised, of each held-out batch."""

        def forward(batch: Any) -> Any:
            batch = to_device(batch, self.device)
            if self.val_step is not None or self.train_step is None:
                return (self.val_step or self._loss)(batch)
            return judged_loss(self.model, self.loss_fn, batch)

        def training(batch: Any) -> Any:
            return self._loss(to_device(batch, self.device)) if self.train_step is None else forward(batch)

        prepare_for_evaluation(self.model, training, self.kept.training)
        with torch.no_grad():
            losses = [
                scalar(forward(batch), "val_step" if self.val_step else "loss_fn") for batch in self.kept.held_out
            ]
        return self.sign * torch.stack(losses)

    def finite(self) -> bool:
        """Whether every parameter is finite."""
        return all_finite(self.model)

    def make_room(self) -> bool:
        """Move the snapshot to host memory, if it was on a device."""
        return self.snapshot.to_host()

    def epoch_steps(self) -> float | None:
        """Return the optimizer steps of an epoch; None for data without length."""
        batches = length(self.loader)
        return None if batches is None else batches / self.accumulate

    def step_examples(self) -> int | None:
        """Return the examples of an optimizer step; None for a loader that does not tell its batch size."""
        return examples_per_step(self.loader, self.accumulate)

    def evaluates_training_loss(self) -> bool:
        """Whether the training loss is what is minimised."""
        return self.val_step is None

    def caveats(self) -> tuple[str, ...]:
        """Say what there was to judge by, and what LBFGS makes of a rate."""
        lbfgs = (_LBFGS,) if isinstance(self.optimizer, torch.optim.LBFGS) else ()
        return (*lbfgs, *self.kept.caveats)

    @contextmanager
    def preserved(self) -> Iterator[None]:
        """Snapshot everything a step may change, and put it back in the end."""
        roots = (self.model, self.optimizer, self.loss_fn, self.train_step, self.val_step)
        data, lenient_data, leave = LoaderState.of(one for one in (self.loader, self.val_loader) if one is not None)
        self.snapshot = Snapshot(*roots, data=data, lenient_data=lenient_data, leave=leave)
        grad_mode = torch.is_grad_enabled()
        try:
            with torch.inference_mode(False):
                self.batches = endless(self.side_loader)
                self._start()
                yield
        finally:
            with interrupts_deferred():
                self._fresh()  # ends the workers before the random state goes back
                self.snapshot.restore()
                del self.snapshot
                torch.set_grad_enabled(grad_mode)

    def _start(self) -> None:
        torch.set_grad_enabled(True)
        self.model.train()

    def _loss(self, batch: Any) -> Tensor:
        loss: Tensor = batch_loss(self.model, self.loss_fn, batch)
        return loss
