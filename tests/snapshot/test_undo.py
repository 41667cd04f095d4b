"""Each function remembers one thing, and what it returns puts that thing back after any later change."""

from __future__ import annotations

import io
import random
from collections import OrderedDict, deque

import numpy as np
import pytest
import torch
from torch import nn

from lrfinder.snapshot.undo import (
    EMPTY,
    StorageContent,
    cell_content,
    generator_state,
    is_atom,
    is_foreign,
    is_one_shot,
    names_in,
    own_code,
    random_state,
    refill,
    setter,
    slot_names,
)


@pytest.mark.parametrize(
    "container", [{"a": 1, "b": 2}, OrderedDict(a=1, b=2), [1, 2], deque([1, 2]), {1, 2}, bytearray(b"ab")]
)
def test_a_container_is_refilled_in_place_and_in_order(container):
    before = list(container.items()) if isinstance(container, dict) else list(container)
    undo = refill(container)
    container.clear()
    undo()
    undo()
    assert (list(container.items()) if isinstance(container, dict) else list(container)) == before


def test_a_container_that_did_not_change_is_not_written():
    class Frozen(dict):
        def __setitem__(self, key, value):
            raise AssertionError

    undo = refill(Frozen(a=1))
    undo()


@pytest.mark.parametrize(
    "generator",
    [
        random.Random(1),
        np.random.RandomState(1),
        np.random.default_rng(1),
        np.random.PCG64(1),
        torch.Generator().manual_seed(1),
    ],
    ids=lambda generator: type(generator).__name__,
)
def test_a_generator_repeats_its_numbers(generator):
    def draw():
        if isinstance(generator, torch.Generator):
            return torch.rand(1, generator=generator).item()
        return generator.random_raw() if isinstance(generator, np.random.BitGenerator) else generator.random()

    undo = generator_state(generator)
    first = draw()
    undo()
    assert draw() == first


def test_the_global_generators_repeat_their_numbers():
    undos = random_state()
    first = random.random(), np.random.rand(), torch.rand(1).item()
    for undo in undos:
        undo()
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == first


def test_an_attribute_and_its_absence_come_back():
    module = nn.Module()
    module.kept = 1
    undos = [setter(module, name, getattr(module, name, EMPTY)) for name in ("kept", "added")]
    module.kept, module.added = 2, 3
    for undo in undos:
        undo()
    assert module.kept == 1
    assert not hasattr(module, "added")


@pytest.mark.parametrize("content", [5, EMPTY])
def test_a_variable_of_a_closure_comes_back(content):
    def outer():
        value = 1

        def inner():
            return value

        return inner

    inner = outer()
    undo = cell_content(inner.__closure__[0], content)
    undo()
    if content is EMPTY:
        with pytest.raises(NameError):
            inner()
    else:
        assert inner() == content


def test_memory_comes_back_even_if_it_was_freed():
    tensor = torch.arange(4.0)
    content = StorageContent(tensor.untyped_storage())
    assert content.nbytes == 16
    tensor.zero_()
    tensor.untyped_storage().resize_(0)
    content()
    assert tensor.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert content.to_host() is False  # it is there already


def test_what_a_walk_enters():
    assert all(map(is_atom, (None, 1, "a", torch.float32, int, torch)))
    assert not any(map(is_atom, ([], {}, torch.zeros(1), nn.ReLU())))
    assert is_foreign(torch.relu) is False  # a builtin is not a function of the module torch
    assert is_foreign(torch.nn.functional.dropout)
    assert not is_foreign(nn.ReLU())


def test_one_shot_iterators():
    assert is_one_shot((number for number in [1]), data=False)
    assert is_one_shot(iter([1]), data=False)
    assert not is_one_shot([1], data=False)
    done = (number for number in [1])
    list(done)
    assert not is_one_shot(done, data=False)
    file = io.StringIO("a")
    assert is_one_shot(file, data=True)
    assert not is_one_shot(file, data=False)


def test_names_of_slots_and_of_code():
    class Base:
        __slots__ = ("__private", "public")

    class Derived(Base):
        __slots__ = "single"

    assert set(slot_names(Derived)) == {"_Base__private", "public", "single"}

    def step():
        return [helper(value) for value in values]  # noqa: F821

    assert {"helper", "values"} <= names_in(step.__code__)
    assert own_code(step)
    assert not own_code(torch.nn.functional.dropout)
