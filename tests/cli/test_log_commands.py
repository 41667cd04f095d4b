from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.losslogs import made, write_events, write_log
from support.processes import loaded_by

from lrfinder import find_plateaus, forecast, read_log
from lrfinder.cli.main import main
from lrfinder.logs.law_fit import NO_FALLS

READ_AS = "CSV; step = 'step', metric = 'loss', learning rate = 'lr'"


@pytest.fixture
def logs():
    """Write three logs and return the words that name the first two."""
    for kind in ("cosine", "two-stage", "late", "constant"):
        write_log(made(kind), f"{kind}.csv")
    return ["cosine.csv", "two-stage.csv"]


@pytest.fixture
def forecasting(capsys):
    """Run `lrfinder forecast` in this process; return ``(exit code, stdout, stderr)``."""

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["forecast", *arguments])
        return (end.value.code, *capsys.readouterr())

    return run


def test_the_whole_output(logs):
    done = subprocess.run(
        [sys.executable, "-m", "lrfinder", "forecast", *logs, "--schedule", "cosine", "--schedule", "wsd"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    one, two = forecast([read_log(path) for path in logs], ["cosine", "wsd"]).schedules
    behind = f"+{two.final_loss - one.final_loss:.4f}"
    tied = ["  within error"] if two.tied else [""]
    assert done.stdout.splitlines() == [
        *(f"Log       {path}: {READ_AS}" for path in logs),
        "schedule  final loss  90% interval      behind",
        *(
            f"{s.name:8}  {s.final_loss:.4f}      {s.final_loss_low:.4f} to {s.final_loss_high:.4f}  {text}"
            for s, text in ((one, "best"), (two, behind + tied[0]))
        ),
    ]
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(os.listdir()) == ["constant.csv", "cosine.csv", "late.csv", "two-stage.csv"]


def test_targets_are_scored(logs, forecasting):
    code, out, err = forecasting(*logs, "--target", "late.csv")
    (target,) = forecast([read_log(path) for path in logs], targets=[read_log("late.csv")]).targets
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        *(f"Log       {path}: {READ_AS}" for path in (*logs, "late.csv")),
        "target    steps  mean error  end error",
        f"late.csv  4000   {target.mae:.4f}      {target.end_rel_error:.3%}",
    ]


def test_json_is_the_only_thing_on_stdout(logs, forecasting):
    code, out, err = forecasting(
        *logs, "--schedule", "linear", "--steps", "5000", "--target", "late.csv", "--target", "constant.csv", "--json"
    )
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert [one["name"] for one in document["schedules"]] == ["linear"]
    assert document["schedules"][0]["total_steps"] == 5000
    assert [target["file"] for target in document["targets"]] == ["late.csv", "constant.csv"]
    assert document["best"] == "linear"


def test_every_option_reaches_the_forecast(logs, forecasting):
    options = ["--peak-lr", "8e-4", "--warmup-steps", "0", "--end-lr", "2e-4", "--optimal", "--schedule", "linear"]
    document = json.loads(forecasting(*logs, *options, "--json")[1])
    one = document["schedules"][0]
    assert (one["peak_lr"], one["warmup_steps"], one["lr"][-1]) == (8e-4, 0, 2e-4)
    assert document["optimal"]["final_loss"] <= one["final_loss"]


def test_columns_are_chosen_by_name(logs, forecasting):
    for path in logs:
        Path(path).write_text(Path(path).read_text().replace("step,lr,loss", "n,lr-a,train_loss"))
    columns = ["--step-column", "n", "--lr-column", "lr-a", "--loss-column", "train_loss"]
    code, out, _ = forecasting(*logs, "--schedule", "wsd", *columns)
    assert code == 0
    assert out.splitlines()[0].endswith("step = 'n', metric = 'train_loss', learning rate = 'lr-a'")


def test_folders_and_event_files_are_logs_too(logs, forecasting):
    pytest.importorskip("tensorboard")
    Path("version_0").mkdir()
    Path("cosine.csv").rename("version_0/metrics.csv")
    log = read_log("two-stage.csv")
    write_events("run", zip(log.step.tolist(), log.value.tolist(), strict=True), tag="train_loss")
    write_events("run", zip(log.step.tolist(), log.lr.tolist(), strict=True), tag="lr-SGD")
    code, out, err = forecasting("version_0", "run", "--schedule", "cosine", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert [run["file"] for run in document["runs"]] == ["version_0", "run"]
    assert document["caveats"] == []
    write_log(made("cosine"), "cosine.csv")
    wanted = json.loads(forecasting(*logs, "--schedule", "cosine", "--json")[1])["schedules"][0]
    assert document["schedules"][0]["final_loss"] == pytest.approx(wanted["final_loss"], rel=1e-5)  # float32 events


def test_a_log_without_learning_rates_is_refused(forecasting):
    Path("log.csv").write_text("step,loss\n" + "".join(f"{i},{5 - i / 100}\n" for i in range(100)))
    code, out, err = forecasting("log.csv")
    assert (code, out) == (2, "")
    assert err == (
        "lrfinder: log.csv: needs learning rates, got none: log them with the loss (in Lightning by"
        " LearningRateMonitor), or name their column with --lr-column\n"
    )


def test_a_picture_is_written(logs, forecasting):
    code, *_ = forecasting(*logs, "--target", "late.csv", "--plot", "out.png")
    assert code == 0
    assert Path("out.png").read_bytes().startswith(b"\x89PNG")


def test_a_refusal_is_told_and_exits_with_1(logs, forecasting):
    code, out, err = forecasting("constant.csv", "--schedule", "cosine")
    assert (code, out, err) == (1, f"Log       constant.csv: {READ_AS}\nRefused   {NO_FALLS}\n", "")
    code, out, _ = forecasting("constant.csv", "--json")
    assert (code, json.loads(out)["status"], json.loads(out)["best"]) == (1, "refused", "constant")


BAD_ARGUMENTS = {
    "": "the following arguments are required: LOG",
    "missing.csv": "cannot read missing.csv: No such file or directory",
    "cosine.csv --steps 0": "argument --steps: must be a whole number of at least 1, got 0",
    "cosine.csv --steps -5": "argument --steps: must be a whole number of at least 1, got -5",
    "cosine.csv --steps 9": "--warmup-steps must be at least 0 and below steps, got 100 (as in the logs)",
    "cosine.csv --warmup-steps -1": "argument --warmup-steps: must be a whole number of at least 0, got -1",
    "cosine.csv --schedule plateau": "--schedule must be one of constant, step",
    "cosine.csv --peak-lr 0": "--peak-lr must be positive and finite, got 0",
    "cosine.csv --peak-lr high": "argument --peak-lr: invalid float value: 'high'",
    "cosine.csv --lr-column rate": "cosine.csv: --lr-column must be a column of the file (step, lr, loss), got 'rate'",
    "cosine.csv --plot out.pdf": "--plot must name a .png file, got out.pdf",
    "cosine.csv --plot missing/out.png": "--plot: the folder missing does not exist, create it first",
    "late.png --plot ./late.png": "--plot must not name a log, got ./late.png",
    "cosine.csv --target missing.csv": "cannot read missing.csv",
}


@pytest.mark.parametrize("words", BAD_ARGUMENTS)
def test_a_bad_argument_is_one_line_and_exits_with_2(logs, forecasting, words):
    before = os.listdir()
    code, out, err = forecasting(*words.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"lrfinder: {BAD_ARGUMENTS[words]}")
    assert err.count("\n") == 1
    assert os.listdir() == before


def test_an_interrupt_exits_with_130(logs, forecasting, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("scipy.optimize.least_squares", interrupted)
    assert forecasting(*logs) == (130, "", "lrfinder: interrupted\n")


def test_neither_torch_nor_lightning_is_loaded(logs):
    call = f"main(['forecast', *{logs}, '--optimal', '--plot', 'p.png'])"
    code = f"from lrfinder.cli.main import main\ntry:\n    {call}\nexcept SystemExit as end:\n    assert end.code == 0"
    assert loaded_by(code) == {"scipy", "matplotlib"}


def test_the_help_names_every_option(forecasting):
    code, out, _ = forecasting("--help")
    assert code == 0
    for option in (
        "--schedule", "--steps", "--peak-lr", "--warmup-steps", "--end-lr", "--optimal", "--target", "--loss-column",
        "--lr-column", "--step-column", "--plot", "--json", "exit codes: 0 forecast, 1 refused",
    ):  # fmt: skip
        assert option in out


@pytest.fixture
def metrics():
    """Write a log with two metrics, one of which is on a plateau."""
    rng = np.random.default_rng(0)
    loss = 1 + np.exp(-np.arange(200) / 8) + 0.001 * rng.normal(size=200)
    rows = [f"{10 * i},{0.1 if i < 150 else 0.01},{one!r},{1 - one / 3!r}\n" for i, one in enumerate(loss.tolist())]
    Path("metrics.csv").write_text("step,lr,train_loss,acc\n" + "".join(rows))


@pytest.fixture
def finding(capsys):
    """Run `lrfinder plateau` in this process; return ``(exit code, stdout, stderr)``."""

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["plateau", *arguments])
        return (end.value.code, *capsys.readouterr())

    return run


def test_the_whole_output_of_plateau(metrics):
    done = subprocess.run(
        [sys.executable, "-m", "lrfinder", "plateau", "metrics.csv"], capture_output=True, text=True, check=False
    )
    scan = find_plateaus(read_log("metrics.csv"))
    assert len(scan.plateaus) >= 1
    assert (done.stdout, done.stderr, done.returncode) == (f"{scan}\n", "", 0)
    assert os.listdir() == ["metrics.csv"]


def test_no_plateau_is_an_answer(finding):
    Path("short.csv").write_text("loss\n3\n2\n1\n")
    code, out, err = finding("short.csv")
    assert out.splitlines() == [
        "Log       short.csv: loss, 3 rows, steps 1 to 3",
        "Read as   CSV; step = number of the row, metric = 'loss', no learning rate",
        "End       step 3: could not be tested, see the caveats",
        "Caveat    Too few rows to test: 3, at least 24 are needed.",
    ]
    assert (code, err) == (0, "")


def test_every_option_reaches_the_search(metrics, finding):
    options = ["--loss-column", "acc", "--step-column", "step", "--mode", "max"]
    options += ["--delta", "0.1", "--alpha", "0.01", "--ahead", "700"]
    code, out, err = finding("metrics.csv", *options, "--min-rows", "30", "--lr-column", "lr", "--json")
    scan = find_plateaus(
        read_log("metrics.csv", "acc", lr_column="lr"),
        delta=0.1, alpha=0.01, ahead=700, mode="max", min_rows=30,
    )  # fmt: skip
    assert json.loads(out) == scan.to_dict()
    assert scan.plateaus
    assert {one.delta for one in scan.plateaus} == {0.1}
    assert (code, err) == (0, "")


def test_a_picture_of_plateaus_is_written(metrics, finding):
    code, out, err = finding("metrics.csv", "--plot", "picture.png")
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
def test_bad_input_is_one_line(arguments, message, metrics, finding):
    code, out, err = finding(*arguments)
    assert err.startswith(f"lrfinder: {message}")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_a_bad_log_is_found_before_torch_loads():
    Path("bad.csv").write_text("step,a,b\n1,2,3\n")
    code = "from lrfinder.cli.main import main\ntry:\n    main(['plateau', 'bad.csv'])\nexcept SystemExit as end:\n"
    assert loaded_by(code + "    assert end.code == 2") == set()


def test_the_help_tells_the_exit_codes(finding):
    code, out, _ = finding("--help")
    assert code == 0
    assert "exit codes: 0 an answer, with or without plateaus, 2 bad input, 130 interrupted" in out
