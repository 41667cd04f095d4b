"""Range tests in a plain torch loop: no Trainer, no callback."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lrfinder.batches import data_of, endless, loaders_in, moved, side_loader
from lrfinder.curve import Curve
from lrfinder.errors import InputError
from lrfinder.probe import Progress, run_range_test, trainable
from lrfinder.state import Snapshot, interrupts_deferred
from lrfinder.sweep import Ladder
from lrfinder.writeback import configured_lrs, own_lrs, reference_lr, set_lr

__all__ = ["range_test"]


def range_test(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: Callable[..., Tensor],
    loader: Iterable[Any],
    *,
    min_lr: float = 1e-7,
    max_lr: float = 10.0,
    steps: int = 100,
    train_step: Callable[[Any], Tensor] | None = None,
    progress: Progress | None = None,
) -> Curve:
    """Raise the learning rate geometrically, one optimizer step per rung, record the loss, and put everything back.

    Model, optimizer, buffers, gradients, train/eval mode, random number generators, samplers and data set are as
    before afterwards, bit for bit, also when a step raises or Ctrl-C is pressed. The model runs in train mode on
    the device of its parameters; the loader starts anew when it is exhausted.

    Args:
        model: the network, as it is when training starts.
        optimizer: over the model's parameters; all its param groups are scaled together.
        loss_fn: ``loss_fn(model(inputs), targets)`` for batches ``(inputs, targets)``, ``loss_fn(model(batch))`` for
            any other; returns a scalar.
        loader: yields batches; iterable more than once, at least two batches.
        min_lr: first learning rate, of the groups at the optimizer's own ``lr`` (the first group where none is).
        max_lr: last learning rate.
        steps: rungs of the ladder, at least 10. The test ends earlier where training blows up.
        train_step: replaces forward, backward and `optimizer.step` with your own, for AMP, clipping, accumulation or
            other batches: takes a batch on the model's device, returns the loss. ``loss_fn`` is then not called.
        progress: called after each step with (done, planned).

    Returns:
        The raw `Curve`.

    Raises:
        InputError: an argument, the loader, the model or the optimizer breaks a rule.
        UnsupportedError: the loader or the data cannot be wound back.

    Source: Smith 2017, "Cyclical learning rates for training neural networks", section 3.3 (arXiv 1506.01186).
    """
    ladder = Ladder(min_lr, max_lr, steps)
    return run_range_test(_Loop(model, optimizer, loss_fn, loader, train_step), ladder, progress)


class _Loop:
    """A plain torch loop as a `lrfinder.probe.Trainee`."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loss_fn: Callable[..., Tensor],
        loader: Iterable[Any],
        train_step: Callable[[Any], Tensor] | None,
    ) -> None:
        self.device = trainable(model)[0].device
        self.model, self.optimizer, self.loss_fn, self.loader = model, optimizer, loss_fn, loader
        self.train_step = train_step
        self.side_loader = side_loader(loader)
        self.batches: Iterator[Any] = iter(())

    def lrs(self) -> tuple[float, ...]:
        return tuple(configured_lrs([self.optimizer]))

    def reference(self) -> float:
        return reference_lr(self.lrs(), own_lrs([self.optimizer]))

    def set_lrs(self, lrs: Sequence[float]) -> None:
        for group, lr in zip(self.optimizer.param_groups, lrs, strict=True):
            set_lr(group, lr)

    def step(self) -> Tensor:
        batch = moved(next(self.batches), self.device)
        if self.train_step is not None:
            return _scalar(self.train_step(batch), "train_step")
        losses: list[Tensor] = []

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss = self._loss(batch)
            losses.append(_scalar(loss, "loss_fn"))  # a copy: a loss may share memory with a parameter
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            return loss

        if isinstance(self.optimizer, torch.optim.LBFGS):  # evaluates the closure several times per step
            self.optimizer.step(closure)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        else:
            closure()
            self.optimizer.step()
        return losses[0]

    def caveats(self) -> tuple[str, ...]:
        return ()

    @contextmanager
    def preserved(self) -> Iterator[None]:
        roots = (self.model, self.optimizer, self.loss_fn, self.train_step)
        snapshot = Snapshot(*roots, data=data_of(self.loader), leave=loaders_in([self.loader]))
        try:
            self.model.train()
            self.batches = endless(self.side_loader)
            with torch.enable_grad():
                yield
        finally:
            with interrupts_deferred():
                self.batches = iter(())  # ends the workers before the random state goes back
                snapshot.restore()

    def _loss(self, batch: Any) -> Tensor:
        if isinstance(batch, (list, tuple)) and len(batch) == 2:
            return self.loss_fn(self.model(batch[0]), batch[1])
        return self.loss_fn(self.model(batch))


def _scalar(loss: Any, source: str) -> Tensor:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise InputError(f"{source} must return one scalar tensor, got {got}")
    return loss.detach().clone().reshape(())
