"""The callback in a Lightning run with a scheduler, two param groups and validation."""

import lightning.pytorch as pl
import torch
from torch.nn import functional as F

from lrfinder import LRFinder
from lrfinder.demo import digits_demo


class Classifier(pl.LightningModule):
    """A small network whose last layer learns ten times faster than the rest."""

    def __init__(self, network: torch.nn.Sequential, lr: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="network")
        self.network = network

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.network(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.network(batch[0]), batch[1]), prog_bar=True)

    def configure_optimizers(self):
        groups = [
            {"params": self.network[:-1].parameters(), "lr": self.hparams.lr / 10},
            {"params": self.network[-1].parameters()},
        ]
        optimizer = torch.optim.SGD(groups, lr=self.hparams.lr, momentum=0.9)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}


def main() -> None:
    """Fit once: the callback tunes before the first step."""
    pl.seed_everything(0)
    demo = digits_demo(device="cpu")
    finder = LRFinder()
    trainer = pl.Trainer(max_epochs=5, callbacks=[finder], logger=False, enable_checkpointing=False)
    model = Classifier(demo.model)
    trainer.fit(model, demo.loader, demo.val_loader)
    print(finder.suggestion)
    print(f"hparams.lr = {model.hparams.lr:.3g}, validation loss {trainer.callback_metrics['val_loss']:.4f}")


if __name__ == "__main__":
    main()
