from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lrfinder import InputError
from lrfinder.eventfile import event_files, read_events

pytest.importorskip("tensorboard")


def write(folder, rows, *, tag="loss", new_style=False, text=None):
    """Write ``(step, value)`` rows as torch does."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder) as writer:
        for step, value in rows:
            writer.add_scalar(tag, value, step, new_style=new_style)
        if text is not None:
            writer.add_text("note", text)


@pytest.mark.parametrize("new_style", [False, True])
def test_scalars_are_read_as_they_were_written(new_style):
    write("run", [(3, 0.5), (7, float("nan")), (5, 0.25)], new_style=new_style, text="not a scalar")
    events = read_events("run")
    assert list(events) == ["loss"]
    assert events["loss"].step.tolist() == [3, 7, 5]
    assert repr(events["loss"].value.tolist()) == "[0.5, nan, 0.25]"


def test_a_folder_is_read_oldest_file_first():
    for name, value in (("events.out.tfevents.200.b", 2.0), ("events.out.tfevents.100.a", 1.0)):
        write("one", [(1, value)])
        Path("all").mkdir(exist_ok=True)
        (file,) = event_files("one")
        file.rename(Path("all") / name)
    (Path("all") / "hparams.yaml").write_text("{}")
    assert read_events("all")["loss"].value.tolist() == [1.0, 2.0]
    assert read_events("all/events.out.tfevents.200.b")["loss"].value.tolist() == [2.0]


def test_a_file_cut_short_is_read_as_far_as_it_goes():
    write("run", [(step, 1.0) for step in range(10)])
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
def test_what_is_no_event_file_is_refused(content, message):
    if content is not None:
        Path("events.out.tfevents.1").write_bytes(content)
    with pytest.raises(InputError) as error:
        read_events("events.out.tfevents.1")
    assert str(error.value) == message


def test_without_tensorboard_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_file_loader", None)
    with pytest.raises(InputError, match=r"run: .* pip install 'lrfinder\[tensorboard\]'"):
        read_events("run")
