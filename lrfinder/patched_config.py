"""A suggestion written into a LightningCLI configuration: a copy that differs where it must and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrfinder.config import is_under_fit, parse_config, read_config
from lrfinder.config_rate import rate_setting
from lrfinder.errors import InputError
from lrfinder.files import check_writable, replace_file
from lrfinder.install import check_plateau_metric
from lrfinder.lightning_cli import OWN
from lrfinder.yamltext import Place, append, dotted, drop, found, loaded, put

if TYPE_CHECKING:
    from lrfinder.suggestion import Suggestion

__all__ = ["patched_config", "write_config"]


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
    """Write a copy of a LightningCLI configuration with which training goes as the suggestion says.

    The file appears whole, after LightningCLI has read what it is going to hold, or not at all.

    Args:
        source: the configuration, YAML or JSON; of several, the last.
        out: where the copy goes; it is used in place of ``source``.
        suggestion: what was found with ``source``.
        before: the configurations that come before it.
        overrides: those of the search, which go into the copy.
        model_class: see `lrfinder.config.load_config`.
        datamodule_class: see there.
        attribute: argument of the model that holds the learning rate, dotted where it is nested; see `patched_config`.
        monitor: the metric that the policy "plateau" follows.
        mode: "min" or "max", of that metric.

    Raises:
        InputError: as `patched_config`, or ``out`` cannot be written.
    """
    check_writable(out, "out")
    text = patched_config(
        source,
        suggestion,
        before=before,
        overrides=overrides,
        model_class=model_class,
        datamodule_class=datamodule_class,
        attribute=attribute,
        monitor=monitor,
        mode=mode,
        out=out,
    )
    replace_file(out, text)


def patched_config(
    source: str,
    suggestion: Suggestion,
    *,
    before: Sequence[str] = (),
    overrides: Sequence[str] = (),
    model_class: Any = None,
    datamodule_class: Any = None,
    attribute: str | None = None,
    monitor: str | None = None,
    mode: str = "min",
    out: str | None = None,
) -> str:
    """Return the text of a configuration with the suggestion in it.

    The learning rate is set where the configuration sets it: in the ``optimizer`` section, else in the model's
    argument ``lr`` or ``learning_rate``, else in the one optimizer among the model's arguments. A model with none of
    these gets an ``optimizer`` section, where the search saw a plain torch optimizer of all its parameters. The policy
    becomes a `PolicyCallback`, in place of an ``lr_scheduler`` section and of an `LRFinder`; a suggestion without a
    policy, made for the schedulers there are, sets the rate only.

    Args:
        source: as in `write_config`, and so all but the last.
        suggestion, before, overrides, model_class, datamodule_class, attribute, monitor, mode: the same.
        out: the path that the text is meant for, from which relative paths in it start; that of ``source`` if None.

    Raises:
        InputError: the suggestion was refused, the rate has no place or more than one, param groups have rates that
            the configuration cannot give them, or LightningCLI does not take the result, or takes it otherwise.
    """
    if suggestion.lr is None:
        raise InputError(f"suggestion must have a learning rate to write, got one that is {suggestion.headline()}")
    classes = {"model_class": model_class, "datamodule_class": datamodule_class}
    read_config(source)
    text = Path(source).read_bytes().decode("utf-8-sig")  # as a text file it would lose its kind of line ends
    paths = [*before, source]
    wanted = parse_config(paths, overrides, **classes)
    document = _Document(text, source, wanted)
    if overrides:
        for place, value in _differences(parse_config(paths, **classes), wanted):
            document.put(place, value)
    place, value = rate_setting(wanted, suggestion, attribute)
    document.put(place, value)
    wanted = _with(wanted, place, value)
    entry = _callback(suggestion, monitor, mode)
    if suggestion.policy is not None and wanted.get("lr_scheduler") is not None:
        document.put(("lr_scheduler",), None)
        wanted["lr_scheduler"] = None
    document.follow(entry)
    got = parse_config([*before, out or source], text=document.text, **classes)
    if wanted["optimizer"] is not None and _holds(got["optimizer"], wanted["optimizer"]):
        wanted["optimizer"] = got["optimizer"]  # with the defaults of the class filled in
    _check_taken(got, wanted, entry)
    return document.text


class _Document:
    """The text of a configuration while it is being changed.

    Args:
        text: YAML.
        name: how to call it.
        whole: what LightningCLI makes of it and of what comes before it.
    """

    def __init__(self, text: str, name: str, whole: Mapping[str, Any]) -> None:
        self.text, self._name, self._whole = text, name, whole
        self._top: Place = ("fit",) if is_under_fit(self._data()) else ()

    def _data(self) -> dict[str, Any]:
        return loaded(self.text, self._name) or {}

    def put(self, place: Place, value: Any) -> None:
        """Set a value; a section that was only named, a class or a file, is written out to hold it."""
        for depth in range(1, len(place)):
            if isinstance(found(self._data(), (*self._top, *place[:depth])), str):
                self.text = put(self.text, (*self._top, *place[:depth]), found(self._whole, place[:depth]))
        self.text = put(self.text, (*self._top, *place), value)

    def follow(self, entry: dict[str, Any] | None) -> None:
        """Put our callback in, the first of ours there is making room for it, and take all others of ours out."""
        trainer = found(self._data(), (*self._top, "trainer"))
        key = "callbacks+" if isinstance(trainer, dict) and "callbacks+" in trainer else "callbacks"
        place = (*self._top, "trainer", key)
        held = found(self._data(), place)
        if isinstance(held, list):
            ours = [index for index, one in enumerate(held) if _is_ours(one)]
            for index in reversed(ours[entry is not None :]):
                self.text = drop(self.text, (*place, index))
            if entry is not None and ours:
                self.text = put(self.text, (*place, ours[0]), entry)
            elif entry is not None and held:
                self.text = append(self.text, place, entry)
            elif entry is not None:
                self.put(("trainer", key), [entry])
            return
        others = [] if held is None or _is_ours(held) else [held]
        if entry is not None or (held is not None and not others):
            earlier = held is None and self._whole["trainer"].get("callbacks")  # in a configuration before this one
            self.put(("trainer", "callbacks+" if earlier else key), [*others, *([entry] if entry else [])])


def _callback(suggestion: Suggestion, monitor: str | None, mode: str) -> dict[str, Any] | None:
    """Return the entry among the callbacks that follows the policy; None for a rate that stays."""
    policy = suggestion.policy
    if policy is None or (policy.name == "constant" and not policy.warmup_steps):
        return None
    check_plateau_metric(policy, monitor)
    settings = {"name": policy.name, "total_steps": policy.total_steps, "warmup_steps": policy.warmup_steps}
    params = {"params": shape} if (shape := policy.to_dict()["params"]) else {}
    follows = {"monitor": monitor, "mode": mode} if policy.name == "plateau" else {}
    return {"class_path": "lrfinder.PolicyCallback", "init_args": {**settings, **params, **follows}}


def _check_taken(got: dict[str, Any], wanted: dict[str, Any], entry: dict[str, Any] | None) -> None:
    """Compare what LightningCLI makes of the result with what it was to be."""
    callbacks = got["trainer"]["callbacks"] or []
    callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
    before = wanted["trainer"]["callbacks"] or []
    others = [one for one in (before if isinstance(before, list) else [before]) if not _is_ours(one)]
    ours = [one for one in callbacks if _is_ours(one)]
    if [one["class_path"].rpartition(".")[2] for one in ours] != (["PolicyCallback"] if entry else []):
        raise InputError(
            "trainer.callbacks must hold none of lrfinder's in configurations before the last, which would search again"
            f" or drive the rate too, got {', '.join(one['class_path'] for one in ours)}"
        )
    kept = [one for one in callbacks if not _is_ours(one)]
    changed = [place for place, _ in _differences(_without_callbacks(wanted), _without_callbacks(got))]
    if repr(kept) != repr(others) or (entry and not _holds(ours[0], entry)):
        changed.append(("trainer", "callbacks"))
    if changed:
        raise InputError(
            "the configuration must be read by LightningCLI as it was, but for the suggestion, got another"
            f" {', '.join(map(dotted, changed))}: set it yourself"
        )


def _holds(got: Any, wanted: Any) -> bool:
    """Whether all that is wanted is there, beside defaults that were filled in."""
    if isinstance(wanted, dict):
        return isinstance(got, dict) and all(_holds(got.get(key), value) for key, value in wanted.items())
    return repr(got) == repr(wanted)


def _without_callbacks(whole: Mapping[str, Any]) -> dict[str, Any]:
    trainer = {name: value for name, value in whole["trainer"].items() if name != "callbacks"}
    kept = {name: value for name, value in whole.items() if name != "config"}  # the paths
    return {**kept, "trainer": trainer}


def _differences(old: Any, new: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yield where two parsed configurations differ, and what the new one has there; a class of its own as a whole."""
    mappings = isinstance(old, dict) and isinstance(new, dict)
    if mappings and set(old) <= set(new) and old.get("class_path") == new.get("class_path"):
        for key, value in new.items():
            if (place, key) != ((), "config"):
                yield from _differences(old.get(key), value, (*place, key))
    elif repr(old) != repr(new):
        yield place, new


def _with(whole: Mapping[Any, Any], place: Place, value: Any) -> dict[Any, Any]:
    key, *rest = place
    return {**whole, key: _with(whole.get(key) or {}, rest, value) if rest else value}


def _is_ours(callback: Any) -> bool:
    path = callback.get("class_path") if isinstance(callback, dict) else callback
    return isinstance(path, str) and re.fullmatch(rf"(lrfinder\.(\w+\.)*)?({'|'.join(OWN)})", path) is not None
