"""What a command line points at in somebody's code: `FILE.py:NAME` or `package.module:NAME`, imported and built."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lrfinder.arguments import arguments_for, did_you_mean
from lrfinder.blame import blame
from lrfinder.errors import InputError

__all__ = ["Target", "imported", "look_here", "without_byte_code"]


@dataclass(frozen=True)
class Target:
    """Something in somebody's code.

    Attributes:
        text: as it was given.
        where: path of a Python file, or name of a module.
        name: of what is wanted in it; dotted for what is inside a class.
        is_file: whether ``where`` is a path.
    """

    text: str
    where: str
    name: str
    is_file: bool

    @classmethod
    def parse(cls, text: str, argument: str = "target") -> Target:
        """Split at the last colon, so that the drive letter of a Windows path stays with it.

        Raises:
            InputError: there is no name behind a colon, or nothing before it.
        """
        where, colon, name = text.rpartition(":")
        if not (colon and where and all(part.isidentifier() for part in name.split("."))):
            raise InputError(
                f"{argument} must be FILE.py:NAME or package.module:NAME, got {text!r}{_names_in_file(Path(text))}"
            )
        is_file = where.endswith(".py") or "/" in where or os.sep in where or Path(where).is_file()
        return cls(text, where, name, is_file)

    def find(self) -> Any:
        """Import the file or module, once in a process, and return what the name stands for.

        Raises:
            InputError: there is no such file, module or name.
            TargetError: the code raises when it is imported.
        """
        found: Any = _import_file(Path(self.where)) if self.is_file else imported(self.where)
        for part in self.name.split("."):
            if not hasattr(found, part):
                known = [name for name, value in vars(found).items() if _is_own(name, value, found)]
                has = f"which has {', '.join(known)}" if known else "which has no class or function of its own"
                raise InputError(f"{self.where} has no {self.name}, {has}{did_you_mean(part, known)}")
            found = getattr(found, part)
        return found

    def build(self, texts: Mapping[str, str], flag: str) -> Any:
        """Return what is there; a class or a function is called with the arguments that the texts stand for.

        Raises:
            InputError: an argument does not fit, is missing, or is given to what is no class or function.
            TargetError: the code raises.
        """
        found = self.find()
        if not is_maker(found):
            if texts:
                raise InputError(f"{flag}.{next(iter(texts))} must be left out: {self.text} is built already")
            return found
        arguments = arguments_for(found, texts, flag)
        with blame(f"{self.text} cannot be built"):
            return found(**arguments)


def is_maker(found: Any) -> bool:
    """Whether it is to be called to get at what is wanted: a class, a function, a partial, but no module or loader."""
    if isinstance(found, type):
        return True
    return callable(found) and not hasattr(found, "parameters") and not hasattr(found, "train_dataloader")


def imported(name: str) -> ModuleType:
    """Import a module as ``python -m`` would, from the working folder too.

    Raises:
        InputError: there is no such module.
        TargetError: it raises when it is imported.
    """
    look_here()
    try:
        with blame(f"{name} cannot be imported"), _as_a_script(name):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = str(error.name)
        if error.name is None or not (name + ".").startswith(missing + "."):
            raise
        raise InputError(f"there is no module {missing}: give FILE.py:NAME, or run where {missing} is") from None


def look_here() -> None:
    """Import from the working folder too; for good, since data loaders import later."""
    if "" not in sys.path and (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)


@contextmanager
def without_byte_code() -> Iterator[None]:
    """Let imports, which somebody's code may do at any time, leave nothing beside what they import."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _import_file(path: Path) -> ModuleType:
    """Import a file as ``python FILE`` would find what stands beside it, under a name that other processes know."""
    if not path.is_file():
        beside = [one.name for one in sorted(path.parent.glob("*.py"))] if path.parent.is_dir() else []
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
    try:
        with blame(f"{path.name} cannot be imported{_relative(path)}"), _as_a_script(str(path)):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


def _relative(path: Path) -> str:
    """A file of a package cannot import relatively when it is imported by its path."""
    if not (path.parent / "__init__.py").exists():
        return ""
    return f" by its path; as part of its package: {path.parent.name}.{path.stem}:NAME"


@contextmanager
def _as_a_script(name: str) -> Iterator[None]:
    """Hide our arguments from the code; an exit is an error."""
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
    """Return what a file without a name behind it defines, read without running it."""
    try:
        tree = ast.parse(path.read_bytes()) if path.suffix == ".py" else None
    except (OSError, SyntaxError, ValueError):
        tree = None
    kinds = (ast.ClassDef, ast.FunctionDef)
    names = [node.name for node in tree.body if isinstance(node, kinds)] if tree is not None else []
    return f": one of {', '.join(f'{path}:{name}' for name in names)}?" if names else ""


def _is_own(name: str, value: Any, holder: Any) -> bool:
    """Whether a name is worth suggesting: public, callable or built, and not imported from elsewhere."""
    if name.startswith("_") or isinstance(value, ModuleType):
        return False
    home = holder.__name__ if isinstance(holder, ModuleType) else getattr(holder, "__module__", None)
    return bool(getattr(value, "__module__", None) == home)
