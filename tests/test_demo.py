from __future__ import annotations

import random

import numpy as np
import torch

from lrfinder.demo import digits, digits_demo


def weights_and_batches(seed):
    demo = digits_demo(seed)
    weights = torch.cat([parameter.detach().flatten() for parameter in demo.model.parameters()])
    return weights, torch.cat([images for images, _ in demo.loader]), demo.images


def test_the_digits_are_all_there():
    images, labels = digits()
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == torch.float32
    assert (images.min(), images.max()) == (0, 1)
    assert labels.unique().tolist() == list(range(10))
    assert labels[:10].tolist() == list(range(10))  # the first row of the data set shows 0 to 9


def test_equal_seeds_give_equal_demos_and_others_do_not():
    for one, same, other in zip(weights_and_batches(3), weights_and_batches(3), weights_and_batches(4), strict=True):
        assert torch.equal(one, same)
        assert not torch.equal(one, other)


def test_no_image_both_trains_and_validates():
    demo = digits_demo()
    held = [image for split in (demo.loader.dataset.tensors[0], demo.images) for image in split.flatten(1).tolist()]
    expected = digits()[0].flatten(1).tolist()
    assert sorted(held) == sorted(expected)
    assert len(demo.images) == len(demo.labels) == 397


def test_the_global_random_numbers_do_not_move():
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    demo = digits_demo(5)
    next(iter(demo.loader))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def test_the_demo_can_be_trained():
    demo = digits_demo()
    images, labels = next(iter(demo.loader))
    loss = demo.loss_fn(demo.model(images), labels)
    loss.backward()
    demo.optimizer.step()
    assert images.shape == (32, 1, 8, 8)
    assert demo.loss_fn(demo.model(images), labels) < loss
    assert demo.steps == 10 * len(demo.loader)
