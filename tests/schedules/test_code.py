"""The printed code: the same numbers as the policy, without lrfinder."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.curves import answered, refused
from support.processes import run

from lrfinder import InputError, Policy
from lrfinder.schedules.code import describe_optimizer, parse_optimizer, write_code
from lrfinder.schedules.policy import POLICIES

SHARES = st.floats(0.01, 1.0)
SEVERAL = st.lists(SHARES, min_size=1, max_size=4).map(lambda shares: tuple(sorted(shares)))
ENDS = st.one_of(st.just(0.0), st.floats(0.0, 1.0))
PARAMS = {
    "step": {"gamma": SHARES, "step_size": SHARES},
    "multi-step": {"gamma": SHARES, "milestones": SEVERAL},
    "exponential": {"end": SHARES},
    "polynomial": {"power": st.one_of(st.floats(0.1, 5.0), st.integers(1, 3))},
    "cosine": {"end": ENDS},
    "cosine-restarts": {"cycles": st.integers(1, 5)},
    "linear": {"end": ENDS},
    "wsd": {"cooldown": SHARES, "end": ENDS},
    "wsd-sqrt": {"cooldown": SHARES},
    "one-cycle": {"rise": SHARES, "div_factor": st.floats(1.0, 100.0), "final_div_factor": st.floats(1.0, 1e5)},
    "inverse-sqrt": {"timescale": SHARES},
}  # fmt: skip


@st.composite
def policies(draw):
    name = draw(st.sampled_from([name for name in POLICIES if name != "plateau"]))
    total = draw(st.integers(1, 300))
    return Policy(
        name, total, draw(st.integers(0, total - 1)), draw(st.fixed_dictionaries({}, optional=PARAMS.get(name, {})))
    )


@given(policies())
def test_the_multiplier_is_that_of_the_policy_bit_for_bit(policy):
    multiplier = run(write_code(policy, [0.1]))["multiplier"]
    steps = range(policy.total_steps + 3)
    assert [multiplier(step) for step in steps] == [policy(step) for step in steps]


def test_every_policy_with_parameters_is_drawn_above():
    assert {name for name, shape in POLICIES.items() if shape.parameters} == {*PARAMS, "plateau"}


def test_a_rate_without_end_warms_up_and_stays():
    multiplier = run(write_code(Policy("constant", None, 3), [0.1]))["multiplier"]
    assert [multiplier(step) for step in (0, 1, 2, 3, 10**9)] == [0.25, 0.5, 0.75, 1.0, 1.0]


class Module(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))


MADE = {
    "torch.optim.SGD(momentum=0.9, nesterov=True)": lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.9, nesterov=True),
    "torch.optim.AdamW(betas=(0.9, 0.95))": lambda p: torch.optim.AdamW(p, lr=1.0, betas=(0.9, 0.95)),
    "torch.optim.Adam()": lambda p: torch.optim.Adam(p, lr=1.0),
    "torch.optim.LBFGS(line_search_fn='strong_wolfe')": None,
}


@pytest.mark.parametrize("text", [text for text, make in MADE.items() if make])
def test_a_known_optimizer_is_built_again_with_its_arguments(text):
    module = Module()
    original = MADE[text](module.parameters())
    assert describe_optimizer(original, module) == text
    configured = run(write_code(Policy("linear", 4), [0.03], text))["configure_optimizers"](Module())
    optimizer, entry = configured["optimizer"], configured["lr_scheduler"]
    assert type(optimizer) is type(original)
    assert {**optimizer.defaults, "lr": 1.0} == original.defaults
    assert entry["interval"] == "step"
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        entry["scheduler"].step()
    assert rates == [0.03 * share for share in (1.0, 0.75, 0.5, 0.25, 0.0)]


class Own(torch.optim.SGD):
    """Not torch's."""


def test_an_optimizer_that_cannot_be_known_is_left_to_the_person():
    module = torch.nn.ModuleList([Module(), Module()])
    one, two = [module[0].weight], [module[1].weight]
    sgd = torch.optim.SGD
    assert describe_optimizer(Own(one + two, lr=0.1), module) is None
    assert describe_optimizer(sgd([{"params": one}, {"params": two}], lr=0.1), module) is None
    assert describe_optimizer(sgd(one, lr=0.1), module) is None  # a part of the parameters
    assert describe_optimizer(sgd([{"params": one + two, "momentum": 0.3}], lr=0.1), module) is None  # not its defaults
    assert describe_optimizer(sgd([{"params": one + two, "lr": 0.3}], lr=0.1), module) == "torch.optim.SGD()"
    searching = torch.optim.LBFGS(one + two, line_search_fn="strong_wolfe")
    assert describe_optimizer(searching, module) is None  # a text could be anything
    assert "optimizer = ...  # yours, with lr=0.03\n" in write_code(Policy("linear", 4), [0.03])


@pytest.mark.parametrize(
    "text", ["torch.optim.SGD(x=print(1))", "torch.optim.SGD(); print(", "os.system()", "torch.optim.SGD(x=1)\n1"]
)
def test_what_a_file_says_of_the_optimizer_is_not_taken_for_code_unless_it_is_plain(text):
    assert "optimizer = ...  # yours" in write_code(Policy("linear", 4), [0.03], text)


def test_several_groups_get_their_rates():
    code = write_code(Policy("linear", 4), [0.03, 0.003], "torch.optim.SGD()").replace(
        "optimizer = ...", "optimizer = torch.optim.SGD([{'params': [torch.ones(1)]} for _ in range(2)], lr=1.0)"
    )
    optimizer = run(code)["configure_optimizers"](Module())["optimizer"]
    assert [group["lr"] for group in optimizer.param_groups] == [0.03, 0.003]
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.03, 0.003]


def test_plateau_is_torchs_own_with_a_metric_to_fill_in():
    code = write_code(Policy("plateau", params={"patience": 3}), [0.03], "torch.optim.SGD()")
    entry = run(code)["configure_optimizers"](Module())["lr_scheduler"]
    assert isinstance(entry["scheduler"], torch.optim.lr_scheduler.ReduceLROnPlateau)
    assert (entry["scheduler"].patience, entry["scheduler"].factor, entry["monitor"]) == (3, 0.1, "val_loss")


def test_a_suggestion_prints_itself_as_code():
    suggestion = dataclasses.replace(answered(steps=1000).with_environment(optimizer="torch.optim.Adam()"), lr=0.01)
    suggestion = suggestion.with_group_lrs([0.01])
    assert suggestion.code().splitlines() == [
        f"# {suggestion.headline()}",
        "import torch",
        "",
        "",
        "def to_steps(share: float, n: int) -> int:",
        '    """Return a share of n steps as a whole number of steps, at least 1."""',
        "    return max(1, round(share * n))",
        "",
        "",
        "def wsd(t: int, n: int, cooldown: float, end: float) -> float:",
        '    """Stay at the peak, then fall along a straight line to ``end`` over the cooldown."""',
        "    return end + (1 - end) * min(1.0, (n - t) / to_steps(cooldown, n))",
        "",
        "",
        "def multiplier(step):",
        '    """150 steps of warmup, constant, then linear to zero over the last 40% of 850 steps."""',
        "    if step < 150:",
        "        return (step + 1) / 151",
        "    return wsd(min(step - 150, 850), 850, cooldown=0.4, end=0.0)",
        "",
        "",
        "def configure_optimizers(self):",
        "    optimizer = torch.optim.Adam(self.parameters(), lr=0.01)",
        "    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, multiplier)  # step it once per optimizer step",
        '    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}',
    ]
    with pytest.raises(
        InputError, match=r"a refused suggestion has no learning rate to apply: refused\. The loss did not change"
    ):
        refused("FLAT").code()


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("torch.optim.SGD()", ("torch.optim.SGD", {})),
        (
            "torch.optim.Adam(betas=(0.8, 0.9), amsgrad=True)",
            ("torch.optim.Adam", {"betas": (0.8, 0.9), "amsgrad": True}),
        ),
        ("torch.optim.SGD(momentum=inf)", None),
        ("torch.optim.SGD(momentum=0.9); print()", None),
        ("os.system('rm')", None),
        (None, None),
    ],
)
def test_how_an_optimizer_was_made_is_read_as_data(text, made):
    assert parse_optimizer(text) == made
