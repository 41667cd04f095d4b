"""LightningCLI configurations: read by LightningCLI itself, built into what a search needs, and nothing is trained."""

from __future__ import annotations

import importlib
import os
import re
import sys
import sysconfig
import traceback
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lrfinder.errors import InputError, LRFinderError
from lrfinder.files import read_text
from lrfinder.yamltext import found, loaded

__all__ = ["OWN", "Configured", "is_under_fit", "load_config", "parse_config", "read_config"]

OWN = ("LRFinder", "PolicyCallback")
"""Callbacks of ours, which a search must not meet: one would search again, the other drive the rate."""


@dataclass(frozen=True)
class Configured:
    """What a configuration describes, built as LightningCLI builds it, with nothing that writes.

    Attributes:
        trainer: as configured, but for loggers, checkpoints, profiler, and the callbacks in ``left_out``.
        module: with the ``optimizer`` and ``lr_scheduler`` sections in its `configure_optimizers`.
        datamodule: None where there is no ``data`` section; the module then has the loaders.
        seed: that everything was seeded with, None where nothing was.
        sets_optimizer: whether there is an ``optimizer`` section.
        sets_scheduler: whether there is an ``lr_scheduler`` section.
        left_out: class names of the callbacks that were left out.
    """

    trainer: Any
    module: Any
    datamodule: Any
    seed: int | None
    sets_optimizer: bool
    sets_scheduler: bool
    left_out: tuple[str, ...]


def load_config(
    paths: Sequence[str],
    overrides: Sequence[str] = (),
    model_class: Any = None,
    datamodule_class: Any = None,
) -> Configured:
    """Build the trainer, the module and the data of LightningCLI configurations.

    Classes are looked for in the present folder first. Random numbers are seeded as LightningCLI does it.

    Args:
        paths: YAML or JSON files, later ones over earlier ones; with or without a top-level ``fit``.
        overrides: as on the command line of LightningCLI, such as ``["--trainer.max_epochs", "7"]``.
        model_class: of configurations that name none, those of ``LightningCLI(MyModel)``.
        datamodule_class: the same for the data.

    Raises:
        InputError: a file cannot be read, LightningCLI does not take it, a class cannot be imported or built, or
            training would not begin at its start (``ckpt_path``, ``fast_dev_run``); jsonargparse is not installed.
    """
    sources = [_Source(path, path, read_config(path)[1]) for path in paths]
    built = _run(sources, overrides, model_class, datamodule_class, build=True)
    section = built.config["fit"]
    seed = section.get("seed_everything")
    return Configured(
        trainer=built.trainer,
        module=built.model,
        datamodule=built.datamodule,
        seed=None if isinstance(seed, bool) else seed,
        sets_optimizer=section.get("optimizer") is not None,
        sets_scheduler=section.get("lr_scheduler") is not None,
        left_out=tuple(built.left_out),
    )


def parse_config(
    paths: Sequence[str],
    overrides: Sequence[str] = (),
    model_class: Any = None,
    datamodule_class: Any = None,
    *,
    text: str | None = None,
) -> dict[str, Any]:
    """Return what LightningCLI makes of configurations, defaults filled in, as plain data; nothing is built.

    Args:
        paths: as in `load_config`.
        overrides: as there.
        model_class: as there.
        datamodule_class: as there.
        text: what the last of the paths is going to hold; relative paths in it start from its folder.

    Raises:
        InputError: as there.
    """
    contents = [(path, read_config(path)[1]) for path in (paths if text is None else paths[:-1])]
    sources = [_Source(path, os.path.abspath(path), data) for path, data in contents]
    folder = os.curdir
    if text is not None:
        sources.append(_Source(paths[-1], text, loaded(text, paths[-1])))
        folder = os.path.dirname(os.path.abspath(paths[-1]))
    with _working_in(folder):
        parsed: dict[str, Any] = _run(sources, overrides, model_class, datamodule_class, build=False)
    return parsed


def read_config(path: str) -> tuple[str, dict[str, Any]]:
    """Return the text of a configuration and what it holds, by the safe loader.

    Raises:
        InputError: it cannot be read, is no YAML, or its top is no mapping.
    """
    text = read_text(Path(path), "a LightningCLI configuration in YAML or JSON")
    data = loaded(text, path)
    if data is not None and not isinstance(data, dict):
        raise InputError(f"{path} must hold sections such as model and trainer, got {type(data).__name__}")
    return text, data or {}


def is_under_fit(data: Mapping[str, Any]) -> bool:
    """Whether the sections stand under the subcommand, as in ``main.py --config FILE fit``."""
    return isinstance(data.get("fit"), dict) and "model" not in data and "trainer" not in data


@dataclass(frozen=True)
class _Source:
    """A configuration: how to call it, what LightningCLI is given (a path, or the text), and its data."""

    name: str
    given: str
    data: dict[str, Any]

    @property
    def sections(self) -> dict[str, Any]:
        return self.data["fit"] if is_under_fit(self.data) else self.data


def _run(
    sources: Sequence[_Source], overrides: Sequence[str], model_class: Any, datamodule_class: Any, *, build: bool
) -> Any:
    """Let LightningCLI parse, and build if asked to; return it, or else what it parsed."""
    if not sources:
        raise InputError("paths must name at least one configuration, got none")
    _check_installed()
    if (here := os.getcwd()) not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    names = ", ".join(source.name for source in sources)
    arguments = _arguments(sources, overrides)
    model_by_path = model_class is None or _names_class(sources, "model")
    data_by_path = datamodule_class is None or _names_class(sources, "data")
    if model_class is None and not _names_class(sources, "model") and not _overridden(overrides, "model"):
        raise InputError(
            f"{names} must name the model (model: class_path: train.LitModel), or its class be given beside it"
            f" (lrfinder suggest train.py:LitModel --config {sources[-1].name}), got neither"
        )
    try:
        reader = _reader(_lightning(sources, model_class), build)
        return reader(
            model_class,
            datamodule_class,
            save_config_callback=None,
            subclass_mode_model=model_by_path,
            subclass_mode_data=data_by_path,
            parser_kwargs={"exit_on_error": False},
            args=arguments,
        )
    except _Parsed as parsed:
        return parsed.config
    except LRFinderError:
        raise
    except ArgumentError as error:
        raise InputError(f"{names}: {_on_one_line(str(error))}") from None
    except SystemExit:  # --help, --print_config
        raise InputError(f"overrides must set values, such as --trainer.max_epochs 7, got {overrides}") from None
    except Exception as error:
        raise InputError(f"{names} must describe what can be built, got {_told(error)}") from error


def _arguments(sources: Sequence[_Source], overrides: Sequence[str]) -> list[str]:
    under_fit = [is_under_fit(source.data) for source in sources]
    if under_fit != sorted(under_fit, reverse=True):
        raise InputError(
            "configurations under a top-level fit must come before those without, which LightningCLI reads later, got "
            + ", ".join(source.name for source in sources)
        )
    configs = [f"--config={source.given}" for source in sources]
    count = sum(under_fit)
    return [*configs[:count], "fit", *configs[count:], *overrides]


def _names_class(sources: Sequence[_Source], section: str) -> bool:
    values = [source.sections.get(section) for source in sources]
    return any(isinstance(value, str) or (isinstance(value, dict) and "class_path" in value) for value in values)


def _overridden(overrides: Sequence[str], section: str) -> bool:
    return any(re.match(rf"--({section}(\.class_path)?|config|c)(=|$)", word) for word in overrides)


class _Parsed(Exception):  # noqa: N818  # no error
    """Ends a LightningCLI that was only to parse."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config


def _reader(lightning: ModuleType, build: bool) -> Any:
    """Return a LightningCLI that trains nothing, writes nothing, and neither prints usage nor exits."""
    import yaml

    cli = importlib.import_module(f"{lightning.__name__}.cli")

    class Reader(cli.LightningCLI):  # type: ignore[misc, name-defined]  # of either copy of Lightning
        left_out: tuple[str, ...] = ()

        def parse_arguments(self, parser: Any, args: Any) -> None:
            self.config = parser.parse_args(args)
            if not build:
                raise _Parsed(yaml.safe_load(parser.dump(self.config, skip_none=False))["fit"])
            _check_start(self.config["fit"])

        def before_instantiate_classes(self) -> None:
            """Take out what would write, some of it as soon as it is built."""
            section = self.config["fit"]["trainer"]
            self.without_loggers = section.get("logger") is False or section.get("barebones")
            section["logger"], section["profiler"] = False, None

        def instantiate_trainer(self, **kwargs: Any) -> Any:
            callbacks = self.config_init["fit"]["trainer"].get("callbacks") or []
            callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
            unwanted = _unwanted(lightning)
            self.left_out = tuple(type(one).__name__ for one in callbacks if isinstance(one, unwanted))
            # Modules and callbacks that log find a logger, as they would, which keeps nothing.
            dummy = importlib.import_module(f"{lightning.__name__}.loggers.logger").DummyLogger
            return super().instantiate_trainer(
                callbacks=[one for one in callbacks if not isinstance(one, unwanted)],
                logger=False if self.without_loggers else dummy(),
                enable_checkpointing=False,
                **kwargs,
            )

        def fit(self, **kwargs: Any) -> None:
            """Train nothing."""

    return Reader


def _unwanted(lightning: ModuleType) -> tuple[type, ...]:
    """Return the callbacks that write checkpoints or search by themselves, and ours."""
    ours = [getattr(importlib.import_module("lrfinder"), name) for name in OWN]
    theirs = lightning.callbacks
    return (theirs.Checkpoint, theirs.LearningRateFinder, theirs.BatchSizeFinder, *ours)


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


def _check_installed() -> None:
    try:
        importlib.import_module("docstring_parser")
        importlib.import_module("jsonargparse")
    except ImportError as error:
        raise InputError(
            f"configurations must be read by LightningCLI, which needs {error.name}: pip install 'lrfinder[config]'"
        ) from None


def _lightning(sources: Sequence[_Source], model_class: Any) -> ModuleType:
    """Import the copy of Lightning that the model is made with: `lightning.pytorch` or `pytorch_lightning`."""
    kind = model_class
    for source in sources:
        path = found(source.sections, ("model", "class_path"))
        if kind is None and isinstance(path, str) and "." in path:
            module, _, name = path.rpartition(".")
            try:
                kind = getattr(importlib.import_module(module), name, None)
            except ImportError:  # jsonargparse will say so
                continue
    bases = [base.__module__ for base in getattr(kind, "__mro__", ())]
    others = any(name.startswith("pytorch_lightning.") for name in bases)
    return importlib.import_module("pytorch_lightning" if others else "lightning.pytorch")


_LIBRARIES = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), os.path.dirname(__file__))
"""Where nothing is that the person could mend."""


def _told(error: BaseException) -> str:
    """Return what went wrong in the first place, and where in the person's own code, if it was there."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = f"{type(error).__name__}: {_on_one_line(str(error))}"
    if isinstance(error, SyntaxError):  # says where by itself
        return text
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_LIBRARIES)]
    return f"{text} ({frames[-1].filename}, line {frames[-1].lineno})" if frames else text


def _on_one_line(message: str) -> str:
    """Return what jsonargparse says without the list of all that a value could have been."""
    text = " ".join(message.split())
    text = re.sub(r"Does not validate against any of the Union subtypes Subtypes: .*? Errors: - ", "", text)
    text = re.sub(r" - Expected a <class 'NoneType'>", "", text)
    return re.sub(r" Given value type: .*", "", text)


@contextmanager
def _working_in(folder: str) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
