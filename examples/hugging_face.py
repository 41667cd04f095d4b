"""Hugging Face's Trainer: one call before `train`, on a tiny vision transformer with random weights."""

import torch
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification, set_seed

from lrfinder import find_lr_hf
from lrfinder.demo import digits


class Digits(torch.utils.data.Dataset):
    """The handwritten digits that come with lrfinder."""

    def __init__(self, part: slice) -> None:
        images, labels = digits()
        self.images, self.labels = images[part], labels[part]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        return {"pixel_values": self.images[index], "labels": self.labels[index]}


def main() -> None:
    """Find the rate, then train with it."""
    set_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = ViTConfig(image_size=8, patch_size=4, num_channels=1, num_labels=10, **size)
    arguments = TrainingArguments(
        "unused", num_train_epochs=5, per_device_train_batch_size=32, warmup_steps=10, lr_scheduler_type="cosine",
        report_to="none", save_strategy="no", disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    trainer = Trainer(
        ViTForImageClassification(config), arguments,
        train_dataset=Digits(slice(1400)), eval_dataset=Digits(slice(1400, None)),
    )  # fmt: skip
    suggestion = find_lr_hf(trainer, budget=200)
    print(suggestion)
    trainer.train()
    print(f"evaluation loss {trainer.evaluate()['eval_loss']:.3f}")


if __name__ == "__main__":
    main()
