from __future__ import annotations

import pytest
import torch

from lrfinder import InputError, UnsupportedError, find_lr_hf
from lrfinder.demo import digits

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

pytestmark = pytest.mark.filterwarnings("default")  # those of other packages are theirs


class Digits(torch.utils.data.Dataset):
    def __init__(self, part):
        self.images, self.labels = (values[part] for values in digits())

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"pixel_values": self.images[index], "labels": self.labels[index]}


def trainer(optimizers=(None, None), cls=None, **options):
    transformers.set_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.ViTConfig(image_size=8, patch_size=2, num_channels=1, num_labels=10, **size)
    usual = {"max_steps": 60, "per_device_train_batch_size": 32, "save_strategy": "no", "report_to": "none"}
    arguments = transformers.TrainingArguments("unused", use_cpu=True, disable_tqdm=True, **{**usual, **options})
    model = transformers.ViTForImageClassification(config)
    chosen = tuple(make and make(model) for make in optimizers)
    data = {"train_dataset": Digits(slice(600)), "eval_dataset": Digits(slice(1600, None))}
    return (cls or transformers.Trainer)(model, arguments, optimizers=chosen, **data)


def weights(made):
    made.train()
    return [parameter.detach().clone() for parameter in made.model.parameters()]


def same(one, other):
    return all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_it_leaves_no_trace_but_the_rate():
    searched = trainer()
    suggestion = find_lr_hf(searched, method="range", update_args=False)
    assert suggestion.horizon == 60
    assert same(weights(searched), weights(trainer()))
    updated = trainer()
    assert find_lr_hf(updated, method="range").lr == suggestion.lr == updated.args.learning_rate
    assert same(weights(updated), weights(trainer(learning_rate=suggestion.lr)))


def test_the_loss_is_the_trainers_own():
    class Doubled(transformers.Trainer):
        def compute_loss(self, *args, **kwargs):
            return 2 * super().compute_loss(*args, **kwargs)

    one, two = (find_lr_hf(trainer(cls=cls), method="range") for cls in (None, Doubled))
    assert two.curves[0].loss[:3] == pytest.approx(2 * one.curves[0].loss[:3], rel=1e-3)


def test_gradients_are_clipped_as_the_trainer_clips_them():
    def sgd(model):
        return torch.optim.SGD(model.parameters(), lr=0.1)

    free, clipped = (
        find_lr_hf(trainer(max_grad_norm=norm, optimizers=(sgd, None)), method="range") for norm in (0.0, 1e-4)
    )
    assert clipped.curves[0].loss.max() < free.curves[0].loss.max()


def test_steps_are_those_of_the_optimizer():
    made = trainer(max_steps=-1, num_train_epochs=3, gradient_accumulation_steps=4)
    suggestion = find_lr_hf(made, budget=20)
    assert suggestion.horizon == 15  # 19 batches in an epoch are 5 steps
    made.train()
    assert made.state.global_step == suggestion.horizon


def test_an_optimizer_that_was_passed_gets_the_rate():
    made = trainer(optimizers=(lambda model: torch.optim.AdamW(model.parameters(), lr=0.1), None))
    suggestion = find_lr_hf(made, method="range")
    assert made.optimizer.param_groups[0]["lr"] == suggestion.lr


def test_the_rate_is_the_one_for_the_schedule_of_the_trainer():
    suggestion = find_lr_hf(trainer(lr_scheduler_type="cosine"), method="range")
    assert suggestion.policy is None
    assert "The peak is the one for the Trainer's cosine schedule" in " ".join(suggestion.caveats)
    unknown = find_lr_hf(trainer(lr_scheduler_type="reduce_lr_on_plateau", eval_strategy="steps"), method="range")
    assert "The course of reduce_lr_on_plateau could not be told" in " ".join(unknown.caveats)


def test_what_cannot_be_searched_is_refused():
    made = trainer(max_steps=2)
    made.train()
    with pytest.raises(InputError, match=r"^trainer must not have trained yet, got one at step 2$"):
        find_lr_hf(made)
    several = trainer()
    several.args._n_gpu = 2
    with pytest.raises(UnsupportedError, match=r"^trainer must use one process and device, got 2$"):
        find_lr_hf(several)
    half = trainer()
    half.args.fp16 = True
    with pytest.raises(UnsupportedError, match=r"got fp16 = True: give bf16=True$"):
        find_lr_hf(half)
