"""The bundled example trained at nine fixed learning rates and at the suggested one: how good is the suggestion?

python benchmarks/digits_sweep.py        # four minutes on one core
"""

from __future__ import annotations

import torch

from lrfinder import Policy, find_lr
from lrfinder.demo import Demo, digits_demo

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
SEEDS = (0, 1, 2)
POLICIES = ("constant", "linear", "cosine", "wsd")


def train(demo: Demo, lr: float, policy: Policy) -> tuple[float, float]:
    """Train for `demo.steps` steps; return validation loss in nats and accuracy."""
    batches = iter(demo.loader)
    for step in range(demo.steps):
        for group in demo.optimizer.param_groups:
            group["lr"] = lr * policy(step)
        if (batch := next(batches, None)) is None:
            batches = iter(demo.loader)
            batch = next(batches)
        demo.optimizer.zero_grad()
        demo.loss_fn(demo.model(batch[0]), batch[1]).backward()
        demo.optimizer.step()
    demo.model.eval()
    with torch.no_grad():
        logits = demo.model(demo.images)
    return demo.loss_fn(logits, demo.labels).item(), (logits.argmax(1) == demo.labels).float().mean().item()


def main() -> None:
    torch.set_num_threads(1)
    suggested = {}
    for seed in SEEDS:
        demo = digits_demo(seed, "cpu")
        found = find_lr(demo.model, demo.optimizer, demo.loss_fn, demo.loader, demo.val_loader, steps=demo.steps)
        suggested[seed] = {name: found.with_policy(Policy(name, demo.steps)).lr for name in POLICIES}
        print(f"seed {seed}: {found.policy.name} at {found.lr:.3g} suggested")
    print("validation loss (accuracy), mean of three seeds\n")
    print(f"| learning rate | {' | '.join(POLICIES)} |\n|---|{'---|' * len(POLICIES)}")
    for lr in (*RATES, None):
        cells = []
        for name in POLICIES:
            demos = {seed: digits_demo(seed, "cpu") for seed in SEEDS}
            runs = [
                train(demos[s], suggested[s][name] if lr is None else lr, Policy(name, demos[s].steps)) for s in SEEDS
            ]
            loss, accuracy = (sum(values) / len(runs) for values in zip(*runs, strict=True))
            cells.append(f"{loss:.4f} ({accuracy:.1%})")
        print(f"| {'suggested' if lr is None else f'{lr:g}'} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
