"""Batches for probing, drawn so that the loader that training will use is none the wiser."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lrfinder.errors import InputError, UnsupportedError

__all__ = ["END", "data_of", "endless", "length", "loaders_in", "mapped", "moved", "one_epoch", "side_loader"]

END = object()
"""Stands for no answer, where None is one."""


def length(loader: Any) -> int | None:
    """Return the batches of an epoch, None where the loader cannot tell."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):  # data without length
        return None


def side_loader(loader: Any, name: str = "loader") -> Any:
    """Return a loader over the same data whose iteration leaves the given one's iterator and workers alone.

    Raises:
        InputError: it is no iterable.
        UnsupportedError: it can be iterated only once.
    """
    if not hasattr(loader, "__iter__") and not hasattr(loader, "__getitem__"):
        raise InputError(f"{name} must be iterable, got a {type(loader).__name__}")
    if isinstance(loader, Iterator):
        raise UnsupportedError(
            f"{name} must be iterable more than once, got a {type(loader).__name__}:"
            " what the probe reads would be missing from training; pass the DataLoader or a list instead"
        )
    if not isinstance(loader, DataLoader):
        return _with_side_loaders(loader)
    side = copy.copy(loader)
    # Persistent workers hang on `_iterator`, which iter() would reset under the loader's owner. A DataLoader refuses
    # to set these by assignment.
    vars(side).update(_iterator=None, persistent_workers=False)
    return side


def _with_side_loaders(loader: Any) -> Any:
    """Return a copy of a wrapper around torch loaders with persistent workers that holds side loaders instead."""
    held = getattr(loader, "__dict__", {})
    sides = {
        name: side_loader(value)
        for name, value in held.items()
        if isinstance(value, DataLoader) and value.persistent_workers
    }
    if not sides:
        return loader
    wrapper = copy.copy(loader)
    vars(wrapper).update(sides)
    return wrapper


def data_of(loader: Any) -> list[object]:
    """Return what of a loader may keep state between batches: samplers, generator, collate function, data set.

    Of a torch loader that is all but its live iterator, and but the data set where worker processes draw from theirs.
    Any other loader is returned as a whole.
    """
    if not isinstance(loader, DataLoader):
        return [loader]
    left = ("_iterator", "dataset") if loader.num_workers else ("_iterator",)
    return [value for name, value in vars(loader).items() if name not in left]


def loaders_in(loaders: Iterable[Any]) -> list[DataLoader[Any]]:
    """Return the torch loaders: no snapshot may enter their live iterators, full of queues and processes."""
    return [loader for loader in loaders if isinstance(loader, DataLoader)]


def endless(loader: Iterable[Any], least: int = 2) -> Iterator[Any]:
    """Return an iterator over batches for ever, epoch after epoch; the first epoch is opened at once.

    Args:
        loader: iterable more than once.
        least: batches an epoch must have; with only one, every step sees the same batch, and the curve shows how
            fast that one is memorised.

    Raises:
        InputError: at the end of an epoch with fewer batches.
    """
    return _epochs(iter(loader), loader, least)


def one_epoch(loader: Iterable[Any]) -> Iterator[Any]:
    """Return an iterator over the batches of one epoch, opened at once."""
    epoch = iter(loader)
    return iter(lambda: next(epoch, END), END)  # a for loop would open Lightning's CombinedLoader anew


def _epochs(epoch: Iterator[Any], loader: Iterable[Any], least: int) -> Iterator[Any]:
    while True:
        count = 0
        while (batch := next(epoch, END)) is not END:  # a for loop would open Lightning's CombinedLoader anew
            count += 1
            yield batch
        if count < least:
            raise InputError(
                "loader must yield at least two batches per epoch, got none: check data set, drop_last and limits"
                if count == 0
                else "loader must yield at least two batches per epoch, got 1: use a smaller batch size, or [batch] * 2"
                " if you do train on the full batch"
            )
        epoch = iter(loader)


def moved(batch: Any, device: torch.device) -> Any:
    """Return a copy of the batch with every tensor on ``device``, through lists, tuples, named tuples and mappings.

    A copy, for a step that edits its batch must not edit what a list of batches or a data set keeps. Other objects are
    moved by their own ``.to``, where they have it.
    """

    def move(item: Any) -> Any:
        if isinstance(item, Tensor):
            return item.to(device, copy=True)
        return item.to(device) if callable(getattr(item, "to", None)) else END

    return mapped(batch, move)


def mapped(batch: Any, change: Callable[[Any], Any]) -> Any:
    """Rebuild a batch with ``change`` applied to whatever it does not answer with `END`, through its containers."""
    changed = change(batch)
    if changed is not END:  # before tuples: a PackedSequence is one, and keeps a part on the CPU
        return changed
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(mapped(item, change) for item in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(mapped(item, change) for item in batch)
    if isinstance(batch, MutableMapping):
        result = copy.copy(batch)
        for key, value in batch.items():
            result[key] = mapped(value, change)
        return result
    return batch
