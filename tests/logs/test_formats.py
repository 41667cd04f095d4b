from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
from support.losslogs import write_events

from lrfinder import InputError, read_log
from lrfinder.logs.formats import event_files, log_in, read_events, read_json, read_text_records


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


def loss_in(path):
    return read_events(path).read(["loss"])["loss"]


def files(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("step,loss\n1,2\n")


@pytest.mark.parametrize(
    ("written", "given", "wanted"),
    [
        (["a.csv"], "a.csv", "a.csv"),
        (["logs/version_0/metrics.csv"], "logs", "logs/version_0/metrics.csv"),
        (["logs/version_0/events.out.tfevents.1", "logs/version_0/metrics.csv"], "logs", "logs/version_0"),
        (["run/train/events.out.tfevents.1", "run/validation/events.out.tfevents.1"], "run", "run/train"),
        (["run/progress.csv", "run/notes.txt"], "run", "run/progress.csv"),
        (["out/checkpoint-500/trainer_state.json", "out/checkpoint-1000/trainer_state.json"], "out",
         "out/checkpoint-1000/trainer_state.json"),
        (["out/runs/a/events.out.tfevents.1", "out/checkpoint-5/trainer_state.json"], "out",
         "out/checkpoint-5/trainer_state.json"),
    ],
)  # fmt: skip
def test_a_path_stands_for_one_log(written, given, wanted):
    files(*written)
    assert log_in(given) == Path(wanted)


def test_several_logs_are_listed():
    files(*(f"logs/version_{i}/metrics.csv" for i in range(7)))
    with pytest.raises(InputError) as error:
        log_in("logs")
    listed = ", ".join(str(Path(f"logs/version_{i}")) for i in range(5))
    assert str(error.value) == f"logs: a folder must hold one log, got 7: {listed} and 2 more. Name one of them."


def test_paths_without_a_log_are_refused():
    Path("empty").mkdir()
    Path("bytes.bin").write_bytes(b"\xff\xfe\x00")
    for path, message in (
        (
            "empty",
            "empty: a folder must hold event files of TensorBoard, metrics.csv, trainer_state.json or metrics of",
        ),
        ("none.csv", "cannot read none.csv: No such file or directory"),
        ("bytes.bin", "bytes.bin: not a text file, expected a log (CSV, JSON, text, or an event file of TensorBoard)"),
    ):
        with pytest.raises(InputError) as error:
            read_log(path)
        assert str(error.value).startswith(message)


@pytest.mark.parametrize("new_style", [False, True])
def test_scalars_are_read_as_they_were_written(new_style):
    rows = [(3, 0.5), (7, float("nan")), (5, 0.25)]
    write_events("run", rows, new_style=new_style, text="not a scalar")
    loss = read_events("run").read(["loss"])["loss"]
    assert read_events("run").columns == ("loss",)
    assert loss.step.tolist() == [3, 7, 5]
    assert repr(loss.value.tolist()) == "[0.5, nan, 0.25]"


def test_a_folder_is_read_oldest_file_first():
    for name, value in (("events.out.tfevents.200.b", 2.0), ("events.out.tfevents.100.a", 1.0)):
        write_events("one", [(1, value)])
        Path("all").mkdir(exist_ok=True)
        (file,) = event_files("one")
        file.rename(Path("all") / name)
    (Path("all") / "hparams.yaml").write_text("{}")
    assert loss_in("all").value.tolist() == [1.0, 2.0]
    assert loss_in("all/events.out.tfevents.200.b").value.tolist() == [2.0]


def test_a_file_cut_short_is_read_as_far_as_it_goes():
    write_events("run", [(step, 1.0) for step in range(10)])
    (file,) = event_files("run")
    file.write_bytes(file.read_bytes()[:-20])
    assert loss_in(file).step.tolist() == list(range(9))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read events.out.tfevents.1: No such file or directory"),
        (b"", "events.out.tfevents.1: an event file must hold scalars, got none"),
        (b"step,loss\n" * 50, "events.out.tfevents.1: an event file must hold scalars, got none"),
    ],
)
def test_what_is_no_event_file_is_refused(content, message):
    pytest.importorskip("tensorboard")
    if content is not None:
        Path("events.out.tfevents.1").write_bytes(content)
    with pytest.raises(InputError) as error:
        read_log("events.out.tfevents.1")
    assert str(error.value) == message


def test_without_tensorboard_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with pytest.raises(InputError, match=r"run: .* pip install 'lrfinder\[tensorboard\]'"):
        read_events("run")
