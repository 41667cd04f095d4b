"""What `lrfinder suggest` tunes, built from its options: the demo, the user's code, or a configuration."""

from __future__ import annotations

import argparse
import hashlib
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrfinder.cli.code_ref import CodeRef
from lrfinder.cli.options import parse_literal
from lrfinder.errors import InputError, one_of
from lrfinder.probing.options import SearchOptions
from lrfinder.schedules.policy import POLICIES

if TYPE_CHECKING:
    from lrfinder.cli.jobs import Job
    from lrfinder.cli.optimizer_choice import OptimizerChoice


Dotted = list[tuple[str, str]]
"""Options with dots in their names, without the two dashes, and their values, in order."""

_DOTTED = re.compile(r"--([A-Za-z_]\w*(?:\.\w+)+\+?|model|lr_scheduler|seed_everything|ckpt_path)(?:=(.*))?", re.DOTALL)
"""Options with dots in their names, and the options of LightningCLI that have none."""

_OWN = ("init", "data", "optimizer", "trainer")

_TRAINERS = ("accelerator", "devices", "precision", "strategy")

_DEMO_STEPS = 430
"""Optimizer steps of the training that the demo stands for."""


def split_dotted(arguments: Sequence[str]) -> tuple[list[str], Dotted]:
    """Take options such as ``--init.hidden 256``, whose names only the target knows, out of the arguments."""
    rest: list[str] = []
    dotted: Dotted = []
    words = iter(arguments)
    for word in words:
        match = _DOTTED.fullmatch(word)
        if match is None:
            rest.append(word)
            continue
        value = match[2] if match[2] is not None else next(words, None)
        if value is None or (match[2] is None and value.startswith("--")):
            raise InputError(f"--{match[1]} must be given a value, got {'none' if value is None else value}")
        dotted.append((match[1], value))
    return rest, dotted


def read_search_options(options: argparse.Namespace) -> SearchOptions:
    """Return the options of the search, checked before anything heavy is loaded."""
    _check_pointed(options)
    if options.steps is not None and options.epochs is not None:
        raise InputError(f"--steps and --epochs must not both be given, got {options.steps} and {options.epochs}")
    demo = options.target is None and not options.config and options.curve is None
    steps = options.steps or _DEMO_STEPS if demo else options.steps
    if options.policy is not None:
        one_of("--policy", options.policy, ("auto", "keep", *POLICIES))
    search = SearchOptions(
        options.method, steps, options.budget, options.min_lr, options.max_lr, epochs=options.epochs,
        monitor=options.monitor, mode=options.mode, policy=options.policy,
    )  # fmt: skip
    if len(options.optimizer) > 1 and search.resolved_budget.seconds is not None:
        raise InputError(
            f"--budget must be steps or a share to compare optimizers, got {options.budget!r}: probes of different"
            " lengths do not compare"
        )
    return search


def _check_pointed(options: argparse.Namespace) -> None:
    """Check that options for a target or a configuration come with one."""
    pointed = options.target is not None or options.config
    for name in ("data", "epochs", *_TRAINERS):
        if not pointed and getattr(options, name) is not None:
            raise InputError(f"--{name} must be given with a target or --config, got {getattr(options, name)!r}")
    for name, _ in options.dotted:
        owner = name.partition(".")[0]
        if owner == "init" and options.config:
            raise InputError(f"--{name} must be given as --model.{name[5:]} with --config")
        if owner not in _OWN and not options.config:
            raise InputError(f"--{name} must be given with --config")
        if owner != "optimizer" and not pointed:
            raise InputError(f"--{name} must be given with a target")


def chosen(options: argparse.Namespace) -> list[OptimizerChoice | None]:
    """Return the requested optimizers; None stands for the one that the target has."""
    texts = _under("optimizer", options.dotted) if options.optimizer or not options.config else {}
    if not options.optimizer:
        if texts:
            raise InputError(f"--optimizer.{next(iter(texts))} must be given with --optimizer NAME")
        return [None]
    from lrfinder.cli.optimizer_choice import choices

    if options.target is not None and (target := CodeRef.parse(options.target)).is_file:
        seed_everything(seed_of(options))
        target.find()  # --optimizer may then name modules beside it, too
    return list(choices(options.optimizer, texts))


def build(options: argparse.Namespace, search: SearchOptions, choice: OptimizerChoice | None) -> Job:
    """Build the training to tune from the seed, so that it is the same for every optimizer."""
    if options.config:
        return _from_config(options, search, choice)
    return _demo(seed_of(options), choice) if options.target is None else _from_code(options, search, choice)


def _from_code(options: argparse.Namespace, search: SearchOptions, choice: OptimizerChoice | None) -> Job:
    from lrfinder.cli.jobs import LightningJob, loaders_of, new_trainer
    from lrfinder.lightning.internals import is_lightning

    target = CodeRef.parse(options.target)
    data = None if options.data is None else CodeRef.parse(options.data, "--data")
    seed_everything(seed_of(options))
    for one in (target, data):
        if one is not None:
            one.find()
    seed_everything(seed_of(options))  # again: only the first optimizer's build follows an import
    made = target.build(_under("init", options.dotted), "--init")
    if is_lightning(made, "LightningDataModule"):
        raise InputError(f"target must be a model, got the data {target.text}: give it as --data")
    if not is_lightning(made):
        return _plain(made, options, choice)
    texts = _under("data", options.dotted)
    if data is None and texts:
        raise InputError(f"--data.{next(iter(texts))} must be given with --data FILE.py:NAME")
    loaders = {} if data is None else loaders_of(data.build(texts, "--data"), data.text)
    given = {name: parse_literal(text) for name, text in _asked_of_trainer(options)}
    trainer = new_trainer(made, options.target, search, given, has_data=data is not None)
    return LightningJob(trainer, made, loaders, options.target, choice)


def _plain(made: object, options: argparse.Namespace, choice: OptimizerChoice | None) -> Job:
    from lrfinder.cli.jobs import TorchJob

    job = TorchJob.of(made, options.target, choice)
    given = [name for name in ("data", *_TRAINERS) if getattr(options, name) is not None]
    given += [name for name, _ in options.dotted if name.startswith(("data.", "trainer."))]
    if given:
        raise InputError(f"--{given[0]} must be left out for {options.target}, which is no LightningModule")
    return job


def facts(options: argparse.Namespace, choice: OptimizerChoice | None) -> dict[str, Any]:
    """Return what must agree, besides the options of the search, for a journal to be resumed."""
    import torch

    known: dict[str, Any] = {"seed": seed_of(options), "torch": torch.__version__}
    more = {
        **{name: getattr(options, name) for name in _TRAINERS},
        "target": options.target,
        "data": options.data,
        "config": [[path, hashlib.sha256(Path(path).read_bytes()).hexdigest()] for path in options.config] or None,
        "options": [list(pair) for pair in options.dotted] or None,
        "epochs": options.epochs,
        "optimizer": None if choice is None else choice.name,
        "monitor": options.monitor and [options.monitor, options.mode],
    }
    return {**known, **{name: value for name, value in more.items() if value is not None}}


def _demo(seed: int, choice: OptimizerChoice | None) -> Job:
    import torch

    from lrfinder.cli.jobs import TorchJob
    from lrfinder.demo import digits_demo

    torch.set_num_threads(1)  # for a network this small, more threads only wait for each other
    return TorchJob.of(digits_demo(seed), "the demo", choice)


def _from_config(options: argparse.Namespace, search: SearchOptions, choice: OptimizerChoice | None) -> Job:
    from lrfinder.cli.config_read import load_config
    from lrfinder.cli.jobs import LightningJob, check_loader
    from lrfinder.lightning.inside_fit import quiet

    with quiet():
        made = load_config(options.config, **config_arguments(options, search, choice))
    data = {} if made.datamodule is None else {"datamodule": made.datamodule}
    name = options.config[-1]
    check_loader(made.module, name, has_data=bool(data), remedy="add a data section, or give --data FILE.py:NAME")
    return LightningJob(made.trainer, made.module, data, name, choice, made.seed)


def config_arguments(
    options: argparse.Namespace, search: SearchOptions, choice: OptimizerChoice | None
) -> dict[str, Any]:
    """Return the overrides and classes with which the configurations are read, as `load_config` takes them."""
    seed_everything(seed_of(options))
    arguments: dict[str, Any] = {}
    for argument, name, text in (("target", "model", options.target), ("--data", "datamodule", options.data)):
        if text is not None:
            arguments[f"{name}_class"] = CodeRef.parse(text, argument).find()
    seed_everything(seed_of(options))
    # With an --optimizer, options of that name are for it, and not for the configuration's.
    left = "trainer." if choice is None else ("trainer.", "optimizer.")
    overrides = [f"--{name}={value}" for name, value in options.dotted if not name.startswith(left)]
    overrides += [f"--trainer.{name}={value}" for name, value in _asked_of_trainer(options)]
    if options.seed is not None:
        overrides += [f"--seed_everything={options.seed}"]
    if search.steps is not None:  # as long as that, however many epochs the configuration has
        overrides += [f"--trainer.max_steps={search.steps}", "--trainer.max_epochs=-1"]
    elif search.epochs is not None:
        overrides += [f"--trainer.max_epochs={search.epochs}"]
    return {**arguments, "overrides": overrides}


def _asked_of_trainer(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Return the options of the Trainer; those that need no ``--trainer.`` come first."""
    named = [(name, getattr(options, name)) for name in _TRAINERS if getattr(options, name) is not None]
    return [*named, *_under("trainer", options.dotted).items()]


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def seed_of(options: argparse.Namespace) -> int:
    """Return the seed for everything that a configuration does not seed."""
    return int(options.seed or 0)


def _under(prefix: str, dotted: Dotted) -> dict[str, str]:
    return {name.removeprefix(f"{prefix}."): value for name, value in dotted if name.startswith(f"{prefix}.")}
