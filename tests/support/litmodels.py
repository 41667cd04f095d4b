"""What the LightningCLI configurations of the tests name: small modules, data, and a callback that looks on."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from support.runs import INPUTS, TARGETS


class Small(pl.LightningModule):
    """A classifier with an argument for its learning rate, and the rates that it trained at, step by step."""

    def __init__(self, hidden: int = 8, lr: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.body, self.head = nn.Linear(8, hidden), nn.Linear(hidden, 3)
        self.rates: list[float] = []

    def training_step(self, batch, batch_idx):
        self.rates.append(self.trainer.optimizers[0].param_groups[-1]["lr"])
        self.logger and self.logger.log_metrics({"seen": batch_idx})
        return F.cross_entropy(self.head(self.body(batch[0]).relu()), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.head(self.body(batch[0]).relu()), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)


class Grouped(Small):
    """Two param groups, one at a tenth of the rate."""

    def configure_optimizers(self):
        groups = [{"params": self.body.parameters(), "lr": self.hparams.lr / 10}, {"params": self.head.parameters()}]
        return torch.optim.SGD(groups, lr=self.hparams.lr)


class Scheduled(Small):
    """A scheduler of its own."""

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


class Coded(Small):
    """Its rate stands in the code."""

    def __init__(self, hidden: int = 8) -> None:
        super().__init__(hidden)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.02, momentum=0.9)


class Injected(Small):
    """Its optimizer is an argument."""

    def __init__(self, hidden: int = 8, optimizer: OptimizerCallable = lambda p: torch.optim.Adam(p, lr=0.02)) -> None:
        super().__init__(hidden)
        self.make = optimizer

    def configure_optimizers(self):
        return self.make(self.parameters())


class Broken(Small):
    def __init__(self) -> None:
        raise ZeroDivisionError("no model today")


class Rows(pl.LightningDataModule):
    """256 rows, 32 batches of 8."""

    def __init__(self, batch_size: int = 8) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self):
        return DataLoader(TensorDataset(INPUTS, TARGETS), self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(TensorDataset(INPUTS[:64], TARGETS[:64]), 16)
