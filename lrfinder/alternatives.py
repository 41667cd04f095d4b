"""`asked_for`: the peak learning rate of a policy that a person asks for."""

from __future__ import annotations

from collections.abc import Sequence

from lrfinder.errors import InputError
from lrfinder.policy import ENDLESS, POLICIES, Policy
from lrfinder.ranking import Alternative

__all__ = ["asked_for"]


def asked_for(
    policy: str | Policy, alternatives: Sequence[Alternative], own: Policy, lr: float, steps: int | None
) -> tuple[Policy, float]:
    """Return a policy that a person asks for, and its own best peak learning rate as far as it is known.

    Args:
        policy: the name of one, or one with parameters.
        alternatives: those considered; of its name, or of its very parameters, the rate is theirs.
        own: the one suggested; one that is asked for by name takes the same steps of warmup.
        lr: the rate of ``own``, which any other gets.
        steps: of the training; None where unknown.

    Raises:
        InputError: there is no such policy, or it needs ``steps`` and there are none.
    """
    name = policy.name if isinstance(policy, Policy) else policy
    namesakes = [alternative for alternative in alternatives if alternative.policy.name == name]
    if isinstance(policy, Policy):
        same = [alternative for alternative in namesakes if alternative.policy == policy]
        return policy, (same + namesakes)[0].lr_at(policy.warmup_steps > 0) if namesakes else lr
    if namesakes:
        return namesakes[0].policy, namesakes[0].lr
    if steps is None and name in POLICIES and name not in ENDLESS:
        raise InputError(f"steps must be given for policy {name!r}, which ends after so many, got steps = None")
    return Policy(name, steps, 0 if name == "plateau" else own.warmup_steps), lr
