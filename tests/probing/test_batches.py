"""Tests."""

from __future__ import annotations

import math
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from itertools import islice

import pytest
import torch
from support.exactness import Picture
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import BatchSampler, DataLoader, TensorDataset

from lrfinder import InputError, UnsupportedError
from lrfinder.probing.batches import (
    LoaderState,
    data_of,
    endless,
    examples_per_step,
    length,
    prepare_for_evaluation,
    scalar,
    side_loader,
    to_device,
)

CPU = torch.device("cpu")

Pair = namedtuple("Pair", "x y")


def rows():
    return TensorDataset(torch.arange(8.0))


@pytest.mark.parametrize("loader", [iter([1, 2]), (i for i in range(3)), zip([1], [2], strict=True)])
def test_a_one_shot_loader_is_refused(loader):
    with pytest.raises(
        UnsupportedError, match=f"loader must be iterable more than once, got a {type(loader).__name__}"
    ):
        side_loader(loader)


def test_a_loader_that_cannot_be_iterated_is_an_input_error():
    with pytest.raises(InputError, match="loader must be iterable, got a int"):
        side_loader(3)


@pytest.mark.parametrize("tells", [TypeError, ValueError, 0, -1])
def test_a_loader_that_cannot_tell_its_length_has_none(tells):
    class Loader:
        def __len__(self):
            if isinstance(tells, int):
                return tells
            raise tells("not known yet")

    assert length(Loader()) is None


@pytest.mark.parametrize("loader", [[1, 2], (1, 2), range(3), TensorDataset(torch.ones(2))])
def test_what_can_be_iterated_again_is_taken_as_it_is(loader):
    assert side_loader(loader) is loader


def test_iterating_the_side_loader_leaves_a_live_epoch_of_persistent_workers_alone():
    loader = DataLoader(rows(), batch_size=2, num_workers=1, persistent_workers=True)
    live = iter(loader)
    next(live)
    side = list(side_loader(loader))
    assert [batch[0].tolist() for batch in side] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert [batch[0].tolist() for batch in live] == [[2, 3], [4, 5], [6, 7]]
    assert loader._iterator is live


def test_a_wrapper_around_persistent_workers_gets_a_side_loader_inside():
    class Wrapper:
        def __init__(self, loader):
            self.loader = loader

        def __iter__(self):
            return iter(self.loader)

    loader = DataLoader(rows(), batch_size=2, num_workers=1, persistent_workers=True)
    live, wrapper = iter(loader), Wrapper(loader)
    next(live)
    assert len(list(side_loader(wrapper))) == 4
    assert len(list(live)) == 3
    assert wrapper.loader is loader


def test_loader_state_is_everything_but_the_live_iterator_and_the_data_of_workers():
    generator = torch.Generator()
    here = DataLoader(rows(), shuffle=True, generator=generator)
    there = DataLoader(rows(), shuffle=True, generator=generator, num_workers=1)
    for loader in (here, there):
        held = data_of(loader)
        parts = (loader.sampler, loader.batch_sampler, generator, loader.collate_fn)
        assert all(any(part is value for value in held) for part in parts)
        assert any(loader.dataset is value for value in held) == (loader is here)
    state = LoaderState.of([here, [1], there])
    assert state.data == [*data_of(here), [1], *data_of(there)]
    assert state.lenient_data == [there.dataset]
    assert data_of(batches := [1, 2]) == [batches]
    assert state.leave == [here, there]


def test_the_loader_starts_anew_when_it_is_exhausted():
    assert list(islice(endless([1, 2, 3]), 7)) == [1, 2, 3, 1, 2, 3, 1]


def test_the_first_epoch_is_opened_at_once():
    """Its shuffling is drawn before the random state goes back to where training starts, as training's own is."""

    class Counted(list):
        opened = 0

        def __iter__(self):
            self.opened += 1
            return super().__iter__()

    loader = Counted([1, 2])
    batches = endless(loader)
    assert loader.opened == 1
    next(batches), next(batches)
    assert loader.opened == 1
    next(batches)
    assert loader.opened == 2


def test_a_single_batch_will_do_where_that_is_allowed():
    assert list(islice(endless([1], least=1), 3)) == [1, 1, 1]
    with pytest.raises(InputError, match="got none"):
        next(endless([], least=1))


def test_every_epoch_is_shuffled_anew():
    batches = endless(DataLoader(list(range(50)), batch_size=None, shuffle=True))
    first, second = list(islice(batches, 50)), list(islice(batches, 50))
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second


@pytest.mark.parametrize(
    ("loader", "got"),
    [
        ([], "got none: check data set"),
        (DataLoader(rows(), batch_size=9, drop_last=True), "got none: check data set, drop_last"),
        ([1], r"got 1: use a smaller batch size, or \[batch\] \* 2"),
    ],
)
def test_fewer_than_two_batches_in_an_epoch_are_an_input_error(loader, got):
    with pytest.raises(InputError, match=f"loader must yield at least two batches per epoch, {got}"):
        list(islice(endless(loader), 2))


def batches():
    x = torch.arange(3.0)
    return {
        "tensor": x,
        "list": [x, x + 1],
        "tuple": (x, {"y": x}, "text", None, 3),
        "named tuple": Pair(x, [x]),
        "dict": {"x": x, "more": (x,)},
        "OrderedDict": OrderedDict(b=x, a=x),
        "defaultdict": defaultdict(list, x=x),
        "UserDict": UserDict(x=x),
        "number": 3,
        "text": "abc",
        "packed": pack_sequence([torch.ones(2), torch.ones(1)]),
    }


@pytest.mark.parametrize("name", batches())
def test_a_moved_batch_has_the_type_and_content_of_the_batch(name):
    batch = batches()[name]
    result = to_device(batch, CPU)
    assert type(result) is type(batch)
    assert str(result) == str(batch)
    if isinstance(batch, Pair):
        assert result.y[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", batches())
def test_every_tensor_is_moved(name):
    result = str(to_device(batches()[name], torch.device("meta")))
    assert ("device='meta'" in result) == (name not in ("number", "text"))


def test_an_object_is_moved_by_its_own_method():
    class Batch:
        device = CPU

        def to(self, device):
            self.device = device
            return self

    assert to_device([Batch()], torch.device("meta"))[0].device == torch.device("meta")


def test_editing_a_moved_batch_leaves_the_batch_alone():
    batch = {"x": torch.ones(3), "more": [torch.ones(2)]}
    before = Picture(batch)
    result = to_device(batch, CPU)
    result["x"].zero_(), result["more"][0].zero_(), result["more"].append(1), result.pop("x")
    assert before.changes(batch) == []


def test_statistics_are_plain_averages_over_training_batches():
    torch.manual_seed(0)
    norm, batches = nn.BatchNorm1d(3), [torch.randn(8, 3) + 5 for _ in range(4)]
    prepare_for_evaluation(norm, norm, batches)
    assert not norm.training
    assert torch.allclose(norm.running_mean, torch.stack([batch.mean(0) for batch in batches]).mean(0), atol=1e-5)
    assert norm.num_batches_tracked == 4


def test_no_more_batches_are_drawn_than_needed():
    drawn = []

    def endless():
        while True:
            drawn.append(1)
            yield torch.randn(4, 3)

    prepare_for_evaluation(norm := nn.BatchNorm1d(3), norm, endless())
    assert len(drawn) <= 17


def test_dropout_and_frozen_layers_do_not_move():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3).eval(), nn.Dropout(0.5), nn.BatchNorm1d(3))
    before = model[1].running_mean.clone()
    seen = []
    model[2].register_forward_hook(lambda module, *_: seen.append(module.training))
    prepare_for_evaluation(model, model, [torch.randn(8, 3)])
    assert torch.equal(model[1].running_mean, before)
    assert seen == [False]
    assert not any(module.training for module in model.modules())


def test_without_batch_normalisation_nothing_is_run():
    prepare_for_evaluation(nn.Linear(2, 2), lambda batch: pytest.fail("run"), [1])


def test_without_running_statistics_nothing_is_run():
    prepare_for_evaluation(nn.BatchNorm1d(2, track_running_stats=False), lambda batch: pytest.fail("run"), [1])


def test_no_gradients_are_kept():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    outputs = []
    prepare_for_evaluation(model, lambda batch: outputs.append(model(batch)), [torch.randn(8, 3)])
    assert not outputs[0].requires_grad


@pytest.mark.parametrize("value", [1.5, torch.tensor(1.5), torch.tensor([[1.5]], requires_grad=True), 1])
def test_numbers_of_all_kinds(value):
    assert scalar(value, "val_step").dtype == torch.float64
    assert not scalar(value, "val_step").requires_grad


def test_no_number_is_named():
    with pytest.raises(InputError, match=r"val_step must return one number, got a tensor of shape \(2,\)"):
        scalar(torch.zeros(2), "val_step")


class OwnAverage(nn.Module):
    """Normalises by running averages that it keeps in buffers of its own."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("table", torch.arange(3.0))
        self.passes = 0

    def forward(self, inputs):
        if self.training:
            self.passes += 1
            self.mean.lerp_(inputs.mean(), 0.1)
        return inputs - self.mean


def test_running_averages_of_any_kind_are_renewed():
    model = OwnAverage()
    prepare_for_evaluation(model, model, [torch.full((4,), 5.0)] * 100)
    assert not model.training
    assert model.mean.item() == pytest.approx(5.0, rel=0.1)


@pytest.mark.parametrize("model", [OwnAverage(), nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3, affine=False))])
def test_a_batch_that_is_not_finite_does_not_enter_running_averages(model):
    torch.manual_seed(0)
    batches = [torch.randn(64, 3) + 5 for _ in range(30)]
    batches[0][0, 0] = math.nan
    batches[7][:] = math.inf
    prepare_for_evaluation(model, model, batches)
    assert all(buffer.isfinite().all() for buffer in model.buffers())
    assert next(model.buffers()).flatten()[0].item() == pytest.approx(5.0, rel=0.1)


@pytest.mark.parametrize("matrix", ["to_sparse", "to_sparse_csr"])
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_a_model_may_hold_sparse_buffers(matrix):
    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.mean = nn.BatchNorm1d(3), OwnAverage()
            self.register_buffer("matrix", getattr(torch.eye(4), matrix)())

        def forward(self, inputs):
            return self.mean(self.norm(self.matrix @ inputs))

    model = Graph()
    prepare_for_evaluation(model, model, [torch.randn(4, 3) + 5] * 100)
    assert model.norm.running_mean.mean().item() == pytest.approx(5.0, rel=0.2)


def test_a_model_whose_buffers_stay_sees_two_batches_more():
    model = OwnAverage()
    prepare_for_evaluation(model, model, [torch.zeros(4)] * 100)
    assert model.passes == 2


@pytest.mark.parametrize(
    ("loader", "size"),
    [
        (DataLoader(range(20), 4), 12),
        (DataLoader(range(20), batch_sampler=BatchSampler(range(20), 5, False)), 15),
        (DataLoader(range(20), batch_size=None), None),
        ([torch.zeros(3)] * 4, None),
    ],
)
def test_examples_of_a_step_are_counted_where_the_loader_tells(loader, size):
    assert examples_per_step(loader, 3) == size
