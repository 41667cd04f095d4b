"""A suggestion written into a LightningCLI configuration: a copy with the learning rate and the policy."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from lrfinder.cli.config_read import OWN, is_under_fit, parse_config, read_config, value_at
from lrfinder.errors import InputError, is_number
from lrfinder.files import check_writable, replace_file
from lrfinder.lightning.schedule import check_plateau_metric
from lrfinder.schedules.code import parse_optimizer

if TYPE_CHECKING:
    from lrfinder.answer.suggestion import Suggestion


Place = Sequence[str | int]
"""Keys of mappings and indices of lists that lead from the top of a configuration to a value."""


def write_config(
    source: str,
    out: str,
    suggestion: Suggestion,
    *,
    before: Sequence[str] = (),
    overrides: Sequence[str] = (),
    model_class: Any = None,
    datamodule_class: Any = None,
    attribute: str | None = None,
    monitor: str | None = None,
    mode: str = "min",
) -> None:
    """Write a copy of a LightningCLI configuration that trains as the suggestion says.

    The learning rate is set where the configuration sets it: in the ``optimizer`` section, else in the model's
    argument ``lr`` or ``learning_rate``, else in the one optimizer among the model's arguments. A model with none of
    these gets an ``optimizer`` section, if the search saw a plain torch optimizer of all its parameters. The policy
    becomes a `PolicyCallback`, in place of an ``lr_scheduler`` section and of an `LRFinder`; a suggestion without a
    policy, made for the schedulers of the configuration or the module, sets the rate only. Comments, key order, quotes
    and anchors stay, except for comments inside what is replaced; spacing may not. What is new stands first in its
    section. The file appears as a whole, after LightningCLI has read its future content, or not at all.

    Args:
        source: the configuration, YAML or JSON; the last one if there are several.
        out: path of the copy, which is used in place of ``source``; relative paths in it start from its folder.
        suggestion: the result of a search with ``source``.
        before: the configurations that come before ``source``.
        overrides: those of the search, which go into the copy.
        model_class: as in `load_config`.
        datamodule_class: as in `load_config`.
        attribute: argument of the model that holds the learning rate, dotted if it is nested.
        monitor: the metric that the policy "plateau" follows.
        mode: "min" or "max", of that metric.

    Raises:
        InputError: the suggestion was refused, the rate has no place or more than one, param groups have rates that
            the configuration cannot give them, LightningCLI does not accept the result or reads something else in it
            (an anchor shares the rate with another place, say), or ``out`` cannot be written.
    """
    check_writable(out, "out")
    if suggestion.lr is None:
        raise InputError(f"suggestion must have a learning rate to write, got one that is {suggestion.headline()}")
    classes = {"model_class": model_class, "datamodule_class": datamodule_class}
    paths = [*before, source]
    wanted = parse_config(paths, overrides, **classes)
    config = _Document(read_config(source)[0], source, wanted)
    if overrides:
        for place, value in _differences(parse_config(paths, **classes), wanted):
            config.put(place, value)
    place, value = rate_setting(wanted, suggestion, attribute)
    config.put(place, value)
    wanted = _with(wanted, place, value)
    entry = _callback(suggestion, monitor, mode)
    if suggestion.policy is not None and wanted.get("lr_scheduler") is not None:
        config.put(("lr_scheduler",), None)
        wanted["lr_scheduler"] = None
    config.set_callback(entry)
    text = config.text()
    got = parse_config([*before, out], text=text, **classes)
    if wanted["optimizer"] is not None and _holds(got["optimizer"], wanted["optimizer"]):
        wanted["optimizer"] = got["optimizer"]  # with the defaults of the class filled in
    _check_taken(got, wanted, entry)
    replace_file(out, text)


def rate_setting(whole: Mapping[str, Any], suggestion: Suggestion, attribute: str | None) -> tuple[Place, Any]:
    """Return where a configuration sets the learning rate, and the value to put there.

    Args:
        whole: the configuration as LightningCLI reads it.
        attribute: argument of the model that holds the rate, dotted if it is nested; None for the only candidate.
    """
    place = _rate_place(whole, attribute)
    if place is None:
        return ("optimizer",), _optimizer_section(suggestion)
    rates = suggestion.param_group_lrs
    if place[0] == "optimizer" and any(rate != rates[0] for rate in rates):
        raise InputError(
            "optimizer must have one param group, as LightningCLI makes it, got a suggestion for groups at"
            f" {', '.join(f'{rate:.3g}' for rate in rates)}: it was found with something else"
        )
    now, searched = value_at(whole, place), suggestion.environment.get("configured_lr")
    if isinstance(searched, float) and not math.isclose(float(now), searched, rel_tol=1e-6):
        raise InputError(
            f"{_dotted(place)} must be the learning rate that the search started from, {searched:g}, got"
            f" {now}: name the argument of the model that is, or set it yourself"
        )
    return place, suggestion.lr


def _rate_place(whole: Mapping[str, Any], attribute: str | None) -> Place | None:
    """Return where the configuration sets the learning rate, None if it does not."""
    if (section := whole.get("optimizer")) is not None:
        if not is_number(value_at(section, ("init_args", "lr"))):
            raise InputError(f"optimizer must have a number lr in its init_args, got {section['class_path']} without")
        return ("optimizer", "init_args", "lr")
    top: Place = ("model", "init_args") if "class_path" in whole["model"] else ("model",)
    arguments = value_at(whole, top) or {}
    if attribute is not None:
        place = (*top, *attribute.split("."))
        if not is_number(value_at(whole, place)):
            raise InputError(f"attribute must name a number among the model's arguments, got {attribute!r}")
        return place
    places: list[Place] = [(name,) for name in ("lr", "learning_rate") if is_number(arguments.get(name))]
    places += _optimizers_in(arguments)
    if len(places) > 1:
        names = ", ".join(map(_dotted, places))
        raise InputError(f"attribute must say which argument of the model is the learning rate, one of {names}")
    return (*top, *places[0]) if places else None


def _optimizers_in(value: Any) -> Iterator[Place]:
    """Yield the places of the rates of optimizers that are made from arguments (`OptimizerCallable`)."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, held in pairs:
        if isinstance(held, dict) and "class_path" in held and is_number(value_at(held, ("init_args", "lr"))):
            yield (key, "init_args", "lr")
        else:
            yield from ((key, *place) for place in _optimizers_in(held))


def _optimizer_section(suggestion: Suggestion) -> dict[str, Any]:
    """Return an optimizer section for a model that sets its rate in code, where it would replace a scheduler too."""
    made = parse_optimizer(suggestion.environment.get("optimizer"))
    if suggestion.policy is None or made is None or len(suggestion.param_group_lrs) != 1:
        raise InputError(
            f"the configuration must have a place for the learning rate, {suggestion.lr:.3g}, got none: give the model"
            " an argument lr that configure_optimizers reads, or add an optimizer section"
        )
    kind, arguments = made
    lists = {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}
    return {"class_path": kind, "init_args": {"lr": suggestion.lr, **lists}}


class _Document:
    """A configuration while it is being changed: ruamel.yaml keeps its comments, order, quotes and anchors.

    New keys and items go first, because ruamel.yaml keeps the comments of what follows a section with its last line.
    ``whole`` is the file and those before it, as LightningCLI reads them.
    """

    def __init__(self, text: str, name: str, whole: Mapping[str, Any]) -> None:
        from ruamel.yaml import YAML
        from ruamel.yaml.comments import CommentedMap
        from ruamel.yaml.error import YAMLError

        self._whole, self._is_json, self._yaml = whole, name.endswith(".json"), YAML()
        self._yaml.preserve_quotes = True
        self._yaml.width = 2**31
        self._yaml.explicit_start = text.startswith("---")
        self._yaml.brace_single_entry_mapping_in_flow_sequence = True
        self._yaml.representer.add_representer(
            type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
        )
        step = len(found[1]) if (found := re.search(r"^( +)[^\s#-]", text, re.MULTILINE)) else 2
        offset = 0 if re.search(r"^( *)[^\s#].*:.*\n(?:\s*#.*\n)*\1- ", text, re.MULTILINE) else step
        self._yaml.indent(mapping=step, sequence=offset + 2, offset=offset)
        try:
            self._tree = self._yaml.load(text)
        except YAMLError as error:  # a key that occurs twice, for example
            problem = " ".join(str(getattr(error, "problem", None) or error).split())
            raise InputError(f"{name} must be YAML that ruamel.yaml can rewrite, got {problem}") from None
        self._tree = CommentedMap() if self._tree is None else self._tree
        self._top = self._tree["fit"] if is_under_fit(self._tree) else self._tree

    def text(self) -> str:
        """Return the configuration with its changes."""
        if self._is_json:
            return json.dumps(self._tree, indent=2, ensure_ascii=False) + "\n"
        stream = io.StringIO()
        self._yaml.dump(self._tree, stream)
        return stream.getvalue()

    def put(self, place: Place, value: Any) -> None:
        """Set a value; mappings on the way are made, and a section that only names a class or a file is written out."""
        holder = self._top
        for depth, key in enumerate(place[:-1], start=1):
            held = value_at(holder, [key])
            if not isinstance(held, (dict, list)):
                self._set(holder, key, value_at(self._whole, place[:depth]) if isinstance(held, str) else {})
            holder = holder[key]
        self._set(holder, place[-1], value)

    def set_callback(self, entry: dict[str, Any] | None) -> None:
        """Put our callback in the place of the first one of ours, else first, and remove the others of ours."""
        key = "callbacks+" if "callbacks+" in (self._top.get("trainer") or {}) else "callbacks"
        callbacks = value_at(self._top, ["trainer", key])
        if isinstance(callbacks, list):
            ours = [index for index, callback in enumerate(callbacks) if _is_ours(callback)]
            for index in reversed(ours[entry is not None :]):
                del callbacks[index]
            if entry is not None and ours:
                self._set(callbacks, ours[0], entry)
            elif entry is not None:
                callbacks.insert(0, self._node(entry))
            return
        others = [] if callbacks is None or _is_ours(callbacks) else [callbacks]
        if entry is not None or (callbacks is not None and not others):
            earlier = callbacks is None and self._whole["trainer"].get("callbacks")  # in an earlier file
            self.put(("trainer", "callbacks+" if earlier else key), [*([entry] if entry else []), *others])

    def _set(self, holder: Any, key: Any, value: Any) -> None:
        """Set a value of a mapping or a list; comments below an old one go below the new one."""
        if hasattr(holder, "keys") and key not in holder:
            holder.insert(0, key, self._node(value))
            return
        last, last_key = _last_line(holder, key)
        comments = last.ca.items.pop(last_key, None)
        holder[key] = self._node(value)
        if comments is not None:
            token = comments[2 if isinstance(last, dict) else 0]
            last, last_key = _last_line(holder, key)
            last.ca.items[last_key] = [None, None, token, None] if isinstance(last, dict) else [token, None]

    def _node(self, value: Any) -> Any:
        """Return a value as part of the tree; PyYAML spells it, so that YAML 1.1 reads 1e-05 and "yes" as they are."""
        return self._yaml.load(yaml.safe_dump([value], sort_keys=False, allow_unicode=True, width=2**31))[0]


def _last_line(holder: Any, key: Any) -> tuple[Any, Any]:
    """Return the holder and the key of the last line of a value, where ruamel.yaml keeps the comments below it."""
    while isinstance(holder[key], (dict, list)) and holder[key] and not holder[key].fa.flow_style():
        holder = holder[key]
        key = list(holder)[-1] if isinstance(holder, dict) else len(holder) - 1
    return holder, key


def _callback(suggestion: Suggestion, monitor: str | None, mode: str) -> dict[str, Any] | None:
    """Return the entry among the callbacks that follows the policy; None for a constant rate."""
    policy = suggestion.policy
    if policy is None or (policy.name == "constant" and not policy.warmup_steps):
        return None
    check_plateau_metric(policy, monitor)
    settings = {"name": policy.name, "total_steps": policy.total_steps, "warmup_steps": policy.warmup_steps}
    params = {"params": shape} if (shape := policy.to_dict()["params"]) else {}
    follows = {"monitor": monitor, "mode": mode} if policy.name == "plateau" else {}
    return {"class_path": "lrfinder.PolicyCallback", "init_args": {**settings, **params, **follows}}


def _check_taken(got: dict[str, Any], wanted: dict[str, Any], entry: dict[str, Any] | None) -> None:
    """Compare what LightningCLI reads in the result with what it is to read."""
    callbacks, before = (_list_of(whole["trainer"]["callbacks"]) for whole in (got, wanted))
    ours = [callback for callback in callbacks if _is_ours(callback)]
    if [callback["class_path"].rpartition(".")[2] for callback in ours] != (["PolicyCallback"] if entry else []):
        raise InputError(
            "trainer.callbacks must hold none of lrfinder's in configurations before the last, which would search again"
            f" or drive the rate too, got {', '.join(callback['class_path'] for callback in ours)}"
        )
    got, wanted = ({**whole, "trainer": {**whole["trainer"], "callbacks": None}} for whole in (got, wanted))
    changed = [place for place, _ in _differences(wanted, got)]
    kept, others = ([callback for callback in held if not _is_ours(callback)] for held in (callbacks, before))
    if repr(kept) != repr(others) or (entry and not _holds(ours[0], entry)):
        changed.append(("trainer", "callbacks"))
    if changed:
        raise InputError(
            "the configuration must be read by LightningCLI as it was, but for the suggestion, got another"
            f" {', '.join(map(_dotted, changed))}: set it yourself"
        )


def _dotted(place: Place) -> str:
    return ".".join(map(str, place))


def _list_of(callbacks: Any) -> list[Any]:
    return callbacks if isinstance(callbacks, list) else [callbacks] if callbacks else []


def _holds(got: Any, wanted: Any) -> bool:
    """Return whether everything wanted is there, beside defaults that were filled in."""
    if isinstance(wanted, dict):
        return isinstance(got, dict) and all(_holds(got.get(key), value) for key, value in wanted.items())
    return repr(got) == repr(wanted)


def _differences(old: Any, new: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yield the places where two configurations differ (not in paths), with the new value; another class as a whole."""
    mappings = isinstance(old, dict) and isinstance(new, dict)
    if mappings and set(old) <= set(new) and old.get("class_path") == new.get("class_path"):
        for key, value in new.items():
            if (*place, key) != ("config",):
                yield from _differences(old.get(key), value, (*place, key))
    elif repr(old) != repr(new):
        yield place, new


def _with(whole: Mapping[Any, Any], place: Place, value: Any) -> dict[Any, Any]:
    key, *rest = place
    return {**whole, key: _with(whole.get(key) or {}, rest, value) if rest else value}


def _is_ours(callback: Any) -> bool:
    path = callback.get("class_path") if isinstance(callback, dict) else callback
    return isinstance(path, str) and re.fullmatch(rf"(lrfinder\.(\w+\.)*)?({'|'.join(OWN)})", path) is not None
