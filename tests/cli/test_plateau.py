from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.processes import loaded_by

from lrfinder import find_plateaus, read_log
from lrfinder.cli.main import main


@pytest.fixture(autouse=True)
def _log():
    """Write a log with two metrics, one of which is on a plateau."""
    rng = np.random.default_rng(0)
    loss = 1 + np.exp(-np.arange(200) / 8) + 0.001 * rng.normal(size=200)
    rows = [f"{10 * i},{0.1 if i < 150 else 0.01},{one!r},{1 - one / 3!r}\n" for i, one in enumerate(loss.tolist())]
    Path("metrics.csv").write_text("step,lr,train_loss,acc\n" + "".join(rows))


@pytest.fixture
def lrfinder(capsys):
    """Run the command line in this process; return ``(exit code, stdout, stderr)``."""

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["plateau", *arguments])
        return (end.value.code, *capsys.readouterr())

    return run


def test_the_whole_output():
    done = subprocess.run(
        [sys.executable, "-m", "lrfinder", "plateau", "metrics.csv"], capture_output=True, text=True, check=False
    )
    scan = find_plateaus(read_log("metrics.csv"))
    assert len(scan.plateaus) >= 1
    assert (done.stdout, done.stderr, done.returncode) == (f"{scan}\n", "", 0)
    assert os.listdir() == ["metrics.csv"]


def test_no_plateau_is_an_answer(lrfinder):
    Path("short.csv").write_text("loss\n3\n2\n1\n")
    code, out, err = lrfinder("short.csv")
    assert out.splitlines() == [
        "Log       short.csv: loss, 3 rows, steps 1 to 3",
        "Read as   CSV; step = number of the row, metric = 'loss', no learning rate",
        "End       step 3: could not be tested, see the caveats",
        "Caveat    Too few rows to test: 3, at least 24 are needed.",
    ]
    assert (code, err) == (0, "")


def test_every_option_reaches_the_search(lrfinder):
    options = ["--loss-column", "acc", "--step-column", "step", "--mode", "max"]
    options += ["--delta", "0.1", "--alpha", "0.01", "--ahead", "700"]
    code, out, err = lrfinder("metrics.csv", *options, "--min-rows", "30", "--lr-column", "lr", "--json")
    scan = find_plateaus(
        read_log("metrics.csv", "acc", lr_column="lr"),
        delta=0.1, alpha=0.01, ahead=700, mode="max", min_rows=30,
    )  # fmt: skip
    assert json.loads(out) == scan.to_dict()
    assert scan.plateaus
    assert {one.delta for one in scan.plateaus} == {0.1}
    assert (code, err) == (0, "")


def test_a_picture_is_written(lrfinder):
    code, out, err = lrfinder("metrics.csv", "--plot", "picture.png")
    assert (code, err) == (0, "")
    assert Path("picture.png").read_bytes().startswith(b"\x89PNG")
    assert "picture" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.csv"], "cannot read none.csv: No such file or directory"),
        (
            ["metrics.csv", "--column", "x"],
            "metrics.csv: --loss-column must be a column of the file (step, lr, train_loss, ",
        ),
        (["metrics.csv", "--plot", "a.svg"], "--plot must name a .png file, got a.svg"),
        (["metrics.csv", "--plot", "no/a.png"], "--plot: the folder no does not exist"),
        (["metrics.png", "--plot", "metrics.png"], "--plot must not name a log, got metrics.png"),
        (["metrics.csv", "--min-rows", "3"], "--min-rows must be a whole number of at least 24, got 3"),
        (["metrics.csv", "--alpha", "1"], "--alpha must be a rate in (0, 0.5), got 1.0"),
        (["metrics.csv", "--ahead", "0"], "argument --ahead: must be a whole number of at least 1, got 0"),
        (["metrics.csv", "--mode", "up"], "argument --mode: invalid choice: 'up'"),
        ([], "the following arguments are required: LOG"),
    ],
)
def test_bad_input_is_one_line(arguments, message, lrfinder):
    code, out, err = lrfinder(*arguments)
    assert err.startswith(f"lrfinder: {message}")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_a_bad_log_is_found_before_torch_loads():
    Path("bad.csv").write_text("step,a,b\n1,2,3\n")
    code = "from lrfinder.cli.main import main\ntry:\n    main(['plateau', 'bad.csv'])\nexcept SystemExit as end:\n"
    assert loaded_by(code + "    assert end.code == 2") == set()


def test_the_help_tells_the_exit_codes(lrfinder):
    code, out, _ = lrfinder("--help")
    assert code == 0
    assert "exit codes: 0 an answer, with or without plateaus, 2 bad input, 130 interrupted" in out
