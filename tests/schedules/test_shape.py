"""A policy that is added through the table alone is checked, described, ranked, printed and scheduled."""

from __future__ import annotations

import json
import math

import pytest
import torch
from support.processes import run
from support.scripted import evidence, valley

from lrfinder import InputError, Policy
from lrfinder.answer.ranking import rank
from lrfinder.schedules.code import write_code
from lrfinder.schedules.policy import POLICIES
from lrfinder.schedules.shape import Shape, count, share

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
            simplicity=99,
        ),
    }


def test_its_values_are_those_of_its_function_after_warmup():
    policy = Own("stairs", 108, 8)
    values = {0: 1 / 9, 7: 8 / 9, 8: 1.0, 32: 1.0, 33: 0.5, 58: 0.25, 107: 0.125, 108: 0.1, 200: 0.1}
    assert {step: policy(step) for step in values} == values
    assert policy.text == "8 steps of warmup, halved 4 times to at least 10% over 100 steps"
    assert Own.from_dict(json.loads(json.dumps(policy.to_dict()))) == policy


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("stairs",), "total_steps must be given for policy 'stairs', got None"),
        (
            ("stairs", 10, 0, {"halvings": 1.5}),
            "halvings of policy 'stairs' must be a whole number at least 1",
        ),
        (("stairs", 10, 0, {"lowest": 0}), r"lowest of policy 'stairs' must be in \(0, 1\], got 0"),
        (("stairs", 10, 0, {"end": 0}), "params of policy 'stairs' must be among halvings, lowest, got 'end'"),
        (("ladder", 10), "policy must be one of constant, .*, plateau, stairs, got 'ladder'"),
    ],
)
def test_its_parameters_are_checked(arguments, message):
    with pytest.raises(InputError, match=message):
        Own(*arguments)


def test_it_is_ranked_and_changes_no_other_prediction():
    ranking = rank(evidence(valley(-6.0), batches=4), 500, 2**-6, policies=Own)
    gains = {alternative.policy.name: alternative.gain for alternative in ranking.alternatives}
    assert set(gains) == {*POLICIES, "stairs"}
    assert gains["stairs"] is not None
    usual = rank(evidence(valley(-6.0), batches=4), 500, 2**-6)
    assert {name: gain for name, gain in gains.items() if name != "stairs"} == {
        alternative.policy.name: alternative.gain for alternative in usual.alternatives
    }


def test_the_highest_simplicity_decides_between_policies_that_do_not_differ():
    class Twin(Policy):
        shapes = {**POLICIES, "twin": Shape(POLICIES["wsd"].decay, POLICIES["wsd"].parameters, "wsd", "this test", 99)}  # noqa: RUF012

    ranking = rank(evidence(valley(-6.0), batches=4), 500, 2**-6, policies=Twin)
    assert ranking.chosen.policy == Twin("twin", 500)
    assert ranking.chosen.reason.startswith("No detectable difference from wsd, wsd-sqrt (less than 0.5%)")


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
