"""Batches for probing, drawn so that the loader that training will use is none the wiser."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from lrfinder.errors import InputError, UnsupportedError

END = object()
"""Stands for no answer, where None is one."""


def length(loader: Any) -> int | None:
    """Return the batches of an epoch, None where the loader cannot tell."""
    try:
        return len(loader) or None  # some say 0 for unknown
    except Exception:  # data without length say so in many ways
        return None


def examples_per_step(loader: Any, batches: int) -> int | None:
    """Return the examples of an optimizer step over so many batches; None where the loader does not tell."""
    size = getattr(loader, "batch_size", None) or getattr(getattr(loader, "batch_sampler", None), "batch_size", None)
    return size * batches if isinstance(size, int) and size > 0 else None


def side_loader(loader: Any, name: str = "loader") -> Any:
    """Return a loader over the same data whose iteration leaves the given one's iterator and workers alone.

    Raises:
        UnsupportedError: it can be iterated only once.
    """
    if isinstance(loader, type) or not (hasattr(loader, "__iter__") or hasattr(loader, "__getitem__")):
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


class LoaderState(NamedTuple):
    """What a snapshot records of loaders, and what it must not look into.

    Attributes:
        data: what may keep state between batches, see `data_of`.
        lenient_data: data sets that workers draw copies of; a step or a hook may change them all the same.
        leave: the torch loaders, whose live iterators are full of queues and processes.
    """

    data: list[object]
    lenient_data: list[object]
    leave: list[DataLoader[Any]]

    @classmethod
    def of(cls, loaders: Iterable[Any]) -> LoaderState:
        """Return the state of loaders of any kind."""
        loaders = list(loaders)
        torches = [loader for loader in loaders if isinstance(loader, DataLoader)]
        data = [state for loader in loaders for state in data_of(loader)]
        return cls(data, [loader.dataset for loader in torches if loader.num_workers], torches)


def endless(loader: Iterable[Any], least: int = 2) -> Iterator[Any]:
    """Return an iterator over batches for ever, epoch after epoch; the first epoch is opened at once.

    An epoch must have at least ``least`` batches: with only one, every step sees the same batch, and the curve shows
    how fast that one is memorised.
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


def to_device(batch: Any, device: torch.device) -> Any:
    """Return a copy of the batch with every tensor on ``device``; other objects are moved by their own ``.to``.

    A copy, for a step that edits its batch must not edit what a list of batches or a data set keeps.
    """

    def move(item: Any) -> Any:
        if isinstance(item, Tensor):
            return item.to(device, copy=True)
        return item.to(device) if callable(getattr(item, "to", None)) else END

    return map_batch(batch, move)


def map_batch(batch: Any, change: Callable[[Any], Any]) -> Any:
    """Rebuild a batch with ``change`` applied to whatever it does not answer with `END`, through its containers."""
    changed = change(batch)
    if changed is not END:  # before tuples: a PackedSequence is one, and keeps a part on the CPU
        return changed
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(map_batch(item, change) for item in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(map_batch(item, change) for item in batch)
    if isinstance(batch, MutableMapping):
        result = copy.copy(batch)
        for key, value in batch.items():
            result[key] = map_batch(value, change)
        return result
    return batch


_STATISTICS = 16
"""Training batches over which the statistics of batch normalisation are taken anew."""

_AVERAGED = 24
"""Further batches for running averages of another kind, which usually replace a tenth of themselves with each."""


def prepare_for_evaluation(model: nn.Module, forward: Callable[[Any], Any], training: Iterable[Any]) -> None:
    """Put the model in eval mode, with fresh running statistics in every module that was in train mode.

    Running averages trail the weights by some ten steps, which in a probe of thirty is a third of it. Those of batch
    normalisation are therefore taken anew, as plain averages over training batches. A module that keeps running
    averages in buffers of its own is told by what a forward pass in train mode changes, and sees more such passes. A
    layer frozen in eval mode keeps its own. The model is left so: the next probe rewinds it.

    Args:
        model: as it is after the last training step, train/eval mode included.
        forward: runs the model on a batch; called without gradients.
        training: batches to take statistics from; as many are drawn as are needed.

    Source: Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization", section 3.2
    (arXiv 1803.05407), takes the statistics of an averaged network anew in the same way.
    """
    trained = [module for module in model.modules() if module.training]
    layers = [module for module in trained if isinstance(module, _BatchNorm) and module.running_mean is not None]
    others = [
        buffer
        for module in trained
        if not isinstance(module, _BatchNorm)
        for buffer in _dense_buffers(module)
        if buffer.is_floating_point()
    ]
    model.eval()
    batches = iter(training)
    if others:
        before = [buffer.clone() for buffer in others]
        try:
            _forward_in_train_mode(trained, forward, itertools.islice(batches, 2))  # one may fail
        except torch.OutOfMemoryError:
            raise
        except Exception:  # it trains with gradients only; whether it can be evaluated shows next
            before = others
        if not all(map(torch.equal, before, others)):
            _forward_in_train_mode(trained, forward, itertools.islice(batches, _AVERAGED))
    if layers:
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # a plain average over all batches seen
        _forward_in_train_mode(layers, forward, itertools.islice(batches, _STATISTICS))


def _dense_buffers(module: nn.Module) -> list[Tensor]:
    """Return the buffers of a module that may hold running averages: no sparse ones, such as matrices of a graph."""
    return [buffer for buffer in module.buffers(recurse=False) if buffer.layout is torch.strided]


def _forward_in_train_mode(modules: Iterable[nn.Module], forward: Callable[[Any], Any], batches: Iterable[Any]) -> None:
    """Run batches in train mode; one that makes a running average of a module not finite is not counted there."""
    modules = list(modules)
    for module in modules:
        module.training = True
    try:
        with torch.no_grad():
            for batch in batches:
                before = [[(buffer, buffer.clone()) for buffer in _dense_buffers(module)] for module in modules]
                forward(batch)
                for pairs in filter(None, before):
                    failed = torch.stack([(new.isfinite() < old.isfinite()).any() for new, old in pairs]).any()
                    for new, old in pairs:
                        new.copy_(torch.where(failed, old, new))
    finally:
        for module in modules:
            module.training = False


def scalar(value: Any, source: str) -> Tensor:
    """Return one number as a 0-d float64 tensor, detached, on its device; errors name its ``source``."""
    if not isinstance(value, Tensor):
        try:
            value = torch.as_tensor(float(value), dtype=torch.float64)
        except (TypeError, ValueError):
            raise InputError(f"{source} must return one number, got {type(value).__name__}") from None
    tensor: Tensor = value
    if tensor.numel() != 1:
        raise InputError(f"{source} must return one number, got a tensor of shape {tuple(tensor.shape)}")
    return tensor.detach().double().reshape(())
