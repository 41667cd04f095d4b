"""What is recorded and muted of a trainer around a probe."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
from support.exactness import Picture
from support.runs import LIGHTNINGS_REMARKS, fit

from lrfinder.lightning.isolation import Epochs, mute, side_loaders, snapshot_of

pytestmark = LIGHTNINGS_REMARKS


class Within(pl.Callback):
    def on_train_start(self, trainer, pl_module):
        before = Picture(trainer, pl_module)
        snapshot = snapshot_of(trainer, True)
        mute(trainer)
        pl_module.log("loss", 1.0)
        trainer.save_checkpoint("nowhere.ckpt")
        assert float(trainer.callback_metrics["loss"]) == 1.0
        drawn = [len(batch) for batch, *_ in Epochs(side_loaders(trainer, True), 3)]
        snapshot.restore()
        changes = [change for change in before.changes(trainer, pl_module) if "callbacks" not in change]
        self.changes, self.drawn = changes, drawn


@pytest.mark.parametrize("limit", [1.0, 2])
def test_a_muted_trainer_is_put_back(tmp_path, limit):
    within = Within()
    fit(tmp_path, [within], limit_train_batches=limit)
    assert within.changes == []
    assert within.drawn == [2, 2, 2]
    assert not (tmp_path / "nowhere.ckpt").exists()
