"""Plain torch with autocast, a gradient scaler and clipping: hand over the step that training takes."""

import torch

from lrfinder import find_lr
from lrfinder.demo import digits_demo


def main() -> None:
    """Find the rate, then train one epoch with it."""
    demo = digits_demo()
    device = demo.images.device
    scaler = torch.amp.GradScaler(device.type)

    def train_step(batch):
        images, labels = (part.to(device) for part in batch)
        demo.optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            loss = demo.loss_fn(demo.model(images), labels)
        scaler.scale(loss).backward()
        scaler.unscale_(demo.optimizer)
        torch.nn.utils.clip_grad_norm_(demo.model.parameters(), 1.0)
        scaler.step(demo.optimizer)
        scaler.update()
        return loss

    data = demo.loader, demo.val_loader
    suggestion = find_lr(
        demo.model, demo.optimizer, demo.loss_fn, *data, steps=demo.steps, budget=150, train_step=train_step
    )
    print(suggestion)

    scheduler = suggestion.scheduler(demo.optimizer)
    for batch in demo.loader:
        loss = train_step(batch)
        scheduler.step()
    print(f"loss of the last batch {loss.item():.3f}")


if __name__ == "__main__":
    main()
