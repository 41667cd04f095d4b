from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.processes import run
from torch.optim import lr_scheduler as torchs

from lrfinder import InputError, Policy
from lrfinder.answer.ranking import rank
from lrfinder.schedules.code import write_code
from lrfinder.schedules.policy import POLICIES, Shape, count, share

ENDS = {
    "constant": 1.0, "linear": 0.0, "cosine": 0.0, "cosine-restarts": 0.0, "wsd": 0.0, "wsd-sqrt": 0.0,
    "polynomial": 0.0, "exponential": 0.01, "one-cycle": 4e-6, "plateau": 1.0,
}  # fmt: skip
RISING = ("one-cycle", "cosine-restarts")


@st.composite
def policies(draw, most=2_000):
    total = draw(st.integers(1, most))
    return Policy(draw(st.sampled_from(sorted(POLICIES))), total, draw(st.integers(0, total - 1)))


@given(policies())
def test_warmup_rises_evenly_to_the_peak_and_decay_never_rises(policy):
    warmup = policy.warmup_steps
    values = [policy(step) for step in range(policy.total_steps + 3)]
    assert all(0 <= value <= 1 for value in values)
    assert values[:warmup] == [(t + 1) / (warmup + 1) for t in range(warmup)]
    if policy.name != "one-cycle":
        assert values[warmup] == 1
    if policy.name not in RISING:
        assert values[warmup:] == sorted(values[warmup:], reverse=True)


@given(policies())
def test_every_policy_ends_where_it_says_and_stays_there(policy):
    last = policy(policy.total_steps)
    assert last == pytest.approx(ENDS.get(policy.name, last), abs=1e-15)
    assert policy(policy.total_steps + 1) == policy(10**9) == last


@given(policies(most=60), st.integers(0, 70))
def test_the_scheduler_it_builds_gives_every_group_its_rate_and_goes_on_from_a_checkpoint(policy, stop):
    def optimizer():
        return torch.optim.SGD([{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)], "lr": 0.02}], lr=0.3)

    first, second = optimizer(), optimizer()
    scheduler = policy.scheduler(first)
    if policy.name == "plateau":
        assert isinstance(scheduler, torchs.ReduceLROnPlateau)
        return
    for step in range(policy.total_steps + 2):
        if step == stop:  # a process that ends, and another that loads what it saved
            saved = json.loads(json.dumps(scheduler.state_dict())), first.state_dict()
            first, scheduler = second, policy.scheduler(second)
            first.load_state_dict(saved[1])
            scheduler.load_state_dict(saved[0])
        rates = [group["lr"] for group in first.param_groups]
        assert rates == [peak * policy(step) for peak in (0.3, 0.02)]
        first.step()
        scheduler.step()


def torchs_own(optimizer, name, n):
    """The class of torch that a policy of ``n`` steps is, where there is one."""
    return {
        "constant": lambda: torchs.ConstantLR(optimizer, factor=1.0),
        "step": lambda: torchs.StepLR(optimizer, max(1, round(n / 3)), 0.1),
        "multi-step": lambda: torchs.MultiStepLR(optimizer, [max(1, round(n * m)) for m in (0.5, 0.75)], 0.1),
        "exponential": lambda: torchs.ExponentialLR(optimizer, 0.01 ** (1 / n)),
        "polynomial": lambda: torchs.PolynomialLR(optimizer, n, power=2.0),
        "cosine": lambda: torchs.CosineAnnealingLR(optimizer, n),
        "cosine-restarts": lambda: torchs.CosineAnnealingWarmRestarts(optimizer, n // 7, T_mult=2),
        "linear": lambda: torchs.LinearLR(optimizer, 1.0, 0.0, n),
        "one-cycle": lambda: torchs.OneCycleLR(optimizer, 0.1, n, cycle_momentum=False),
    }[name]()


@pytest.mark.parametrize("steps", [14, 70, 497])
@pytest.mark.parametrize(
    "name",
    ["constant", "step", "multi-step", "exponential", "polynomial", "cosine", "cosine-restarts", "linear", "one-cycle"],
)
def test_torchs_own_scheduler_agrees_at_every_step(name, steps):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    own, policy = torchs_own(optimizer, name, steps), Policy(name, steps)
    for step in range(steps):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * policy(step), rel=1e-9, abs=1e-12), step
        optimizer.step()
        own.step()


@pytest.mark.parametrize(
    ("name", "boundary", "before", "after"),
    [
        ("step", 30, 1.0, 0.1),
        ("step", 60, 0.1, 0.01),
        ("multi-step", 45, 1.0, 0.1),
        ("multi-step", 68, 0.1, 0.01),
        ("wsd", 54, 1.0, 1.0),
        ("wsd", 55, 1.0, 35 / 36),
        ("wsd-sqrt", 72, 1.0, 1.0),
        ("wsd-sqrt", 73, 1.0, 1 - math.sqrt(1 / 18)),
        ("one-cycle", 26, None, 1.0),
        ("inverse-sqrt", 27, None, 0.5),
    ],
)
def test_the_steps_at_which_something_happens(name, boundary, before, after):
    policy = Policy(name, 100, 10)
    assert policy(10 + boundary) == pytest.approx(after, rel=1e-12)
    if before is not None:
        assert policy(10 + boundary - 1) == pytest.approx(before, rel=1e-12)


def test_restarts_begin_at_the_peak_and_each_cycle_is_twice_as_long():
    policy = Policy("cosine-restarts", 70)
    assert [step for step in range(70) if policy(step) == 1] == [0, 10, 30]


def test_cosine_is_above_linear_first_and_below_it_later():
    assert Policy("cosine", 100)(25) > Policy("linear", 100)(25)
    assert Policy("cosine", 100)(75) < Policy("linear", 100)(75)


@pytest.mark.parametrize("name", ["constant", "plateau"])
def test_a_constant_rate_needs_no_end(name):
    assert [Policy(name, warmup_steps=1)(step) for step in (0, 1, 10**9)] == [0.5, 1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "params", "step", "value"),
    [
        ("cosine", {"end": 0.1}, 100, 0.1),
        ("linear", {"end": 0.1}, 50, 0.55),
        ("wsd", {"cooldown": 0.1, "end": 0.5}, 95, 0.75),
        ("wsd-sqrt", {"cooldown": 0.5}, 50, 1.0),
        ("exponential", {"end": 0.25}, 50, 0.5),
        ("polynomial", {"power": 1}, 25, 0.75),
        ("step", {"gamma": 0.5, "step_size": 0.1}, 35, 0.125),
        ("multi-step", {"milestones": (0.1, 0.2, 0.3)}, 25, 0.01),
        ("cosine-restarts", {"cycles": 1}, 50, 0.5),
        ("inverse-sqrt", {"timescale": 1.0}, 100, 0.5**0.5),
        ("one-cycle", {"div_factor": 10.0}, 0, 0.1),
        ("one-cycle", {"rise": 1.0}, 99, 1.0),
    ],
)
def test_parameters(name, params, step, value):
    assert Policy(name, 100, params=params)(step) == pytest.approx(value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fast", 10), "policy must be one of constant, step, multi-step, exponential, .*, got 'fast'"),
        (("linear",), "total_steps must be given for policy 'linear', got None"),
        (("linear", 10, 10), r"warmup_steps must be in \[0, total_steps\), got warmup_steps = 10, total_steps = 10"),
        (
            ("linear", 10, -1),
            "warmup_steps must be a whole number of optimizer steps, at least 0, got warmup_steps = -1",
        ),
        (("constant", 0), "total_steps must be a positive whole number of optimizer steps, got total_steps = 0"),
        (("linear", 2.5), "total_steps must be a positive whole number of optimizer steps, got total_steps = 2.5"),
        (("linear", 10**30), "total_steps must be at most 1,000,000,000, got total_steps = 1000"),
        (("cosine-restarts", 10, 0, {"cycles": 10**400}), "must be a whole number from 1 to 50, got 1000"),
        (("linear", "10"), "a positive whole number of optimizer steps, got total_steps = '10'"),
        (("linear", True), "positive whole number of optimizer steps, got total_steps = True"),
        (("linear", 10, 0, {"gamma": 0.1}), "params of policy 'linear' must be among end, got 'gamma'"),
        (("constant", 10, 0, {"gamma": 0.1}), "params of policy 'constant' must be among none, got 'gamma'"),
        (("step", 10, 0, {"gamma": 0}), r"gamma of policy 'step' must be in \(0, 1\], got 0"),
        (("step", 10, 0, {"gamma": "x"}), "got 'x'"),
        (("cosine", 10, 0, {"end": -0.1}), "end of policy 'cosine' must be from 0 to 1, got -0.1"),
        (("exponential", 10, 0, {"end": 0}), r"end of policy 'exponential' must be in \(0, 1\], got 0"),
        (("polynomial", 10, 0, {"power": math.nan}), "power of policy 'polynomial' must be positive, got nan"),
        (("cosine-restarts", 10, 0, {"cycles": 1.5}), "must be a whole number from 1 to 50, got 1.5"),
        (("multi-step", 10, 0, {"milestones": ()}), r"got \(\)"),
        (("multi-step", 10, 0, {"milestones": (0.5, 0.2)}), "must increase"),
        (("multi-step", 10, 0, {"milestones": 0.5}), r"must be a tuple of numbers in \(0, 1\], got 0.5"),
        (("one-cycle", 10, 0, {"div_factor": 0.5}), "div_factor of policy 'one-cycle' must be at least 1, got 0.5"),
    ],
)
def test_a_broken_rule_is_named_with_the_value(arguments, message):
    with pytest.raises(InputError, match=message):
        Policy(*arguments)


@given(policies())
def test_json_gives_the_policy_back(policy):
    assert Policy.from_dict(json.loads(json.dumps(policy.to_dict()))) == policy


def test_a_policy_in_words():
    assert Policy("linear", 100, 5).text == "5 steps of warmup, linear to zero over 95 steps"
    assert Policy("cosine", 100, params={"end": 0.1}).text == "cosine to 10% over 100 steps"
    assert Policy("multi-step", 100).text == "times 0.1 after each of the shares 50% and 75% of 100 steps"
    assert Policy("constant").text == "constant"


def test_every_policy_has_its_row_in_the_documentation_with_its_parameters():
    page = (Path(__file__).parents[2] / "docs" / "policies.md").read_text(encoding="utf-8")
    rows = {cells[1].strip(): cells[3] for line in page.splitlines() if len(cells := line.split("|")) == 5}
    for name, shape in POLICIES.items():
        assert all(f"`{parameter}`" in rows[name] for parameter in shape.parameters), name


# --- a policy that is added through the table alone -------------------------------------------------------------------

FLOOR = 0.01


def halve(value: float, times: int) -> float:
    """Return the value, halved several times."""
    return value / 2**times


def stairs(t: int, n: int, halvings: int, lowest: float) -> float:
    """Halve at equal distances; a function, a constant and a module are used, some of them in a comprehension."""
    return max([halve(1.0, i) for i in range(halvings + 1) if i <= math.floor(t * halvings / n)][-1], lowest, FLOOR)


class Own(Policy):
    shapes = {  # noqa: RUF012
        **POLICIES,
        "stairs": Shape(
            stairs,
            {"halvings": count(4), "lowest": share(0.1)},
            "halved {halvings} times to at least {lowest} over {steps} steps",
            "this test",
        ),
    }


def test_its_values_are_those_of_its_function_after_warmup():
    policy = Own("stairs", 108, 8)
    values = {0: 1 / 9, 7: 8 / 9, 8: 1.0, 32: 1.0, 33: 0.5, 58: 0.25, 107: 0.125, 108: 0.1, 200: 0.1}
    assert {step: policy(step) for step in values} == values
    assert policy.text == "8 steps of warmup, halved 4 times to at least 10% over 100 steps"
    assert Own.from_dict(json.loads(json.dumps(policy.to_dict()))) == policy


def test_it_is_ranked_and_changes_no_other_prediction():
    usual, more = ({one.policy.name: one.gain for one in rank(kind("wsd", 500), 500, 2**-6)} for kind in (Policy, Own))
    assert more.pop("stairs") is not None
    assert more == usual


def test_its_printed_code_is_its_source_with_all_that_it_uses():
    policy = Own("stairs", 108, 8, {"halvings": 3})
    code = write_code(policy, [0.1])
    multiplier = run(code)["multiplier"]
    assert [multiplier(step) for step in range(112)] == [policy(step) for step in range(112)]
    assert code.startswith("import math\n\nimport torch\n")
    assert "\nFLOOR = 0.01\n" in code


def test_it_drives_a_torch_optimizer():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.4)
    scheduler = Own("stairs", 8).scheduler(optimizer)
    rates = []
    for _ in range(8):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == [0.4, 0.4, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05]
