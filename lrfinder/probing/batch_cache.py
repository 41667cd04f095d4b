"""Batches kept in memory, so that every probe trains on the same ones and is judged by the same others."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any, NamedTuple

import numpy as np

from lrfinder.errors import InputError
from lrfinder.probing.batches import END, endless, length, map_batch, one_epoch

CACHE_BYTES = 2**30
"""Most memory that batches kept for replay may take, unless told otherwise."""


class BatchCache:
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
        while len(self._kept) < count and (batch := next(batches, END)) is not END:
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

    def shorten(self, count: int) -> None:
        """Keep the first ``count`` batches only."""
        del self._kept[count:]

    def rewind(self) -> None:
        """Begin again with the first batch."""
        self._position = 0


HELD_OUT = 32
"""Most batches kept to evaluate on, of a validation loader."""


class ProbeBatches(NamedTuple):
    """What every probe trains on and is judged by.

    Attributes:
        training: batches to train on.
        held_out: batches never trained on.
        caveats: what had to be done without.
        apart: whether they are two sets; with a single batch they are not.
    """

    training: BatchCache
    held_out: BatchCache
    caveats: tuple[str, ...]
    apart: bool = True

    @classmethod
    def none(cls) -> ProbeBatches:
        """Before any were kept."""
        return cls(BatchCache(iter(()), 0), BatchCache(iter(()), 0), ())

    @classmethod
    def of(
        cls,
        loader: Iterable[Any],
        count: int,
        validation: Iterable[Any] | None = None,
        *,
        epoch: int | None = None,
        limit: int = CACHE_BYTES,
    ) -> ProbeBatches:
        """Draw ``count`` training batches, and held-out ones from ``validation``.

        Without validation a fifth of the first epoch (of ``epoch`` batches) is held out, at most 16 batches; the rest
        of it is repeated as often as needed: the next epoch would train on what was held out.

        Raises:
            InputError: there is no batch to train on, or none to validate.
        """
        caveats: list[str] = []
        if validation is not None:
            held_out = BatchCache(spread(validation), HELD_OUT, limit // 2)
            training = BatchCache(endless(loader, least=1), count, limit - held_out.bytes)
            if not len(held_out):
                raise InputError("val_loader must yield at least one batch, got none: check data set and limits")
        else:
            batches = one_epoch(loader)
            held_out = BatchCache(batches, max(1, min(16, (epoch or 40) // 5)), limit // 2)
            training = BatchCache(batches, count, limit - held_out.bytes)
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


def spread(loader: Any, count: int = HELD_OUT, most: float = math.inf) -> Iterator[Any]:
    """Every k-th batch of an epoch, k up to 8, so that ``count`` of its first ``most`` cover it: data may be sorted."""
    size = min(length(loader) or 0, most)
    every = min(max(int(size) // count, 1), _MAX_STRIDE)
    last = every * count if math.isinf(most) else int(min(most, every * count))
    return itertools.islice(one_epoch(loader), 0, last, every)


_MAX_STRIDE = 8  # more would load a large validation set for hardly any of its batches


def _copied(batch: Any) -> Any:
    """Return a copy of the batch: tensors, and what can clone itself."""

    def clone(item: Any) -> Any:
        if isinstance(item, np.ndarray):
            return item.copy()
        return item.clone() if callable(getattr(item, "clone", None)) else END

    return map_batch(batch, clone)


def _bytes_in(batch: Any) -> int:
    sizes: list[int] = []

    def count(item: Any) -> Any:
        if isinstance(item, (list, tuple, MutableMapping)):
            return END
        sizes.append(int(item.nbytes) if hasattr(item, "nbytes") else sys.getsizeof(item))
        return item

    map_batch(batch, count)
    return sum(sizes)
