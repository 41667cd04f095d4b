"""A LightningCLI configuration, tuned and written back: config.yaml goes in, tuned.yaml comes out and is trained."""

from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import LightningCLI
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split

from lrfinder import LRFinder, load_config, write_config
from lrfinder.demo import digits


class Digits(pl.LightningDataModule):
    def __init__(self, batch_size: int = 32):
        super().__init__()
        self.batch_size = batch_size
        parts = random_split(TensorDataset(*digits()), [1400, 397], torch.Generator().manual_seed(0))
        self.train, self.validation = parts

    def train_dataloader(self):
        return DataLoader(self.train, self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.validation, 64)


class Classifier(pl.LightningModule):
    def __init__(self, hidden: int = 64, lr: float = 0.1):
        super().__init__()
        self.save_hyperparameters()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.network(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.network(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)


def main() -> None:
    source = str(Path(__file__).with_name("config.yaml"))
    finder = LRFinder()
    searched = load_config([source])
    searched.trainer.callbacks.append(finder)
    searched.trainer.fit(searched.module, datamodule=searched.datamodule)
    print(finder.suggestion)
    write_config(source, "tuned.yaml", finder.suggestion)
    cli = LightningCLI(args=["fit", "--config", "tuned.yaml"], save_config_callback=None)
    print(f"trained with tuned.yaml: validation loss {cli.trainer.callback_metrics['val_loss']:.4f}")


if __name__ == "__main__":
    main()
