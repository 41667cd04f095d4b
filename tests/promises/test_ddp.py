"""Processes that train one model together: the same suggestion, an exact state, and no one left waiting.

Three of them: of two, the sum of gradients is the same in whatever order it is taken.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from support.runs import assert_same, without_functions

fsdp = pytest.importorskip("torch.distributed.fsdp", reason="torch was built without distributed")

TESTS = Path(__file__).parents[1]
SCRIPT = TESTS / "support" / "ddp_run.py"
SHARDED = ("sharded", "sharded adamw") if hasattr(fsdp, "fully_shard") else ()
COMPARED = ("sgd", "adamw", "again", "views", "schedule", *SHARDED)
FITS = (*COMPARED, "uneven", "choosy", "timed", "plateau")
FAILURES = ("failing", "judged")
RANKS = (0, 1, 2)
HANGS = 1200
"""Seconds after which a run that takes a minute has hung, however slow the machine."""


def started(folder, what, processes):
    """Start the script."""
    command = [sys.executable, str(SCRIPT), str(folder), what, str(processes)]
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, env=environment
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """What every process saw of every fit; and how runs ended in which one process failed."""
    folder = tmp_path_factory.mktemp("ddp")
    good = started(folder, ",".join(FITS), 3)
    failures = {}
    for name in FAILURES:
        bad = started(tmp_path_factory.mktemp(name), name, 2)
        failures[name] = bad.communicate(timeout=HANGS)[0], bad.returncode
    output = good.communicate(timeout=HANGS)[0]
    assert good.returncode == 0, output[-3000:]
    seen = {fit: [pickle.loads((folder / f"{fit}.{rank}.pickle").read_bytes()) for rank in RANKS] for fit in FITS}
    return seen, failures


@pytest.mark.parametrize("name", FITS)
def test_every_process_gets_the_same_suggestion(done, name):
    first, *others = done[0][name]
    for other in others:
        assert (first["found"], first["lr"]) == (other["found"], other["lr"])
    assert list(first["found"]) == ([0, 1] if name in ("again", "views", "sharded") else [0])
    assert first["found"][0]["status"] == "ok" or name == "timed"  # how much a second buys is up to the machine


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("rank", RANKS)
def test_training_is_as_by_hand_in_every_process(done, name, rank):
    run = done[0][name][rank]
    tuned, by_hand = (without_functions(run[way]) for way in ("tuned", "by hand"))
    assert_same(tuned, by_hand)


def test_every_process_sees_the_same_plateau_and_decays_in_the_same_step(done):
    runs = done[0]["plateau"]
    rates = [[rates for _, rates, *_ in run["tuned"]["steps"]] for run in runs]
    losses = [[loss for loss, *_ in run["tuned"]["steps"]] for run in runs]
    assert losses[0] != losses[1] != losses[2]
    assert runs[0]["events"] == runs[1]["events"] == runs[2]["events"] != ()
    assert rates[0] == rates[1] == rates[2]
    at = runs[0]["events"][0].step
    assert rates[0][at][0] == pytest.approx(0.5 * rates[0][at - 1][0])


def test_the_losses_are_means_over_the_processes(done):
    own = [run["by hand"]["steps"][0][0] for run in done[0]["sgd"]]
    assert len(set(own)) == 3
    recorded = done[0]["sgd"][0]["found"][0]["curves"][0]["loss"][0]  # before any update, on the first batch
    assert recorded == pytest.approx(sum(own) / 3, rel=1e-6)


def test_where_one_process_diverges_first_all_of_them_have(done):
    found = done[0]["uneven"][0]["found"][0]
    curve = found["curves"][0]
    assert curve["loss"][-1] == "NaN"
    assert 1 < curve["lr"][-1] < 5
    assert found["lr"] < 1


def test_what_one_process_cannot_judge_none_is_judged_by(done):
    for run in done[0]["choosy"]:
        assert any("could not take a validation batch" in text for text in run["found"][0]["caveats"])


@pytest.mark.parametrize("name", FAILURES)
def test_an_error_in_one_process_ends_the_run_and_leaves_nobody_waiting(done, name):
    """In a training step, when the others wait for its gradients; when judged, and they wait for its metric."""
    output, code = done[1][name]
    assert code == 1
    assert "ValueError: only here" in output
