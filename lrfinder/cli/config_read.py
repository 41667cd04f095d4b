"""LightningCLI configurations: LightningCLI itself parses and builds them, and trains, writes and prints nothing."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sysconfig
import traceback
import warnings
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from lrfinder.cli.code_ref import add_working_folder
from lrfinder.errors import InputError, LRFinderError
from lrfinder.files import read_text

OWN = ("LRFinder", "PolicyCallback")
"""Callbacks of lrfinder, left out of a search: one would search again, the other would drive the rate."""

_LIBRARIES = (
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
    os.path.dirname(os.path.dirname(__file__)),
)
"""Folders that hold no code of the user."""


@dataclass(frozen=True)
class Configured:
    """What a configuration describes, built as LightningCLI builds it, with nothing that writes.

    Attributes:
        trainer: as configured, except for loggers, checkpoints, profiler, and callbacks that write or search.
        module: with the ``optimizer`` and ``lr_scheduler`` sections in its `configure_optimizers`.
        datamodule: None if there is no ``data`` section; the module then has the loaders.
        seed: the seed of all random numbers, None if nothing was seeded.
    """

    trainer: Any
    module: Any
    datamodule: Any
    seed: int | None


def load_config(
    paths: Sequence[str],
    overrides: Sequence[str] = (),
    model_class: Any = None,
    datamodule_class: Any = None,
) -> Configured:
    """Build the trainer, the module and the data of LightningCLI configurations.

    Classes are looked up in the working folder first. Random numbers are seeded as LightningCLI does it.

    Args:
        paths: YAML or JSON files, later ones over earlier ones; with or without a top-level ``fit``.
        overrides: as on the command line of LightningCLI, such as ``["--trainer.max_epochs", "7"]``.
        model_class: class of the model if the configurations name none, as for ``LightningCLI(MyModel)``.
        datamodule_class: the same for the data.

    Raises:
        InputError: a file cannot be read, LightningCLI does not accept it, a class cannot be imported or built, or
            training would not begin at its start (``ckpt_path``, ``fast_dev_run``); a package is missing.
    """
    add_working_folder()
    sources = [_Source(path, path, read_config(path)[1]) for path in paths]
    built = _run(sources, overrides, model_class, datamodule_class, build=True)
    seed = built.config["fit"].get("seed_everything")
    return Configured(built.trainer, built.model, built.datamodule, None if isinstance(seed, bool) else seed)


def parse_config(
    paths: Sequence[str],
    overrides: Sequence[str] = (),
    model_class: Any = None,
    datamodule_class: Any = None,
    *,
    text: str | None = None,
) -> dict[str, Any]:
    """Return configurations as LightningCLI reads them, defaults filled in, as plain data; nothing is built.

    Args:
        paths, overrides, model_class, datamodule_class: as in `load_config`.
        text: future content of the last path; relative paths in it start from that path's folder.
    """
    add_working_folder()
    contents = [(path, read_config(path)[1]) for path in (paths if text is None else paths[:-1])]
    sources = [_Source(path, os.path.abspath(path), data) for path, data in contents]
    before = os.getcwd()
    if text is not None:
        sources.append(_Source(paths[-1], text, parse_yaml(text, paths[-1])))
        os.chdir(os.path.dirname(os.path.abspath(paths[-1])))
    try:
        parsed: dict[str, Any] = _run(sources, overrides, model_class, datamodule_class, build=False)
    finally:
        os.chdir(before)
    return parsed


def read_config(path: str) -> tuple[str, dict[str, Any]]:
    """Return the text and the data of a configuration, which must be YAML that holds a mapping."""
    text = read_text(Path(path), "a LightningCLI configuration in YAML or JSON")
    data = parse_yaml(text, path)
    if data is not None and not isinstance(data, dict):
        raise InputError(f"{path} must hold sections such as model and trainer, got {type(data).__name__}")
    return text, data or {}


def parse_yaml(text: str, name: str) -> Any:
    """Return the data of a YAML or JSON document, which errors call by ``name``."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise InputError(f"{name} must be YAML that holds data only, got {problem}{where}") from None
    except (RecursionError, ValueError) as error:  # nested without end; an impossible date
        raise InputError(f"{name} must be YAML that can be read, got {str(error)[:80] or 'a bad value'}") from None


def value_at(data: Any, place: Sequence[str | int]) -> Any:
    """Return the value at a place, given as keys and indices from the top; None if there is none."""
    for key in place:
        items = data if isinstance(data, dict) else dict(enumerate(data)) if isinstance(data, list) else {}
        if key not in items:
            return None
        data = items[key]
    return data


def is_under_fit(data: Mapping[str, Any]) -> bool:
    """Return whether the sections stand under the subcommand, as in ``main.py --config FILE fit``."""
    return isinstance(data.get("fit"), dict) and "model" not in data and "trainer" not in data


def check_installed() -> None:
    """Check that the packages of the ``config`` extra are there."""
    try:
        for package in ("docstring_parser", "jsonargparse", "ruamel.yaml"):
            importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"LightningCLI configurations need {error.name}, which is not installed: pip install 'lrfinder[config]'"
        ) from None


@dataclass(frozen=True)
class _Source:
    """A configuration: its name, what LightningCLI is given (the path, or the text), and its data."""

    name: str
    given: str
    data: dict[str, Any]

    def section(self, name: str) -> Any:
        return (self.data["fit"] if is_under_fit(self.data) else self.data).get(name)


class _Parsed(Exception):  # noqa: N818  # not an error
    """Carries the parsed configuration out of a LightningCLI that is not to build anything."""


def _run(
    sources: Sequence[_Source], overrides: Sequence[str], model_class: Any, datamodule_class: Any, *, build: bool
) -> Any:
    """Let LightningCLI parse the configurations; return it if it is to build, else the parsed data."""
    if not sources:
        raise InputError("paths must name at least one configuration, got none")
    check_installed()
    names = ", ".join(source.name for source in sources)
    by_path = _class_paths(sources, "model")
    # The model may also be named by its bare name, in a file of its own, or by an override.
    named = any(re.match(r"--(model(\.class_path)?|config|c)(=|$)", word) for word in overrides)
    named = named or any(isinstance(source.section("model"), str) for source in sources)
    if model_class is None and not by_path and not named:
        raise InputError(
            f"{names} must name the model (model: class_path: train.LitModel), or its class be given beside"
            f" it (lrfinder suggest train.py:LitModel --config {sources[-1].name}), got neither"
        )
    under_fit = [is_under_fit(source.data) for source in sources]
    if under_fit != sorted(under_fit, reverse=True):
        raise InputError(
            "configurations under a top-level fit must come before those without, which LightningCLI reads later, got "
            + names
        )
    configs = [f"--config={source.given}" for source in sources]
    count = sum(under_fit)
    try:
        reader = _reader(_lightning(model_class or (by_path[-1] if by_path else None)), build)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about how Lightning uses jsonargparse
            return reader(
                model_class=model_class,
                datamodule_class=datamodule_class,
                subclass_mode_model=model_class is None or bool(by_path),
                subclass_mode_data=datamodule_class is None or bool(_class_paths(sources, "data")),
                save_config_callback=None,
                parser_kwargs={"exit_on_error": False},
                args=[*configs[:count], "fit", *configs[count:], *overrides],
            )
    except _Parsed as parsed:
        return parsed.args[0]
    except LRFinderError:
        raise
    except ArgumentError as error:
        raise InputError(f"{names}: {_on_one_line(str(error))}") from None
    except SystemExit:  # --help, --print_config
        raise InputError("overrides must set values, such as --trainer.max_epochs 7, got one that prints") from None
    except Exception as error:
        raise InputError(f"{names} must describe what can be built, got {_root_cause(error)}") from error


def _class_paths(sources: Sequence[_Source], section: str) -> list[str]:
    paths = [value_at(source.section(section), ("class_path",)) for source in sources]
    return [path for path in paths if isinstance(path, str)]


def _reader(lightning: ModuleType, build: bool) -> Any:
    """Return a LightningCLI that trains nothing, writes nothing, and neither prints usage nor exits."""
    cli = importlib.import_module(f"{lightning.__name__}.cli")
    names = ("Checkpoint", "LearningRateFinder", "BatchSizeFinder")  # they write, or search by themselves
    ours = [getattr(importlib.import_module("lrfinder"), name) for name in OWN]
    unwanted = (*(getattr(lightning.callbacks, name) for name in names), *ours)

    class Reader(cli.LightningCLI):  # type: ignore[misc, name-defined]  # of either copy of Lightning
        def parse_arguments(self, parser: Any, args: Any) -> None:
            self.config = parser.parse_args(args)
            if not build:
                raise _Parsed(yaml.safe_load(parser.dump(self.config, skip_none=False))["fit"])
            _check_start(self.config["fit"])

        def before_instantiate_classes(self) -> None:
            """Remove what would write, some of it as soon as it is built."""
            section = self.config["fit"]["trainer"]
            self.without_loggers = section.get("logger") is False or section.get("barebones")
            section["logger"], section["profiler"] = False, None

        def instantiate_trainer(self, **kwargs: Any) -> Any:
            callbacks = self.config_init["fit"]["trainer"].get("callbacks") or []
            callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
            # Modules and callbacks that log find a logger, as they would in training, but it keeps nothing.
            dummy = importlib.import_module(f"{lightning.__name__}.loggers.logger").DummyLogger
            return super().instantiate_trainer(
                callbacks=[callback for callback in callbacks if not isinstance(callback, unwanted)],
                logger=False if self.without_loggers else dummy(),
                enable_checkpointing=False,
                **kwargs,
            )

        def fit(self, **kwargs: Any) -> None:
            """Train nothing."""

    return Reader


def _check_start(section: Any) -> None:
    if (path := section.get("ckpt_path")) is not None:
        raise InputError(
            "ckpt_path must be null, since a fit that resumes goes on at the rate of its checkpoint, got"
            f" ckpt_path = {path}: add --ckpt_path null"
        )
    if fast := section["trainer"].get("fast_dev_run"):
        raise InputError(
            f"trainer.fast_dev_run must be false for a search, got {fast}: add --trainer.fast_dev_run false"
        )


def _lightning(model: Any) -> ModuleType:
    """Import the copy of Lightning that the model is made with: `lightning.pytorch` or `pytorch_lightning`."""
    if isinstance(model, str) and "." in model:
        module, _, name = model.rpartition(".")
        with contextlib.suppress(ImportError):  # jsonargparse will report it
            model = getattr(importlib.import_module(module), name, None)
    others = any(base.__module__.startswith("pytorch_lightning.") for base in getattr(model, "__mro__", ()))
    return importlib.import_module("pytorch_lightning" if others else "lightning.pytorch")


def _root_cause(error: BaseException) -> str:
    """Return the first error of a chain, and where it was raised if that is in the user's code."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = f"{type(error).__name__}: {_on_one_line(str(error))}"
    if isinstance(error, SyntaxError):  # names its place itself
        return text
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_LIBRARIES)]
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else text


def _on_one_line(message: str) -> str:
    """Return an error of jsonargparse without the list of everything that a value could have been."""
    text = " ".join(message.split())
    text = re.sub(r"Does not validate against any of the Union subtypes Subtypes: .*? Errors: - ", "", text)
    text = re.sub(r" - Expected a <class 'NoneType'>", "", text)
    text = re.sub(r" Given value type: <class 'jsonargparse.*", "", text)
    return re.sub(r" Given value type: <class '[\w.]+'> Given value: (.{,80}).*", r", got \1", text)
