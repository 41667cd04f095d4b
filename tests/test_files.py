from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from support.curves import any_curve, synthetic

from lrfinder import Curve, InputError, read_curve, suggest, write_curve_csv
from lrfinder.files import check_writable, json_object, replace_file

ROWS = [f"{10.0**k},{k}" for k in range(-9, 3)]


def csv_file(*lines: str, path: str = "curve.csv") -> Path:
    Path(path).write_text("\n".join(lines), encoding="utf-8")
    return Path(path)


def json_file(document: object, path: str = "curve.json") -> Path:
    Path(path).write_text(json.dumps(document))
    return Path(path)


@given(any_curve())
@settings(max_examples=50)
def test_csv_gives_back_the_same_numbers(curve):
    write_curve_csv(curve, "curve.csv")
    back, document = read_curve("curve.csv")
    for name in ("lr", "loss", "step"):
        np.testing.assert_array_equal(getattr(back, name), getattr(curve, name))
    assert document == {}


def test_a_constant_loss_comes_back_as_exactly_that_constant():
    write_curve_csv(Curve([10.0**k for k in range(-9, 3)], [0.1 + 0.2] * 12), "curve.csv")
    assert set(read_curve("curve.csv")[0].loss) == {0.1 + 0.2}


@pytest.mark.parametrize(
    "lines",
    [
        ["lr,loss", *ROWS],
        ["\ufeffLR, Loss", *ROWS],
        ["note,lr,loss,more", *(f"x,{row},y" for row in ROWS)],
        ["stage,lr,loss", *(f"range,{row}" for row in ROWS)],
        ["lr,loss", *ROWS, "", ""],
    ],
    ids=["plain", "byte order mark, capitals, blanks", "other columns", "stage", "blank lines at the end"],
)
def test_csv_is_read_as_people_write_it(lines):
    curve, _ = read_curve(csv_file(*lines))
    assert curve.lr.tolist() == [10.0**k for k in range(-9, 3)]
    assert curve.loss.tolist() == list(range(-9, 3))


def test_columns_are_found_by_name_and_step_is_kept():
    path = csv_file("loss,step,lr", *(f"{k},{10 * k},{10.0**k}" for k in range(1, 13)))
    curve, _ = read_curve(path)
    assert curve.loss.tolist() == list(range(1, 13))
    assert curve.step.tolist() == list(range(10, 130, 10))


def test_the_history_of_torch_lr_finder_is_read():
    history = {"lr": [10.0**k for k in range(-9, 3)], "loss": list(range(12))}
    assert read_curve(json_file(history))[0].loss.tolist() == list(range(12))


def test_json_is_known_by_its_content_too():
    suggestion = suggest(synthetic())
    curve, document = read_curve(json_file(suggestion.to_dict(), "saved without an ending"))
    assert curve == suggestion.curves[0]
    assert document["lr"] == suggestion.lr


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([""], "needs the columns lr and loss, got ''"),
        (["a,b", *ROWS], "needs the columns lr and loss, got 'a,b'"),
        (["lr", *ROWS], "needs the columns lr and loss, got 'lr'"),
        (["lr,loss", *ROWS[:9]], "at least 10 points, got 9"),
        (["lr,loss", *ROWS[:4], "0.1,high", *ROWS[4:]], ", line 6: loss must be a number, got 'high'"),
        (["lr,loss", *ROWS, "100"], ", line 14: loss must be a number, got None"),
        (["lr,loss", "0,1", *ROWS], "lr must be positive and finite, got lr = 0"),
        (["lr,loss", "-0.1,1", *ROWS], "lr must be positive and finite, got lr = -0.1"),
        (["lr,loss", *ROWS, ROWS[-1]], "lr must be strictly increasing, got 100 after 100"),
        (["lr,loss,step", *(f"{row},0.5" for row in ROWS)], "step must be a whole number, got step = 0.5"),
        (["lr,loss,step", *(f"{row},inf" for row in ROWS)], "step must be a whole number, got step = inf"),
        (["lr,loss,stage", *(f"{row},probe" for row in ROWS)], ", line 2: stage must be 'range', got 'probe'"),
        (["lr,loss", "x" * 200_000], "not a CSV file"),
    ],
)
def test_a_csv_that_breaks_a_rule_is_named_with_the_value(lines, message):
    with pytest.raises(InputError, match=rf"^curve\.csv.*{message}") as caught:
        read_curve(csv_file(*lines))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


CURVE = {"stage": "range", "lr": [10.0**k for k in range(-9, 3)], "loss": [1.0] * 12}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([1, 2], "expected a JSON object, got list"),
        ({}, "the field 'lr' is missing"),
        ({"schema_version": 2, "curves": [CURVE]}, "schema_version must be 1, got 2"),
        ({"curves": [CURVE]}, "schema_version must be 1, got None"),
        ({"schema_version": 1, "curves": CURVE}, "curves must be a list of objects"),
        ({"schema_version": 1, "curves": []}, "one curve with stage 'range', got 0"),
        ({"schema_version": 1, "curves": [CURVE, CURVE]}, "one curve with stage 'range', got 2"),
    ],
)
def test_a_json_document_that_breaks_a_rule_is_named(document, message):
    with pytest.raises(InputError, match=rf"^curve\.json: .*{message}"):
        read_curve(json_file(document))


@pytest.mark.parametrize("text", ["{", ""], ids=["cut short", "empty"])
def test_what_is_not_json_is_named(text):
    Path("curve.json").write_text(text)
    with pytest.raises(InputError, match=r"^curve\.json: not valid JSON"):
        read_curve("curve.json")


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\xff", b"\0" * 200_000], ids=["no UTF-8", "zeros"])
def test_a_binary_file_is_named(content):
    Path("curve.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"^curve\.csv: not a "):
        read_curve("curve.csv")


def test_a_file_that_cannot_be_read_is_named():
    with pytest.raises(InputError, match=r"cannot read missing\.csv: No such file"):
        read_curve("missing.csv")
    with pytest.raises(InputError, match=r"cannot read .*: Is a directory"):
        read_curve(".")


def test_a_file_too_large_to_be_a_curve_is_not_read():
    with Path("curve.csv").open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(InputError, match=r"curve\.csv: larger than 64 MiB"):
        read_curve("curve.csv")


def test_of_a_pipe_without_end_no_more_is_read_than_a_curve_has():
    os.mkfifo("curve.csv")

    def write():
        with contextlib.suppress(BrokenPipeError), Path("curve.csv").open("wb") as pipe:
            pipe.write(b"1" * 66 * 2**20)

    writer = threading.Thread(target=write)
    writer.start()
    with pytest.raises(InputError, match=r"curve\.csv: larger than 64 MiB"):
        read_curve("curve.csv")
    writer.join()


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_when_writing_fails_half_way_the_old_file_is_whole_and_nothing_else_stays(monkeypatch, fault):
    Path("out.json").write_text("old")
    write = Path.write_bytes

    def half(path, data):
        write(path, data[: len(data) // 2])
        raise fault

    monkeypatch.setattr(Path, "write_bytes", half)
    expected = InputError if isinstance(fault, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        replace_file("out.json", "new and longer")
    assert Path("out.json").read_text() == "old"
    assert os.listdir() == ["out.json"]


def test_a_reader_never_sees_a_part(monkeypatch):
    Path("out.json").write_text("old")
    seen = []
    replace = Path.replace
    monkeypatch.setattr(
        Path,
        "replace",
        lambda new, old: seen.append((Path("out.json").read_text(), new.read_text())) or replace(new, old),
    )
    replace_file("out.json", "new")
    assert seen == [("old", "new")]
    assert Path("out.json").read_text() == "new"
    assert os.listdir() == ["out.json"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_permissions_of_an_existing_file_stay(mode):
    Path("out.json").touch()
    Path("out.json").chmod(mode)
    replace_file("out.json", "new")
    assert Path("out.json").stat().st_mode & 0o777 == mode


def test_a_link_stays_a_link():
    Path("folder").mkdir()
    Path("folder/real").write_text("old")
    Path("link").symlink_to("folder/real")
    check_writable("link", "--out")
    replace_file("link", "new")
    assert Path("link").is_symlink()
    assert Path("folder/real").read_text() == "new"


def test_what_is_no_regular_file_is_written_to_and_not_replaced():
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    check_writable("pipe", "--out")
    replace_file("pipe", "new")
    assert os.read(reader, 100) == b"new"
    assert Path("pipe").is_fifo()
    os.close(reader)


def test_text_made_of_a_path_that_is_not_utf8_is_written():
    replace_file("out.html", os.fsdecode(b"caf\xe9 \xc3\xa9"))
    assert Path("out.html").read_text(encoding="utf-8") == "caf\\udce9 é"


@pytest.mark.parametrize(
    ("path", "message"), [("missing/x", "No such file"), ("file/x", "Not a directory"), ("n" * 300, "name too long")]
)
def test_writing_where_it_cannot_be_says_so(path, message):
    Path("file").touch()
    with pytest.raises(InputError, match=f"cannot write {path}: .*{message}"):
        replace_file(path, "new")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing/x", "--out: the folder missing does not exist, create it first"),
        ("file/x", "--out: the folder file does not exist"),
        (".", "--out must name a file, got the folder"),
        ("n" * 300, "--out: n* cannot be written: File name too long"),
    ],
)
def test_a_place_that_cannot_be_written_is_known_beforehand(path, message):
    Path("file").touch()
    with pytest.raises(InputError, match=message):
        check_writable(path, "--out")


def test_a_folder_without_permission_is_known_beforehand(monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root, who runs tests in containers, may do anything
    with pytest.raises(InputError, match="--out: x cannot be written, choose another path or fix its permissions"):
        check_writable("x", "--out")


def test_a_comparison_is_no_curve(tmp_path):
    path = tmp_path / "both.json"
    path.write_text('{"schema_version": 1, "comparison": []}')
    with pytest.raises(InputError, match=r"both\.json: must hold one result, got a comparison of several"):
        read_curve(path)


def test_links_in_a_circle_are_an_error_before_and_at_writing():
    Path("a").symlink_to("b")
    Path("b").symlink_to("a")
    with pytest.raises(InputError, match=r"^--out: a cannot be written: Too many levels of symbolic links$"):
        check_writable("a", "--out")
    with pytest.raises(InputError, match=r"^cannot write a: Too many levels of symbolic links$"):
        replace_file("a", "text")
    assert Path("a").is_symlink()


@pytest.mark.parametrize("depth", [51, 900, 200_000])
def test_json_that_is_nested_too_deeply_is_an_error(depth):
    text = '{"lr": ' + "[" * depth + "]" * depth + "}"
    with pytest.raises(InputError, match=r"^x\.json: JSON must be nested at most 50 levels deep, got more$"):
        json_object(text, "x.json")
    assert json_object('{"lr": ' + "[" * 49 + "]" * 49 + "}", "x.json")["lr"]
