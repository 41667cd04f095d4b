"""`Suggestion`: the answer, its interval, its doubts; and `suggest`, which makes one from a curve, or refuses."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from lrfinder import __version__
from lrfinder.curve import SCHEMA_VERSION, Curve
from lrfinder.errors import InputError
from lrfinder.fit import RangeFit, fit_range
from lrfinder.schedules import COOLDOWN, Policy

if TYPE_CHECKING:
    from torch.optim import Optimizer

__all__ = ["Reason", "Suggestion", "environment", "suggest"]

_BELOW_LOWEST = 10**-0.5
_SPREAD = 0.5
"""The rule: half a decade below the lowest place of the fitted curve. Over the twelve tasks of
`benchmarks/range_rule.py` (docs/range-test.md) the best rate lies there on average, with a standard deviation of half a
decade from task to task. That spread, not the fit, is what the interval is made of."""

_EVIDENCE = 9.5
"""Log-likelihood ratio of a descent that noise alone hardly reaches (docs/measured.md, "How much evidence")."""

_FAINT = 4.0
"""From here on there may be a descent, but noise alone gives as much now and then."""

_NORMAL_90 = 1.6449  # half width of a central 90% interval of the normal distribution, in standard deviations


class Reason(Enum):
    """Why there is no suggestion. The text is the sentence shown, remedy included."""

    FLAT = (
        "The loss did not change with the learning rate by more than its noise. Raise max_lr, take more steps or larger"
        " batches, and check that the optimizer holds the parameters that the loss depends on."
    )
    RISING = (
        "The loss rose without having fallen first. Lower min_lr or take more steps, and check the sign of the loss; a"
        " model that is trained already may have nothing left to gain."
    )
    NOISY = (
        "The noise from batch to batch hides whether the loss fell. Take more steps in the range test, or larger"
        " batches."
    )
    EDGE = "The loss was still falling at the last learning rate tried. Raise max_lr."
    TRUNCATED = (
        "Training blew up before ten losses were recorded. Lower min_lr, and check that the first loss is finite."
    )


@dataclass(frozen=True)
class Suggestion:
    """A learning rate and how to decay it, or a refusal.

    Attributes:
        reason: why there is no suggestion; None where there is one.
        lr: suggested peak learning rate of the reference param group; None when refused.
        lr_low: lower end of the 90% interval for the best rate.
        lr_high: upper end.
        param_group_lrs: the suggested rate of every param group, in order.
        policy: the recommended decay.
        method: how it was found; "range" is a range test.
        horizon: optimizer steps of the training asked about; None where unknown.
        steps_spent: optimizer steps that finding it took.
        seconds: wall time that finding it took; None where unknown.
        caveats: what to know before trusting it, a sentence each.
        curves: the raw evidence.
        fit: the fitted shape, as `RangeFit.to_dict` gives it; None where nothing could be fitted.
        environment: versions, device and seed.
    """

    reason: Reason | None
    lr: float | None
    lr_low: float | None
    lr_high: float | None
    param_group_lrs: tuple[float, ...]
    policy: Policy | None
    method: str
    horizon: int | None
    steps_spent: int
    seconds: float | None
    caveats: tuple[str, ...]
    curves: tuple[Curve, ...]
    fit: Mapping[str, Any] | None
    environment: Mapping[str, Any]

    @property
    def status(self) -> str:
        """Either "ok" or "refused"."""
        return "ok" if self.reason is None else "refused"

    def apply(self, optimizer: Optimizer, *schedulers: Any) -> None:
        """Write the learning rate into the optimizer's param groups, keeping their ratios.

        Create schedulers afterwards, or hand over those that exist already: they hold copies of the old rate.

        Raises:
            InputError: the suggestion was refused, or no param group has a positive learning rate.
        """
        from lrfinder.writeback import apply_lr

        if self.lr is None:
            raise InputError(f"a refused suggestion has no learning rate to apply: {self.headline()}")
        apply_lr([optimizer], self.lr, schedulers)

    def with_group_lrs(self, lrs: Sequence[float]) -> Suggestion:
        """Return a copy that records the learning rates as they were written back."""
        return dataclasses.replace(self, param_group_lrs=tuple(lrs))

    def with_environment(self, **more: Any) -> Suggestion:
        """Return a copy with more facts about where it was made, such as device and seed."""
        return dataclasses.replace(self, environment={**self.environment, **more})

    def headline(self) -> str:
        """Return the answer in one line."""
        if self.reason is not None:
            return f"refused. {self.reason.value}"
        return f"learning rate {self.lr:.3g}, 90% interval {self.lr_low:.2g} to {self.lr_high:.2g}"

    def summary(self) -> dict[str, Any]:
        """Return the scalars of the answer, for a logger."""
        names = ("status", "lr", "lr_low", "lr_high", "method", "horizon", "steps_spent")
        return {name: getattr(self, name) for name in names}

    def lines(self) -> list[tuple[str, str]]:
        """Return the answer as (label, text) pairs: what every rendering of it shows."""
        rows = []
        if self.lr is None:
            rows.append(("Refused", self.reason.value if self.reason else ""))
        else:
            rows.append(("Peak LR", f"{self.lr:.3g}"))
            rows.append(("Interval", f"{self.lr_low:.2g} to {self.lr_high:.2g} (90%)"))
            if len(self.param_group_lrs) > 1:
                rows.append(("Groups", ", ".join(f"{lr:.3g}" for lr in self.param_group_lrs)))
        if self.policy is not None:
            rows.append(("Policy", _POLICY_TEXT[self.policy.name].format(steps=self.policy.total_steps)))
        spent = f"{self.steps_spent} steps"
        rows.append(("Spent", spent if self.seconds is None else f"{spent}, {self.seconds:.1f} s"))
        rows.extend(("Caveat", caveat) for caveat in self.caveats)
        return rows

    def __str__(self) -> str:
        return "\n".join(f"{label:9s} {text}" for label, text in self.lines())

    def _repr_html_(self) -> str:
        from lrfinder.report import notebook_html

        return notebook_html(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the suggestion as the JSON document of schema version 1."""
        return {
            "schema_version": SCHEMA_VERSION,
            "status": self.status,
            "reason": None if self.reason is None else self.reason.value,
            "lr": self.lr,
            "lr_low": self.lr_low,
            "lr_high": self.lr_high,
            "param_group_lrs": list(self.param_group_lrs),
            "policy": None if self.policy is None else self.policy.to_dict(),
            "alternatives": [],
            "method": self.method,
            "horizon": self.horizon,
            "steps_spent": self.steps_spent,
            "seconds": self.seconds,
            "caveats": list(self.caveats),
            "curves": [curve.to_dict() for curve in self.curves],
            "fit": None if self.fit is None else dict(self.fit),
            "environment": dict(self.environment),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], name: str = "suggestion") -> Suggestion:
        """Rebuild a suggestion from `to_dict`.

        Raises:
            InputError: another schema version, or a missing or malformed field; the text begins with ``name``.
        """
        if data.get("schema_version") != SCHEMA_VERSION:
            raise InputError(f"{name}: schema_version must be {SCHEMA_VERSION}, got {data.get('schema_version')!r}")
        field = ""
        try:
            values: dict[str, Any] = {}
            for field, read in _READERS.items():
                values[field] = read(data[field])
        except KeyError:
            raise InputError(f"{name}: the field {field!r} is missing") from None
        except InputError as error:
            raise InputError(f"{name}: {field}: {error}") from None
        except (TypeError, ValueError, AttributeError, OverflowError):
            raise InputError(f"{name}: the field {field!r} is malformed, got {data[field]!r:.80}") from None
        if (values["lr"] is None) == (values["reason"] is None):
            raise InputError(f"{name}: needs either lr or a reason, got lr = {values['lr']!r}")
        return cls(**values)


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
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise InputError(f"steps must be a positive whole number of optimizer steps, got steps = {steps!r}")
    fit = fit_range(curve)
    reason = _refusal(fit)
    lr = low = high = None
    caveats = list(curve.caveats)
    if fit is not None and reason is None:
        limit = fit.blow_up.lr_limit if fit.blow_up is not None else math.inf
        lr = min(fit.lr_lowest, limit) * _BELOW_LOWEST
        width = 10 ** (_NORMAL_90 * math.hypot(_SPREAD, min(fit.standard_error("rise"), 1.0)))
        low, high = lr / width, min(lr * width, limit)
        caveats += _caveats(fit, steps)
    return Suggestion(
        reason=reason,
        lr=lr,
        lr_low=low,
        lr_high=high,
        param_group_lrs=() if lr is None else tuple(ratio * lr for ratio in curve.group_ratios),
        policy=None if lr is None else _policy(steps),
        method=curve.stage,
        horizon=steps,
        steps_spent=int(curve.step[-1]) + 1,
        seconds=curve.seconds,
        caveats=tuple(caveats),
        curves=(curve,),
        fit=None if fit is None else fit.to_dict(),
        environment=environment(),
    )


def environment() -> dict[str, Any]:
    """Return the versions that decide a result; nothing is imported to learn them."""
    versions: dict[str, Any] = {
        "lrfinder": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
    }
    for package in ("torch", "lightning", "numpy", "scipy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _policy(steps: int | None) -> Policy:
    """Return the default: constant, then linear to zero over the last 40%.

    For a 124M language model over 50,000 steps, each schedule at its own best rate, it ends within 0.01 nats of the
    best one, a constant rate 0.15 above (runs of Schaipp et al. 2025, arXiv 2501.18965); on short trainings it loses
    less progress than a decay from the first step on (docs/measured.md).
    """
    return Policy("constant") if steps is None else Policy("wsd", steps)


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
        "A range test gives a bracket: the best rate for a whole training is a factor of 3 off on average, up or down.",
        "The policy is a default, not measured on this model.",
    ]
    if steps is None:
        caveats.append("The number of training steps is unknown, so no decay can be laid out: give steps.")
    elif steps < 2 * fit.points:
        caveats.append(f"Training for {steps} steps is little longer than the range test itself ({fit.points} steps).")
    if fit.lr_diverge is None:
        caveats.append("Training never diverged up to the last learning rate: the upper end is not confirmed.")
    return caveats


_POLICY_TEXT = {
    "constant": "constant",
    "linear": "linear to zero over {steps} steps",
    "cosine": "cosine to zero over {steps} steps",
    "wsd": f"constant, then linear to zero over the last {COOLDOWN:.0%} of {{steps}} steps",
}


def _optional_number(value: Any) -> float | None:
    return None if value is None else float(value)


_READERS: dict[str, Any] = {
    "reason": lambda value: None if value is None else Reason(value),
    "lr": _optional_number,
    "lr_low": _optional_number,
    "lr_high": _optional_number,
    "param_group_lrs": lambda value: tuple(float(lr) for lr in value),
    "policy": lambda value: (
        None if value is None else Policy(value["name"], value["total_steps"], int(value["warmup_steps"]))
    ),
    "method": str,
    "horizon": lambda value: None if value is None else int(value),
    "steps_spent": int,
    "seconds": _optional_number,
    "caveats": lambda value: tuple(str(caveat) for caveat in value),
    "curves": lambda value: tuple(Curve.from_dict(curve) for curve in value),
    "fit": lambda value: None if value is None else dict(value),
    "environment": dict,
}
