"""LightningCLI configurations: read by LightningCLI itself, built into what a search needs, and nothing is trained."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrfinder.errors import InputError
from lrfinder.files import read_text
from lrfinder.lightning_cli import check_installed, run
from lrfinder.target import look_here
from lrfinder.yamltext import found, loaded

__all__ = ["Configured", "is_under_fit", "load_config", "parse_config", "read_config"]


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
    look_here()
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
    look_here()
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
    check_installed()
    by_path = _class_paths(sources, "model")
    if model_class is None and not by_path and not _names(sources, overrides, "model"):
        raise InputError(
            f"{_called(sources)} must name the model (model: class_path: train.LitModel), or its class be given beside"
            f" it (lrfinder suggest train.py:LitModel --config {sources[-1].name}), got neither"
        )
    return run(
        _arguments(sources, overrides),
        _called(sources),
        model_class or (by_path[-1] if by_path else None),
        build=build,
        model_class=model_class,
        datamodule_class=datamodule_class,
        subclass_mode_model=model_class is None or bool(by_path),
        subclass_mode_data=datamodule_class is None or bool(_class_paths(sources, "data")),
    )


def _arguments(sources: Sequence[_Source], overrides: Sequence[str]) -> list[str]:
    under_fit = [is_under_fit(source.data) for source in sources]
    if under_fit != sorted(under_fit, reverse=True):
        raise InputError(
            "configurations under a top-level fit must come before those without, which LightningCLI reads later, got "
            + _called(sources)
        )
    configs = [f"--config={source.given}" for source in sources]
    count = sum(under_fit)
    return [*configs[:count], "fit", *configs[count:], *overrides]


def _class_paths(sources: Sequence[_Source], section: str) -> list[str]:
    paths = [found(source.sections, (section, "class_path")) for source in sources]
    return [path for path in paths if isinstance(path, str)]


def _names(sources: Sequence[_Source], overrides: Sequence[str], section: str) -> bool:
    """Whether a class may be named in another way: its bare name, a file of its own, an override."""
    words = (re.match(rf"--({section}(\.class_path)?|config|c)(=|$)", word) for word in overrides)
    return any(isinstance(source.sections.get(section), str) for source in sources) or any(words)


def _called(sources: Sequence[_Source]) -> str:
    return ", ".join(source.name for source in sources)


@contextmanager
def _working_in(folder: str) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
