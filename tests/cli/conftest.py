"""The command line, run in the process of a test."""

from __future__ import annotations

import pytest

from lrfinder.cli.main import main


@pytest.fixture
def lrfinder(capsys):
    """Run the command line in this process; return ``(exit code, stdout, stderr)``."""

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        return (end.value.code, *capsys.readouterr())

    return run
