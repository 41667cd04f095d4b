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
    """One hidden layer, from images of digits to 10 logits."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))


class LitModel(pl.LightningModule):
    """A classifier whose biases have no weight decay."""

    def __init__(self, hidden: int = 64, lr: float = 1e-3, weight_decay: float = 0.05) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = network(hidden)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.network(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.network(batch[0]), batch[1]))

    def configure_optimizers(self):
        groups = [
            {"params": [p for p in self.parameters() if p.ndim > 1]},
            {"params": [p for p in self.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)


class Data(pl.LightningDataModule):
    """The digits that come with lrfinder."""

    def __init__(self, batch_size: int = 32) -> None:
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage):
        images, labels = digits()
        self.training = TensorDataset(images[:1400], labels[:1400])
        self.validation = TensorDataset(images[1400:], labels[1400:])

    def train_dataloader(self):
        return DataLoader(self.training, self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.validation, 64)


def plain(hidden: int = 64, batch_size: int = 32):
    """The same in plain torch: (model, optimizer, loss_fn, loader, val_loader)."""
    images, labels = digits()
    model = network(hidden)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loader = DataLoader(TensorDataset(images[:1400], labels[:1400]), batch_size, shuffle=True)
    return model, optimizer, nn.CrossEntropyLoss(), loader, DataLoader(TensorDataset(images[1400:], labels[1400:]), 64)


def main() -> None:
    """Train, with the search before the first step: the same answer as on the command line."""
    pl.seed_everything(0)
    finder = LRFinder()
    trainer = pl.Trainer(max_epochs=5, callbacks=[finder], logger=False, enable_checkpointing=False)
    trainer.fit(LitModel(), datamodule=Data())
    print(finder.suggestion)


if __name__ == "__main__":  # nothing but definitions may run when lrfinder imports this file
    main()
