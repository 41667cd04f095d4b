"""A script as people write them for `strategy="ddp"`: Lightning starts it once per process. Run by test_ddp.py.

Called with FOLDER FITS PROCESSES. Every process writes what it saw of each fit into FOLDER/<fit>.<rank>.pickle.
"""

from __future__ import annotations

import pickle
import sys
import warnings
from pathlib import Path

import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

from lrfinder import PlateauDetector, Policy
from support.runs import Net, SetByHand, finder, fit, loader


def rank():
    return torch.distributed.get_rank()


class Uneven(Net):
    """On the second process the loss is lost at a far lower learning rate."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        return loss * float("nan") if rank() == 1 and lr > 1 else loss


class Sharded(Net):
    """Every process holds a third of each parameter (FSDP2), and of what the optimizer keeps of it."""

    def configure_model(self):
        from torch.distributed.fsdp import fully_shard

        for part in (self.body, self.head, self.frozen):
            fully_shard(part, mesh=self.device_mesh["data_parallel"])


class Choosy(Net):
    """On the second process `training_step` takes no validation batches."""

    def training_step(self, batch, batch_idx):
        if rank() == 1 and len(batch[0]) > 16:
            raise ValueError("training batches have 16 rows at most")
        return super().training_step(batch, batch_idx)


class Failing(Net):
    """Raises on the second process, in the middle of the search."""

    taken = 0  # of the class: no snapshot winds it back

    def training_step(self, batch, batch_idx):
        Failing.taken += self.training
        if rank() == 1 and Failing.taken == 40:
            raise ValueError("only here")
        return super().training_step(batch, batch_idx)


class Judged(Net):
    """Raises on the second process where it is judged, by a metric that the processes compute together."""

    def validation_step(self, batch, batch_idx):
        if rank() == 1 and not self.trainer.sanity_checking:
            raise ValueError("only here")
        self.accuracy(self(batch[0]), batch[1])
        self.log("val_accuracy", self.accuracy)


def adam(net):
    optimizer = torch.optim.AdamW(net.parameters(), lr=net.lr)
    return [optimizer], [{"scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8), "interval": "step"}]


def cooled(net):
    """What the callback installs by default, as a person writes it: 12 steps, linear over the last 5."""
    optimizer = torch.optim.SGD(net.parameters(), lr=net.lr)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (12 - step) / 5))
    return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def sharding():
    return ModelParallelStrategy(data_parallel_size=3, tensor_parallel_size=1, save_distributed_checkpoint=False)


COMPARED = ("sgd", "adamw", "again", "views", "schedule", "sharded", "sharded adamw")
BY_HAND = {"schedule": {"module": lambda lr: Net(lr, cooled)}}
FITS = {
    "sgd": ({}, {}),
    "adamw": (
        {"monitor": "val_loss"},
        {"module": lambda lr: Net(lr, adam), "accumulate_grad_batches": 2, "gradient_clip_val": 0.1},
    ),
    "uneven": ({"budget": 150}, {"module": Uneven}),
    "choosy": ({}, {"module": Choosy}),
    "timed": ({"budget": "4s"}, {"loaders": lambda: loader(num_workers=1)}),
    "again": ({"at_epochs": [0, 1]}, {}),
    "views": (
        {"at_epochs": [0, 1]},
        {"strategy": lambda: DDPStrategy(gradient_as_bucket_view=True, find_unused_parameters=True)},
    ),
    "schedule": (
        {"policy": Policy("wsd", 12)},
        {"module": lambda lr: Net(lr, lambda net: torch.optim.SGD(net.parameters(), lr=net.lr))},
    ),
    "sharded": ({"at_epochs": [0, 1]}, {"module": Sharded, "strategy": sharding}),
    "sharded adamw": (
        {"monitor": "val_loss"},
        {
            "module": lambda lr: Sharded(lr, adam),
            "accumulate_grad_batches": 2,
            "gradient_clip_val": 0.1,
            "strategy": sharding,
        },
    ),
    "plateau": (
        {"plateau": PlateauDetector("decay", factor=0.5, min_steps=24, delta=10.0)},
        {"max_epochs": 7, "accumulate_grad_batches": 1},
    ),
    "failing": ({}, {"module": Failing}),
    "judged": ({"monitor": "val_accuracy", "mode": "max"}, {"module": Judged}),
}


def run(folder, callbacks, devices, **options):
    options["strategy"] = options.get("strategy", lambda: "ddp")()
    trainer, seen = fit(folder, callbacks, devices=devices, limit_train_batches=6, limit_val_batches=2, **options)
    if rank():
        del seen["calls"]  # the first process alone saves checkpoints, and is asked for them
    return trainer.lightning_module.lr, seen


def compare(name, folder, devices):
    """Fit with the callback, then by hand at the rates it found, and write down what this process saw."""
    asked, options = FITS[name]
    callback = finder(**{"budget": 150, "min_lr": 1e-4, "max_lr": 100.0, **asked})
    lr, tuned = run(folder / "tuned" / name, [callback], devices, **options)
    by_hand = None
    if name in COMPARED:
        later = SetByHand({epoch: found.lr for epoch, found in callback.suggestions.items() if epoch})
        first = {**options, **BY_HAND.get(name, {}), "lr": callback.suggestions[0].lr}
        _, by_hand = run(folder / "by hand" / name, [later] if later.rates else [], devices, **first)
    with (folder / f"{name}.{rank()}.pickle").open("wb") as file:
        found = {epoch: suggestion.to_dict() for epoch, suggestion in callback.suggestions.items()}
        events = [] if callback.plateau is None else callback.plateau.events
        pickle.dump({"found": found, "lr": lr, "tuned": tuned, "by hand": by_hand, "events": events}, file)


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in sys.argv[2].split(","):
        compare(name, Path(sys.argv[1]), int(sys.argv[3]))
