"""`Suggestion`: the answer, its interval, its evidence and its doubts; or a refusal."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfinder.advice.gradients import NoiseScale
from lrfinder.advice.rescale import Answer, Rescaled, family_of, rescale
from lrfinder.answer.ranking import Alternative, named_policy, peak_for, peak_for_schedule
from lrfinder.answer.suggestion_document import read_document, write_document
from lrfinder.answer.suggestion_text import Reason, headline_of, lines_of, remedy_of, repr_of
from lrfinder.errors import InputError
from lrfinder.evidence.curve import Curve
from lrfinder.evidence.probe import Evidence, Outcome
from lrfinder.evidence.range_fit import RangeFit
from lrfinder.evidence.valley import ValleyFit, fit_valley
from lrfinder.schedules.code import parse_optimizer, write_code
from lrfinder.schedules.optimizer_lr import apply_lr, configured_lrs, scaled_lrs, scheduled
from lrfinder.schedules.policy import Policy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


_GRADES = ((2.0, "sharp"), (4.0, "fair"), (10.0, "rough"), (math.inf, "weak"))


@dataclass(frozen=True, repr=False)
class Suggestion:
    """A learning rate and how to decay it, or a refusal.

    Attributes:
        reason: why there is no suggestion; None if there is one.
        lr: suggested peak learning rate of the reference param group; None if refused.
        lr_low: lower end of the 90% interval for the best rate.
        lr_high: upper end.
        param_group_lrs: the suggested rate of every param group, in order.
        policy: the recommended decay.
        horizon: optimizer steps of the training asked about; None if unknown.
        caveats: what to know before trusting it, a sentence each.
        environment: versions, device and seed.
        evidence: what the search measured, raw.
        cost_of_error: (factor, loss) pairs: how much higher the loss of the probes lies at the learning rate
            times that factor, inf if it blows up; empty if it was not measured.
        alternatives: every policy at its own best peak, the one that did best on other trainings first; empty without a
            horizon.
    """

    reason: Reason | None
    lr: float | None
    lr_low: float | None
    lr_high: float | None
    param_group_lrs: tuple[float, ...]
    policy: Policy | None
    horizon: int | None
    caveats: tuple[str, ...]
    environment: Mapping[str, Any]
    evidence: Evidence
    cost_of_error: tuple[tuple[float, float], ...] = ()
    alternatives: tuple[Alternative, ...] = ()

    @property
    def interval(self) -> tuple[float, float]:
        """The 90% interval for the best rate, as a range to search in.

        Raises:
            InputError: the suggestion was refused.
        """
        lr = self._lr()
        return self.lr_low or lr, self.lr_high or lr

    @property
    def status(self) -> str:
        """Either "ok" or "refused"."""
        return "ok" if self.reason is None else "refused"

    @property
    def remedy(self) -> str:
        """What to do about a refusal; empty if there is an answer."""
        return remedy_of(self)

    @property
    def method(self) -> str:
        """How it was found: "probe", or "range" for a range test alone."""
        return "probe" if self.evidence.probed else self.evidence.curve.stage

    @property
    def curves(self) -> tuple[Curve, ...]:
        """The raw range test."""
        return (self.evidence.curve,)

    @property
    def probes(self) -> tuple[Outcome, ...]:
        """The untrained model, then what each probe came to, raw; empty for a range test alone."""
        return self.evidence.probes

    @property
    def steps_spent(self) -> int:
        """Optimizer steps that the search took."""
        return self.evidence.steps

    @property
    def seconds(self) -> float | None:
        """Wall time that the search took; None if unknown."""
        return self.evidence.seconds

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the search early."""
        return self.evidence.interrupted

    @cached_property
    def valley(self) -> ValleyFit | None:
        """The fit of the probes; None without probes, or if the suggestion was refused."""
        return fit_valley(self.evidence) if self.evidence.probed and self.reason is None else None

    @property
    def range_fit(self) -> RangeFit | None:
        """The fit of the range test; None if too few of its points are usable."""
        return self.evidence.range_fit

    @property
    def fit(self) -> dict[str, Any] | None:
        """The fit that the suggestion rests on, that of the probes if there are any, as JSON-ready data."""
        if not self.evidence.probed:
            if self.range_fit is None:
                return None
            return {**self.range_fit.to_dict(), "epoch_steps": self.evidence.epoch_steps}
        if self.valley is None:
            return None
        return {**self.valley.to_dict(), "comparable": self.evidence.comparable}

    @property
    def confidence(self) -> str:
        """How sure the rate is: "sharp", "fair", "rough" or "weak"; empty if refused.

        It goes by the factor, either way, within which the best rate lies nine times out of ten: at most 2, 4, 10, or
        more.
        """
        if self.lr_low is None or self.lr_high is None:
            return ""
        either_way = math.sqrt(self.lr_high / self.lr_low)
        return next(word for most, word in _GRADES if either_way <= most)

    @property
    def chosen(self) -> Alternative | None:
        """The alternative that `policy` is; None if none was compared."""
        return next((alternative for alternative in self.alternatives if alternative.policy == self.policy), None)

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
        self.apply(optimizer)
        return scheduled(optimizer, self._policy(), configured_lrs([optimizer]))

    def code(self) -> str:
        """Return the `configure_optimizers` that does the same without lrfinder, for `print`: Python, torch only.

        Raises:
            InputError: the suggestion was refused.
        """
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
        own, lr = self._policy(), self._lr()
        if policy in (own, own.name):
            return self
        if isinstance(policy, str):
            policy = named_policy(policy, self.alternatives, own, self.horizon)
        return self._at(peak_for(policy, self.alternatives, lr), policy)

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
        own, values = self._lr(), np.asarray(rates, dtype=np.float64)
        lr = peak_for_schedule(values, self.alternatives, own, self.horizon)
        caveat = f"The peak is the one for {name}, moved there by the convex bound."
        if base is not None and not math.isclose(values.max(), base, rel_tol=1e-6):
            height = float(values.max() / base)
            lr, caveat = lr / height, f"{caveat} That peaks at {height:.3g} times the rate that is set, which is given."
        return self._at(lr, None, caveat)

    def with_unknown_schedule(self, name: str) -> Suggestion:
        """Return a copy without a policy, at the peak of a constant rate, for a schedule whose course is unknown."""
        lr = peak_for(Policy("constant"), self.alternatives, self._lr())
        return self._at(lr, None, f"The course of {name} could not be told: the rate is that of a constant one.")

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

    def rescale(
        self,
        batch_size: int | tuple[int, int] | None = None,
        *,
        steps: int | None = None,
        devices: int | tuple[int, int] = 1,
        noise_scale: float | NoiseScale | None = None,
        optimizer: str | None = None,
    ) -> Rescaled:
        """Return the best peak rate after a change of batch size, devices or length, by rules that were measured.

        Args:
            batch_size: examples per optimizer step on one device, before and after, such as (64, 512); or after, if
                the search recorded its own (``environment["batch_size"]``, over all devices).
            steps: optimizer steps of the new training; by default as many as see the same number of examples.
            devices: devices before and after, which average their gradients; or after, if there was one before.
            noise_scale: that of `lrfinder.measure_noise_scale`; the rate then stops rising with larger batches.
            optimizer: "sgd" or "adam", the family; by default that of the optimizer that was searched with.

        Raises:
            InputError: the suggestion was refused, nothing changes, an argument breaks a rule, or no rule was measured
                for the optimizer.
        """
        low, high = self.interval
        made = parse_optimizer(self.environment.get("optimizer"))
        family = optimizer if optimizer is not None or made is None else family_of(made[0])
        answer = Answer(self._lr(), low, high, self.horizon, self.environment.get("batch_size"))
        return rescale(
            answer, self.valley or fit_valley(self.evidence), family, batch_size, steps, devices, noise_scale
        )

    def with_group_lrs(self, lrs: Sequence[float]) -> Suggestion:
        """Return a copy that records the learning rates as they were written back."""
        return dataclasses.replace(self, param_group_lrs=tuple(lrs))

    def with_environment(self, **more: Any) -> Suggestion:
        """Return a copy with more facts about where it was made, such as device and seed."""
        return dataclasses.replace(self, environment={**self.environment, **more})

    def headline(self) -> str:
        """Return the answer in one line."""
        return headline_of(self)

    def summary(self) -> dict[str, Any]:
        """Return the scalars of the answer, for a logger."""
        names = ("status", "lr", "lr_low", "lr_high", "method", "horizon", "steps_spent")
        return {name: getattr(self, name) for name in names}

    def lines(self, verbose: bool = False) -> list[tuple[str, str]]:
        """Return the answer as (label, text) pairs; if verbose, with what it rests on and the text of every caveat."""
        return lines_of(self, verbose)

    def details(self) -> str:
        """Return the answer with what it rests on and the text of every caveat, for `print`."""
        return "\n".join(f"{label:9s} {text}" for label, text in self.lines(verbose=True))

    def __repr__(self) -> str:
        return repr_of(self)

    def __str__(self) -> str:
        return "\n".join(f"{label:9s} {text}" for label, text in self.lines())

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the probes, or else the range test, with the suggestion, on ``ax`` or a new figure; return the Axes."""
        from lrfinder.report.search_plots import plot_curve, plot_probes

        if self.evidence.probed:
            return plot_probes(self, ax)
        return plot_curve(self.evidence.curve, self, ax)

    def _repr_html_(self) -> str:
        from lrfinder.report.page import notebook_html

        return notebook_html(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the suggestion as the JSON document of schema version 1."""
        return write_document(self)

    def _lr(self) -> float:
        if self.lr is None:
            raise InputError(f"a refused suggestion has no learning rate to apply: {self.headline()}")
        return self.lr

    def _policy(self) -> Policy:
        self._lr()
        if self.policy is None:
            raise InputError("a suggestion for a schedule of your own has no policy: create that schedule")
        return self.policy

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], name: str = "suggestion") -> Suggestion:
        """Rebuild a suggestion from `to_dict`; ``name`` is what error texts call it.

        Raises:
            InputError: another schema version, or a missing or malformed field; the text begins with ``name``.
        """
        return cls(**read_document(data, name))
