"""LightningCLI as a reader: it parses and builds, trains and writes nothing, never exits, and says what is wrong."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sysconfig
import traceback
import warnings
from argparse import ArgumentError
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from lrfinder.errors import InputError, LRFinderError

__all__ = ["OWN", "check_installed", "run"]

OWN = ("LRFinder", "PolicyCallback")
"""Callbacks of ours, which a search must not meet: one would search again, the other drive the rate."""


def check_installed() -> None:
    """Raise if LightningCLI could not work.

    Raises:
        InputError: naming the package that is missing, and what to install.
    """
    try:
        importlib.import_module("docstring_parser")
        importlib.import_module("jsonargparse")
    except ImportError as error:
        raise InputError(
            f"configurations must be read by LightningCLI, which needs {error.name}: pip install 'lrfinder[config]'"
        ) from None


def run(arguments: Sequence[str], name: str, model: Any, *, build: bool, **classes: Any) -> Any:
    """Parse, and build if asked to.

    Args:
        arguments: a command line of LightningCLI, with the subcommand ``fit``.
        name: what to call the configurations in errors.
        model: class of the model or its dotted path, which tells whose LightningCLI it is; None where unknown.
        build: whether to build.
        classes: keyword arguments of LightningCLI.

    Returns:
        The LightningCLI, with ``trainer``, ``model``, ``datamodule`` and ``left_out``; or else what was parsed.

    Raises:
        InputError: with what jsonargparse, Lightning or the person's own code had to say.
    """
    try:
        reader = _reader(_lightning(model), build)
        parser = {"exit_on_error": False}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # how Lightning uses jsonargparse is not the person's
            return reader(save_config_callback=None, parser_kwargs=parser, args=list(arguments), **classes)
    except _Parsed as parsed:
        return parsed.config
    except LRFinderError:
        raise
    except ArgumentError as error:
        raise InputError(f"{name}: {_on_one_line(str(error))}") from None
    except SystemExit:  # --help, --print_config
        raise InputError("overrides must set values, such as --trainer.max_epochs 7, got one that prints") from None
    except Exception as error:
        raise InputError(f"{name} must describe what can be built, got {_told(error)}") from error


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


def _lightning(model: Any) -> ModuleType:
    """Import the copy of Lightning that the model is made with: `lightning.pytorch` or `pytorch_lightning`."""
    if isinstance(model, str) and "." in model:
        module, _, name = model.rpartition(".")
        with contextlib.suppress(ImportError):  # jsonargparse will say so
            model = getattr(importlib.import_module(module), name, None)
    bases = [base.__module__ for base in getattr(model, "__mro__", ())]
    others = any(name.startswith("pytorch_lightning.") for name in bases)
    return importlib.import_module("pytorch_lightning" if others else "lightning.pytorch")


_LIBRARIES = (*(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")), os.path.dirname(__file__))
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
    text = re.sub(r" Given value type: <class 'jsonargparse.*", "", text)
    return re.sub(r" Given value type: <class '[\w.]+'> Given value: (.{,80}).*", r", got \1", text)
