"""Results that `lrfinder suggest --out` wrote, read back as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lrfinder.curve import SCHEMA_VERSION
from lrfinder.errors import InputError
from lrfinder.files import json_object, read_text
from lrfinder.suggestion import Suggestion

__all__ = ["read_results"]


def read_results(paths: Sequence[str]) -> dict[str, Suggestion]:
    """Read suggestions from JSON documents, each of one suggestion or of a comparison of several.

    Returns:
        The suggestions in the order read, by a label each: the name of the file without its ending, the name of the
        optimizer in a comparison, or both where there are several files; numbered where that is not unique.

    Raises:
        InputError: a file is missing, unreadable, no JSON or no result; the text names file, field and value.
    """
    found: dict[str, Suggestion] = {}
    for path in paths:
        for optimizer, suggestion in _read(path):
            parts = (Path(path).stem if len(paths) > 1 or not optimizer else "", optimizer)
            label = unique = " ".join(filter(None, parts))
            number = 2
            while unique in found:
                unique, number = f"{label} ({number})", number + 1
            found[unique] = suggestion
    return found


def _read(path: str) -> Iterator[tuple[str, Suggestion]]:
    document = json_object(read_text(Path(path), "JSON written by lrfinder suggest --out"), path)
    if "comparison" not in document:
        yield "", Suggestion.from_dict(document, path)
        return
    if document.get("schema_version") != SCHEMA_VERSION:
        raise InputError(f"{path}: schema_version must be {SCHEMA_VERSION}, got {document.get('schema_version')!r:.60}")
    entries = document["comparison"]
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: comparison must be a list of results, at least one, got {entries!r:.60}")
    for i, entry in enumerate(entries):
        yield _entry(entry, f"{path}: comparison[{i}]")


def _entry(entry: Any, name: str) -> tuple[str, Suggestion]:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("optimizer"), str):
        raise InputError(f"{name}: must be an object with the name of an optimizer, got {entry!r:.60}")
    return entry["optimizer"], Suggestion.from_dict({"schema_version": SCHEMA_VERSION, **entry}, name)
