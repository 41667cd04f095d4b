"""References to the user's code, `FILE.py:NAME` or `package.module:NAME`: import it, build it, show its errors."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lrfinder.cli.options import arguments_for
from lrfinder.errors import InputError, LRFinderError, TargetError, did_you_mean

_OURS = str(Path(__file__).parents[1])

_LIGHTNINGS = ("lightning", "pytorch_lightning", "lightning_fabric", "lightning_utilities")

_STANDARD = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})


@dataclass(frozen=True)
class CodeRef:
    """A reference to something in the user's code. Errors of that code become a `TargetError`, others an `InputError`.

    Attributes:
        text: the reference as it was given.
        where: path of a Python file, or name of a module.
        name: the name in that file or module; dotted if it stands inside a class.
        is_file: whether ``where`` is a path.
    """

    text: str
    where: str
    name: str
    is_file: bool

    @classmethod
    def parse(cls, text: str, argument: str = "target") -> CodeRef:
        """Split at the last colon, which spares the drive letter of a Windows path; errors name the argument."""
        where, colon, name = text.rpartition(":")
        if not (colon and where and all(part.isidentifier() for part in name.split("."))):
            raise InputError(
                f"{argument} must be FILE.py:NAME or package.module:NAME, got {text!r}{_names_in_file(Path(text))}"
            )
        is_file = where.endswith(".py") or "/" in where or os.sep in where or Path(where).is_file()
        return cls(text, where, name, is_file)

    def find(self) -> Any:
        """Import the file or module, once in a process, and return what the name stands for."""
        value: Any = _import_file(Path(self.where)) if self.is_file else import_module(self.where)
        for part in self.name.split("."):
            if not hasattr(value, part):
                known = [name for name, held in vars(value).items() if _is_own(name, held, value)]
                has = f"which has {', '.join(known)}" if known else "which has no class or function of its own"
                raise InputError(f"{self.where} has no {self.name}, {has}{did_you_mean(part, known)}")
            value = getattr(value, part)
        return value

    def build(self, texts: Mapping[str, str], flag: str) -> Any:
        """Return what the name stands for; a class or a function is called first.

        Args:
            texts: the arguments to call it with, as texts by parameter.
            flag: option prefix of these arguments on the command line, such as ``--init``.
        """
        value = self.find()
        if not _is_maker(value):
            if texts:
                raise InputError(f"{flag}.{next(iter(texts))} must be left out: {self.text} is built already")
            return value
        arguments = arguments_for(value, texts, flag)
        with user_code_errors(f"{self.text} cannot be built"):
            return value(**arguments)


def import_module(name: str) -> ModuleType:
    """Import a module as ``python -m`` would, from the working folder too; a missing one is an `InputError`."""
    add_working_folder()
    try:
        with user_code_errors(f"{name} cannot be imported"), _as_a_script(name):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = str(error.name)
        if error.name is None or not (name + ".").startswith(missing + "."):
            raise
        raise InputError(f"there is no module {missing}: give FILE.py:NAME, or run where {missing} is") from None


def add_working_folder() -> None:
    """Add the working folder to the import path; it stays there, since data loaders import later."""
    if "" not in sys.path and (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)


@contextmanager
def without_byte_code() -> Iterator[None]:
    """Prevent imports, which the user's code may do at any time, from writing byte code beside the sources."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


@contextmanager
def user_code_errors(what: str) -> Iterator[None]:
    """Turn an error of the user's code within the block into a `TargetError` with its traceback.

    An error that never passed through that code, such as Lightning's about its arguments, becomes one line. An error
    of lrfinder itself passes through unchanged.

    Args:
        what: what could not be done; the message begins with it.

    Raises:
        TargetError: with the frames from the first one of the user's code on, without those of lrfinder and Lightning.
        InputError: for an error without such a frame.
    """
    try:
        yield
    except SystemExit as end:  # Lightning's exit after Ctrl-C does not come this far
        report = traceback.TracebackException.from_exception(end)
        if not _trim(report):
            raise
        raise TargetError(f"{what}; it must not exit:\n{''.join(report.format()).rstrip()}") from None
    except LRFinderError as error:
        if error.__cause__ is None or isinstance(error.__cause__, LRFinderError):
            raise
        report = traceback.TracebackException.from_exception(error.__cause__)
        _trim(report)
        raise TargetError(f"{error}:\n{''.join(report.format()).rstrip()}") from None
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        # The caller words the error of a module that was not found.
        if isinstance(error, ModuleNotFoundError) and not any(map(_is_users, frames)):
            raise
        if frames and frames[-1].filename.startswith(_OURS) and not isinstance(error, SyntaxError):
            raise
        report = traceback.TracebackException.from_exception(error)
        if not _trim(report) and not isinstance(error, SyntaxError):
            text = " ".join("".join(report.format_exception_only()).split())
            raise InputError(f"{what}: {text}") from None
        raise TargetError(f"{what}:\n{''.join(report.format()).rstrip()}") from None


def _trim(report: traceback.TracebackException) -> bool:
    """Keep the relevant frames, in the causes too; return whether any frame is of the user's code."""
    for earlier in (report.__cause__, report.__context__):
        if earlier is not None:
            _trim(earlier)
    users = [_is_users(frame) for frame in report.stack]
    first = users.index(True) if any(users) else len(users)
    report.stack[:] = [frame for frame in report.stack[first:] if not _only_passes_on(frame)]
    return any(users)


def _is_users(frame: traceback.FrameSummary) -> bool:
    """Return whether the frame is of the user's code, or of a package that the user chose."""
    if frame.filename.startswith((_OURS, "<")):
        return False
    package = _package(frame)
    return package not in ("torch", *_LIGHTNINGS) and (bool(package) or not frame.filename.startswith(_STANDARD))


def _only_passes_on(frame: traceback.FrameSummary) -> bool:
    """Return whether the frame is of lrfinder or Lightning, which only passed the call on."""
    return frame.filename.startswith((_OURS, "<frozen")) or _package(frame) in _LIGHTNINGS


def _package(frame: traceback.FrameSummary) -> str:
    """Return the installed package that a frame belongs to, empty if none."""
    parts = Path(frame.filename).parts
    for folder in ("site-packages", "dist-packages"):
        if folder in parts[:-1]:
            return parts[parts.index(folder) + 1]
    return ""


def _is_maker(value: Any) -> bool:
    """Return whether a value is to be called: a class, a function, a partial, but not a model or a loader."""
    if isinstance(value, type):
        return True
    return callable(value) and not hasattr(value, "parameters") and not hasattr(value, "train_dataloader")


def _import_file(path: Path) -> ModuleType:
    """Import a file under its own name, which worker processes know, with its folder on the import path."""
    if not path.is_file():
        beside = [one.name for one in sorted(path.parent.glob("*.py")) if one.is_file()]
        raise InputError(f"there is no file {path}{did_you_mean(path.name, beside)}")
    path = path.resolve()
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    if known is not None:
        raise InputError(f"{path.name} must not be called as a module that is in use, {path.stem}: rename it")
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} must be a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    # A file of a package cannot import relatively when it is imported by its path.
    is_packaged = (path.parent / "__init__.py").exists()
    hint = f" by its path; as part of its package: {path.parent.name}.{path.stem}:NAME" if is_packaged else ""
    try:
        with user_code_errors(f"{path.name} cannot be imported{hint}"), _as_a_script(str(path)):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


@contextmanager
def _as_a_script(name: str) -> Iterator[None]:
    """Hide our command line from the code, and turn an exit into an error."""
    arguments, sys.argv = sys.argv, [name]
    try:
        yield
    except SystemExit as end:
        raise InputError(
            f"{name} must not run anything when it is imported, and it exits ({end.code}): put that under"
            " if __name__ == '__main__'"
        ) from None
    finally:
        sys.argv = arguments


def _names_in_file(path: Path) -> str:
    """Return a hint with what a file defines, read without running it; empty if there is nothing to say."""
    try:
        tree = ast.parse(path.read_bytes()) if path.suffix == ".py" else None
    except (OSError, SyntaxError, ValueError):
        tree = None
    kinds = (ast.ClassDef, ast.FunctionDef)
    names = [node.name for node in tree.body if isinstance(node, kinds)] if tree is not None else []
    return f": one of {', '.join(f'{path}:{name}' for name in names)}?" if names else ""


def _is_own(name: str, value: Any, holder: Any) -> bool:
    """Return whether a name is worth suggesting: public, defined in the holder, and no module."""
    if name.startswith("_") or isinstance(value, ModuleType):
        return False
    home = holder.__name__ if isinstance(holder, ModuleType) else getattr(holder, "__module__", None)
    return bool(getattr(value, "__module__", None) == home)
