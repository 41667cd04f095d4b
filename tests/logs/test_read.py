from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.losslogs import made, write_events, write_log

from lrfinder import InputError, read_log
from lrfinder.logs.read import drop_rewound_steps, is_lr_name
from lrfinder.logs.table import Series

# As Lightning 2.6 writes them, with `on_step=True, on_epoch=True` and a LearningRateMonitor.
LIGHTNING = """\
epoch,lr-SGD,lr-SGD-momentum,step,train_loss_epoch,train_loss_step,val_loss
,0.05,0.9,4,,,
0,,,4,,7.6,
,0.05,0.9,9,,,
0,,,9,,2.1,
0,,,9,,,1.5
0,,,9,4.8,,
,0.005,0.9,14,,,
1,,,14,,nan,
"""
RESTART = "The log goes back to step 2 (a restart?); its earlier rows from there on are left out."


def log(text, name="log.csv"):
    Path(name).write_text(text, encoding="utf-8")
    return name


def test_a_plain_log_is_read_exactly():
    wanted = made("cosine")
    got = read_log(write_log(wanted, "a.csv"))
    for name in ("step", "value", "lr_step", "lr"):
        np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name))
    assert (got.name, got.column, got.caveats) == ("a.csv", "loss", ())


@pytest.mark.parametrize("for_forecast", [False, True])
def test_a_log_of_lightning_is_read(for_forecast):
    got = read_log(log(LIGHTNING), for_forecast=for_forecast)
    assert (got.name, got.column, got.caveats, len(got), got.skipped) == ("log.csv", "train_loss_step", (), 3, 1)
    assert got.step.tolist() == got.lr_step.tolist() == [4, 9, 14]
    np.testing.assert_array_equal(got.value, [7.6, 2.1, np.nan])
    np.testing.assert_array_equal(got.lr, [0.05, 0.05, 0.005])


ROWS = [(10, 2.5, 0.1), (20, 1.5, 0.1), (30, 1.25, 0.01)]


def records(*names):
    return [dict(zip(names, row, strict=True)) for row in ROWS]


DIALECTS = {
    "iteration": ("iteration,learning_rate,train_loss\n", "{},{},{}", "iteration", "train_loss", "learning_rate"),
    "global_step": ("epoch,global_step,lr,loss\n", "0,{},{},{}", "global_step", "loss", "lr"),
    "W&B export": (
        "Step,my run - lr,my run - train/loss,my run - train/loss__MIN,my run - train/loss__MAX\n",
        "{},{},{},1,9", "Step", "my run - train/loss", "my run - lr",
    ),
    "W&B history": (
        ",_step,_runtime,_timestamp,train/global_step,train/learning_rate,train/loss,train/train_loss\n",
        "0,7,1.5,1.7e9,{},{},{},", "train/global_step", "train/loss", "train/learning_rate",
    ),
    "W&B history without steps": ("_step,_runtime,lr,loss\n", "{},1.5,{},{}", "_step", "loss", "lr"),
    "Keras": ("epoch,accuracy,learning_rate,loss,val_loss\n", "{},.5,{},{},9", "epoch", "loss", "learning_rate"),
    "fastai": ("epoch,lr,train_loss,valid_loss,accuracy,time\n", "{},{},{},9,.5,00:12", "epoch", "train_loss", "lr"),
    "TensorBoard export": ("Wall time,Step,lr,Value\n", "1.7e9,{},{},{}", "Step", "Value", "lr"),
    "spaces": ("step lr loss\n", "{} {}  {}", "step", "loss", "lr"),
    "savetxt": ("# step lr loss\n", "{} {} {}", "step", "loss", "lr"),
    "text": ("Loading, please wait\n", "iter {}: lr {}, train loss {}, time 12.00ms", "iter", "train loss", "lr"),
    "text of dicts": ("", "{{'step': {}, 'learning_rate': {}, 'loss': {}}}", "step", "loss", "learning_rate"),
    "JSON lines": ("", '{{"step": {}, "lr": {}, "train": {{"loss": {}, "note": "x"}}}}', "step", "train/loss", "lr"),
}  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_dialect_is_read_and_the_log_says_what_was_taken(dialect):
    head, row, step, loss, lr = DIALECTS[dialect]
    got = read_log(log(head + "".join(row.format(step, lr, loss) + "\n" for step, loss, lr in ROWS)))
    assert list(zip(got.step.tolist(), got.value.tolist(), got.lr.tolist(), strict=True)) == ROWS
    assert got.read_as.endswith(f"; step = {step!r}, metric = {loss!r}, learning rate = {lr!r}")
    assert got.caveats == ()


def test_the_state_of_the_hugging_face_trainer_is_read():
    history = [*records("step", "loss", "learning_rate"), {"step": 30, "eval_loss": 3.0}]
    history.append({"step": 30, "train_loss": 2.0, "train_runtime": 60.0})
    for step in (5, 30):
        Path(f"out/checkpoint-{step}").mkdir(parents=True)
        document = {"global_step": step, "log_history": [one for one in history if one["step"] <= step]}
        log(json.dumps(document, indent=2), f"out/checkpoint-{step}/trainer_state.json")
    for path in ("out", "out/checkpoint-30", "out/checkpoint-30/trainer_state.json"):
        got = read_log(path)
        assert list(zip(got.step.tolist(), got.value.tolist(), got.lr.tolist(), strict=True)) == ROWS
        assert got.read_as == ("trainer_state.json; step = 'step', metric = 'loss', learning rate = 'learning_rate'")
    assert read_log("out", "eval_loss").value.tolist() == [3.0]


@pytest.mark.parametrize("given", ["run", "run/metrics", "runs", "run/metrics/loss"])
def test_metrics_of_mlflow_are_read(given):
    for run in ("run", "runs/0/a1"):
        Path(f"{run}/metrics/train").mkdir(parents=True)
        log("artifact_uri: x\n", f"{run}/meta.yaml")
        for name, place in (("loss", 1), ("train/lr", 2)):
            log(
                "".join(f"17000000000{i:02} {row[place]} {row[0]}\n" for i, row in enumerate(ROWS)),
                f"{run}/metrics/{name}",
            )
    got = read_log(given)
    assert (got.step.tolist(), got.value.tolist()) == ([10, 20, 30], [2.5, 1.5, 1.25])
    rate = "no learning rate" if given.endswith("loss") else "learning rate = 'train/lr'"
    assert got.read_as == f"MLflow; step as recorded, metric = 'loss', {rate}"


def test_the_history_of_keras_as_json_is_read_by_rows():
    columns = {"loss": [2.5, 1.5], "val_loss": [3.0, 2.0], "lr": [0.1, 0.1]}
    got = read_log(log(json.dumps(columns)))
    assert (got.step.tolist(), got.value.tolist(), got.lr.tolist()) == ([1, 2], [2.5, 1.5], [0.1, 0.1])
    assert got.read_as == "JSON; step = number of the row, metric = 'loss', learning rate = 'lr'"


def test_epochs_that_repeat_are_not_steps():
    got = read_log(log("epoch,loss\n0,3\n0,2\n1,1\n"))
    assert (got.step.tolist(), got.read_as) == (
        [1, 2, 3],
        "CSV; step = number of the row, metric = 'loss', no learning rate",
    )
    assert read_log(log("epoch,loss\n0.5,3\n1,2\n")).step.tolist() == [1, 2]


def test_the_steps_may_be_chosen():
    got = read_log(log("step,seen,loss\n1,64,3\n2,128,2\n"), step_column="seen")
    assert got.step.tolist() == [64, 128]


def test_two_columns_of_numbers_are_steps_and_values():
    got = read_log(log("0 3.5\n10 2.5\n"))
    assert (got.step.tolist(), got.value.tolist()) == ([0, 10], [3.5, 2.5])


def test_a_folder_is_read_by_its_metrics():
    Path("version_0").mkdir()
    log(LIGHTNING, "version_0/metrics.csv")
    got = read_log("version_0", "val_loss")
    assert (got.name, got.step.tolist(), got.value.tolist()) == ("version_0", [9], [1.5])
    assert (got.lr.tolist(), got.held_lr().tolist()) == ([0.05, 0.05, 0.005], [0.05])


@pytest.mark.parametrize("for_forecast", [False, True])
def test_event_files_give_what_a_csv_file_gives(for_forecast):
    pytest.importorskip("tensorboard")
    write_events("run", [(4, 0.5), (9, 0.25), (14, 0.125)], tag="train_loss")
    write_events("run", [(4, 1.0), (14, 0.5)], tag="lr-SGD")
    got = read_log("run", for_forecast=for_forecast)
    assert (got.column, got.step.tolist(), got.value.tolist()) == ("train_loss", [4, 9, 14], [0.5, 0.25, 0.125])
    assert (got.lr_step.tolist(), got.lr.tolist(), got.held_lr().tolist()) == ([4, 14], [1.0, 0.5], [1.0, 1.0, 0.5])


def test_plain_numbers_are_a_log():
    got = read_log(log("3\n2\n1\n"))
    assert (got.column, got.step.tolist(), got.value.tolist(), got.lr) == ("value", [1, 2, 3], [3, 2, 1], None)


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ("step,loss,val_loss", "loss"),
        ("step,Loss,val_loss", "Loss"),
        ("step,loss,train_loss", "train_loss"),
        ("step,train_loss_epoch,train_loss,train_loss_step", "train_loss_step"),
        ("step,train/loss,val/loss", "train/loss"),
        ("step,Loss/train,Loss/test", "Loss/train"),
        ("step,train_nll_loss_epoch,train_nll_loss_step,val_loss", "train_nll_loss_step"),
        ("step,train_loss_epoch,val_loss", "train_loss_epoch"),
        ("step,accuracy,val_loss", "val_loss"),
        ("epoch,Step,lr,lr-SGD-momentum,accuracy", "accuracy"),
        ("Wall time,Step,Value", "Value"),
        ("Step,run - perplexity,run - perplexity__MIN,run - perplexity__MAX", "run - perplexity"),
    ],
)
def test_the_column_is_found(columns, wanted):
    row = ",".join(str(i + 1) for i in range(columns.count(",") + 1))
    got = read_log(log(f"{columns}\n{row}\n"))
    assert got.column == wanted
    assert got.value.tolist() == [columns.split(",").index(wanted) + 1]


def test_columns_may_be_chosen():
    text = "step,lr-a,lr-b,train_loss,val_loss\n1,1,3,5,50\n2,2,4,6,60\n"
    got = read_log(log(text), "val_loss", lr_column="lr-b")
    assert (got.lr.tolist(), got.value.tolist(), got.column) == ([3, 4], [50, 60], "val_loss")


def test_a_forecast_takes_only_losses_for_the_loss():
    text = "step,lr,accuracy\n0,1,0.5\n5,1,0.6\n"
    got = read_log(log(text), for_forecast=True)
    assert not got.has_loss.any()
    assert (got.step.tolist(), got.lr.tolist()) == ([0, 5], [1, 1])
    assert read_log(log(text), "accuracy", for_forecast=True).value.tolist() == [0.5, 0.6]
    assert read_log(log(text)).column == "accuracy"


@pytest.mark.parametrize("text", ["step,lr\n0,1\n5,1\n", "step,lr,loss\n0,1,\n5,1,\n"])
def test_a_target_needs_no_loss(text):
    got = read_log(log(text), for_forecast=True)
    assert (got.step.tolist(), got.last_step, got.has_loss.any()) == ([0, 5], 5, False)


def test_a_restart_counts_from_where_it_goes_on():
    got = read_log(log("step,lr,loss\n1,1,5\n2,1,4\n3,1,9\n2,.1,3\n3,.1,2\n"))
    assert (got.step.tolist(), got.value.tolist(), got.lr.tolist()) == ([1, 2, 3], [5, 3, 2], [1, 0.1, 0.1])
    assert got.caveats == (RESTART,)


def test_many_restarts_are_one_caveat():
    got = read_log(log("step,lr,loss\n1,1,5\n3,1,4\n2,1,3\n3,1,2\n1,1,9\n2,1,8\n5,1,7\n"))
    assert (got.step.tolist(), got.value.tolist()) == ([1, 2, 5], [9, 8, 7])
    assert got.caveats == (
        "The log goes back 2 times, first to step 2, last to step 1 (restarts?); its earlier rows from there on are"
        " left out each time.",
    )


def test_the_last_row_of_a_step_counts():
    got = read_log(log("step,lr,loss\n1,1,5\n2,1,4\n2,1,3\n"))
    assert got.value.tolist() == [5, 3]
    assert got.caveats == ("Some steps were logged twice; the last row of each counts.",)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_cells_may_be_separated_by_something_else(mark):
    assert read_log(log("step,lr,loss\n1,1,5\n2,0.5,4\n".replace(",", mark))).value.tolist() == [5, 4]


def test_line_ends_blank_lines_and_short_rows_do_not_matter():
    got = read_log(log("\ufeff\nstep,lr,loss\r\n1,1,5\r\n\r\n2,1,4\r\n3\r\n4,1,3,7\r\n"))
    assert (got.step.tolist(), got.value.tolist()) == ([1, 2, 4], [5, 4, 3])


def test_the_name_is_the_path_as_it_was_given():
    log("step,lr\n0,1\n5,1\n")
    assert read_log("./log.csv", for_forecast=True).name == "./log.csv"
    assert read_log(Path("log.csv"), for_forecast=True).name == "log.csv"


def test_losses_that_are_not_finite_are_left_out_and_counted():
    got = read_log(log("step,lr,loss\n1,1,5\n2,1,nan\n3,1,inf\n4,1,2\n"))
    assert got.has_loss.tolist() == [True, False, False, True]
    assert got.step_caveats() == ["2 of 4 losses are not finite and were left out."]


def test_losses_before_the_first_rate_lie_in_the_warmup():
    assert read_log(log("step,lr,loss\n1,,5\n2,1,4\n4,1,2\n")).every_lr().tolist() == [0, 0.5, 1, 1, 1]


def test_of_several_rates_the_first_is_used():
    name = log("step,lr-A/pg1,lr-A/pg2,loss\n1,1,2,5\n")
    got = read_log(name)
    assert got.lr.tolist() == [1]
    assert got.caveats == ("The log has 2 learning-rate columns; using lr-A/pg1 (choose another with --lr-column).",)
    other = read_log(name, lr_column="lr-A/pg2")
    assert (other.lr.tolist(), other.caveats) == ([2], ())
    assert read_log(log("step,lr-A,lr,loss\n1,1,2,5\n")).lr.tolist() == [2]


def test_a_rate_that_was_never_logged_is_none():
    assert read_log(log("step,lr,loss\n1,,5\n")).lr is None


def test_a_rate_holds_until_the_next_and_the_first_before_it():
    got = read_log(log("step,lr,loss\n1,,5\n2,1,\n3,,4\n5,,3\n6,2,\n6,,2\n"))
    assert got.held_lr().tolist() == [1, 1, 1, 2]


STEP = "must be a whole number of at least 0, got"
FORECAST = {"for_forecast": True}


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("", {}, "needs a column of numbers beside steps and rates, got none"),
        ("step,lr,epoch\n1,1,1\n", {}, "needs a column of numbers beside steps and rates, got step, lr"),
        ("step,a,b\n1,2,3\n", {}, "must have one metric column, got a, b: choose with --loss-column"),
        ("step,a,b\n", {"column": "c"}, "--loss-column must be a column of the file (step, a, b), got 'c'"),
        ("step,a,a\n1,2,3\n", {"column": "a"}, "--loss-column must name one column, got 'a', which the file has twice"),
        ("step,a\n", {"lr_column": "b"}, "--lr-column must be a column of the file (step, a), got 'b'"),
        ("step,loss\n1,\n", {}, "column 'loss' must hold numbers, got only empty cells"),
        ("step,Step,loss\n1,1,1\n", {}, "must have one step column, got step, Step"),
        ("5,2\n3,4\n", {}, "must have one metric column, got column 1, column 2: choose with --loss-column"),
        ("", FORECAST, "needs a loss or a learning rate, got the columns none"),
        ("step,loss\n", {"step_column": "x"}, "--step-column must be a column of the file (step, loss), got 'x'"),
        ("step,a\n1,2\n", FORECAST, "needs a loss or a learning rate, got the columns step, a"),
        ("step,lr\n1,\n", FORECAST, "column 'lr' must hold numbers, got only empty cells"),
        (
            "step,lr,a_loss,b_loss\n1,1,1,1\n",
            FORECAST,
            "must have one loss column, got a_loss, b_loss: choose with --loss-column",
        ),
        ("step,lr,loss,loss\n1,1,2,3\n", FORECAST, "must have one loss column, got loss, loss: choose with"),
        (
            "step,lr,loss\n1,1,2\n",
            {"column": "x", **FORECAST},
            "--loss-column must be a column of the file (step, lr, loss), got 'x'",
        ),
        (
            "step,lr,loss,loss\n1,1,2,3\n",
            {"column": "loss", **FORECAST},
            "--loss-column must name one column, got 'loss', which the file has twice",
        ),
    ],
)
def test_what_is_no_log_is_refused(text, arguments, message):
    with pytest.raises(InputError) as error:
        read_log(log(text), **arguments)
    assert str(error.value).startswith(f"log.csv: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step;lr;loss\n1;0,5;2\n", ", row 1: lr must be a number, got '0,5'"),
        ("step,lr,loss\n1,1,2\n2,1,low\n", ", row 2: loss must be a number, got 'low'"),
        ("step,lr,loss\n1,1,2\n,1,3\n", ", row 2: step must be a number, got an empty cell"),
        ("step,lr,loss\n-1,1,2\n", f", row 1: step {STEP} -1"),
        ("step,lr,loss\n1.5,1,2\n", f", row 1: step {STEP} 1.5"),
        ("step,lr,loss\n1,nan,2\n2,1,2\n", ": every lr must be finite and at least 0, got nan at step 1"),
        ("step,lr,loss\n1,-1,2\n2,1,2\n", ": every lr must be finite and at least 0, got -1 at step 1"),
        ('step,lr,loss\n1,1,"' + "1" * 200_000, ": not a CSV file"),
    ],
)
def test_a_bad_cell_is_named_with_its_line(text, message):
    with pytest.raises(InputError) as error:
        read_log(log(text))
    assert str(error.value).startswith(f"log.csv{message}")


@pytest.mark.parametrize(
    ("column", "rate"),
    [("run - lr-SGD", True), ("lr=0.1 run - train/loss", False), ("optim/lr", True), ("lr/pg0", True)]
    + [("lr", True), ("lr-SGD", True), ("LR-Adam/pg1", True), ("train/learning_rate", True), ("loss", False)]
    + [("lr-SGD-momentum", False), ("lr-AdamW-weight_decay", False)],
)
def test_learning_rates_are_known_by_their_names(column, rate):
    assert is_lr_name(column) is rate


@given(st.lists(st.integers(0, 6), max_size=12))
def test_what_is_left_rises_and_is_what_was_written_last(steps):
    kept = drop_rewound_steps(Series(np.array(steps, dtype=np.int64), np.arange(len(steps), dtype=float)), [])
    assert (np.diff(kept.step) > 0).all()
    last = {step: place for place, step in enumerate(steps)}
    wanted = [(s, p) for s, p in sorted(last.items()) if min(steps[p:]) == s]
    assert list(zip(kept.step.tolist(), kept.value.tolist(), strict=True)) == wanted
