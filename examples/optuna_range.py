"""Optuna: the interval of a suggestion is the range to search, which leaves the trials to other hyperparameters."""

import optuna
import torch

from lrfinder import find_lr
from lrfinder.demo import digits_demo


def main() -> None:
    """Search the rate and the momentum in three short trials."""
    demo = digits_demo(device="cpu")
    suggestion = find_lr(demo.model, demo.optimizer, demo.loss_fn, demo.loader, demo.val_loader, budget=150)
    print(suggestion)

    def objective(trial: optuna.Trial) -> float:
        demo = digits_demo(device="cpu")
        lr = trial.suggest_float("lr", *suggestion.interval, log=True)
        momentum = trial.suggest_float("momentum", 0.5, 0.95)
        optimizer = torch.optim.SGD(demo.model.parameters(), lr=lr, momentum=momentum)
        for images, labels in demo.loader:
            optimizer.zero_grad()
            demo.loss_fn(demo.model(images), labels).backward()
            optimizer.step()
        demo.model.eval()
        with torch.no_grad():
            return demo.loss_fn(demo.model(demo.images), demo.labels).item()

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    study.enqueue_trial({"lr": suggestion.lr, "momentum": 0.9})  # begin with what was measured
    study.optimize(objective, n_trials=3)
    print(f"best trial: {study.best_params}, validation loss {study.best_value:.3f}")


if __name__ == "__main__":
    main()
