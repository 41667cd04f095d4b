"""Batches for probing, drawn so that the loader that training will use is none the wiser."""

from __future__ import annotations

import copy
import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lrfinder.errors import InputError, UnsupportedError

__all__ = [
    "CACHE_BYTES",
    "HELD_OUT",
    "KeptBatches",
    "Replay",
    "data_of",
    "endless",
    "loaders_in",
    "moved",
    "one_epoch",
    "side_loader",
    "spread",
]

CACHE_BYTES = 2**30
"""Most memory that batches kept for replay may take, unless told otherwise."""

_END = object()


class Replay:
    """Batches kept in memory, given out in order, again from the first after the last, for ever.

    Every probe reads the same batches in the same order. What is given out is a copy: a step that edits its batch does
    not edit the next probe's.

    Args:
        batches: where to draw from; drawn from now, never again.
        count: how many to keep.
        limit: most bytes to keep; the first batch is kept in any case.

    Attributes:
        spilled: whether the limit left fewer batches than there were.
    """

    def __init__(self, batches: Iterator[Any], count: int, limit: int = CACHE_BYTES) -> None:
        self._kept: list[Any] = []
        self._position = 0
        self.spilled = False
        self.bytes = 0
        while len(self._kept) < count and (batch := next(batches, _END)) is not _END:
            size = _bytes_in(batch)
            if self._kept and self.bytes + size > limit:
                self.spilled = True
                break
            self.bytes += size
            self._kept.append(_copied(batch))  # a loader may fill one buffer again and again

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Any]:
        """Each batch once, from the first, wherever `__next__` has got to."""
        return map(_copied, self._kept)

    def __next__(self) -> Any:
        batch = self._kept[self._position % len(self._kept)]
        self._position += 1
        return _copied(batch)

    def rewind(self) -> None:
        """Begin again with the first batch."""
        self._position = 0


HELD_OUT = 32
"""Most batches kept to evaluate on, of a validation loader."""


class KeptBatches(NamedTuple):
    """What every probe trains on and is judged by.

    Attributes:
        training: batches to train on.
        held_out: batches never trained on.
        caveats: what had to be done without.
        apart: whether they are two sets; with a single batch they are not.
    """

    training: Replay
    held_out: Replay
    caveats: tuple[str, ...]
    apart: bool = True

    @classmethod
    def none(cls) -> KeptBatches:
        """Before any were kept."""
        return cls(Replay(iter(()), 0), Replay(iter(()), 0), ())

    @classmethod
    def of(
        cls,
        loader: Iterable[Any],
        count: int,
        validation: Iterable[Any] | None = None,
        *,
        epoch: int | None = None,
        limit: int = CACHE_BYTES,
    ) -> KeptBatches:
        """Draw ``count`` training batches, and held-out ones from ``validation``.

        Without validation a fifth of the first epoch is held out, at most 16 batches, and the rest of that epoch
        repeated as often as needed: the next epoch would train on what was held out.

        Args:
            loader: training batches, iterable more than once.
            count: training batches wanted.
            validation: held-out batches.
            epoch: batches of an epoch; None where unknown.
            limit: most bytes to keep.

        Raises:
            InputError: there is no batch to train on, or none to validate.
        """
        caveats: list[str] = []
        if validation is not None:
            held_out = Replay(spread(validation), HELD_OUT, limit // 2)
            training = Replay(endless(loader, least=1), count, limit - held_out.bytes)
            if not len(held_out):
                raise InputError("val_loader must yield at least one batch, got none: check data set and limits")
        else:
            batches = one_epoch(loader)
            held_out = Replay(batches, max(1, min(16, (epoch or 40) // 5)), limit // 2)
            training = Replay(batches, count, limit - held_out.bytes)
            if not len(held_out):
                raise InputError(
                    "loader must yield at least two batches, got none: check data set, drop_last and limits"
                )
            caveats.append(
                f"There is no validation loader: judged on {len(held_out)} training batches that the probes left out."
            )
        if training.spilled or held_out.spilled:
            caveats.append(
                f"Memory for batches ended at {limit / 2**20:.0f} MiB: the probes repeated {len(training)} training"
                f" batches and were judged on {len(held_out)}."
            )
        apart = len(training) > 0
        return cls(training if apart else held_out, held_out, tuple(caveats), apart)


def length(loader: Any) -> int | None:
    """Return the batches of an epoch, None where the loader cannot tell."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):  # data without length
        return None


def spread(loader: Any, count: int = HELD_OUT, most: float = math.inf) -> Iterator[Any]:
    """Every k-th batch of an epoch, k up to 8, so that ``count`` of them cover it: validation data are often sorted.

    Args:
        loader: iterable.
        count: batches wanted.
        most: batches of the epoch that count.
    """
    size = min(length(loader) or 0, most)
    every = min(max(int(size) // count, 1), _MAX_STRIDE)
    last = every * count if math.isinf(most) else int(min(most, every * count))
    return itertools.islice(one_epoch(loader), 0, last, every)


_MAX_STRIDE = 8  # more would load a large validation set for hardly any of its batches


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
    return iter(lambda: next(epoch, _END), _END)  # a for loop would open Lightning's CombinedLoader anew


def _epochs(epoch: Iterator[Any], loader: Iterable[Any], least: int) -> Iterator[Any]:
    while True:
        count = 0
        while (batch := next(epoch, _END)) is not _END:  # a for loop would open Lightning's CombinedLoader anew
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
        return item.to(device) if callable(getattr(item, "to", None)) else _END

    return _mapped(batch, move)


def _copied(batch: Any) -> Any:
    """Return a copy of the batch: tensors, and what can clone itself."""

    def clone(item: Any) -> Any:
        if isinstance(item, np.ndarray):
            return item.copy()
        return item.clone() if callable(getattr(item, "clone", None)) else _END

    return _mapped(batch, clone)


def _bytes_in(batch: Any) -> int:
    sizes: list[int] = []

    def count(item: Any) -> Any:
        if isinstance(item, (list, tuple, MutableMapping)):
            return _END
        sizes.append(int(item.nbytes) if hasattr(item, "nbytes") else sys.getsizeof(item))
        return item

    _mapped(batch, count)
    return sum(sizes)


def _mapped(batch: Any, change: Callable[[Any], Any]) -> Any:
    """Rebuild a batch with ``change`` applied to whatever it does not answer with `_END`, through its containers."""
    changed = change(batch)
    if changed is not _END:  # before tuples: a PackedSequence is one, and keeps a part on the CPU
        return changed
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_mapped(item, change) for item in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(_mapped(item, change) for item in batch)
    if isinstance(batch, MutableMapping):
        result = copy.copy(batch)
        for key, value in batch.items():
            result[key] = _mapped(value, change)
        return result
    return batch
