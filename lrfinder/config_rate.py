"""Where a LightningCLI configuration sets the learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lrfinder.errors import InputError
from lrfinder.policy_code import parse_optimizer
from lrfinder.yamltext import Place, dotted, found

if TYPE_CHECKING:
    from lrfinder.suggestion import Suggestion

__all__ = ["rate_setting"]


def rate_setting(whole: Mapping[str, Any], suggestion: Suggestion, attribute: str | None) -> tuple[Place, Any]:
    """Return where a configuration sets the learning rate, and what to put there.

    Args:
        whole: the configuration as LightningCLI reads it.
        suggestion: with a rate.
        attribute: argument of the model that holds the rate, dotted where it is nested; None for the only candidate.

    Raises:
        InputError: there is no such place or more than one, or the rates of the suggestion cannot be set there.
    """
    place = _place(whole, attribute)
    if place is None:
        return ("optimizer",), _optimizer(suggestion)
    rates = suggestion.param_group_lrs
    if place[0] == "optimizer" and any(rate != rates[0] for rate in rates):
        raise InputError(
            "optimizer must have one param group, as LightningCLI makes it, got a suggestion for groups at"
            f" {', '.join(f'{rate:.3g}' for rate in rates)}: it was found with something else"
        )
    now, searched = found(whole, place), suggestion.environment.get("configured_lr")
    if isinstance(searched, float) and not math.isclose(float(now), searched, rel_tol=1e-6):
        raise InputError(
            f"{dotted(place)} must be the learning rate that the search started from, {searched:g}, got"
            f" {now}: name the argument of the model that is, or set it yourself"
        )
    return place, suggestion.lr


def _place(whole: Mapping[str, Any], attribute: str | None) -> Place | None:
    """Return where the configuration sets the learning rate, None where it does not.

    Raises:
        InputError: there are several such places, or none by the name given.
    """
    if (section := whole.get("optimizer")) is not None:
        if not _is_number(found(section, ("init_args", "lr"))):
            raise InputError(f"optimizer must have a number lr in its init_args, got {section['class_path']} without")
        return ("optimizer", "init_args", "lr")
    model = whole["model"]
    top: Place = ("model", "init_args") if "class_path" in model else ("model",)
    arguments = found(whole, top) or {}
    if attribute is not None:
        place = (*top, *attribute.split("."))
        if not _is_number(found(whole, place)):
            raise InputError(f"attribute must name a number among the model's arguments, got {attribute!r}")
        return place
    places = [(*top, name) for name in ("lr", "learning_rate") if _is_number(arguments.get(name))]
    places += [(*top, *place) for place in _optimizers_in(arguments)]
    if len(places) > 1:
        names = ", ".join(".".join(map(str, place[len(top) :])) for place in places)
        raise InputError(f"attribute must say which argument of the model is the learning rate, one of {names}")
    return places[0] if places else None


def _optimizers_in(value: Any) -> Iterator[Place]:
    """Yield where the rates of optimizers stand that are made from arguments (`OptimizerCallable`)."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, held in pairs:
        if isinstance(held, dict) and "class_path" in held and _is_number(found(held, ("init_args", "lr"))):
            yield (key, "init_args", "lr")
        else:
            yield from ((key, *place) for place in _optimizers_in(held))


def _optimizer(suggestion: Suggestion) -> dict[str, Any]:
    """Return an optimizer section for a model that sets its rate in code.

    Raises:
        InputError: it cannot be expressed, or would take the place of a scheduler too.
    """
    made = parse_optimizer(suggestion.environment.get("optimizer"))
    if suggestion.policy is None or made is None or len(suggestion.param_group_lrs) != 1:
        raise InputError(
            f"the configuration must have a place for the learning rate, {suggestion.lr:.3g}, got none: give the model"
            " an argument lr that configure_optimizers reads, or add an optimizer section"
        )
    kind, arguments = made
    lists = {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}
    return {"class_path": kind, "init_args": {"lr": suggestion.lr, **lists}}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
