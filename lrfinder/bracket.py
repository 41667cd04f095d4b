"""What a range test alone can tell: a bracket of learning rates, by a rule measured on whole trainings."""

from __future__ import annotations

import math

from lrfinder.curve import Curve
from lrfinder.environment import environment
from lrfinder.fit import RangeFit, fit_range
from lrfinder.reason import Reason
from lrfinder.suggestion import Suggestion, checked_horizon, default_policy

__all__ = ["suggest"]

_BELOW_LOWEST = 10**-0.5
_SPREAD = 0.75
"""The rule: half a decade below the lowest place of the fitted curve. Over the tasks of `benchmarks/regret.py` the best
rate lies there on average, with a standard deviation of three quarters of a decade (docs/measured.md). That spread, not
the fit, is what the interval is made of."""

_EVIDENCE = 9.5
"""Log-likelihood ratio of a descent that noise alone hardly reaches (docs/measured.md, "How much evidence")."""

_FAINT = 4.0
"""From here on there may be a descent, but noise alone gives as much now and then."""

_NORMAL_90 = 1.6449  # half width of a central 90% interval of the normal distribution, in standard deviations


def suggest(curve: Curve, *, steps: int | None = None) -> Suggestion:
    """Suggest the peak learning rate and the decay from a range test, or refuse with a reason.

    The rate lies half a decade below the lowest place of the fitted curve (or, for gradient descent whose blow-up shows
    its limit, below that limit, if lower). It depends on differences of the loss only: a scaled or shifted loss gives
    the same answer, and scaling the learning rates scales it.

    Args:
        curve: a range test.
        steps: optimizer steps you are going to train (the horizon); None where unknown.

    Raises:
        InputError: ``steps`` is not a positive whole number.

    Examples:
        >>> from lrfinder import Curve, suggest
        >>> suggest(Curve([10.0**k for k in range(-9, 3)], [1.0] * 12)).reason.name
        'FLAT'
    """
    horizon = checked_horizon(steps)
    fit = fit_range(curve)
    reason = _refusal(fit)
    lr = low = high = None
    caveats = list(curve.caveats)
    if fit is not None and reason is None:
        limit = fit.blow_up.lr_limit if fit.blow_up is not None else math.inf
        lr = min(fit.lr_lowest, limit) * _BELOW_LOWEST
        width = 10 ** (_NORMAL_90 * math.hypot(_SPREAD, min(fit.standard_error("rise"), 1.0)))
        low, high = lr / width, min(lr * width, limit)
        caveats += _caveats(fit, horizon)
    return Suggestion(
        reason=reason,
        lr=lr,
        lr_low=low,
        lr_high=high,
        param_group_lrs=() if lr is None else tuple(ratio * lr for ratio in curve.group_ratios),
        policy=None if lr is None else default_policy(horizon),
        method=curve.stage,
        horizon=horizon,
        steps_spent=int(curve.step[-1]) + 1,
        seconds=curve.seconds,
        caveats=tuple(caveats),
        curves=(curve,),
        fit=None if fit is None else fit.to_dict(),
        environment=environment(),
    )


def _refusal(fit: RangeFit | None) -> Reason | None:
    if fit is None:
        return Reason.TRUNCATED
    if fit.evidence < _EVIDENCE:
        if fit.evidence >= _FAINT:
            return Reason.NOISY
        return Reason.RISING if fit.evidence_of_rise >= _EVIDENCE or fit.diverged else Reason.FLAT
    return Reason.EDGE if fit.at_edge and not fit.diverged else None


def _caveats(fit: RangeFit, steps: int | None) -> list[str]:
    caveats = [
        "A range test gives a bracket: the best rate for a whole training is a factor of 5 off on average, up or down.",
        "The policy is a default, not measured on this model.",
    ]
    if steps is None:
        caveats.append("The number of training steps is unknown, so no decay can be laid out: give steps.")
    elif steps < 2 * fit.points:
        caveats.append(f"Training for {steps} steps is little longer than the range test itself ({fit.points} steps).")
    if fit.lr_diverge is None:
        caveats.append("Training never diverged up to the last learning rate: the upper end is not confirmed.")
    return caveats
