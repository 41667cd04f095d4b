"""What `lrfinder suggest` can be pointed at: a LightningModule, its data, and a plain torch factory.

lrfinder suggest examples/train.py:LitModel --data examples/train.py:Data --steps 2000
lrfinder suggest examples/train.py:plain --init.hidden 128 --epochs 20
"""

import lightning.pytorch as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lrfinder import LRFinder
from lrfinder.demo import digits


def network(hidden: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def loaders(batch_size: int) -> tuple[DataLoader, DataLoader]:
    images, labels = digits()
    training, validation = (TensorDataset(images[part], labels[part]) for part in (slice(1400), slice(1400, None)))
    return DataLoader(training, batch_size, shuffle=True), DataLoader(validation, 64)


class LitModel(pl.LightningModule):
    def __init__(self, hidden: int = 64, lr: float = 1e-3, weight_decay: float = 0.05) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = network(hidden)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.network(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.network(batch[0]), batch[1]))

    def configure_optimizers(self):
        matrices, biases = ([p for p in self.parameters() if (p.ndim > 1) is wanted] for wanted in (True, False))
        groups = [{"params": matrices}, {"params": biases, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)


class Data(pl.LightningDataModule):
    def __init__(self, batch_size: int = 32) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self):
        return loaders(self.batch_size)[0]

    def val_dataloader(self):
        return loaders(self.batch_size)[1]


def plain(hidden: int = 64, batch_size: int = 32):
    model = network(hidden)
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), nn.CrossEntropyLoss(), *loaders(batch_size)


if __name__ == "__main__":  # nothing but definitions may run when lrfinder imports this file
    finder = LRFinder()
    pl.Trainer(max_epochs=5, callbacks=[finder], logger=False, enable_checkpointing=False).fit(
        LitModel(), datamodule=Data()
    )
    print(finder.suggestion)
