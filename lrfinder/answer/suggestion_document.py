"""The JSON document of a suggestion, schema version 1: written, and read field by field with checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrfinder.answer.ranking import Alternative
from lrfinder.answer.suggestion_text import Reason
from lrfinder.errors import InputError
from lrfinder.evidence.curve import Curve
from lrfinder.evidence.probe import Evidence, Outcome
from lrfinder.files import (
    SCHEMA_VERSION,
    Reader,
    list_reader,
    number_reader,
    number_to_json,
    optional,
    read_any_number,
    read_flag,
    read_list,
    read_object,
    read_record,
    read_string,
    whole_reader,
)
from lrfinder.schedules.policy import Policy


def write_document(suggestion: Any) -> dict[str, Any]:
    """Return the document of a `Suggestion`, JSON-ready."""
    policy, chosen = suggestion.policy, suggestion.chosen
    gains = {f"predicted_{name}": getattr(chosen, name, None) for name in ("gain", "gain_low", "gain_high")}
    return {
        "schema_version": SCHEMA_VERSION,
        "status": suggestion.status,
        "reason": None if suggestion.reason is None else suggestion.reason.value,
        "lr": suggestion.lr,
        "lr_low": suggestion.lr_low,
        "lr_high": suggestion.lr_high,
        "param_group_lrs": list(suggestion.param_group_lrs),
        "policy": None if policy is None else {**policy.to_dict(), **gains},
        "alternatives": [alternative.to_dict() for alternative in suggestion.alternatives],
        "method": suggestion.method,
        "horizon": suggestion.horizon,
        "steps_spent": suggestion.steps_spent,
        "seconds": suggestion.seconds,
        "caveats": list(suggestion.caveats),
        "curves": [curve.to_dict() for curve in suggestion.curves],
        "fit": suggestion.fit,
        "environment": dict(suggestion.environment),
        "probes": [outcome.to_dict() for outcome in suggestion.probes],
        "cost_of_error": [[factor, number_to_json(loss)] for factor, loss in suggestion.cost_of_error],
        "interrupted": suggestion.interrupted,
    }


def read_document(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the fields of the `Suggestion` that a document holds, its evidence put together; errors name it."""
    try:
        version = read_object(data).get("schema_version")
        if version != SCHEMA_VERSION:
            raise InputError(f"schema_version must be {SCHEMA_VERSION}, got {version!r:.60}")
        values = read_record(data, _READERS, _ADDED)
        _check_answer(values)
        evidence = Evidence.of_probes(
            values["curves"][0],
            values["probes"],
            values["steps_spent"],
            **(values["fit"] or _read_fit({})),
            step_examples=_batch_size(values["environment"]),
            interrupted=values["interrupted"],
        )
        if evidence.range_steps < 0:
            raise InputError(
                f"steps_spent must be at least those of the probes, {evidence.steps - evidence.range_steps}, got"
                f" {values['steps_spent']}"
            )
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    return {**{field: value for field, value in values.items() if field not in _MEASURED}, "evidence": evidence}


def _check_answer(values: Mapping[str, Any]) -> None:
    lr, low, high, reason = (values[field] for field in ("lr", "lr_low", "lr_high", "reason"))
    if (lr is None) == (reason is None):
        raise InputError(f"one of lr and reason must be given, got lr = {lr!r} and reason = {reason!r:.60}")
    if lr is None:
        return
    if low is None or high is None or not low * _ROUNDED_DOWN <= lr <= high * _ROUNDED_UP:
        raise InputError(f"lr must lie from lr_low to lr_high, got lr = {lr!r}, lr_low = {low!r}, lr_high = {high!r}")


_ROUNDED_DOWN, _ROUNDED_UP = 1 - 1e-9, 1 + 1e-9


def _batch_size(environment: Mapping[str, Any]) -> float | None:
    size = environment.get("batch_size")
    return size if isinstance(size, (int, float)) and size > 0 else None


def _read_fit(value: Any) -> dict[str, Any]:
    """Return what the evidence needs of a fit; all else of it is made again."""
    readers = {"epoch_steps": optional(number_reader(1e-9)), "comparable": read_flag}
    return read_record(value, readers, {"epoch_steps": None, "comparable": True})


def _read_reason(value: Any) -> Reason:
    reason = Reason.of_text(read_string(value))
    if reason is None:
        raise InputError(f"must be the text of a refusal, got {value!r:.60}")
    return reason


def _read_curves(value: Any) -> list[Curve]:
    curves = [Curve.from_dict(curve, f"item {i}") for i, curve in enumerate(read_list(value))]
    if len(curves) != 1:
        raise InputError(f"must hold one curve, got {len(curves) or 'none'}")
    return curves


def _read_policy(value: Any) -> Policy:
    read_record(value, _POLICY_READERS)
    return Policy.from_dict(value)


def _read_alternative(value: Any) -> Alternative:
    fields = read_record(value, _ALTERNATIVE_READERS, {"lr_unwarmed": None})
    gain, low, high = gains = [fields[f"predicted_gain{end}"] for end in ("", "_low", "_high")]
    if len({number is None for number in gains}) > 1:
        raise InputError(f"predicted_gain, _low and _high must be three numbers or three nulls, got {gains!r:.60}")
    return Alternative(_read_policy(value), fields["lr"], gain, low, high, fields["reason"], fields["lr_unwarmed"])


def _read_cost(value: Any) -> tuple[float, float]:
    factor_and_loss = read_list(value)
    if len(factor_and_loss) != 2:
        raise InputError(f"must be a factor and a loss, got {value!r:.60}")
    return number_reader(1e-100)(factor_and_loss[0]), read_any_number(factor_and_loss[1])


def _read_environment(value: Any) -> dict[str, Any]:
    return read_record(value, dict.fromkeys(read_object(value), _read_fact))


def _read_fact(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return list_reader(_read_fact)(value)
    if isinstance(value, Mapping):
        return _read_environment(value)
    if isinstance(value, float) or (isinstance(value, int) and abs(value) >= 2**64):  # seeds are below 2**64
        return number_reader()(value)
    return value


_RATE = number_reader(1e-100, 1e100)

_POLICY_READERS: dict[str, Reader] = {
    "name": read_string,
    "params": optional(read_object),
    "total_steps": optional(whole_reader(1)),
    "warmup_steps": whole_reader(),
}
"""What a policy rests on; its own rules are checked when it is made."""

_GAIN = optional(number_reader())

_ALTERNATIVE_READERS: dict[str, Reader] = {
    "lr": _RATE,
    "lr_unwarmed": optional(_RATE),
    "predicted_gain": _GAIN,
    "predicted_gain_low": _GAIN,
    "predicted_gain_high": _GAIN,
    "reason": read_string,
}

_READERS: dict[str, Reader] = {
    "reason": optional(_read_reason),
    "lr": optional(_RATE),
    "lr_low": optional(_RATE),
    "lr_high": optional(_RATE),
    "param_group_lrs": lambda value: tuple(list_reader(number_reader(0.0))(value)),
    "policy": optional(_read_policy),
    "alternatives": lambda value: tuple(list_reader(_read_alternative)(value)),
    "method": read_string,
    "horizon": optional(whole_reader(1)),
    "steps_spent": whole_reader(),
    "seconds": optional(number_reader(0.0)),
    "caveats": lambda value: tuple(list_reader(read_string)(value)),
    "curves": _read_curves,
    "fit": optional(_read_fit),
    "environment": _read_environment,
    "probes": list_reader(Outcome.from_dict),
    "cost_of_error": lambda value: tuple(list_reader(_read_cost)(value)),
    "interrupted": read_flag,
}

_ADDED: dict[str, Any] = {"probes": [], "cost_of_error": [], "interrupted": False, "alternatives": []}
"""Fields that documents of schema version 1 did not always have, and what their absence means."""

_MEASURED = ("method", "steps_spent", "seconds", "curves", "fit", "probes", "interrupted")
"""Fields that follow from the evidence, or are part of it."""
