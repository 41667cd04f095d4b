"""Shared by all tests: deterministic, one thread (tiny tensors lose time to more), no display.

Hypothesis draws the same examples in every run. New ones are drawn by the separate command ::

    pytest --hypothesis-profile=random

or with ``HYPOTHESIS_PROFILE=random``; what it finds is pinned by an ``@example`` or a test of its own.
"""

from __future__ import annotations

import os

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start, too

import pytest
import torch
from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)  # a deadline depends on the machine
settings.register_profile("random", derandomize=False, deadline=None, print_blob=True, max_examples=300)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))  # --hypothesis-profile, read later, goes before


@pytest.fixture(autouse=True)
def _deterministic(tmp_path, monkeypatch):
    """Seed torch, use one thread, and run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    torch.manual_seed(0)


def pytest_collection_modifyitems(items):
    """Skip tests marked gpu where there is no CUDA device."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs CUDA"))
