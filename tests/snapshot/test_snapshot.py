from __future__ import annotations

import csv
import functools
import importlib
import itertools
import operator
import random
import signal
import sys
import threading
import types
import weakref
from collections import Counter, OrderedDict, defaultdict, deque
from types import SimpleNamespace as Thing

import numpy as np
import pytest
import torch
from support.exactness import Picture
from torch import nn
from torch.utils.data import DataLoader, Dataset

from lrfinder import UnsupportedError
from lrfinder.snapshot.snapshot import Snapshot, interrupts_deferred


def undone(root, change, **kwargs):
    """Change ``root`` behind a snapshot and restore it, twice; each time it must be as before, bit for bit."""
    before = Picture(root)
    snapshot = Snapshot(root, **kwargs)
    for _ in range(2):
        change(root)
        assert before.changes(root), "the change must be one that can be seen"
        snapshot.restore()
        assert before.changes(root) == []


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


class Slotted:
    __slots__ = ("__hidden", "count", "late")

    def __init__(self):
        self.count, self.__hidden = [0], 1

    def work(self):
        self.count.append(1)
        self.count = [*self.count]
        self.__hidden += 1
        self.late = "here"


class Child(Slotted):
    __slots__ = ("more",)

    def work(self):
        super().work()
        self.more = 1
        del self.count


class Shy(dict):
    """A dict whose own view of itself leaves something out, as configuration classes have it."""

    def items(self):
        return ()

    def __iter__(self):
        return iter(())

    def __len__(self):
        return 0


# --- tensors ---------------------------------------------------------------------------------------------------------


def with_grad():
    t = torch.arange(6.0).reshape(2, 3).requires_grad_()
    (t**3).sum().backward()
    return t


def hooked():
    t, log = torch.ones(2, requires_grad=True), []
    t.register_hook(lambda grad: log.append(grad.sum()))
    return t


TENSORS = {
    "values": (lambda: torch.ones(3), lambda t: t.mul_(2)),
    "values, half precision": (lambda: torch.ones(3, dtype=torch.bfloat16), lambda t: t.mul_(2)),
    "NaN and -0.0": (lambda: torch.tensor([float("nan"), -0.0]), lambda t: t.fill_(0.0)),
    "0-d step counter": (lambda: torch.tensor(3.0), lambda t: t.add_(1)),
    "gradient appears": (lambda: torch.ones(3, requires_grad=True), lambda t: (t * 2).sum().backward()),
    "gradient accumulates": (with_grad, lambda t: (t * 2).sum().backward()),
    "gradient removed": (with_grad, lambda t: setattr(t, "grad", None)),
    "gradient zeroed": (with_grad, lambda t: t.grad.zero_()),
    "gradient replaced": (with_grad, lambda t: setattr(t, "grad", torch.ones(2, 3))),
    "sparse gradient": (
        lambda: torch.ones(4, 2, requires_grad=True),
        lambda t: torch.embedding(t, torch.tensor([1]), sparse=True).sum().backward(),
    ),
    "frozen": (lambda: torch.ones(3, requires_grad=True), lambda t: t.requires_grad_(False)),
    "unfrozen": (lambda: torch.ones(3), lambda t: t.requires_grad_()),
    "data swapped away": (with_grad, lambda t: setattr(t, "data", torch.zeros(2, 3))),
    "data swapped for another shape": (lambda: torch.ones(3), lambda t: setattr(t, "data", torch.zeros(7))),
    "data swapped for another dtype": (
        with_grad,
        lambda t: (setattr(t, "grad", None), setattr(t, "data", t.data.half())),
    ),
    "set to other storage": (lambda: torch.ones(3), lambda t: t.set_(torch.zeros(5))),
    "resized": (lambda: torch.ones(3), lambda t: t.resize_(1000)),
    "shrunk storage": (lambda: torch.ones(3), lambda t: t.untyped_storage().resize_(0)),
    "transposed in place": (lambda: torch.arange(6.0).reshape(2, 3), lambda t: t.t_()),
    "drawn into a graph": (lambda: torch.ones(3), lambda t: t.add_(torch.ones(3, requires_grad=True))),
    "zero-size": (lambda: torch.empty(0, 3), lambda t: t.requires_grad_()),
    "expanded": (lambda: torch.ones(1).expand(5), lambda t: t.data[:1].add_(1)),
    "overlapping": (lambda: torch.arange(6.0).as_strided((4, 3), (1, 1)), lambda t: t[0].add_(1)),
    "overlapping, in a large storage": (lambda: torch.arange(600.0).as_strided((4, 3), (1, 1)), lambda t: t[0].add_(1)),
    "expanded, in a large storage": (lambda: torch.arange(600.0)[3:4].expand(5), lambda t: t[:1].add_(1)),
    "small view into a large storage": (lambda: torch.arange(1000.0)[10:12], lambda t: t.add_(1)),
    "strided view": (lambda: torch.arange(1000.0)[::100], lambda t: t.add_(1)),
    "sparse": (lambda: torch.eye(3).to_sparse(), lambda t: t.mul_(2)),
    "sparse with new entries": (lambda: torch.eye(3).to_sparse(), lambda t: t.add_(torch.ones(3, 3).to_sparse())),
    "attribute set on a tensor": (lambda: torch.ones(3), lambda t: setattr(t, "norms", [1])),
    "state of a gradient hook": (hooked, lambda t: (t * 2).sum().backward()),
    "gradient hook registered": (lambda: torch.ones(2, requires_grad=True), lambda t: t.register_hook(print)),
    "hook after accumulation": (
        lambda: torch.ones(2, requires_grad=True),
        lambda t: t.register_post_accumulate_grad_hook(print),
    ),
    "subclass": (lambda: torch.ones(3).as_subclass(type("Mine", (torch.Tensor,), {})), lambda t: t.mul_(2)),
    "integers": (lambda: torch.arange(3), lambda t: t.add_(1)),
    "complex": (lambda: torch.ones(3, dtype=torch.complex64), lambda t: t.mul_(1j)),
    "conjugate view": (lambda: torch.ones(3, dtype=torch.complex64).mul_(1j).conj(), lambda t: t.mul_(2)),
    "inference tensor": (lambda: inference(torch.ones, 3), lambda t: inference(t.add_, 1)),
    "inference tensor, a small view": (lambda: inference(torch.arange, 1e3)[3:5], lambda t: inference(t.add_, 1)),
    "channels last": (lambda: torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last), lambda t: t.add_(1)),
}


def inference(function, *args):
    with torch.inference_mode():
        return function(*args)


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_comes_back(name):
    make, change = TENSORS[name]
    undone(make(), change)


OBJECTS = {
    "attribute changed": (lambda: Thing(a=1), lambda x: setattr(x, "a", 2)),
    "attribute added": (lambda: Thing(a=1), lambda x: setattr(x, "b", 2)),
    "attribute deleted": (lambda: Thing(a=1, b=2), lambda x: delattr(x, "a")),
    "equal but another object": (lambda: Thing(a=[1]), lambda x: setattr(x, "a", [1])),
    "True for 1": (lambda: {"a": 1}, lambda x: x.update(a=True)),
    "list grown": (lambda: [1, 2], lambda x: x.append(3)),
    "list reordered": (lambda: [[1], [2]], list.reverse),
    "list of lists": (lambda: [[1], [2]], lambda x: x[1].append(3)),
    "list inside a tuple": (lambda: ([1], 2), lambda x: x[0].clear()),
    "dict changed": (lambda: {"a": 1, "b": 2}, lambda x: x.update(a=2)),
    "dict reordered": (lambda: {"a": 1, "b": 2}, lambda x: x.update(a=x.pop("a"))),
    "dict keyed by tensors": (lambda: {torch.ones(1): [1]}, lambda x: (next(iter(x)).add_(1), x.update({"b": 2}))),
    "dict that hides its items": (lambda: Shy(a=1), lambda x: x.update(a=2)),
    "OrderedDict reordered": (lambda: OrderedDict(a=1, b=2), lambda x: x.move_to_end("a")),
    "defaultdict read": (lambda: defaultdict(list), lambda x: x["new"].append(1)),
    "Counter": (lambda: Counter("aab"), lambda x: x.update("b")),
    "bounded deque": (lambda: deque([1, 2, 3], maxlen=3), lambda x: x.append(4)),
    "deque rotated": (lambda: deque([1, 2, 3]), deque.rotate),
    "set": (lambda: {1, 2}, lambda x: (x.discard(1), x.add(3))),
    "objects in a frozenset": (lambda: frozenset([Box()]), lambda x: next(iter(x)).log.append(1)),
    "bytearray": (lambda: bytearray(b"abc"), lambda x: x.extend(b"d")),
    "read-only view of a dict": (lambda: types.MappingProxyType({"a": [1]}), lambda x: x["a"].append(2)),
    "slots": (Slotted, Slotted.work),
    "inherited slots, one deleted": (Child, Child.work),
    "cyclic": (lambda: cyclic(), lambda x: x[0].append(1)),
    "weakly referenced": (lambda: weak(), lambda x: x.ref().log.append(1)),
    "WeakKeyDictionary": (lambda: weak(), lambda x: next(iter(x.by_key.values())).append(1)),
    "dead weak references": (lambda: dead(), lambda x: setattr(x, "a", 2)),
    "array": (lambda: np.arange(3.0), lambda x: x.__iadd__(1)),
    "array of objects": (lambda: np.array([[1], None], dtype=object), lambda x: x[0].append(2)),
    "structured array": (lambda: np.zeros(2, dtype=[("a", int)]), lambda x: x["a"].fill(1)),
    "read-only array holder": (lambda: Thing(a=np.broadcast_to(np.ones(1), 3)), lambda x: setattr(x, "a", None)),
    "random.Random": (lambda: random.Random(0), lambda x: x.random()),
    "random.Random, second gauss": (lambda: random.Random(0), lambda x: x.gauss(0, 1)),
    "numpy Generator": (lambda: np.random.default_rng(0), lambda x: x.random()),
    "numpy Generator, MT19937": (lambda: np.random.Generator(np.random.MT19937(0)), lambda x: x.random()),
    "numpy RandomState": (lambda: np.random.RandomState(0), lambda x: x.standard_normal()),
    "numpy RandomState, PCG64": (lambda: np.random.RandomState(np.random.PCG64(0)), lambda x: x.rand()),
    "bit generator": (lambda: np.random.PCG64(0), lambda x: x.random_raw()),
    "torch Generator": (lambda: torch.Generator().manual_seed(0), lambda x: torch.rand(1, generator=x)),
    "user of the system's randomness": (lambda: Thing(r=random.SystemRandom(), a=1), lambda x: setattr(x, "a", 2)),
    "closure": (lambda: counting(), lambda x: x()),
    "closure over a name not yet bound": (lambda: unbound(), lambda x: x()),
    "default argument": (lambda: defaulting(), lambda x: x()),
    "attribute of a function": (lambda: defaulting(), lambda x: setattr(x, "calls", 1)),
    "bound method": (lambda: Box().work, lambda x: x()),
    "bound method of a list": (lambda: [].append, lambda x: x(1)),
    "bound method of a generator": (lambda: np.random.default_rng(0).random, lambda x: x()),
    "partial": (lambda: functools.partial(Box.work, Box()), lambda x: x()),
    "keywords of a partial": (lambda: functools.partial(dict, a=[1]), lambda x: x.keywords.update(b=2)),
    "callable object": (lambda: Thing(f=Box()), lambda x: x.f()),
    "cached_property": (lambda: Box(), lambda x: x.cached),
    "user list with a late attribute": (lambda: type("Log", (list,), {})(), lambda x: setattr(x, "a", 1)),
}  # fmt: skip


ALIVE = []


class Box:
    def __init__(self):
        self.log = []

    def work(self):
        self.log.append(1)

    __call__ = work

    @functools.cached_property
    def cached(self):
        return [1]


def cyclic():
    a = [[]]
    a.append(a)
    return a


def weak():
    ALIVE.append(Box())
    return Thing(ref=weakref.ref(ALIVE[-1]), by_key=weakref.WeakKeyDictionary({ALIVE[-1]: []}))


def dead():
    box, module = Box(), nn.Linear(1, 1)
    return Thing(a=1, ref=weakref.ref(box), plain=weakref.proxy(box, None), callable=weakref.proxy(module))


def counting():
    calls, total = 0, {"n": [0]}

    def count():
        nonlocal calls
        calls += 1
        total["n"].append(calls)

    return count


def unbound():
    def set_it():
        nonlocal late
        late = 1

    if None:
        late = 0
    return set_it


def defaulting():
    def remember(log=[], *, more={}):  # noqa: B006
        log.append(1)
        more["a"] = 1

    return remember


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_comes_back(name):
    make, change = OBJECTS[name]
    undone(make(), change)


TOTAL, SEEN = 0, []


def test_globals_that_a_function_names_come_back():
    """In a script or notebook the user's step keeps its counters, scaler and averages in globals."""
    global TOTAL, SEEN
    TOTAL, SEEN = 0, (seen := [])
    helpers = types.ModuleType("helpers")
    exec("LOG = []\ndef helper(): LOG.append(1)", vars(helpers))

    def inner():
        SEEN.append(1)

    def step(helper=helpers.helper):
        global TOTAL, SEEN
        TOTAL += 1
        [inner() for _ in range(2)]
        helper()
        SEEN = []

    snapshot = Snapshot(step)
    step()
    assert (TOTAL, SEEN, seen, helpers.LOG) == (1, [], [1, 1], [1])
    snapshot.restore()
    assert (TOTAL, seen, helpers.LOG) == (0, [], [])
    assert SEEN is seen


def test_globals_of_installed_code_are_left_alone():
    library = types.ModuleType("library")
    exec(compile("LOG = []\ndef work(): LOG.append(1)", torch.__file__, "exec"), vars(library))
    snapshot = Snapshot(library.work)
    library.work()
    snapshot.restore()
    assert library.LOG == [1]


# --- models and optimizers -------------------------------------------------------------------------------------------


def model_changes():
    def replace_buffer(m):
        m[1].running_mean = torch.ones(4)

    def delete_buffer(m):
        del m[1].num_batches_tracked

    def non_persistent(m):
        m[0].seen.add_(1)

    return {
        "one training step": lambda m: m(torch.randn(5, 3)).sum().backward(),
        "buffer replaced": replace_buffer,
        "buffer deleted": delete_buffer,
        "non-persistent buffer": non_persistent,
        "parameter replaced": lambda m: setattr(m[0], "weight", nn.Parameter(torch.zeros(4, 3))),
        "parameter added": lambda m: m.register_parameter("extra", nn.Parameter(torch.zeros(1))),
        "module replaced": lambda m: m.__setitem__(0, nn.Linear(3, 4)),
        "module appended": lambda m: m.append(nn.ReLU()),
        "all in eval mode": lambda m: m.eval(),
        "one submodule in train mode": lambda m: m[2].train(),
        "half precision": lambda m: m.half(),
        "frozen": lambda m: m.requires_grad_(False),
        "ties cut": lambda m: setattr(m[3], "weight", nn.Parameter(m[3].weight.detach().clone())),
        "initialised anew": lambda m: [p.data.normal_() for p in m.parameters()],
        "hook registered": lambda m: m[0].register_forward_hook(print),
        "dropout rate": lambda m: setattr(m[2], "p", 0.9),
    }


@pytest.mark.parametrize("name", model_changes())
def test_a_model_comes_back(name):
    model = net()
    model[0].register_buffer("seen", torch.zeros(1), persistent=False)
    model[3].register_module("tied", nn.Linear(4, 2))
    model[3].tied.weight = model[3].weight
    model[2].eval()
    undone(model, model_changes()[name])


def test_parameters_tied_between_modules_stay_tied():
    model = nn.ModuleDict({"in": nn.Linear(3, 3), "out": nn.Linear(3, 3)})
    model["out"].weight = model["in"].weight
    snapshot = Snapshot(model)
    model["out"].weight = nn.Parameter(torch.zeros(3, 3))
    snapshot.restore()
    assert model["out"].weight is model["in"].weight


def test_an_outside_view_of_a_parameter_sees_the_restored_values():
    weight = nn.Parameter(torch.ones(4))
    view = weight.detach()[1:]
    snapshot = Snapshot(weight)
    weight.data = torch.zeros(4)
    snapshot.restore()
    weight.data.fill_(7.0)
    assert view.tolist() == [7.0] * 3


OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, 0.1),
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "Adam": lambda p: torch.optim.Adam(p, 0.1),
    "Adam, tensor lr": lambda p: torch.optim.Adam(p, torch.tensor(0.1)),
    "AdamW, amsgrad": lambda p: torch.optim.AdamW(p, 0.1, amsgrad=True),
    "Adam, capturable": lambda p: torch.optim.Adam(p, torch.tensor(0.1), foreach=False),
    "Adam, fused": lambda p: torch.optim.Adam(p, 0.1, fused=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 0.1, centered=True, momentum=0.9),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 0.1),
    "NAdam": lambda p: torch.optim.NAdam(p, 0.1),
    "RAdam": lambda p: torch.optim.RAdam(p, 0.1),
    "Adadelta": lambda p: torch.optim.Adadelta(p, 0.1),
    "Adamax": lambda p: torch.optim.Adamax(p, 0.1),
    "ASGD": lambda p: torch.optim.ASGD(p, 0.1),
    "Rprop": lambda p: torch.optim.Rprop(p, 0.1),
    "LBFGS": lambda p: torch.optim.LBFGS(p, 0.1, line_search_fn="strong_wolfe"),
}
if hasattr(torch.optim, "Adafactor"):
    OPTIMIZERS["Adafactor"] = lambda p: torch.optim.Adafactor(p, 0.1)
if hasattr(torch.optim, "Muon"):
    OPTIMIZERS["Muon"] = lambda p: torch.optim.Muon([w for w in p if w.ndim == 2], 0.1)


def train(model, optimizer, steps=2):
    def closure():
        optimizer.zero_grad()
        loss = model(torch.randn(5, 3)).square().mean()
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)


@pytest.mark.parametrize("warm", [False, True], ids=["fresh", "warm"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_comes_back(name, warm):
    model = net()
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    if warm:
        train(model, optimizer)
    undone((model, optimizer), lambda _: train(model, optimizer))


def test_replaced_optimizer_state_and_groups_come_back():
    model = net()
    optimizer = torch.optim.Adam(
        [{"params": model[0].parameters(), "name": "first"}, {"params": model[3].parameters()}]
    )
    train(model, optimizer)

    def change(_):
        optimizer.load_state_dict(optimizer.state_dict())  # makes new groups and new state
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 1.0})
        optimizer.defaults["lr"] = 5.0
        optimizer.state.clear()

    undone((model, optimizer), change)


def test_sparse_gradients_and_sparse_adam_come_back():
    model = nn.Embedding(6, 2, sparse=True)
    optimizer = torch.optim.SparseAdam(model.parameters())

    def change(_):
        model(torch.tensor([1, 4])).sum().backward()
        optimizer.step()

    undone((model, optimizer), change)


def test_a_grad_scaler_comes_back():
    scaler = torch.amp.GradScaler("cpu", growth_interval=1)
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def change(_):
        scaler.scale(model(torch.randn(5, 3)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()

    undone((scaler, model, optimizer), change)


def test_a_metric_inside_a_module_comes_back():
    torchmetrics = pytest.importorskip("torchmetrics")
    model = net()
    model.accuracy = torchmetrics.MeanMetric()
    model.all_losses = torchmetrics.CatMetric()

    def change(_):
        model.accuracy.update(torch.tensor(2.0))
        model.all_losses.update(torch.tensor([2.0]))
        model.accuracy.compute()

    undone(model, change)


def test_a_compiled_module_comes_back_and_still_works():
    plain = net()
    model = torch.compile(plain, backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    batch = torch.randn(5, 3)
    with torch.random.fork_rng():
        expected = model(batch).detach().clone()
    plain[1].reset_running_stats()
    before = Picture(plain, optimizer)
    snapshot = Snapshot(model, optimizer)
    train(model, optimizer)
    model.eval()
    assert before.changes(plain, optimizer)
    snapshot.restore()
    assert before.changes(plain, optimizer) == []
    with torch.random.fork_rng():
        assert torch.equal(model(batch), expected)
    train(model, optimizer)


@pytest.mark.filterwarnings("ignore:.torch.jit.script")
def test_a_scripted_module_comes_back():
    model = torch.jit.script(net())
    values = {name: value.clone() for name, value in model.state_dict().items()}
    snapshot = Snapshot(model)
    model(torch.randn(5, 3)).sum().backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    model.eval()
    snapshot.restore()
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


# --- random numbers, modes, and what is left alone -------------------------------------------------------------------


def test_global_random_numbers_come_back():
    random.seed(1), np.random.seed(1)
    random.gauss(0, 1), np.random.standard_normal()  # both keep a second value in hand
    before = Picture()
    snapshot = Snapshot()
    for _ in range(2):
        random.gauss(0, 1), np.random.standard_normal(), torch.randn(1)
        assert before.changes()
        snapshot.restore()
        assert before.changes() == []


def test_random_numbers_alone_can_be_rewound():
    thing = Thing(rng=np.random.default_rng(0), own=torch.Generator(), counts=[1])
    before = Picture(thing.rng, thing.own)
    snapshot = Snapshot(thing)
    for _ in range(2):
        random.random(), thing.rng.random(), torch.rand(1, generator=thing.own), thing.counts.append(2)
        snapshot.rewind_random()
        assert before.changes(thing.rng, thing.own) == []
    assert thing.counts == [1, 2, 2]


@pytest.mark.parametrize("enabled", [True, False])
def test_grad_mode_comes_back(enabled):
    with torch.set_grad_enabled(enabled):
        snapshot = Snapshot()
        torch.set_grad_enabled(not enabled)
        snapshot.restore()
        assert torch.is_grad_enabled() == enabled


def test_a_graph_built_before_can_still_be_differentiated():
    weight = torch.arange(1000.0, requires_grad=True)
    hidden = (weight * 2).tanh()
    snapshot = Snapshot(Thing(hidden=hidden, part=hidden[3:5]))
    snapshot.restore()
    hidden.sum().backward()
    assert weight.grad is not None


def test_what_is_left_out_stays_changed():
    kept, left = [1], [2]
    snapshot = Snapshot([kept, left], leave=[left])
    kept.append(0), left.append(0)
    snapshot.restore()
    assert (kept, left) == ([1], [2, 0])


def test_attributes_are_kept_by_identity():
    thing = Thing(a=[1], b=1)
    snapshot, value = Snapshot(), thing.a
    snapshot.keep_attributes(thing)
    thing.a.append(2)
    thing.a, thing.b, thing.born = None, 2, 3
    snapshot.restore()
    assert thing.a is value
    assert vars(thing) == {"a": [1, 2], "b": 1}


class Numbers(Dataset):
    """A data set that reads from a generator."""

    def __init__(self):
        self.source, self.read = iter(range(9)), 0


def test_what_cannot_be_rewound_is_left_alone_where_that_is_allowed():
    data, counter = Numbers(), Thing(seen=[], source=(n for n in range(9)))
    snapshot = Snapshot(data=[data], lenient=[counter], exact_data=False)
    assert snapshot.left == {"range_iterator"}
    next(data.source), next(counter.source), counter.seen.append(1)
    data.read = 1
    snapshot.restore()
    assert (next(data.source), next(counter.source), counter.seen, data.read) == (1, 1, [], 0)
    with pytest.raises(UnsupportedError, match="the data holds a range_iterator, which cannot be rewound"):
        Snapshot(data=[data], lenient=[counter])


@pytest.mark.parametrize("machinery", ["threading.Lock", "threading.local", "logging.getLogger"])
def test_machinery_of_the_process_is_left_alone(machinery):
    module, name = machinery.split(".")
    held = getattr(importlib.import_module(module), name)()
    snapshot = Snapshot(Thing(held=held))
    snapshot.restore()


def test_a_users_module_named_like_machinery_is_not_taken_for_it():
    kind = type("Log", (), {"__module__": "logging_of_mine"})
    log = kind()
    log.lines = []
    undone(log, lambda log: log.lines.append(1))


def test_c_level_callables_are_no_obstacle():
    cached = functools.lru_cache(len)
    thing = Thing(a=cached, b=operator.itemgetter(0), c=print, d=torch.relu, e=np.tanh, f="".join, g={}.__setitem__)
    thing.a((1, 2))
    undone(thing, lambda thing: setattr(thing, "a", None))
    assert thing.a.cache_info().currsize == 1


def test_one_failing_undo_does_not_keep_the_others_from_running():
    array, first, last = np.zeros(2), [1], [1]
    snapshot = Snapshot(last, array, first)
    array[:] = 1
    array.setflags(write=False)
    first.append(2), last.append(2)
    with pytest.raises(ValueError, match="read-only"):
        snapshot.restore()
    assert first == last == [1]


# --- data ------------------------------------------------------------------------------------------------------------


class Rows(Dataset):
    def __init__(self, **attributes):
        vars(self).update(attributes)

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return index


BIG = 2**19  # floats: 2 MiB


def allocated(function):
    """Bytes that torch allocates while ``function`` runs."""
    with torch.profiler.profile(profile_memory=True) as profile:
        function()
    return sum(max(event.self_cpu_memory_usage, 0) for event in profile.events() if event.self_cpu_memory_usage)


def test_the_measure_of_allocated_bytes_works():
    assert allocated(lambda: torch.ones(BIG).clone()) >= 2 * 4 * BIG


def test_a_storage_is_copied_once():
    flat = torch.zeros(BIG)
    views = [flat, flat.view(2, -1), flat[1:], flat.expand(3, BIG), nn.Parameter(flat)]
    assert allocated(lambda: Snapshot(views)) < 1.1 * 4 * BIG


def test_a_small_view_does_not_copy_its_large_storage():
    assert allocated(lambda: Snapshot([torch.zeros(BIG)[:10]])) < 5.1 * BIG


def test_bulk_data_is_not_copied_while_its_small_state_comes_back():
    data = Rows(
        x=torch.zeros(BIG),
        y=np.zeros(BIG),
        rows=list(range(2_000)),
        nested=[torch.zeros(BIG)],
        epoch=0,
        order=torch.arange(100),
        seen=[],
        rng=np.random.default_rng(0),
    )
    images = data.x

    def change(data):
        data.epoch += 1
        data.order.random_()
        data.seen.append(1)
        data.rng.random()
        data.rows.append(1)
        data.x = None
        data.y[0] += 1

    assert allocated(lambda: Snapshot(Thing(data=data))) < 4 * BIG
    small = (data.order, data.seen, data.rng, data.rows)
    before = Picture(*small)
    snapshot = Snapshot(data=[data])
    change(data)
    snapshot.restore()
    assert before.changes(*small) == []
    assert data.epoch == 0
    assert data.x is images
    assert data.y[0] == 1  # bulk


@pytest.mark.parametrize("order", [("data", "model"), ("model", "data")])
def test_what_a_data_set_shares_with_the_model_is_state(order):
    model = nn.Linear(1000, 1000)
    weights = model.weight.detach().clone()
    parts = {"model": model, "data": Rows(teacher=model)}
    snapshot = Snapshot([parts[name] for name in order], data=[Rows(teacher=model)])
    nn.init.zeros_(model.weight)
    snapshot.restore()
    assert torch.equal(model.weight, weights)


def test_a_snapshot_of_a_large_list_of_samples_is_quick():
    samples, calls = Rows(samples=[(np.zeros(3), i) for i in range(300_000)]), []
    sys.setprofile(lambda frame, event, arg: calls.append(event))  # counts, since a time depends on the machine
    try:
        Snapshot(data=[samples]).restore()
    finally:
        sys.setprofile(None)
    assert 100 < len(calls) < 20_000


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "holder",
    [
        lambda: (i for i in range(3)),
        lambda: iter([1, 2]),
        lambda: itertools.count(),
        lambda: itertools.cycle([1]),
        lambda: zip([1], [2], strict=True),
        lambda: map(len, [[1]]),
        lambda: csv.reader(["a"]),
        lambda: open(__file__),  # noqa: SIM115
    ],
)
def test_data_drawn_from_what_cannot_be_rewound_is_refused(holder):
    source = holder()
    with pytest.raises(UnsupportedError, match=f"the data holds a {type(source).__name__}, which cannot be rewound"):
        Snapshot(data=[Rows(source=[source])])
    if hasattr(source, "close"):
        source.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_live_iterator_in_the_step_is_refused(workers):
    """It would come back at another place of the epoch."""
    other = iter(DataLoader(Rows(), num_workers=workers))

    def step():
        return next(other)

    with pytest.raises(UnsupportedError, match=r"what a step uses holds a .*Iter.*make it anew in each step"):
        Snapshot(step)


def test_an_exhausted_generator_and_an_open_log_of_the_model_are_no_obstacle(tmp_path):
    generator = (i for i in range(3))
    list(generator)
    with open(tmp_path / "log", "w") as log:
        undone(Thing(generator=generator, log=log, a=1), lambda thing: setattr(thing, "a", 2))


def test_another_loaders_persistent_workers_are_left_alone():
    loader = DataLoader(Rows(), num_workers=1, persistent_workers=True)
    live = iter(loader)
    next(live)
    snapshot = Snapshot(Thing(validation=loader))
    next(live)
    snapshot.restore()
    assert [int(batch) for batch in live] == [2, 3]


def test_a_lazy_parameter_is_refused():
    model = nn.Sequential(nn.Linear(1, 1), nn.LazyLinear(1))
    with pytest.raises(UnsupportedError, match="run one batch through the model first"):
        Snapshot(model)


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def ctrl_c_interrupts():
    """A process that runs in the background of a shell begins with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_waits_until_the_block_is_left(ctrl_c_interrupts):
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts_deferred():  # noqa: PT012  # the order is the point
        signal.raise_signal(signal.SIGINT)
        done.append(1)
    assert done == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_outside_the_main_thread_there_is_nothing_to_defer():
    entered = []

    def work():
        with interrupts_deferred():
            entered.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert entered == [1]


# --- memory ----------------------------------------------------------------------------------------------------------


def full(tensor):
    raise torch.OutOfMemoryError("the device is full")


def test_where_the_device_is_full_the_copy_goes_to_host_memory(monkeypatch):
    model = nn.Linear(64, 64)
    expected = model.weight.detach().clone()
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "clone", full)
        snapshot = Snapshot(model)
    with torch.no_grad():
        model.weight.zero_()
    snapshot.restore()
    assert torch.equal(model.weight, expected)


def test_copies_in_host_memory_stay_where_they_are():
    assert Snapshot(nn.Linear(3, 3)).to_host() is False


def test_moving_the_copies_changes_nothing_in_them(monkeypatch):
    model = nn.Linear(64, 64)
    expected = model.weight.detach().clone()
    snapshot = Snapshot(model)
    with monkeypatch.context() as patch:  # as if the copies were on a device
        patch.setattr(torch.Tensor, "device", property(lambda tensor: torch.device("xpu")), raising=False)
        assert snapshot.to_host() is True
    assert snapshot.to_host() is False
    model.weight.data.zero_()
    snapshot.restore()
    assert torch.equal(model.weight, expected)


def test_a_snapshot_is_one_copy_of_parameters_buffers_and_optimizer_state():
    model = nn.Sequential(nn.Linear(300, 300), nn.BatchNorm1d(300), nn.Linear(300, 300))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 300)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    tensors = [*model.parameters(), *model.buffers()]
    tensors += [value for state in optimizer.state.values() for value in state.values()]
    size = sum(tensor.nbytes for tensor in tensors)
    assert size <= Snapshot(model, optimizer).nbytes < 1.001 * size
