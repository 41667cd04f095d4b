"""The versions that decide a result."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

from lrfinder import __version__

__all__ = ["environment"]


def environment() -> dict[str, Any]:
    """Return the versions that decide a result; nothing is imported to learn them."""
    versions: dict[str, Any] = {
        "lrfinder": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
    }
    for package in ("torch", "lightning", "numpy", "scipy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions
