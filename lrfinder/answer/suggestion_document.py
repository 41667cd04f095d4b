"""The JSON document of a suggestion, schema version 1, checked field by field; `Suggestion.to_dict` writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lrfinder.answer.ranking import Alternative
from lrfinder.answer.reason import Reason
from lrfinder.errors import InputError
from lrfinder.evidence.curve import Curve
from lrfinder.evidence.probe import Evidence, Outcome
from lrfinder.files import SCHEMA_VERSION, number_from_json
from lrfinder.schedules.policy import Policy

__all__ = ["read_document"]


def read_document(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the fields of the `Suggestion` that a document holds, with the evidence put together.

    Args:
        data: what `Suggestion.to_dict` returned, or the JSON of it.
        name: what error texts call the document.

    Raises:
        InputError: another schema version, or a missing or malformed field; the text begins with ``name``.
    """
    if data.get("schema_version") != SCHEMA_VERSION:
        raise InputError(f"{name}: schema_version must be {SCHEMA_VERSION}, got {data.get('schema_version')!r}")
    field = ""
    values: dict[str, Any] = {}
    try:
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
    fit = values["fit"] or {}
    try:
        evidence = Evidence.of_probes(
            values["curves"][0],
            values["probes"],
            values["steps_spent"],
            epoch_steps=fit.get("epoch_steps"),
            comparable=bool(fit.get("comparable", True)),
            interrupted=values["interrupted"],
        )
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    return {**{field: value for field, value in values.items() if field not in _MEASURED}, "evidence": evidence}


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
    if len(curves) != 1:
        raise InputError(f"must hold a curve, got {len(curves) or 'none'}")
    return curves


_READERS: dict[str, Any] = {
    "reason": lambda value: None if value is None else Reason(value),  # type: ignore[call-arg]  # by its value
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

_MEASURED = ("method", "steps_spent", "seconds", "curves", "fit", "probes", "interrupted")
"""Fields that follow from the evidence, or are part of it."""
