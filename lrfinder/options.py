"""Values of command-line options, as argparse takes them."""

from __future__ import annotations

import argparse
import math

__all__ = ["budget", "count", "seed", "steps"]


def count(text: str) -> int:
    """Read a number of at least one."""
    return _whole(text, 1, "of at least 1")


def budget(text: str) -> float | str:
    """Read steps, a share, or a text that says which."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def steps(text: str) -> int:
    """Read a number of steps that may be none."""
    return _whole(text, 0, "of at least 0")


def seed(text: str) -> int:
    """Read a seed."""
    return _whole(text, 0, "from 0 to 2**64 - 1", 2**64 - 1)  # what torch takes


def _whole(text: str, least: int, rule: str, most: float = math.inf) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"must be a whole number {rule}, got {text}")
    return number
