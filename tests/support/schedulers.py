"""Every scheduler of torch, and how they are nested and written at home, for two param groups at ``lr`` and a tenth."""

from __future__ import annotations

import torch
from torch.optim import SGD
from torch.optim import lr_scheduler as schedulers
from torch.optim.swa_utils import SWALR

STEPS = 60


def optimizer_at(lr, kind=SGD):
    """Two groups, the second at a tenth of the first."""
    groups = [{"params": [torch.ones(2, requires_grad=True)], "lr": rate} for rate in (lr, lr / 10)]
    return kind(groups, lr=lr, momentum=0.9) if kind is SGD else kind(groups, lr=lr)


class Warmup(schedulers.LRScheduler):
    """Like many a home-made scheduler: keeps one of its own methods."""

    def __init__(self, optimizer, steps):
        self.steps, self.shape = steps, self.ramp
        super().__init__(optimizer)

    def ramp(self):
        return min(1.0, (self.last_epoch + 1) / self.steps)

    def get_lr(self):
        return [lr * self.shape() for lr in self.base_lrs]


def sequential(optimizer, lr):
    warmup = schedulers.LinearLR(optimizer, 0.01, total_iters=5)
    decay = schedulers.CosineAnnealingLR(optimizer, STEPS - 5)
    return schedulers.SequentialLR(optimizer, [warmup, decay], [5])


def chained(optimizer, lr):
    first = schedulers.ConstantLR(optimizer, 0.1, total_iters=4)
    return schedulers.ChainedScheduler([first, schedulers.ExponentialLR(optimizer, 0.9)], optimizer)


def nested(optimizer, lr):
    return schedulers.ChainedScheduler([sequential(optimizer, lr), schedulers.ExponentialLR(optimizer, 0.9)], optimizer)


SCHEDULERS = {
    "LambdaLR": lambda o, lr: schedulers.LambdaLR(o, [lambda step: 0.9**step, lambda step: 1 / (1 + step)]),
    "LambdaLR from zero": lambda o, lr: schedulers.LambdaLR(o, lambda step: min(1.0, step / 10)),
    "MultiplicativeLR": lambda o, lr: schedulers.MultiplicativeLR(o, lambda step: 0.95),
    "StepLR": lambda o, lr: schedulers.StepLR(o, 7, 0.5),
    "MultiStepLR": lambda o, lr: schedulers.MultiStepLR(o, [1, 15, 30]),
    "ConstantLR": lambda o, lr: schedulers.ConstantLR(o, 0.3, total_iters=10),
    "LinearLR": lambda o, lr: schedulers.LinearLR(o, 0.1, 0.5, total_iters=30),
    "ExponentialLR": lambda o, lr: schedulers.ExponentialLR(o, 0.97),
    "PolynomialLR": lambda o, lr: schedulers.PolynomialLR(o, STEPS, 2.0),
    "CosineAnnealingLR": lambda o, lr: schedulers.CosineAnnealingLR(o, 25),
    "CosineAnnealingWarmRestarts": lambda o, lr: schedulers.CosineAnnealingWarmRestarts(o, 6, 2),
    "OneCycleLR": lambda o, lr: schedulers.OneCycleLR(o, [lr, lr / 10], total_steps=STEPS + 1),
    "OneCycleLR, three phases": lambda o, lr: schedulers.OneCycleLR(
        o, [lr, lr / 10], total_steps=STEPS + 1, three_phase=True
    ),
    "CyclicLR": lambda o, lr: schedulers.CyclicLR(o, [lr / 40, lr / 400], [lr, lr / 10], 15),
    "CyclicLR, exp_range": lambda o, lr: schedulers.CyclicLR(
        o, [lr / 40, lr / 400], [lr, lr / 10], 8, mode="exp_range", gamma=0.99
    ),
    "ReduceLROnPlateau": lambda o, lr: schedulers.ReduceLROnPlateau(o, patience=3),
    "SequentialLR": sequential,
    "ChainedScheduler": chained,
    "ChainedScheduler of SequentialLR": nested,
    "SWALR": lambda o, lr: SWALR(o, [lr / 5, lr / 50], anneal_epochs=10),
    "of one's own": lambda o, lr: Warmup(o, 10),
}


def tensor_rate(net):
    return torch.optim.Adam(net.parameters(), lr=torch.tensor(net.lr), foreach=False, capturable=False)
