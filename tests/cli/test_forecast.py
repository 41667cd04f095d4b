from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.losslogs import made, write_events, write_log
from support.processes import loaded_by

from lrfinder import forecast, read_log
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
def lrfinder(capsys):
    """Run the command line in this process; return ``(exit code, stdout, stderr)``."""

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


def test_targets_are_scored(logs, lrfinder):
    code, out, err = lrfinder(*logs, "--target", "late.csv")
    (target,) = forecast([read_log(path) for path in logs], targets=[read_log("late.csv")]).targets
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        *(f"Log       {path}: {READ_AS}" for path in (*logs, "late.csv")),
        "target    steps  mean error  end error",
        f"late.csv  4000   {target.mae:.4f}      {target.end_rel_error:.3%}",
    ]


def test_json_is_the_only_thing_on_stdout(logs, lrfinder):
    code, out, err = lrfinder(
        *logs, "--schedule", "linear", "--steps", "5000", "--target", "late.csv", "--target", "constant.csv", "--json"
    )
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert [one["name"] for one in document["schedules"]] == ["linear"]
    assert document["schedules"][0]["total_steps"] == 5000
    assert [target["file"] for target in document["targets"]] == ["late.csv", "constant.csv"]
    assert document["best"] == "linear"


def test_every_option_reaches_the_forecast(logs, lrfinder):
    options = ["--peak-lr", "8e-4", "--warmup-steps", "0", "--end-lr", "2e-4", "--optimal", "--schedule", "linear"]
    document = json.loads(lrfinder(*logs, *options, "--json")[1])
    one = document["schedules"][0]
    assert (one["peak_lr"], one["warmup_steps"], one["lr"][-1]) == (8e-4, 0, 2e-4)
    assert document["optimal"]["final_loss"] <= one["final_loss"]


def test_columns_are_chosen_by_name(logs, lrfinder):
    for path in logs:
        Path(path).write_text(Path(path).read_text().replace("step,lr,loss", "n,lr-a,train_loss"))
    columns = ["--step-column", "n", "--lr-column", "lr-a", "--loss-column", "train_loss"]
    code, out, _ = lrfinder(*logs, "--schedule", "wsd", *columns)
    assert code == 0
    assert out.splitlines()[0].endswith("step = 'n', metric = 'train_loss', learning rate = 'lr-a'")


def test_folders_and_event_files_are_logs_too(logs, lrfinder):
    pytest.importorskip("tensorboard")
    Path("version_0").mkdir()
    Path("cosine.csv").rename("version_0/metrics.csv")
    log = read_log("two-stage.csv")
    write_events("run", zip(log.step.tolist(), log.value.tolist(), strict=True), tag="train_loss")
    write_events("run", zip(log.step.tolist(), log.lr.tolist(), strict=True), tag="lr-SGD")
    code, out, err = lrfinder("version_0", "run", "--schedule", "cosine", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert [run["file"] for run in document["runs"]] == ["version_0", "run"]
    assert document["caveats"] == []
    write_log(made("cosine"), "cosine.csv")
    wanted = json.loads(lrfinder(*logs, "--schedule", "cosine", "--json")[1])["schedules"][0]
    assert document["schedules"][0]["final_loss"] == pytest.approx(wanted["final_loss"], rel=1e-5)  # float32 events


def test_a_log_without_learning_rates_is_refused(lrfinder):
    Path("log.csv").write_text("step,loss\n" + "".join(f"{i},{5 - i / 100}\n" for i in range(100)))
    code, out, err = lrfinder("log.csv")
    assert (code, out) == (2, "")
    assert err == (
        "lrfinder: log.csv: needs learning rates, got none: log them with the loss (in Lightning by"
        " LearningRateMonitor), or name their column with --lr-column\n"
    )


def test_a_picture_is_written(logs, lrfinder):
    code, *_ = lrfinder(*logs, "--target", "late.csv", "--plot", "out.png")
    assert code == 0
    assert Path("out.png").read_bytes().startswith(b"\x89PNG")


def test_a_refusal_is_told_and_exits_with_1(logs, lrfinder):
    code, out, err = lrfinder("constant.csv", "--schedule", "cosine")
    assert (code, out, err) == (1, f"Log       constant.csv: {READ_AS}\nRefused   {NO_FALLS}\n", "")
    code, out, _ = lrfinder("constant.csv", "--json")
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
def test_a_bad_argument_is_one_line_and_exits_with_2(logs, lrfinder, words):
    before = os.listdir()
    code, out, err = lrfinder(*words.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"lrfinder: {BAD_ARGUMENTS[words]}")
    assert err.count("\n") == 1
    assert os.listdir() == before


def test_an_interrupt_exits_with_130(logs, lrfinder, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("scipy.optimize.least_squares", interrupted)
    assert lrfinder(*logs) == (130, "", "lrfinder: interrupted\n")


def test_neither_torch_nor_lightning_is_loaded(logs):
    call = f"main(['forecast', *{logs}, '--optimal', '--plot', 'p.png'])"
    code = f"from lrfinder.cli.main import main\ntry:\n    {call}\nexcept SystemExit as end:\n    assert end.code == 0"
    assert loaded_by(code) == {"scipy", "matplotlib"}


def test_the_help_names_every_option(lrfinder):
    code, out, _ = lrfinder("--help")
    assert code == 0
    for option in (
        "--schedule", "--steps", "--peak-lr", "--warmup-steps", "--end-lr", "--optimal", "--target", "--loss-column",
        "--lr-column", "--step-column", "--plot", "--json", "exit codes: 0 forecast, 1 refused",
    ):  # fmt: skip
        assert option in out
