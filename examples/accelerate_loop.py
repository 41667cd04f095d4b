"""A loop with Accelerate: `find_lr` takes the prepared objects."""

from accelerate import Accelerator

from lrfinder import find_lr
from lrfinder.demo import digits_demo


def main() -> None:
    """Find the rate, then train one epoch with it."""
    accelerator = Accelerator(cpu=True)
    demo = digits_demo(device="cpu")
    model, optimizer, loader, val_loader = accelerator.prepare(demo.model, demo.optimizer, demo.loader, demo.val_loader)
    suggestion = find_lr(model, optimizer, demo.loss_fn, loader, val_loader, steps=demo.steps, budget=150)
    print(suggestion)

    scheduler = suggestion.scheduler(optimizer)
    for images, labels in loader:
        optimizer.zero_grad()
        loss = demo.loss_fn(model(images), labels)
        accelerator.backward(loss)
        optimizer.step()
        scheduler.step()
    print(f"loss of the last batch {loss.item():.3f}")


if __name__ == "__main__":
    main()
