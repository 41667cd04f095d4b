"""Batches for probing, drawn so that the loader that training will use is none the wiser."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lrfinder.errors import InputError, UnsupportedError

__all__ = ["data_of", "endless", "loaders_in", "moved", "side_loader"]


def side_loader(loader: Any) -> Any:
    """Return a loader over the same data whose iteration leaves the given one's iterator and workers alone.

    Raises:
        UnsupportedError: the loader can be iterated only once.
    """
    if isinstance(loader, Iterator):
        raise UnsupportedError(
            f"loader must be iterable more than once, got a {type(loader).__name__}:"
            " what the probe reads would be missing from training; pass the DataLoader or a list instead"
        )
    if not isinstance(loader, DataLoader):
        return loader
    side = copy.copy(loader)
    # Persistent workers hang on `_iterator`, which iter() would reset under the loader's owner. A DataLoader refuses
    # to set these by assignment.
    vars(side).update(_iterator=None, persistent_workers=False)
    return side


def data_of(loader: Any) -> list[object]:
    """Return what of a loader keeps state between batches: sampler, generator, data set (the loader itself if foreign).

    With worker processes the data set is theirs: this process never draws from its own copy.
    """
    if not isinstance(loader, DataLoader):
        return [loader]
    held = [loader.batch_sampler, loader.sampler, loader.generator]
    return held if loader.num_workers else [*held, loader.dataset]


def loaders_in(loaders: Iterable[Any]) -> list[DataLoader[Any]]:
    """Return the torch loaders: no snapshot may enter their live iterators, full of queues and processes."""
    return [loader for loader in loaders if isinstance(loader, DataLoader)]


def endless(loader: Iterable[Any]) -> Iterator[Any]:
    """Yield batches for ever, epoch after epoch.

    Raises:
        InputError: at the end of an epoch without a batch, or with only one: every step would see the same batch, and
            the curve would show how fast it is memorised.
    """
    while True:
        count = 0
        for count, batch in enumerate(loader, start=1):  # noqa: B007  # read after the loop
            yield batch
        if count < 2:
            raise InputError(
                "loader must yield at least two batches per epoch, got none: check data set, drop_last and limits"
                if count == 0
                else "loader must yield at least two batches per epoch, got 1: use a smaller batch size, or [batch] * 2"
                " if you do train on the full batch"
            )


def moved(batch: Any, device: torch.device) -> Any:
    """Return the batch with every tensor on ``device``, through lists, tuples, named tuples, mappings and ``.to``."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(moved(item, device) for item in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(moved(item, device) for item in batch)
    if isinstance(batch, dict):
        return {key: moved(value, device) for key, value in batch.items()}
    return batch.to(device) if hasattr(batch, "to") else batch
