"""The policies that a person asks for, and the best peaks of other schedules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lrfinder.errors import InputError
from lrfinder.policy import ENDLESS, POLICIES, Policy
from lrfinder.ranking import Alternative
from lrfinder.theory import octaves_to_own_best

__all__ = ["named_policy", "peak_for", "peak_for_schedule"]


def named_policy(name: str, alternatives: Sequence[Alternative], own: Policy, steps: int | None) -> Policy:
    """Return the policy that a person asks for by its name.

    Args:
        name: of the policy.
        alternatives: the policies considered; one of this name is taken as it stands.
        own: the policy suggested; another takes the same steps of warmup.
        steps: optimizer steps of the training; None if unknown.

    Raises:
        InputError: there is no such policy, or it needs ``steps`` and there are none.
    """
    for alternative in alternatives:
        if alternative.policy.name == name:
            return alternative.policy
    if steps is None and name in POLICIES and name not in ENDLESS:
        raise InputError(f"steps must be given for policy {name!r}, which ends after so many, got steps = None")
    return Policy(name, steps, 0 if name == "plateau" else own.warmup_steps)


def peak_for(policy: Policy, alternatives: Sequence[Alternative], lr: float) -> float:
    """Return the best peak learning rate of a policy, as far as it is known.

    Args:
        policy: the policy to follow.
        alternatives: the policies considered; the peak is that of the same policy, else of the first of its name.
        lr: peak of the policy suggested, which any other policy gets too.
    """
    namesakes = [alternative for alternative in alternatives if alternative.policy.name == policy.name]
    namesakes.sort(key=lambda alternative: alternative.policy != policy)
    return namesakes[0].lr_at(policy.warmup_steps > 0) if namesakes else lr


def peak_for_schedule(
    rates: NDArray[np.float64], alternatives: Sequence[Alternative], lr: float, steps: int | None
) -> float:
    """Return the best peak learning rate of any schedule, moved there from that of "linear" by the convex bound.

    Args:
        rates: (k,) learning rates >= 0 in any unit, evenly spaced over the training.
        alternatives: the policies considered.
        lr: peak of the policy suggested, which stands if "linear" was not considered.
        steps: optimizer steps of the training; None if unknown.

    Raises:
        InputError: this is no schedule, see `lrfinder.theory.Bound.of`.
    """
    octaves = octaves_to_own_best(rates / max(rates.max(initial=0.0), 1e-300), steps or 1000)
    linear = next((one for one in alternatives if one.policy.name == "linear"), None)
    return lr if linear is None else linear.lr_at(warmed=bool(rates[0] < 0.5 * rates.max())) * 2.0**octaves
