"""State that no walk over attributes sees: it is put back, or the object is named."""

from __future__ import annotations

import array
import ctypes
import hashlib
import io
import multiprocessing
import queue
import threading
import zlib
from types import SimpleNamespace as Thing

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from lrfinder import UnsupportedError
from lrfinder.snapshot.snapshot import Snapshot


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


def written(file):
    file.write(type(file.getvalue())(2 * file.getvalue()))
    return file


def moved(point):
    point.x, point.y = 3, 4.0


def put(held):
    held.put(1)


def increased(value):
    value.value += 1


def first_increased(items):
    items[0] += 1


KINDS = {
    "an array": (lambda: array.array("d", [1, 2]), lambda held: held.extend([3.0]), list),
    "a view of bytes": (lambda: memoryview(bytearray(b"ab")), first_increased, bytes),
    "a view of an array": (lambda: memoryview(array.array("i", [1, 2])), first_increased, list),
    "a queue": (queue.Queue, put, lambda held: (held.qsize(), held.unfinished_tasks)),
    "a stack": (queue.LifoQueue, put, queue.Queue.qsize),
    "a simple queue": (queue.SimpleQueue, put, queue.SimpleQueue.qsize),
    "a number of C": (lambda: ctypes.c_int(3), increased, lambda held: held.value),
    "a structure of C": (lambda: Point(1, 2.0), moved, lambda held: (held.x, held.y)),
    "an array of C": (lambda: (ctypes.c_int * 3)(1, 2, 3), first_increased, list),
    "shared memory": (lambda: multiprocessing.Value("i", 5), increased, lambda held: held.value),
    "a shared array": (lambda: multiprocessing.Array("i", [1, 2]), first_increased, list),
    "a shared array without a lock": (lambda: multiprocessing.RawArray("i", [1, 2]), first_increased, list),
    "text in memory": (lambda: io.StringIO("abc"), written, lambda held: (held.getvalue(), held.tell())),
    "bytes in memory": (lambda: io.BytesIO(b"abc"), written, lambda held: (held.getvalue(), held.tell())),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_content_of_objects_of_c_is_put_back(name):
    make, change, read = KINDS[name]
    thing = Thing(held=make())
    held, before = thing.held, read(thing.held)
    snapshot = Snapshot(thing)
    for _ in range(2):
        change(held)
        assert read(held) != before
        snapshot.restore()
        assert thing.held is held
        assert read(held) == before


def test_tables_that_are_edited_in_place_are_put_back():
    pandas = pytest.importorskip("pandas")
    frame, series = pandas.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}), pandas.Series([1.0, 2.0], name="s")
    snapshot = Snapshot(Thing(frame=frame, series=series))
    before = frame.copy(), series.copy()
    for _ in range(2):
        frame.loc[2], frame["c"] = [3.0, "z"], 1
        frame.iloc[0, 0] = 9.0
        series.iloc[0] += 1
        series.name = "t"
        snapshot.restore()
        pandas.testing.assert_frame_equal(frame, before[0])
        pandas.testing.assert_series_equal(series, before[1], check_names=False)


def test_a_file_that_is_read_is_read_again_from_the_same_place(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("one\ntwo\nthree\n")
    with path.open() as file:
        file.readline()
        snapshot = Snapshot(Thing(file=file))
        assert file.readline() == "two\n"
        snapshot.restore()
        assert file.readline() == "two\n"


def test_a_queue_that_a_thread_waits_for_is_left_alone():
    """It may have taken from the queue meanwhile; putting the counters back would make it hang."""
    held, taken = queue.Queue(), []
    thread = threading.Thread(target=lambda: taken.append(held.get()), daemon=True)
    thread.start()
    while not held.not_empty._waiters:
        pass
    snapshot = Snapshot(Thing(held=held))
    held.put(1)
    thread.join()
    snapshot.restore()
    assert (taken, held.qsize(), held.unfinished_tasks) == ([1], 0, 1)


def test_what_cannot_be_put_back_is_named():
    held = hashlib.sha256()
    snapshot = Snapshot(Thing(held=held, other=zlib.compressobj()))
    snapshot.restore()
    held.update(b"a")
    with pytest.raises(UnsupportedError, match=r"a step changed a _hashlib\.HASH, whose state cannot be put back"):
        snapshot.restore()


def test_a_file_in_memory_that_was_closed_is_named():
    held = io.StringIO("a")
    snapshot = Snapshot(Thing(held=held))
    held.close()
    with pytest.raises(UnsupportedError, match="a step closed a StringIO, which cannot be opened again"):
        snapshot.restore()


class Bulk(Dataset):
    """Samples of more than a mebibyte are not copied, and neither are the queues of threads that read ahead."""

    def __init__(self):
        self.small, self.large, self.ahead = array.array("b", [1]), array.array("b", bytes(2**20 + 1)), queue.Queue()


def test_of_data_only_little_is_recorded():
    data = Bulk()
    snapshot = Snapshot(data=[data])
    data.small[0], data.large[0] = 2, 2
    data.ahead.put(1)
    snapshot.restore()
    assert (data.small[0], data.large[0], data.ahead.qsize()) == (1, 2, 1)


def test_the_modes_of_the_process_are_put_back():
    snapshot, errors = Snapshot(), np.geterr()
    with torch.autograd.set_detect_anomaly(False), np.errstate():
        torch.autograd.set_detect_anomaly(True)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.set_default_dtype(torch.float64)
        np.seterr(all="ignore")
        snapshot.restore()
        assert not torch.is_anomaly_enabled()
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.get_default_dtype() is torch.float32
        assert np.geterr() == errors
