"""Whether torch.func pays: eight probes as one batched program, against one probe at a time, and what it breaks.

    python benchmarks/batched_probes.py [--device cuda] [--repeats 9]

The batched step stacks parameters, buffers and the moments of Adam, by hand, since an optimizer of torch has one rate
per tensor. The single step is that of the module under `torch.optim.Adam` on the same batch. Prints Markdown.
"""

from __future__ import annotations

import argparse
import copy
import warnings

import torch
from speed import in_turns
from torch import nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

REPLICAS, STEPS = 8, 20


class Text(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        self.embedding = nn.Embedding(64, 64)
        self.layer = nn.TransformerEncoderLayer(64, 4, 128, dropout, batch_first=True)
        self.head = nn.Linear(64, 10)

    def forward(self, tokens):
        return self.head(self.layer(self.embedding(tokens)).mean(1))


def convolutions():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 16, 10),
    )  # fmt: skip


class Reading(nn.Linear):
    def forward(self, inputs):  # looks at a value of its output, as a check for NaN or a logged number does
        outputs = super().forward(inputs)
        return outputs if outputs.mean().item() < 1e9 else outputs * 0


class Recurrent(nn.LSTM):
    def forward(self, inputs, state=None):
        return super().forward(inputs[..., None], state)[0][:, -1]


def batched(models, inputs, targets, lrs):
    """Return a function that takes one Adam step of every model, and the stacked parameters."""
    parameters, buffers = stack_module_state(models)
    skeleton = copy.deepcopy(models[0])
    first, second = ({name: torch.zeros_like(held) for name, held in parameters.items()} for _ in range(2))
    count = 0

    def loss(parameters, buffers):
        return nn.functional.cross_entropy(functional_call(skeleton, (parameters, buffers), (inputs,)), targets)

    gradients = vmap(grad_and_value(loss), randomness="different")

    @torch.no_grad()
    def step():
        nonlocal count
        count += 1
        for name, gradient in gradients(parameters, buffers)[0].items():
            lr = lrs.reshape(-1, *[1] * (gradient.dim() - 1))
            first[name].lerp_(gradient, 0.1)
            second[name].mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            scale = (second[name] / (1 - 0.999**count)).sqrt_().add_(1e-8)
            parameters[name].sub_(lr / (1 - 0.9**count) * first[name] / scale)

    return step, {**parameters, **buffers}


def alone(model, inputs, targets, lr):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    def step():  # as anybody would write it
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()

    return step


def measured(make, inputs, device, repeats):
    """Return milliseconds of a single and of a batched step, their ratio, and the largest difference of the results."""
    models = [make().to(device) for _ in range(REPLICAS)]
    inputs, targets = inputs.to(device), torch.randint(10, (len(inputs),), device=device)
    lrs = torch.logspace(-4, -2, REPLICAS, device=device)
    together, state = batched(copy.deepcopy(models), inputs, targets, lrs)
    singles = [alone(model, inputs, targets, float(lr)) for model, lr in zip(models, lrs, strict=True)]
    for step in [together, *singles] * 3:
        step()
    pairs = [(held[i], model.state_dict()[name]) for name, held in state.items() for i, model in enumerate(models)]
    worst = max(float((a.double() - b.double()).abs().max()) for a, b in pairs)
    calls = [lambda: [together() for _ in range(STEPS)], lambda: [singles[0]() for _ in range(STEPS)]]
    (all_of_them, one), (ratio,) = in_turns(calls, repeats, device)
    return 1000 * one / STEPS, 1000 * all_of_them / STEPS, ratio, worst


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--repeats", type=int, default=9)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")  # of operators that vmap runs one replica after the other
    flat, images, tokens = torch.randn(32, 64), torch.randn(32, 1, 8, 8), torch.randint(64, (16, 32))
    cases = {
        "MLP": (lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), flat),
        "CNN with batch norm": (convolutions, images), "transformer": (Text, tokens),
        "transformer with dropout": (lambda: Text(0.1), tokens),
        "LSTM": (lambda: Recurrent(1, 10, batch_first=True), flat),
        "module that reads a value": (lambda: Reading(64, 10), flat),
    }  # fmt: skip
    print(
        f"| eight probes, {asked.device} | one step, ms | eight in one, ms | ratio | largest difference after 3 steps |"
    )
    print("|---|---|---|---|---|")
    for name, (make, inputs) in cases.items():
        try:
            one, together, ratio, worst = measured(make, inputs, asked.device, asked.repeats)
            print(f"| {name} | {one:.2f} | {together:.2f} | {ratio:.2f} | {worst:.1g} |", flush=True)
        except Exception as error:
            print(f"| {name} | | | | {type(error).__name__}: {' '.join(str(error).split())[:90]} |", flush=True)


if __name__ == "__main__":
    main()
