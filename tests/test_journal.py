from __future__ import annotations

import json

import pytest

from lrfinder import InputError
from lrfinder.journal import Journal

SETTINGS = {"steps": 500, "budget": None}


def fail():
    raise AssertionError("measured again")


def record(path, count, measure=lambda: 1.5):
    journal = Journal(path, SETTINGS)
    return journal, [journal.result("number", measure, float, float) for _ in range(count)]


def test_what_is_on_file_is_not_measured_again(tmp_path):
    path = tmp_path / "j.jsonl"
    values = iter([1.0, 2.0, 3.0])
    record(path, 2, lambda: next(values))
    journal, found = record(path, 3, lambda: next(values))
    assert (journal.resumed, found) == (2, [1.0, 2.0, 3.0])
    assert record(path, 3, fail)[1] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_line_cut_short_by_a_kill_is_measured_again(tmp_path, cut):
    path = tmp_path / "j.jsonl"
    record(path, 2)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert record(path, 2)[0].resumed == 1
    assert path.read_bytes() == whole


def test_killed_before_the_first_line_was_whole(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_text('{"schema_ver')
    assert record(path, 1)[1] == [1.5]
    assert len(path.read_text().splitlines()) == 2


def test_a_journal_of_another_search_is_named(tmp_path):
    path = tmp_path / "j.jsonl"
    record(path, 1)
    with pytest.raises(InputError, match=r"belongs to a search with steps = 500, got steps = 600: give the same"):
        Journal(path, {**SETTINGS, "steps": 600})
    with pytest.raises(InputError, match="belongs to a search with seed = None, got seed = 3"):
        Journal(path, {**SETTINGS, "seed": 3})
    with pytest.raises(InputError, match="has 'number' where 'probe' comes"):
        Journal(path, SETTINGS).result("probe", fail, float, float)


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        '{"a": 1}',
        "hello\nworld\n",
        "[1, 2]\n",
        '{"kind": "report"}\n',
        '{"kind": "journal", "schema_version": 9}\n',
    ],
)
def test_a_file_that_is_no_journal_is_left_alone(tmp_path, text):
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(InputError, match="journal"):
        Journal(path, SETTINGS)
    assert path.read_text() == text


def test_a_malformed_result_is_named(tmp_path):
    path = tmp_path / "j.jsonl"
    record(path, 1)
    path.write_text(path.read_text().replace("1.5", '"much"'))
    with pytest.raises(InputError, match="where 'number' is malformed"):
        record(path, 1, fail)
    path.write_text(path.read_text().replace('"result"', '"other"'))
    with pytest.raises(InputError, match="where 'number' is malformed"):
        record(path, 1, fail)


def test_a_folder_or_a_missing_folder_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "missing" / "j"):
        with pytest.raises(InputError, match="journal must be a file that can be written, got"):
            Journal(path, SETTINGS)


def test_lines_are_json_without_nan(tmp_path):
    path = tmp_path / "j.jsonl"
    record(path, 2)
    header, *results = [json.loads(line) for line in path.read_text().splitlines()]
    assert header["settings"] == SETTINGS
    assert results == [{"kind": "number", "result": 1.5}] * 2
