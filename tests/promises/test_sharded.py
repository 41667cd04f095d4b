from __future__ import annotations

import pytest
import torch
from torch import nn

from lrfinder.snapshot.snapshot import Snapshot

fsdp = pytest.importorskip("torch.distributed.fsdp", reason="torch was built without distributed")
pytestmark = pytest.mark.skipif(not hasattr(fsdp, "fully_shard"), reason="torch has no fully_shard yet")


@pytest.fixture
def one_process(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_a_sharded_module_comes_back_whatever_is_gathered_at_the_time(one_process):
    """After an evaluation the whole parameters are registered, after a training step the shards."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    fsdp.fully_shard(model, mesh=torch.distributed.init_device_mesh("cpu", (1,)))
    optimizer, inputs = torch.optim.AdamW(model.parameters(), lr=0.1), torch.randn(4, 8)

    def losses():
        found = []
        for _ in range(3):
            loss = model(inputs).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    def evaluate():
        with torch.no_grad():
            return model(inputs).square().mean().item()

    losses()
    after_step = Snapshot(model, optimizer)
    loss, expected = evaluate(), losses()
    evaluate()
    after_step.restore()
    assert (evaluate(), losses()) == (loss, expected)
    after_step.restore()
    evaluate()
    after_evaluation = Snapshot(model, optimizer)
    assert losses() == expected
    after_evaluation.restore()
    assert (evaluate(), losses()) == (loss, expected)


def test_a_shard_comes_back_into_the_memory_that_it_has_by_then(one_process):
    model = fsdp.fully_shard(nn.Linear(4, 2), mesh=torch.distributed.init_device_mesh("cpu", (1,)))
    before = model.weight.to_local().detach().clone()
    snapshot = Snapshot(model)
    model.weight._local_tensor = torch.zeros(2, 4)  # as FSDP2 does before the first step where it pads
    snapshot.restore()
    assert torch.equal(model.weight.to_local(), before)
