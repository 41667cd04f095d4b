from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from lrfinder import InputError
from lrfinder.logs.table import check_size, read_table


def table(text, name="log.csv"):
    Path(name).write_text(text, encoding="utf-8")
    return read_table(name, Path(name))


def test_empty_cells_are_no_rows():
    read = table("step,a,b\n1,5,\n2,,7\n3,6,8\n").read(["a", "b"])
    assert (read["a"].step.tolist(), read["a"].value.tolist()) == ([1, 3], [5, 6])
    assert (read["b"].step.tolist(), read["b"].value.tolist()) == ([2, 3], [7, 8])


def test_rows_are_counted_without_blank_lines():
    value = table("a,b\n5,\n\n,7\n6,8\n").read(["a"])["a"]
    assert (value.step.tolist(), value.value.tolist()) == ([1, 3], [5, 6])


def test_a_column_is_the_same_in_many_chunks_of_rows():
    lines = [f"{i},{i / 3!r}" if i % 1000 else f"{i}," for i in range(30_000)]
    value = table("step,a\n" + "\n".join(lines)).read(["a"])["a"]
    wanted = [i for i in range(30_000) if i % 1000]
    assert (value.step - 1).tolist() == wanted
    assert value.value.tolist() == [i / 3 for i in wanted]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("\n3.5\nnan\n2\n", ("value",)),
        ("0,3.5\n10,2.5\n", ("step", "value")),
        ("7 3.5\n3 2.5\n", ("column 1", "column 2")),
        ("0 3.5 .1\n10 2.5 .1\n", ("column 1", "column 2", "column 3")),
        ("# made by a tool\n# step loss\n1 2\n", ("step", "loss")),
        ("#comment\nstep\tloss\n1\t2\n", ("step", "loss")),
        ("my loss\n1\n", ("my loss",)),
        ("step   train_loss\n1   2\n", ("step", "train_loss")),
        ("run 1,run 2\n1,2\n", ("run 1", "run 2")),
        ("", ()),
    ],
)
def test_columns_are_named(text, columns):
    assert table(text).columns == columns


def test_a_column_without_a_name_is_read():
    np.testing.assert_array_equal(table("\n3.5\nnan\n2\n").read(["value"])["value"].value, [3.5, np.nan, 2])


@pytest.mark.parametrize("text", ["step 1: loss 2\nstep 2: loss 1\n", "epoch 1, loss=2\nepoch 2, loss=1\n"])
def test_text_with_names_and_numbers_is_no_table(text):
    assert table(text) is None


@pytest.mark.parametrize("cell", ["", " ", "None", "null", "N/A"])
def test_texts_for_nothing_are_empty_cells(cell):
    assert table(f"step,a\n1,{cell}\n2,3\n").read(["a"])["a"].value.tolist() == [3]


def test_what_is_no_number_is_named_with_its_row():
    with pytest.raises(InputError, match=r"log.csv, row 2: a must be a number, got 'low'"):
        table("step,a\n1,2\n\n2,low\n").read(["a"])


def test_a_log_that_could_be_read_only_once_is_refused():
    with pytest.raises(InputError, match="a log must be a file on disk, which can be read again, got a pipe"):
        check_size(Path(os.devnull))


def test_a_file_that_no_tool_writes_is_refused_by_its_size(tmp_path):
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(2**29 + 1)
    with pytest.raises(InputError, match="larger than 512 MiB, which no log is"):
        check_size(tmp_path / "large.csv")
