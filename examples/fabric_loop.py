"""A loop with Lightning Fabric in bfloat16: `find_lr` takes what was set up and the step of training."""

from lightning.fabric import Fabric

from lrfinder import find_lr
from lrfinder.demo import digits_demo


def main() -> None:
    """Find the rate, then train one epoch with it."""
    fabric = Fabric(accelerator="cpu", precision="bf16-mixed")
    demo = digits_demo(device="cpu")
    model, optimizer = fabric.setup(demo.model, demo.optimizer)
    loader, val_loader = fabric.setup_dataloaders(demo.loader, demo.val_loader)

    def train_step(batch):
        images, labels = batch
        optimizer.zero_grad()
        loss = demo.loss_fn(model(images), labels)
        fabric.backward(loss)
        optimizer.step()
        return loss

    suggestion = find_lr(
        model, optimizer, demo.loss_fn, loader, val_loader, steps=demo.steps, budget=150, train_step=train_step
    )
    print(suggestion)

    scheduler = suggestion.scheduler(optimizer)
    for batch in loader:
        loss = train_step(batch)
        scheduler.step()
    print(f"loss of the last batch {loss.item():.3f}")


if __name__ == "__main__":
    main()
