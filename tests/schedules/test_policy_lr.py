from __future__ import annotations

import pytest
import torch

from lrfinder import Policy


def test_param_groups_that_are_added_later_keep_their_rates():
    first, second = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimizer = torch.optim.SGD([first], lr=1.0)
    scheduler = Policy("linear", 4).scheduler(optimizer)
    optimizer.add_param_group({"params": [second], "lr": 0.3})
    optimizer.step()
    scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([0.75, 0.3])
