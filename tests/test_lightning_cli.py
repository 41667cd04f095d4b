"""What LightningCLI needs, and what is said where it is not there."""

from __future__ import annotations

import sys

import pytest

from lrfinder import InputError
from lrfinder.lightning_cli import check_installed


@pytest.mark.parametrize("package", ["jsonargparse", "docstring_parser"])
def test_a_missing_package_is_named_with_its_remedy(package, monkeypatch):
    check_installed()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"LightningCLI, which needs {package}: pip install 'lrfinder\[config\]'$"):
        check_installed()
