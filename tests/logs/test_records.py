from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lrfinder import InputError
from lrfinder.logs.records import read_json, read_text_records


def written(text, name="log.jsonl"):
    Path(name).write_text(text, encoding="utf-8")
    return name, Path(name)


def columns(table):
    return {name: list(zip(*map(list, series), strict=True)) for name, series in table.read(table.columns).items()}


@pytest.mark.parametrize(
    "document",
    [
        [{"a": 5, "b": {"c": 1.5}}, {"a": 4, "text": "no number", "flag": True}],
        {"history": [{"a": 5, "b": {"c": 1.5}}, {"a": 4}]},
        {"a": [5, 4], "b/c": [1.5]},
    ],
)
def test_documents_give_columns_by_rows(document):
    for text in (json.dumps(document), json.dumps(document, indent=1)):
        assert columns(read_json(*written(text))) == {"a": [(1, 5.0), (2, 4.0)], "b/c": [(1, 1.5)]}


def test_lines_are_read_up_to_one_that_is_still_being_written():
    table = read_json(*written('{"a": 5}\n\n{"a": "NaN", "b": "Infinity"}\n{"a": 3, "b'))
    assert table.kind == "JSON lines"
    (first, second), (infinite,) = columns(table).values()
    assert first == (1, 5.0)
    assert (second[0], math.isnan(second[1]), infinite) == (2, True, (2, math.inf))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 5}\n{"a": }\n{"a": 3}\n', "log.jsonl, line 2: not valid JSON"),
        ("{\n", "log.jsonl: not valid JSON"),
        (
            "{}",
            "log.jsonl: a log in JSON must be a list of objects, an object of lists, or one object to a line, got {}",
        ),
        ("[1, 2]", "a log in JSON must be a list of objects"),
    ],
)
def test_what_is_no_log_is_refused(text, message):
    with pytest.raises(InputError) as error:
        read_json(*written(text))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("step 100: train loss 2.5, val loss 3.5", {"step": 100, "train loss": 2.5, "val loss": 3.5}),
        ("iter 0: loss 10.9, time 12.00ms, mfu -100.00%", {"iter": 0, "loss": 10.9, "mfu": -100}),
        ("Epoch [1/10], Step [100/600], Loss: 2.3e-1", {"Epoch": 1, "Step": 100, "Loss": 0.23}),
        ("{'loss': 2.5, 'learning_rate': 5e-05, 'epoch': 0.1}", {"loss": 2.5, "learning_rate": 5e-5, "epoch": 0.1}),
        ("[INFO] step=7 loss=nan", {"step": 7, "loss": math.nan}),
    ],
)
def test_names_and_numbers_are_found_in_lines_of_text(line, wanted):
    got = columns(read_text_records(*written(f"started\n{line}\n")))
    assert got == {name: [(1, pytest.approx(value, nan_ok=True))] for name, value in wanted.items()}
