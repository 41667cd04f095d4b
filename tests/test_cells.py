from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfinder import InputError
from lrfinder.cells import Sheet, Steps, cleaned, is_rate, only_column


def sheet(text):
    Path("log.csv").write_text(text, encoding="utf-8")
    return Sheet("log.csv", "a log")


def test_empty_cells_are_no_rows():
    a, b = sheet("step,a,b\n1,5,\n2,,7\n3,6,8\n").read("step", ["a", "b"])
    assert (a.step.tolist(), a.value.tolist()) == ([1, 3], [5, 6])
    assert (b.step.tolist(), b.value.tolist()) == ([2, 3], [7, 8])


def test_without_a_step_rows_are_counted():
    (a,) = sheet("a,b\n5,\n\n,7\n6,8\n").read(None, ["a"])
    assert (a.step.tolist(), a.value.tolist()) == ([1, 3], [5, 6])


def test_a_single_column_of_numbers_needs_no_name():
    one = sheet("\n3.5\nnan\n2\n")
    (value,) = one.read(None, one.columns)
    assert one.columns == ["value"]
    np.testing.assert_array_equal(value.value, [3.5, np.nan, 2])


def test_several_columns_need_names():
    with pytest.raises(InputError, match=r"log.csv: the first line must name the columns, got '1,3.5'"):
        sheet("1,3.5\n2,3.4\n")


def test_larger_files_than_curves_are_read_but_not_any(monkeypatch):
    monkeypatch.setattr("lrfinder.cells._MAX_BYTES", 10)
    with pytest.raises(InputError, match=r"log.csv: larger than 0 MiB"):
        sheet("step,loss\n1,2\n")


@pytest.mark.parametrize(
    ("column", "rate"),
    [("lr", True), ("lr-SGD", True), ("LR-Adam/pg1", True), ("train/learning_rate", True), ("loss", False)]
    + [("lr-SGD-momentum", False), ("lr-AdamW-weight_decay", False)],
)
def test_learning_rates_are_told_by_their_names(column, rate):
    assert is_rate(column) is rate


def test_a_column_named_in_full_comes_first():
    assert only_column("log", ["a", "Loss", "val_loss"], None, "loss", ["Loss", "val_loss"], "--c") == "Loss"


@given(st.lists(st.integers(0, 6), max_size=12))
def test_what_is_left_rises_and_is_what_was_written_last(steps):
    kept = cleaned(Steps(np.array(steps, dtype=np.int64), np.arange(len(steps), dtype=float)), [])
    assert (np.diff(kept.step) > 0).all()
    last = {step: place for place, step in enumerate(steps)}
    wanted = [(s, p) for s, p in sorted(last.items()) if min(steps[p:]) == s]
    assert list(zip(kept.step.tolist(), kept.value.tolist(), strict=True)) == wanted
