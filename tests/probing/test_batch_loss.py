"""The loss of batches of every common kind, and errors that name what to pass instead."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from lrfinder import InputError, find_lr, range_test
from lrfinder.probing.batch_loss import batch_loss, judged_loss, takes_closure

X = torch.randn(320, 4, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)


class Rows(Dataset):
    """Rows as mappings, with a name that no model takes."""

    def __init__(self, **names):
        self.names = names

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        values = {"x": X[index], "y": Y[index], "name": f"row {index}"}
        return {name: values[source] for name, source in self.names.items()}


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 3)

    def forward(self, x):
        return self.net(x)


class Transformer(Classifier):
    """Computes its own loss where it is given labels, as Hugging Face's models do."""

    def forward(self, input_values, labels=None, *, scale=1.0):
        logits = self.net(input_values) * scale
        return SimpleNamespace(loss=None if labels is None else F.cross_entropy(logits, labels), logits=logits)


class Whole(Classifier):
    """Takes a batch as it is and returns its loss."""

    def forward(self, batch):
        return F.cross_entropy(self.net(batch["x"]), batch["y"])


def pairs():
    return DataLoader(list(zip(X, Y, strict=True)), 16)


KINDS = {
    "pairs": (Classifier, F.cross_entropy, pairs),
    "a mapping of inputs and targets": (Classifier, F.cross_entropy, lambda: DataLoader(Rows(x="x", y="y"), 16)),
    "of other names": (
        Classifier, nn.CrossEntropyLoss(), lambda: DataLoader(Rows(image="x", label="y", name="name"), 16),
    ),
    "of arguments, with a loss of its own": (
        Transformer, None, lambda: DataLoader(Rows(input_values="x", labels="y", name="name"), 16),
    ),
    "the same, with a function": (
        Transformer, lambda outputs: outputs.loss, lambda: DataLoader(Rows(input_values="x", labels="y"), 16),
    ),
    "the same, with a function of two": (
        Transformer, F.cross_entropy, lambda: DataLoader(Rows(input_values="x", labels="y"), 16),
    ),
    "taken as a whole": (Whole, lambda loss: loss, lambda: DataLoader(Rows(x="x", y="y"), 16)),
    "taken as a whole, without a function": (Whole, None, lambda: DataLoader(Rows(x="x", y="y"), 16)),
    "single tensors": (Classifier, lambda outputs: outputs.pow(2).mean(), lambda: DataLoader(X, 16)),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_batch_of_every_kind_has_its_loss(name):
    kind, loss_fn, loader = KINDS[name]
    torch.manual_seed(0)
    model = kind()
    batch = next(iter(loader()))
    logits = model.net(X[:16])
    expected = logits.pow(2).mean() if "single" in name else F.cross_entropy(logits, Y[:16])
    torch.testing.assert_close(batch_loss(model, loss_fn, batch), expected)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    assert len(range_test(model, optimizer, loss_fn, loader(), steps=12)) >= 10


REFUSED = {
    "a tensor for a loss of two": (
        Classifier(),
        F.cross_entropy,
        X[:8],
        "the batch is a tensor, which holds no targets",
    ),
    "three parts": (Classifier(), F.cross_entropy, (X[:8], X[:8], Y[:8]), "a batch, which is a tuple of 3"),
    "an array": (Classifier(), F.cross_entropy, (X[:8].numpy(), Y[:8]), "a batch, which is a ndarray"),
    "an object": (Classifier(), F.cross_entropy, SimpleNamespace(x=X[:8]), "a batch, which is a SimpleNamespace"),
    "no loss and no function": (
        Classifier(),
        None,
        X[:8],
        "loss_fn may be None only for a model whose output is or holds",
    ),
    "arguments that do not fit": (Transformer(), None, {"labels": Y[:8]}, "missing 1 required positional argument"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_loss_is_told_what_to_pass(name):
    model, loss_fn, batch, text = REFUSED[name]
    with pytest.raises(InputError, match=text) as caught:
        batch_loss(model, loss_fn, batch)
    assert "train_step" in str(caught.value)


def test_an_error_of_the_model_itself_passes_through():
    class Broken(Classifier):
        def forward(self, x):
            return x + "no"

    with pytest.raises(TypeError, match="unsupported operand"):
        batch_loss(Broken(), F.cross_entropy, (X, Y))


def test_a_step_of_ones_own_is_judged_by_the_loss_function_or_needs_a_val_step():
    torch.manual_seed(0)
    model = Classifier()
    optimizer, taken = torch.optim.SGD(model.parameters(), 0.1), []

    def step(batch):
        taken.append(1)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(batch[0]), batch[2])
        loss.backward()
        optimizer.step()
        return loss

    def judge(batch):
        return F.cross_entropy(model(batch[0]), batch[2])

    triples = DataLoader(list(zip(X, X, Y, strict=True)), 16)
    with pytest.raises(InputError, match="val_step must be given with train_step if loss_fn cannot judge a batch"):
        find_lr(model, optimizer, None, triples, train_step=step, budget=150)
    assert not taken
    found = find_lr(
        model,
        optimizer,
        None,
        triples,
        train_step=step,
        budget=150,
        val_step=lambda b: F.cross_entropy(model(b[0]), b[2]),
    )
    assert found.lr is not None
    assert judged_loss(model, F.cross_entropy, (X, Y)).item() > 0


class Closing(torch.optim.SGD):
    """Cannot step without a closure."""

    def step(self, closure):
        return super().step(closure)


@pytest.mark.parametrize("kind", [torch.optim.LBFGS, Closing])
def test_an_optimizer_that_needs_a_closure_is_given_one(kind):
    torch.manual_seed(0)
    model = Classifier()
    optimizer = kind(model.parameters(), lr=0.1)
    assert takes_closure(optimizer)
    assert not takes_closure(torch.optim.SGD(model.parameters(), lr=0.1))
    found = find_lr(model, optimizer, F.cross_entropy, pairs(), budget=60, steps=100)
    assert found.curves[0].loss.size >= 10


def test_inference_mode_does_not_matter_unless_the_model_was_built_in_it():
    def made():
        torch.manual_seed(0)
        model = Classifier()
        return (
            model,
            torch.optim.SGD(model.parameters(), 0.1),
            F.cross_entropy,
            pairs(),
        )

    expected = find_lr(*made(), budget=150)
    arguments = made()
    with torch.inference_mode():
        found = find_lr(*arguments, budget=150)
        assert torch.is_inference_mode_enabled()
        late = made()
    assert found.lr == expected.lr
    with pytest.raises(InputError, match=r"model must have been built outside torch\.inference_mode"):
        find_lr(*late, budget=150)
