"""A file that a search writes as it goes, a JSON line per result, so that one that was killed can go on from there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lrfinder.curve import SCHEMA_VERSION
from lrfinder.errors import InputError

__all__ = ["Journal"]

Result = TypeVar("Result")


class Journal:
    """Results in the order they came: those on file are given back, new ones appended at once.

    Args:
        path: the file, created where it is missing. A last line that was not finished is dropped.
        settings: what makes two searches the same one; must equal those on file.

    Raises:
        InputError: the file is no journal, or of another search, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        header = {"schema_version": SCHEMA_VERSION, "kind": "journal", "settings": json.loads(json.dumps(settings))}
        try:
            text = self.path.read_bytes() if self.path.exists() else b""
            whole = text[: text.rfind(b"\n") + 1]
            if not whole and not json.dumps(header).encode().startswith(text):  # no journal killed in its first line
                raise InputError(f"journal must be one that lrfinder wrote, got {path}: give another path")
            self._check(whole, header)
            self._left = [json.loads(line) for line in whole.splitlines()[1:]]
            with self.path.open("r+b" if text else "wb") as file:
                file.truncate(len(whole))
        except InputError:
            raise
        except OSError as error:
            raise InputError(f"journal must be a file that can be written, got {path}: {error.strerror}") from None
        except ValueError:
            raise InputError(f"journal must be one that lrfinder wrote, got {path}, which has a damaged line") from None
        self.resumed = len(self._left)
        if not whole:
            self._append(header)

    def result(
        self, kind: str, measure: Callable[[], Result], write: Callable[[Result], Any], read: Callable[[Any], Result]
    ) -> Result:
        """Return the next result: that on file, else ``measure()``, appended.

        Args:
            kind: what it is; must be what is next on file.
            measure: gets it.
            write: turns it into JSON-ready data.
            read: turns that back.

        Raises:
            InputError: something else comes next on file.
        """
        if not self._left:
            value = measure()
            self._append({"kind": kind, "result": write(value)})
            return value
        record = self._left.pop(0)
        try:
            if record["kind"] != kind:
                raise InputError(f"journal {self.path} has {record['kind']!r} where {kind!r} comes: remove the file")
            value = read(record["result"])
        except InputError:
            raise
        except (KeyError, TypeError, ValueError):
            raise InputError(
                f"journal must be one that lrfinder wrote, got {self.path}, where {kind!r} is malformed"
            ) from None
        return value

    def _check(self, text: bytes, header: Mapping[str, Any]) -> None:
        if not text:
            return
        found = json.loads(text.splitlines()[0])
        if not isinstance(found, dict) or found.get("kind") != "journal":
            raise InputError(f"journal must be one that lrfinder wrote, got {self.path}: give another path")
        if found.get("schema_version") != SCHEMA_VERSION:
            raise InputError(f"journal {self.path}: schema_version must be {SCHEMA_VERSION}")
        old, new = found.get("settings") or {}, header["settings"]
        for name in [*new, *(name for name in old if name not in new)]:
            if old.get(name) != new.get(name):
                raise InputError(
                    f"journal {self.path} belongs to a search with {name} = {old.get(name)!r}, got {name} ="
                    f" {new.get(name)!r}: give the same, or remove the file"
                )

    def _append(self, record: Mapping[str, Any]) -> None:
        line = json.dumps(record, allow_nan=False) + "\n"
        with self.path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
