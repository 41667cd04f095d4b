"""Whose error it is: what somebody's code raises, shown without the frames of those who called it."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lrfinder.errors import InputError, LRFinderError, TargetError

__all__ = ["blame"]

_OURS = str(Path(__file__).parent)
_LIGHTNINGS = ("lightning", "pytorch_lightning", "lightning_fabric", "lightning_utilities")
_STANDARD = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})


@contextmanager
def blame(what: str) -> Iterator[None]:
    """Turn an error of somebody's code within the block into one that says so, with its traceback.

    An error that never passed through that code, of Lightning about its arguments for one, is told in a line. One that
    comes from lrfinder itself passes through as it is.

    Args:
        what: what could not be done.

    Raises:
        TargetError: with the frames from the first one of that code on, those of lrfinder and Lightning left out.
        InputError: an error without such a frame.
    """
    try:
        yield
    except LRFinderError as error:
        if error.__cause__ is None or isinstance(error.__cause__, LRFinderError):
            raise
        told = traceback.TracebackException.from_exception(error.__cause__)
        _trim(told)
        raise TargetError(f"{error}:\n{''.join(told.format()).rstrip()}") from None
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        # A module that was not found is told in the caller's words.
        if isinstance(error, ModuleNotFoundError) and not any(map(_is_theirs, frames)):
            raise
        if frames and frames[-1].filename.startswith(_OURS) and not isinstance(error, SyntaxError):
            raise
        told = traceback.TracebackException.from_exception(error)
        if not _trim(told) and not isinstance(error, SyntaxError):
            text = " ".join("".join(told.format_exception_only()).split())
            raise InputError(f"{what}: {text}") from None
        raise TargetError(f"{what}:\n{''.join(told.format()).rstrip()}") from None


def _trim(told: traceback.TracebackException) -> bool:
    """Leave the frames worth seeing, in the errors that led to it too; return whether any is of their code."""
    for earlier in (told.__cause__, told.__context__):
        if earlier is not None:
            _trim(earlier)
    theirs = [_is_theirs(frame) for frame in told.stack]
    first = theirs.index(True) if any(theirs) else len(theirs)
    told.stack[:] = [frame for frame in told.stack[first:] if not _is_between(frame)]
    return any(theirs)


def _is_theirs(frame: traceback.FrameSummary) -> bool:
    """Whether the frame is of their code, or of a package that they chose."""
    if frame.filename.startswith((_OURS, "<")):
        return False
    package = _package(frame)
    return package not in ("torch", *_LIGHTNINGS) and (bool(package) or not frame.filename.startswith(_STANDARD))


def _is_between(frame: traceback.FrameSummary) -> bool:
    """Whether the frame is ours or Lightning's, which only passed the call on."""
    return frame.filename.startswith((_OURS, "<frozen")) or _package(frame) in _LIGHTNINGS


def _package(frame: traceback.FrameSummary) -> str:
    """Return the installed package that a frame is of, empty where it is of none."""
    parts = Path(frame.filename).parts
    for folder in ("site-packages", "dist-packages"):
        if folder in parts[:-1]:
            return parts[parts.index(folder) + 1]
    return ""
