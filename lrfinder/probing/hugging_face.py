"""Tuning a `Trainer` of Hugging Face's transformers, which need not be imported for it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from lrfinder.answer.suggestion import Suggestion
from lrfinder.errors import InputError, UnsupportedError
from lrfinder.probing.batches import length
from lrfinder.probing.torch_loop import find_lr

_POINTS = 500
"""Number of steps at which the schedule of the Trainer is looked up."""


def find_lr_hf(trainer: Any, *, update_args: bool = True, **options: Any) -> Suggestion:
    """Find the learning rate for `transformers.Trainer.train`, and put everything back.

    The steps are the Trainer's own: its optimizer, `compute_loss`, collator, gradient accumulation, clipping and
    bfloat16; its evaluation data judge the probes. The rate is the one for ``args.lr_scheduler_type``, which stays.

    Args:
        trainer: a Trainer that has not trained yet.
        update_args: whether to write the rate into ``trainer.args.learning_rate`` (and into an optimizer that was
            passed to the Trainer).
        options: as `find_lr` takes them: ``budget``, ``method``, ``min_lr``, ``max_lr``, ``progress``, ``journal``.

    Returns:
        The `Suggestion` for the steps that the Trainer will take, or a refused one.

    Raises:
        InputError: an option breaks a rule, or the Trainer has trained already.
        UnsupportedError: the Trainer trains with several processes or devices, with float16, DeepSpeed or FSDP.
    """
    args = trainer.args
    _check(trainer)
    loader = trainer.get_train_dataloader()
    steps = _steps(args, length(loader))
    with _optimizer_of(trainer) as optimizer:
        clip = optimizer.register_step_pre_hook(lambda *_: _clip(optimizer, args.max_grad_norm))
        try:
            suggestion = find_lr(
                _Loss(trainer), optimizer, None, loader, _evaluation(trainer),
                steps=steps, accumulate=args.gradient_accumulation_steps, **options,
            )  # fmt: skip
        finally:
            clip.remove()
    if suggestion.lr is None or suggestion.interrupted:
        return suggestion
    suggestion = _scheduled(suggestion, trainer, steps)
    if update_args:
        args.learning_rate = suggestion.lr
        if trainer.optimizer is not None:
            suggestion.apply(trainer.optimizer, *filter(None, [trainer.lr_scheduler]))
    return suggestion


class _Loss(nn.Module):
    """A module whose output is the loss that a Trainer computes for a batch."""

    def __init__(self, trainer: Any) -> None:
        super().__init__()
        self.model = trainer.model
        self.trainer = trainer

    def forward(self, batch: Any) -> Tensor:
        """Return the loss."""
        with self.trainer.accelerator.autocast(), self.trainer.compute_loss_context_manager():
            loss: Tensor = self.trainer.compute_loss(self.model, batch)
        return loss.float()


def _check(trainer: Any) -> None:
    args = trainer.args
    if trainer.state.global_step:
        raise InputError(f"trainer must not have trained yet, got one at step {trainer.state.global_step}")
    if args.world_size > 1 or args.n_gpu > 1:
        raise UnsupportedError(f"trainer must use one process and device, got {max(args.world_size, args.n_gpu)}")
    if args.fp16:
        raise UnsupportedError("trainer must compute in float32 or bfloat16, got fp16 = True: give bf16=True")
    if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
        raise UnsupportedError("trainer must hold the whole model, got one that shards it (DeepSpeed or FSDP)")


def _steps(args: Any, batches: int | None) -> int | None:
    """Return the optimizer steps of the training; None if they are unknown."""
    if args.max_steps > 0:
        return int(args.max_steps)
    if batches is None:
        return None
    steps_of_epoch = max(math.ceil(batches / int(args.gradient_accumulation_steps)), 1)
    return math.ceil(float(args.num_train_epochs) * steps_of_epoch)


def _evaluation(trainer: Any) -> Any:
    """Return the loader of the evaluation data, of the first set if there are several; None without."""
    data = trainer.eval_dataset
    if isinstance(data, dict):
        data = next(iter(data.values()))
    return None if data is None else trainer.get_eval_dataloader(data)


@contextmanager
def _optimizer_of(trainer: Any) -> Iterator[torch.optim.Optimizer]:
    """Yield the optimizer that the Trainer was given, or else one as it will create; that one is not left behind."""
    given = trainer.optimizer
    try:
        trainer.create_optimizer()
        yield trainer.optimizer
    finally:
        trainer.optimizer = given


def _clip(optimizer: torch.optim.Optimizer, max_norm: float | None) -> None:
    if max_norm:
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], max_norm)


def _scheduled(suggestion: Suggestion, trainer: Any, steps: int | None) -> Suggestion:
    """Return the suggestion for the schedule that the Trainer will follow."""
    name, before = trainer.args.lr_scheduler_type, vars(trainer).copy()
    name = getattr(name, "value", name)
    if steps is None:
        return suggestion.with_unknown_schedule(name)
    trainer.lr_scheduler = None
    try:
        stand_in = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler = trainer.create_scheduler(steps, stand_in)
    finally:
        vars(trainer).clear()
        vars(trainer).update(before)
    if not isinstance(scheduler, LambdaLR):
        return suggestion.with_unknown_schedule(name)
    rates = [scheduler.lr_lambdas[0](step) for step in np.linspace(0, steps, _POINTS).round().astype(int).tolist()]
    return suggestion.with_schedule(rates, f"the Trainer's {name} schedule", base=1.0)
