from __future__ import annotations

from collections import namedtuple

import numpy as np
import torch

from lrfinder.probing.batch_cache import BatchCache, ProbeBatches

Pair = namedtuple("Pair", "x y")


def pairs(count, size=4):
    return [(torch.full((size, 2), float(i)), torch.full((size,), i)) for i in range(count)]


def first(batch):
    return float(batch[0][0, 0])


def test_a_replay_repeats_its_batches_in_order_and_begins_again_when_told():
    replay = BatchCache(iter(pairs(5)), 3)
    assert len(replay) == 3
    assert [first(next(replay)) for _ in range(5)] == [0, 1, 2, 0, 1]
    replay.rewind()
    assert first(next(replay)) == 0
    assert [first(batch) for batch in replay] == [0, 1, 2]


def test_what_a_replay_gives_out_may_be_edited():
    replay = BatchCache(iter([{"pair": Pair(torch.zeros(2), [torch.zeros(2)]), "text": "a"}]), 1)
    batch = next(replay)
    batch["pair"].x.add_(1)
    batch["pair"].y[0].add_(1)
    assert next(replay)["pair"].x.sum() == next(replay)["pair"].y[0].sum() == 0


def test_memory_for_batches_is_bounded_and_that_is_said():
    size = sum(tensor.nbytes for tensor in pairs(1)[0])
    kept = ProbeBatches.of(pairs(50), 40, pairs(10), limit=8 * size)
    assert (len(kept.held_out), len(kept.training)) == (4, 4)
    assert kept.caveats == (
        "Memory for batches ended at 0 MiB: the probes repeated 4 training batches and were judged on 4.",
    )
    assert kept.training.bytes + kept.held_out.bytes <= 8 * size
    one = ProbeBatches.of(pairs(50), 40, pairs(10), limit=1)
    assert (len(one.held_out), len(one.training)) == (1, 1)


def test_without_validation_a_fifth_of_an_epoch_is_held_out_and_no_other_epoch_is_begun():
    kept = ProbeBatches.of(pairs(10), 100, epoch=10)
    assert [first(batch) for batch in kept.held_out] == [0, 1]
    assert [first(batch) for batch in kept.training] == list(range(2, 10))
    assert "judged on 2 training batches" in kept.caveats[0]


def test_with_validation_training_goes_on_over_the_epochs():
    kept = ProbeBatches.of(pairs(10), 25, pairs(3), epoch=10)
    assert len(kept.training) == 25
    assert kept.caveats == ()


def test_a_large_validation_set_is_covered_not_begun():
    kept = ProbeBatches.of(pairs(2), 2, pairs(200))
    assert [first(batch) for batch in kept.held_out] == list(range(0, 192, 6))


def test_a_single_batch_is_not_apart():
    kept = ProbeBatches.of(pairs(1), 10, epoch=1)
    assert (kept.apart, len(kept.training)) == (False, 1)
    assert ProbeBatches.of(pairs(1), 10, pairs(1)).apart


def test_numpy_batches_are_counted_and_copied():
    arrays = [{"x": np.full(1000, float(i))} for i in range(9)]
    replay = BatchCache(iter(arrays), 9, limit=24_500)
    assert (len(replay), replay.spilled) == (3, True)
    next(replay)["x"][:] = 7
    arrays[1]["x"][:] = 7
    replay.rewind()
    assert [next(replay)["x"][0] for _ in range(3)] == [0, 1, 2]
