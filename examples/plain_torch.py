"""Find the learning rate of a plain torch loop, then train with it and the recommended decay."""

import torch

from lrfinder import find_lr
from lrfinder.demo import digits_demo

torch.set_num_threads(1)  # the network is tiny
demo = digits_demo()

suggestion = find_lr(demo.model, demo.optimizer, demo.loss_fn, demo.loader, demo.val_loader, steps=demo.steps)
print(suggestion)
if suggestion.lr is None:
    raise SystemExit(1)

suggestion.apply(demo.optimizer)
scheduler = torch.optim.lr_scheduler.LambdaLR(demo.optimizer, suggestion.policy)

step = 0
while step < demo.steps:
    for images, labels in demo.loader:
        if step == demo.steps:
            break
        demo.optimizer.zero_grad()
        loss = demo.loss_fn(demo.model(images.to(demo.images.device)), labels.to(demo.images.device))
        loss.backward()
        demo.optimizer.step()
        scheduler.step()
        step += 1

demo.model.eval()
with torch.no_grad():
    accuracy = (demo.model(demo.images).argmax(1) == demo.labels).float().mean().item()
print(f"validation accuracy after {step} steps: {accuracy:.1%}")
