"""The torch scheduler that follows a policy."""

from __future__ import annotations

from typing import Any

from torch.optim.lr_scheduler import LambdaLR


class PolicyLR(LambdaLR):
    """Leaves param groups that are added later at their own rates, where torch's schedulers raise."""

    def get_lr(self) -> list[Any]:
        """Return the rate of every param group."""
        return [*super().get_lr(), *(group["lr"] for group in self.optimizer.param_groups[len(self.base_lrs) :])]
