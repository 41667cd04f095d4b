"""`Suggestion`: the answer, its interval, its evidence and its doubts; or a refusal."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfinder.alternatives import asked_for
from lrfinder.curve import SCHEMA_VERSION, Curve, number_from_json, number_to_json
from lrfinder.errors import InputError
from lrfinder.policy import Policy
from lrfinder.probe import Outcome
from lrfinder.ranking import Alternative
from lrfinder.reason import Reason
from lrfinder.writeback import apply_lr, configured_lrs, scaled_lrs

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

__all__ = ["Suggestion", "checked_horizon", "default_policy"]


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
        fit: the fitted shape, as `RangeFit.to_dict` or `Landscape.to_dict` gives it; None where nothing could be
            fitted.
        environment: versions, device and seed.
        probes: what each probe led to, raw; empty for a range test alone.
        cost_of_error: (factor, loss) pairs: how much higher the loss of the longest probes lies at the learning rate
            times that factor, inf where it blows up; empty where it was not measured.
        interrupted: whether Ctrl-C ended the search early.
        alternatives: every policy considered, the one predicted to end lowest first; empty where none was compared.
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
    probes: tuple[Outcome, ...] = ()
    cost_of_error: tuple[tuple[float, float], ...] = ()
    interrupted: bool = False
    alternatives: tuple[Alternative, ...] = ()

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
        apply_lr([optimizer], self._lr(), schedulers)

    def scheduler(self, optimizer: Optimizer) -> LRScheduler:
        """Write the learning rate into the optimizer, as `apply` does, and return the scheduler of the policy.

        Step it once per optimizer step ("plateau": once per epoch, with the loss). It drives the optimizer from then
        on: what schedulers made before it left in the param groups is removed.

        Raises:
            InputError: the suggestion was refused, or no param group has a positive learning rate.
        """
        from lrfinder.install import scheduled

        self.apply(optimizer)
        scheduler: LRScheduler = scheduled(optimizer, self._policy(), configured_lrs([optimizer]))
        return scheduler

    def code(self) -> str:
        """Return the `configure_optimizers` that does the same without lrfinder, for `print`: Python, torch only.

        Raises:
            InputError: the suggestion was refused.
        """
        from lrfinder.policy_code import write_code

        policy = self._policy()
        return write_code(policy, self.param_group_lrs, self.environment.get("optimizer"), self.headline())

    def with_policy(self, policy: str | Policy) -> Suggestion:
        """Return a copy with another policy, at the peak learning rate that is best for that policy.

        That is the one of its entry in ``alternatives``, where there is one; the interval and the rates of the param
        groups are scaled along.

        Args:
            policy: the name of one, which then takes the same steps in all and of warmup; or a `Policy`.

        Raises:
            InputError: the suggestion was refused, there is no such policy, or it needs a horizon and there is none.
        """
        own = self._policy()
        if policy in (own, own.name):
            return self
        found, lr = asked_for(policy, self.alternatives, own, self._lr(), self.horizon)
        return self._at(lr, found)

    def with_schedule(self, rates: ArrayLike, name: str = "your schedule", base: float | None = None) -> Suggestion:
        """Return a copy at the peak that is best for a schedule of your own; without a policy, since that is yours.

        The peak moves with the shape as that of the policies does, by the convex bound; where none were compared (no
        horizon, a range test) it stays.

        Args:
            rates: (k,) learning rates >= 0 in any unit, evenly spaced over the training.
            name: what to call it.
            base: the rate that is set to get ``rates``, where that is not their peak: ``lr`` is then what to set.

        Raises:
            InputError: the suggestion was refused, or this is no schedule.
        """
        from lrfinder.theory import octaves_to_own_best

        own, values = self._lr(), np.asarray(rates, dtype=np.float64)
        octaves = octaves_to_own_best(values / max(values.max(initial=0.0), 1e-300), self.horizon or 1000)
        linear = next((one for one in self.alternatives if one.policy.name == "linear"), None)
        lr = own if linear is None else linear.lr_at(warmed=bool(values[0] < 0.5 * values.max())) * 2**octaves
        caveat = f"The peak is the one for {name}, moved there by the convex bound."
        if base is not None and not math.isclose(values.max(), base, rel_tol=1e-6):
            height = float(values.max() / base)
            lr, caveat = lr / height, f"{caveat} That peaks at {height:.3g} times the rate that is set, which is given."
        return self._at(lr, None, caveat)

    def with_unknown_schedule(self, name: str) -> Suggestion:
        """Return a copy without a policy for a schedule whose course cannot be told, at the rate of a constant one."""
        constant = next(
            (one.lr_at(warmed=False) for one in self.alternatives if one.policy.name == "constant"), self._lr()
        )
        return self._at(constant, None, f"The course of {name} could not be told: the rate is that of a constant one.")

    def _at(self, lr: float, policy: Policy | None, *caveats: str) -> Suggestion:
        """Return a copy at another rate, interval and groups scaled along."""
        own = self._lr()
        low, high = (None if end is None else end * (lr / own) for end in (self.lr_low, self.lr_high))
        groups = scaled_lrs(self.param_group_lrs, lr, own)
        return dataclasses.replace(
            self,
            lr=lr,
            lr_low=low,
            lr_high=high,
            param_group_lrs=groups,
            policy=policy,
            caveats=(*self.caveats, *caveats),
        )

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
            rows.append(("Policy", self.policy.text))
        if (chosen := self.chosen) is not None:
            if chosen.gain is not None and chosen.policy.name != "constant":
                rows.append(("Gain", f"{_gain(chosen)} of the final loss over a constant rate"))
            rows.append(("Because", chosen.reason))
            others = [one for one in self.alternatives if one is not chosen and one.gain is not None]
            rows.append(("Others", ", ".join(f"{one.policy.name} {one.gain:+.1%}" for one in others)))
        spent = f"{self.steps_spent} steps"
        if self.cost_of_error:
            costs = (f"{factor:g} x LR: {_cost(loss)}" for factor, loss in self.cost_of_error)
            rows.append(("Loss at", ", ".join(costs)))
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
            "policy": self._policy_to_dict(),
            "alternatives": [alternative.to_dict() for alternative in self.alternatives],
            "method": self.method,
            "horizon": self.horizon,
            "steps_spent": self.steps_spent,
            "seconds": self.seconds,
            "caveats": list(self.caveats),
            "curves": [curve.to_dict() for curve in self.curves],
            "fit": None if self.fit is None else dict(self.fit),
            "environment": dict(self.environment),
            "probes": [outcome.to_dict() for outcome in self.probes],
            "cost_of_error": [[factor, number_to_json(loss)] for factor, loss in self.cost_of_error],
            "interrupted": self.interrupted,
        }

    @property
    def chosen(self) -> Alternative | None:
        """The alternative that `policy` is; None where none was compared."""
        return next((alternative for alternative in self.alternatives if alternative.policy == self.policy), None)

    def _lr(self) -> float:
        if self.lr is None:
            raise InputError(f"a refused suggestion has no learning rate to apply: {self.headline()}")
        return self.lr

    def _policy(self) -> Policy:
        self._lr()
        if self.policy is None:
            raise InputError("a suggestion for a schedule of your own has no policy: create that schedule")
        return self.policy

    def _policy_to_dict(self) -> dict[str, Any] | None:
        if self.policy is None:
            return None
        chosen = self.chosen
        gains = (None, None, None) if chosen is None else (chosen.gain, chosen.gain_low, chosen.gain_high)
        names = ("predicted_gain", "predicted_gain_low", "predicted_gain_high")
        return {**self.policy.to_dict(), **dict(zip(names, gains, strict=True))}

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
                values[field] = read(data.get(field, _ADDED[field]) if field in _ADDED else data[field])
        except KeyError:
            raise InputError(f"{name}: the field {field!r} is missing") from None
        except InputError as error:
            raise InputError(f"{name}: {field}: {error}") from None
        except (TypeError, ValueError, AttributeError, OverflowError):
            raise InputError(f"{name}: the field {field!r} is malformed, got {data[field]!r:.80}") from None
        if (values["lr"] is None) == (values["reason"] is None):
            raise InputError(f"{name}: needs either lr or a reason, got lr = {values['lr']!r}")
        low, high = values["lr_low"], values["lr_high"]
        if values["lr"] is not None and (low is None or high is None or low > high):
            raise InputError(f"{name}: lr_low and lr_high must be in order and given with lr, got {low!r} and {high!r}")
        return cls(**values)


def checked_horizon(steps: object) -> int | None:
    """Return the steps of the training asked about, None where unknown.

    Raises:
        InputError: not a positive whole number.
    """
    if steps is None:
        return None
    try:
        number = operator.index(steps)  # type: ignore[arg-type]  # NumPy's whole numbers too
    except TypeError:
        number = 0
    if isinstance(steps, bool) or number < 1:
        raise InputError(f"steps must be a positive whole number of optimizer steps, got steps = {steps!r}")
    return number


def default_policy(steps: int | None) -> Policy:
    """Return the default: constant, then linear to zero over the last 40%.

    For a 124M language model over 50,000 steps, each schedule at its own best rate, it ends within 0.01 nats of the
    best one, a constant rate 0.15 above (runs of Schaipp et al. 2025, arXiv 2501.18965); on short trainings it loses
    less progress than a decay from the first step on (docs/measured.md).
    """
    return Policy("constant") if steps is None else Policy("wsd", steps)


def _gain(one: Alternative) -> str:
    return f"{one.gain:+.1%} ({one.gain_low:+.0%} to {one.gain_high:+.0%})"


def _cost(loss: float) -> str:
    return f"{loss:+.2g}" if math.isfinite(loss) else "blows up"


def _optional_number(value: Any) -> float | None:
    return None if value is None else float(value)


def _rate(value: Any) -> float | None:
    if value is None:
        return None
    number = number_from_json(value)
    if not 1e-100 < number < 1e100:
        raise InputError(f"must be a positive number or null (1e-100 to 1e100), got {value!r:.60}")
    return number


def _steps(value: Any, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"must be a whole number of optimizer steps, at least {least}, got {value!r:.60}")
    return value


def _list(value: Any) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise InputError(f"must be a list, got {value!r:.60}")
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"must be an object, got {value!r:.60}")
    return dict(value)


def _curves(value: Any) -> tuple[Curve, ...]:
    curves = tuple(Curve.from_dict(curve) for curve in _list(value))
    if not curves:
        raise InputError("must hold a curve, got none")
    return curves


_READERS: dict[str, Any] = {
    "reason": lambda value: None if value is None else Reason(value),
    "lr": _rate,
    "lr_low": _rate,
    "lr_high": _rate,
    "param_group_lrs": lambda value: tuple(float(lr) for lr in _list(value)),
    "policy": lambda value: None if value is None else Policy.from_dict(value),
    "alternatives": lambda value: tuple(Alternative.from_dict(alternative) for alternative in _list(value)),
    "method": str,
    "horizon": lambda value: None if value is None else _steps(value, 1),
    "steps_spent": _steps,
    "seconds": _optional_number,
    "caveats": lambda value: tuple(str(caveat) for caveat in _list(value)),
    "curves": _curves,
    "fit": lambda value: None if value is None else _object(value),
    "environment": _object,
    "probes": lambda value: tuple(Outcome.from_dict(outcome) for outcome in _list(value)),
    "cost_of_error": lambda value: tuple((float(factor), number_from_json(loss)) for factor, loss in _list(value)),
    "interrupted": bool,
}
_ADDED: dict[str, Any] = {"probes": [], "cost_of_error": [], "interrupted": False, "alternatives": []}
"""Fields that documents of schema version 1 did not always have, and what their absence means."""
