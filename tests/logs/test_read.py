from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.losslogs import made, write_events, write_log

from lrfinder import InputError, read_log
from lrfinder.logs.read import CsvTable, Series, drop_rewound_steps, event_files, is_lr_name, read_events

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


def table(text):
    return CsvTable(log(text))


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
        ("step,a,b\n1,2,3\n", {}, "must have one metric column, got a, b: choose with --column"),
        ("step,a,b\n", {"column": "c"}, "--column must be a column of the file (step, a, b), got 'c'"),
        ("step,a,a\n1,2,3\n", {"column": "a"}, "--column must name one column, got 'a', which the file has twice"),
        ("step,a\n", {"lr_column": "b"}, "--lr-column must be a column of the file (step, a), got 'b'"),
        ("step,loss\n1,\n", {}, "column 'loss' must hold numbers, got only empty cells"),
        ("step,Step,loss\n1,1,1\n", {}, "must have one step column, got step, Step"),
        ("1,2\n3,4\n", {}, "the first line must name the columns, got '1,2'"),
        ("", FORECAST, "needs a column 'step', got the columns none"),
        ("lr,loss\n1,2\n", FORECAST, "needs a column 'step', got the columns lr, loss"),
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
        ("step;lr;loss\n1;0,5;2\n", ", line 2: lr must be a number, got '0,5'"),
        ("step,lr,loss\n1,1,2\n2,1,low\n", ", line 3: loss must be a number, got 'low'"),
        ("step,lr,loss\n1,1,2\n,1,3\n", ", line 3: step must be a number, got ''"),
        ("step,lr,loss\n-1,1,2\n", f", line 2: step {STEP} '-1'"),
        ("step,lr,loss\n1.5,1,2\n", f", line 2: step {STEP} '1.5'"),
        ("step,lr,loss\n1,nan,2\n2,1,2\n", ": every lr must be finite and at least 0, got nan at step 1"),
        ("step,lr,loss\n1,-1,2\n2,1,2\n", ": every lr must be finite and at least 0, got -1 at step 1"),
        ('step,lr,loss\n1,1,"' + "1" * 200_000, ": not a CSV file"),
    ],
)
def test_a_bad_cell_is_named_with_its_line(text, message):
    with pytest.raises(InputError) as error:
        read_log(log(text))
    assert str(error.value).startswith(f"log.csv{message}")


def test_paths_without_a_log_are_refused():
    Path("empty").mkdir()
    Path("bytes.bin").write_bytes(b"\xff\xfe\x00")
    for path, message in (
        ("empty", "empty: a folder must hold event files of TensorBoard or metrics.csv, got neither"),
        ("none.csv", "cannot read none.csv: No such file or directory"),
        ("bytes.bin", "bytes.bin: not a text file, expected a CSV log or an event file of TensorBoard"),
    ):
        with pytest.raises(InputError) as error:
            read_log(path)
        assert str(error.value) == message


def test_empty_cells_are_no_rows():
    a, b = table("step,a,b\n1,5,\n2,,7\n3,6,8\n").read("step", ["a", "b"])
    assert (a.step.tolist(), a.value.tolist()) == ([1, 3], [5, 6])
    assert (b.step.tolist(), b.value.tolist()) == ([2, 3], [7, 8])


def test_without_a_step_rows_are_counted():
    (a,) = table("a,b\n5,\n\n,7\n6,8\n").read(None, ["a"])
    assert (a.step.tolist(), a.value.tolist()) == ([1, 3], [5, 6])


def test_a_single_column_of_numbers_needs_no_name():
    numbers = table("\n3.5\nnan\n2\n")
    (value,) = numbers.read(None, numbers.columns)
    assert numbers.columns == ["value"]
    np.testing.assert_array_equal(value.value, [3.5, np.nan, 2])


def test_several_columns_need_names():
    with pytest.raises(InputError, match=r"log.csv: the first line must name the columns, got '1,3.5'"):
        table("1,3.5\n2,3.4\n")


def test_larger_files_than_curves_are_read_but_not_any():
    with pytest.raises(InputError, match=r"log.csv: larger than 0 MiB"):
        CsvTable(log("step,loss\n1,2\n"), max_bytes=10)


@pytest.mark.parametrize(
    ("column", "rate"),
    [("lr", True), ("lr-SGD", True), ("LR-Adam/pg1", True), ("train/learning_rate", True), ("loss", False)]
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


class TestEventFiles:
    @pytest.fixture(autouse=True)
    def _tensorboard(self):
        pytest.importorskip("tensorboard")

    @pytest.mark.parametrize("new_style", [False, True])
    def test_scalars_are_read_as_they_were_written(self, new_style):
        rows = [(3, 0.5), (7, float("nan")), (5, 0.25)]
        write_events("run", rows, new_style=new_style, text="not a scalar")
        events = read_events("run")
        assert list(events) == ["loss"]
        assert events["loss"].step.tolist() == [3, 7, 5]
        assert repr(events["loss"].value.tolist()) == "[0.5, nan, 0.25]"

    def test_a_folder_is_read_oldest_file_first(self):
        for name, value in (("events.out.tfevents.200.b", 2.0), ("events.out.tfevents.100.a", 1.0)):
            write_events("one", [(1, value)])
            Path("all").mkdir(exist_ok=True)
            (file,) = event_files("one")
            file.rename(Path("all") / name)
        (Path("all") / "hparams.yaml").write_text("{}")
        assert read_events("all")["loss"].value.tolist() == [1.0, 2.0]
        assert read_events("all/events.out.tfevents.200.b")["loss"].value.tolist() == [2.0]

    def test_a_file_cut_short_is_read_as_far_as_it_goes(self):
        write_events("run", [(step, 1.0) for step in range(10)])
        (file,) = event_files("run")
        file.write_bytes(file.read_bytes()[:-20])
        assert read_events(file)["loss"].step.tolist() == list(range(9))

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "cannot read events.out.tfevents.1: No such file or directory"),
            (b"", "events.out.tfevents.1: an event file must hold scalars, got none"),
            (b"step,loss\n" * 50, "events.out.tfevents.1: an event file must hold scalars, got none"),
        ],
    )
    def test_what_is_no_event_file_is_refused(self, content, message):
        if content is not None:
            Path("events.out.tfevents.1").write_bytes(content)
        with pytest.raises(InputError) as error:
            read_log("events.out.tfevents.1")
        assert str(error.value) == message

    def test_without_tensorboard_it_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_file_loader", None)
        with pytest.raises(InputError, match=r"run: .* pip install 'lrfinder\[tensorboard\]'"):
            read_events("run")
