from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from losslogs import made, write_log

from lrfinder import InputError, read_loss_log

LIGHTNING = """\
epoch,lr-AdamW,lr-AdamW-momentum,step,train_loss
,0.001,0.9,9,
0,,,9,4.5
,0.002,0.9,19,
0,,,19,3.5
0,,,24,3.0
,0.002,0.9,29,
"""


def log(text):
    Path("log.csv").write_text(text, encoding="utf-8")
    return "log.csv"


def test_a_plain_log_is_read_exactly():
    wanted = made("cosine")
    got = read_loss_log(write_log(wanted, "a.csv"))
    for name in ("step", "lr", "loss"):
        np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name))
    assert (got.name, got.caveats) == ("a.csv", ())


def test_a_log_of_lightning_is_read():
    got = read_loss_log(log(LIGHTNING))
    assert got.step.tolist() == [9, 19, 24, 29]
    assert got.lr.tolist() == [0.001, 0.002, 0.002, 0.002]
    assert got.loss[:3].tolist() == [4.5, 3.5, 3.0]
    assert np.isnan(got.loss[3])


def test_a_target_needs_no_loss():
    assert not read_loss_log(log("step,lr\n0,1\n5,1\n")).has_loss.any()


def test_a_restart_counts_from_where_it_goes_on():
    got = read_loss_log(log("step,lr,loss\n1,1,5\n2,1,4\n3,1,9\n2,1,3\n3,1,2\n"))
    assert got.step.tolist() == [1, 2, 3]
    assert got.loss.tolist() == [5, 3, 2]
    assert got.caveats == ("The log goes back to step 2 (a restart?); what it had from there on was left out.",)


def test_many_restarts_are_one_caveat():
    got = read_loss_log(log("step,lr,loss\n1,1,5\n3,1,4\n2,1,3\n3,1,2\n1,1,9\n2,1,8\n5,1,7\n"))
    assert (got.step.tolist(), got.loss.tolist()) == ([1, 2, 5], [9, 8, 7])
    assert got.caveats == (
        "The log goes back 2 times, first to step 2, last to step 1 (restarts?); each time what it had from there on"
        " was left out.",
    )


@pytest.mark.parametrize("mark", [";", "\t"])
def test_cells_may_be_separated_by_something_else(mark):
    assert read_loss_log(log("step,lr,loss\n1,1,5\n2,0.5,4\n".replace(",", mark))).loss.tolist() == [5, 4]


def test_line_ends_blank_lines_and_short_rows_do_not_matter():
    got = read_loss_log(log("\ufeff\nstep,lr,loss\r\n1,1,5\r\n\r\n2,1,4\r\n3\r\n4,1,3,7\r\n"))
    assert (got.step.tolist(), got.loss.tolist()) == ([1, 2, 4], [5, 4, 3])


def test_the_name_is_the_path_as_it_was_given():
    log("step,lr\n0,1\n5,1\n")
    assert read_loss_log("./log.csv").name == "./log.csv"
    assert read_loss_log(Path("log.csv")).name == "log.csv"


def test_the_last_row_of_a_step_counts():
    got = read_loss_log(log("step,lr,loss\n1,1,5\n2,1,4\n2,1,3\n"))
    assert got.loss.tolist() == [5, 3]
    assert got.caveats == ("Some steps stand in the log twice; the last row of each counts.",)


def test_losses_that_are_not_finite_are_left_out_and_counted():
    got = read_loss_log(log("step,lr,loss\n1,1,5\n2,1,nan\n3,1,inf\n4,1,2\n"))
    assert got.has_loss.tolist() == [True, False, False, True]
    assert got.caveats == ("2 of 4 losses are not finite and were left out.",)


def test_losses_after_the_last_rate_are_said():
    got = read_loss_log(log("step,lr,loss\n1,1,5\n2,1,\n4,,2\n"))
    assert got.lr.tolist() == [1, 1, 1]
    assert got.caveats == ("The last learning rate is of step 2; it is taken to stay until the last loss.",)


def test_losses_before_the_first_rate_lie_in_the_warmup():
    assert read_loss_log(log("step,lr,loss\n1,,5\n2,1,4\n4,1,2\n")).lr.tolist() == [0.5, 1, 1]


def test_columns_may_be_chosen():
    text = "step,lr-a,lr-b,train_loss,val_loss\n1,1,3,5,50\n2,2,4,6,60\n"
    got = read_loss_log(log(text), loss_column="val_loss", lr_column="lr-b")
    assert (got.lr.tolist(), got.loss.tolist()) == ([3, 4], [50, 60])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "log.csv: needs a column 'step', got the columns none"),
        ("lr,loss\n1,2\n", "log.csv: needs a column 'step', got the columns lr, loss"),
        ("step,loss\n1,2\n", "log.csv: needs a column 'lr', got the columns step, loss"),
        (
            "step,lr,train_loss,val_loss\n1,1,1,1\n",
            "log.csv: must have one loss column, got train_loss, val_loss: choose with --loss-column",
        ),
        (
            "step,lr-SGD/pg1,lr-SGD/pg2,loss\n1,1,1,1\n",
            "log.csv: must have one lr column, got lr-SGD/pg1, lr-SGD/pg2: choose with --lr-column",
        ),
        ("step,lr,loss,loss\n1,1,2,3\n", "log.csv: must have one loss column, got loss, loss: choose with"),
        ("step;lr;loss\n1;0,5;2\n", "log.csv, line 2: lr must be a number, got '0,5'"),
        ("step,lr,loss\n1,1,2\n2,1,low\n", "log.csv, line 3: loss must be a number, got 'low'"),
        ("step,lr,loss\n1,1,2\n,1,3\n", "log.csv, line 3: step must be a number, got ''"),
        ("step,lr,loss\n-1,1,2\n", "log.csv, line 2: step must be a whole number of at least 0, got '-1'"),
        ("step,lr,loss\n1.5,1,2\n", "log.csv, line 2: step must be a whole number of at least 0, got '1.5'"),
        ("step,lr,loss\n1,nan,2\n2,1,2\n", "log.csv: lr must be finite, got nan at step 1"),
        ("step,lr,loss\n1,,2\n", "log.csv: column 'lr' must hold learning rates, got only empty cells"),
        ("step,lr,loss\n1,-1,2\n2,1,2\n", "log.csv: every lr must be finite and at least 0, got -1 in row 1"),
        ("step,lr,loss\n1,1,2\n", "log.csv: a log needs at least 2 rows, got 1"),
        ("step,lr,loss\n1,1\n2\n", "log.csv: a log needs at least 2 rows, got 1"),
        ('step,lr,loss\n1,1,"' + "1" * 200_000, "log.csv: not a CSV file"),
    ],
)
def test_a_bad_file_is_named_with_its_line(text, message):
    with pytest.raises(InputError) as error:
        read_loss_log(log(text))
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(("name", "kind"), [("loss_column", "loss"), ("lr_column", "lr")])
def test_a_chosen_column_must_be_there(name, kind):
    with pytest.raises(InputError, match=rf"--{kind}-column must be a column of the file \(step, lr, loss\), got 'x'"):
        read_loss_log(log("step,lr,loss\n1,1,2\n"), **{name: "x"})


def test_a_chosen_column_must_be_one():
    with pytest.raises(InputError, match="--loss-column must name one column, got 'loss', which the file has twice"):
        read_loss_log(log("step,lr,loss,loss\n1,1,2,3\n"), loss_column="loss")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot read log.csv: No such file"), (b"\xff\xfe\x00", "not a text file, expected CSV with columns step")],
)
def test_what_is_no_text_is_named(content, message):
    if content is not None:
        Path("log.csv").write_bytes(content)
    with pytest.raises(InputError) as error:
        read_loss_log("log.csv")
    assert message in str(error.value)
