from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_eventfile import write

from lrfinder import InputError, MetricLog, read_metric_log

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


def log(text, name="metrics.csv"):
    Path(name).write_text(text, encoding="utf-8")
    return name


def test_a_log_of_lightning_is_read():
    got = read_metric_log(log(LIGHTNING))
    assert (got.name, got.column, got.caveats, len(got), got.skipped) == ("metrics.csv", "train_loss_step", (), 3, 1)
    assert got.step.tolist() == [4, 9, 14]
    np.testing.assert_array_equal(got.value, [7.6, 2.1, np.nan])
    np.testing.assert_array_equal(got.lr, [0.05, 0.05, 0.005])


def test_a_folder_is_read_by_its_metrics():
    Path("version_0").mkdir()
    log(LIGHTNING, "version_0/metrics.csv")
    got = read_metric_log("version_0", "val_loss")
    assert (got.name, got.step.tolist(), got.value.tolist(), got.lr.tolist()) == ("version_0", [9], [1.5], [0.05])


def test_event_files_give_what_a_csv_file_gives():
    pytest.importorskip("tensorboard")
    write("run", [(4, 0.5), (9, 0.25), (14, 0.125)], tag="train_loss")
    write("run", [(4, 1.0), (14, 0.5)], tag="lr-SGD")
    got = read_metric_log("run")
    assert (got.column, got.step.tolist(), got.value.tolist()) == ("train_loss", [4, 9, 14], [0.5, 0.25, 0.125])
    assert got.lr.tolist() == [1.0, 1.0, 0.5]


def test_plain_numbers_are_a_log():
    got = read_metric_log(log("3\n2\n1\n"))
    assert (got.column, got.step.tolist(), got.value.tolist(), got.lr) == ("value", [1, 2, 3], [3, 2, 1], None)


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ("step,loss,val_loss", "loss"),
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
    got = read_metric_log(log(f"{columns}\n{row}\n"))
    assert got.column == wanted
    assert got.value.tolist() == [columns.split(",").index(wanted) + 1]


def test_a_restart_counts_from_where_it_goes_on():
    got = read_metric_log(log("step,lr,loss\n1,1,5\n2,1,4\n3,1,9\n2,.1,3\n3,.1,2\n"))
    assert (got.value.tolist(), got.lr.tolist()) == ([5, 3, 2], [1, 0.1, 0.1])
    assert got.caveats == ("The log goes back to step 2 (a restart?); what it had from there on was left out.",)


def test_of_several_rates_the_first_is_followed():
    name = log("step,lr-A/pg1,lr-A/pg2,loss\n1,1,2,5\n")
    got = read_metric_log(name)
    assert got.lr.tolist() == [1]
    assert got.caveats == ("Of 2 learning rates lr-A/pg1 is followed; choose another with --lr-column.",)
    other = read_metric_log(name, lr_column="lr-A/pg2")
    assert (other.lr.tolist(), other.caveats) == ([2], ())


def test_a_rate_that_was_never_logged_is_none():
    assert read_metric_log(log("step,lr,loss\n1,,5\n")).lr is None


def test_a_rate_holds_until_the_next_and_the_first_before_it():
    got = read_metric_log(log("step,lr,loss\n1,,5\n2,1,\n3,,4\n5,,3\n6,2,\n6,,2\n"))
    assert got.lr.tolist() == [1, 1, 1, 2]


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("", {}, "metrics.csv: needs a column of numbers beside steps and rates, got none"),
        ("step,lr,epoch\n1,1,1\n", {}, "metrics.csv: needs a column of numbers beside steps and rates, got step, lr"),
        ("step,a,b\n1,2,3\n", {}, "metrics.csv: must have one metric column, got a, b: choose with --column"),
        ("step,a,b\n", {"column": "c"}, "metrics.csv: --column must be a column of the file (step, a, b), got 'c'"),
        ("step,a,a\n1,2,3\n", {"column": "a"}, "metrics.csv: --column must name one column, got 'a', which the file"),
        ("step,a\n", {"lr_column": "b"}, "metrics.csv: --lr-column must be a column of the file (step, a), got 'b'"),
        ("step,loss\n1,\n", {}, "metrics.csv: column 'loss' must hold numbers, got only empty cells"),
        ("step,loss\n1,low\n", {}, "metrics.csv, line 2: loss must be a number, got 'low'"),
        ("step,loss\n0.5,1\n", {}, "metrics.csv, line 2: step must be a whole number of at least 0, got '0.5'"),
        ("step,lr,loss\n1,inf,1\n", {}, "metrics.csv: every lr must be finite, got inf at step 1"),
        ("1,2\n3,4\n", {}, "metrics.csv: the first line must name the columns, got '1,2'"),
    ],
)
def test_what_is_no_log_is_refused(text, arguments, message):
    with pytest.raises(InputError) as error:
        read_metric_log(log(text), **arguments)
    assert str(error.value).startswith(message)


def test_paths_without_a_log_are_refused():
    Path("empty").mkdir()
    Path("bytes.bin").write_bytes(b"\xff\xfe\x00")
    for path, message in (
        ("empty", "empty: a folder must hold event files of TensorBoard or metrics.csv, got neither"),
        ("none.csv", "cannot read none.csv: No such file or directory"),
        ("bytes.bin", "bytes.bin: not a text file, expected a CSV log or an event file of TensorBoard"),
    ):
        with pytest.raises(InputError) as error:
            read_metric_log(path)
        assert str(error.value) == message


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (([1, 2], [1]), "a: step, value and lr must be lists of one length, got shapes (2,), (1,)"),
        (([1, 2], [1, 2], [1]), "a: step, value and lr must be lists of one length, got shapes (2,), (2,), (1,)"),
        (([], []), "a: a log needs at least one row, got none"),
        (([2, 2], [1, 2]), "a: step must be strictly increasing, got 2 after 2"),
        (([0.5, 2], [1, 2]), "a: every step must be a whole number, got 0.5"),
        (([1, 2], [1, 2], [1, np.nan]), "a: every lr must be finite, got nan at step 2"),
    ],
)
def test_a_record_keeps_its_rules(arrays, message):
    with pytest.raises(InputError) as error:
        MetricLog("a", "loss", *arrays)
    assert str(error.value) == message


def test_a_record_cannot_be_changed_and_tells_what_it_is():
    one = MetricLog("a", "loss", [1, 5], [2.0, 1.0], 0.1)
    assert repr(one) == "MetricLog(a: loss, 2 rows, steps 1 to 5)"
    assert one.lr.tolist() == [0.1, 0.1]
    with pytest.raises(ValueError, match="read-only"):
        one.value[0] = 0
