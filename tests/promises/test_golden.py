"""Golden files: what `lrfinder` prints, writes and stores, compared with what it printed, wrote and stored before.

The files in ``tests/golden`` are of three kinds:

- ``inputs/``: recorded curves and logs, written once and never renewed;
- ``documents/``: JSON documents of schema version 1, of suggestions and of every refusal: a later version must load
  them, write them again unchanged, and answer the same from their measurements;
- ``expected/``: the output of every case below. To renew these after an intended change, run ::

      LRFINDER_REGENERATE_GOLDEN=1 python -m pytest -n 0 tests/promises/test_golden.py

  and read the difference before you commit it.

Documents are compared key by key. Numbers agree to within a thousandth of their size, since the last bits of a fit
depend on the processor; to within a tenth where a network was trained, since training magnifies them. Numbers within a
text may differ by one unit of their last printed digit as well. Parameters of a fit without a covariance, which the
curve does not determine, are not compared. Versions, the platform, seconds and what follows from them are masked.
Everything goes through the command line and public names, so that a move of the modules does not touch this file.
"""

from __future__ import annotations

import json
import math
import os
import re
import runpy
import sys
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lrfinder import Detector, LRFinder, PlateauDetector, PolicyCallback, Reason, Suggestion

GOLDEN = Path(__file__).parents[1] / "golden"
REGENERATE = bool(os.environ.get("LRFINDER_REGENERATE_GOLDEN"))

FITTED, TRAINED = 1e-3, 0.1
"""Relative tolerance of numbers that follow from a recorded curve, and of those for which a network was trained."""

MASKED = {"seconds", "seconds_per_step", "python", "platform", "torch", "lightning", "numpy", "scipy", "lrfinder"}
"""Keys whose values depend on the machine or on the versions, whatever they are."""

NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?%?")


# --- comparing -------------------------------------------------------------------------------------------------------


def differences(expected, found, rel, path=""):
    """Return a line for every place where two JSON documents differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        lines = [f"{path}.{key}: missing" for key in expected.keys() - found.keys()]
        lines += [f"{path}.{key}: not expected" for key in found.keys() - expected.keys()]
        undetermined = {"parameters"} if ("covariance", None) in expected.items() else set()
        for key in expected.keys() & found.keys() - MASKED - undetermined:
            lines += differences(expected[key], found[key], rel, f"{path}.{key}")
        return lines
    if isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            return [f"{path}: {len(expected)} items expected, found {len(found)}"]
        pairs = enumerate(zip(expected, found, strict=True))
        return [line for i, (one, other) in pairs for line in differences(one, other, rel, f"{path}[{i}]")]
    if isinstance(expected, str) and isinstance(found, str):
        return [] if same_text(expected, found, rel) else [f"{path}: {expected!r} expected, found {found!r}"]
    if is_number(expected) and is_number(found):
        # A small number beside 1 may be the difference of two large ones.
        if math.isclose(expected, found, rel_tol=rel, abs_tol=rel * 1e-3):
            return []
    elif type(expected) is type(found) and expected == found:
        return []
    return [f"{path}: {expected!r} expected, found {found!r}"]


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def same_text(expected, found, rel):
    """Whether two texts differ in nothing but spaces and, within the tolerance, their measured numbers."""
    expected, found = (re.sub("-{3,}", "---", " ".join(text.split())) for text in (expected, found))  # and of tables
    numbers = [NUMBER.findall(text) for text in (expected, found)]
    if NUMBER.sub("#", expected) != NUMBER.sub("#", found) or len(numbers[0]) != len(numbers[1]):
        return False
    return all(same_number(one, other, rel) for one, other in zip(*numbers, strict=True))


def same_number(expected, found, rel):
    """Whether two printed numbers agree. Whole numbers are counts, which must not differ, unless they are shares."""
    texts = [text.rstrip("%").replace(",", "") for text in (expected, found)]
    one, other = map(float, texts)
    if all(text.lstrip("+-").isdecimal() for text in texts) and not expected.endswith("%"):
        return one == other
    mantissa, _, exponent = max(texts, key=len).partition("e")  # 9.1 may have been 9
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    share = rel * 10 if expected.endswith("%") else 0.0  # a share is a difference of two measured numbers already
    return abs(one - other) <= max(1.001 * unit, rel * abs(one), share)


def check(name, found, rel=FITTED):
    """Compare a document or a text with its golden file, or write that file."""
    path = GOLDEN / "expected" / name
    before = path.read_text() if path.exists() else None
    if path.suffix == ".json":
        expected = None if before is None else json.loads(before)
        lines = [f"{path} is missing"] if expected is None else differences(expected, found, rel)
        text = json.dumps(found, indent=1, allow_nan=False) + "\n"
        content = re.sub(r"\[[\s\d.,e+-]*\]", lambda numbers: " ".join(numbers[0].split()), text)  # one list, one line
    else:
        expected = before
        content = found
        same = before is not None and same_text(before, found, rel)
        lines = [] if same else [f"{path} expected:\n{before}", f"found:\n{found}"]
    if REGENERATE and lines:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return
    assert not lines, "\n".join(lines)


# --- running ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def lrfinder(capsys, monkeypatch):
    """Run ``python -m lrfinder`` in this process; return ``(exit code, stdout)`` with times masked."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["lrfinder", *arguments])
        monkeypatch.setenv("COLUMNS", "80")
        with pytest.raises(SystemExit) as end:
            runpy.run_module("lrfinder", run_name="__main__")
        text = re.sub(r"\d+(\.\d+)? s\b", "TIME s", capsys.readouterr().out)
        return end.value.code or 0, text

    return run


def inputs(*names):
    """Copy inputs into the working folder, so that no path of this machine gets into a document; return the names."""
    for name in names:
        folder = "documents" if name.endswith(".json") else "inputs"
        Path(name).write_bytes((GOLDEN / folder / name).read_bytes())
    return names


# --- suggest and report ----------------------------------------------------------------------------------------------

DEMO = ("suggest", "--budget", "200", "--seed", "0", "--quiet")


def test_the_demo(lrfinder):
    code, text = lrfinder(*DEMO, "--out", "demo.json")
    assert code == 0
    check("demo.txt", text, TRAINED)
    check("demo.json", json.loads(Path("demo.json").read_text()), TRAINED)
    assert lrfinder("report", "demo.json", "-o", "demo.md") == (0, "Report    demo.md\n")
    markdown = re.sub(r"\d+(\.\d+)? s\b", "TIME s", Path("demo.md").read_text())
    masked = re.sub(rf"\| ({'|'.join(MASKED)}) +\| .* \|", r"| \1 | MASKED |", markdown)
    masked = re.sub(r"(\| \d+ +\| \d+ +\|) \d+\.\d+ +\|", r"\1 SECONDS |", masked)  # what was spent
    check("demo.md", masked, TRAINED)


def test_the_code_of_the_demo(lrfinder):
    check("demo-code.txt", lrfinder(*DEMO, "--code")[1], TRAINED)


def test_two_optimizers_compared(lrfinder):
    command = (*DEMO, "--optimizer", "sgd", "--optimizer", "adamw")
    code, text = lrfinder(*command, "--out", "both.json")
    assert code == 0
    check("two-optimizers.txt", text, TRAINED)
    check("two-optimizers.json", json.loads(Path("both.json").read_text()), TRAINED)


CURVES = ("ok", "flat", "rising", "noisy", "edge", "truncated")


@pytest.mark.parametrize("name", CURVES)
def test_an_answer_from_a_recorded_curve(lrfinder, name):
    (path,) = inputs(f"{name}.csv")
    code, text = lrfinder("suggest", "--curve", path, "--steps", "1000", "--json", "--quiet")
    assert code == (1 if name in ("flat", "rising", "truncated") else 0)
    check(f"curve-{name}.json", json.loads(text))
    check(f"curve-{name}.txt", lrfinder("suggest", "--curve", path, "--steps", "1000", "--quiet")[1])


DOCUMENTS = sorted(path.stem for path in (GOLDEN / "documents").glob("*.json"))


def test_there_is_a_document_of_every_refusal():
    reasons = {json.loads((GOLDEN / "documents" / f"{name}.json").read_text())["reason"] for name in DOCUMENTS}
    assert {None, *(reason.value for reason in Reason)} <= reasons


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_stored_document_loads_and_is_written_again_identically(name):
    document = json.loads((GOLDEN / "documents" / f"{name}.json").read_text())
    again = json.loads(json.dumps(Suggestion.from_dict(document).to_dict(), allow_nan=False))
    assert differences(document, again, FITTED) == []
    assert list(again) == list(document)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_measurements_of_a_stored_document_give_the_same_answer(lrfinder, name):
    (path,) = inputs(f"{name}.json")
    document = json.loads(Path(path).read_text())
    code, text = lrfinder("suggest", "--curve", path, "--json", "--quiet")
    assert code == (0 if document["reason"] is None else 1)
    found = json.loads(text)
    for each in (document, found):
        each["environment"].pop("command", None)
    if document["probes"]:
        assert differences(document, found, FITTED) == []
    check(f"text-{name}.txt", lrfinder("suggest", "--curve", path, "--quiet", "--verbose")[1])


@pytest.mark.parametrize("policy", ["cosine", "linear", "inverse-sqrt", "plateau", "keep"])
def test_another_policy_for_stored_measurements(lrfinder, policy):
    (path,) = inputs("probe-ok.json")
    document = json.loads(lrfinder("suggest", "--curve", path, "--policy", policy, "--json", "--quiet")[1])
    names = ("lr", "lr_low", "lr_high", "param_group_lrs", "policy", "caveats")
    check(f"policy-{policy}.json", {name: document[name] for name in names})


RESULTS = [("probe-ok",), ("probe-flat",), ("probe-ok", "probe-far"), ("probe-ok", "range-ok")]


@pytest.mark.parametrize("results", RESULTS)
def test_markdown_of_stored_results(lrfinder, results):
    inputs(*(f"{name}.json" for name in results))
    lrfinder("report", *(f"{name}.json" for name in results), "-o", "x.md")
    check(f"report-{'-and-'.join(results)}.md", Path("x.md").read_text())


# --- logs ------------------------------------------------------------------------------------------------------------


def test_plateaus_of_a_log(lrfinder):
    (path,) = inputs("metrics.csv")
    check("plateau.json", json.loads(lrfinder("plateau", path, "--json")[1]))
    check("plateau.txt", lrfinder("plateau", path)[1])
    check("plateau-max.txt", lrfinder("plateau", path, "--column", "acc", "--mode", "max", "--delta", "0.001")[1])


def test_a_forecast_from_logs(lrfinder):
    one, two, late, constant = inputs("cosine.csv", "two-stage.csv", "late.csv", "constant.csv")
    few = ("--schedule", "cosine", "--schedule", "wsd", "--target", late)
    check("forecast.json", json.loads(lrfinder("forecast", one, two, *few, "--json")[1]))
    check("forecast.txt", lrfinder("forecast", one, two, *few)[1])
    code, text = lrfinder("forecast", constant, "--json")
    assert code == 1
    check("forecast-refused.json", json.loads(text))


# --- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="since Python 3.13 argparse writes -o, --out PATH")
@pytest.mark.parametrize("command", ["", "suggest", "forecast", "plateau", "report"])
def test_help(lrfinder, command):
    code, text = lrfinder(*command.split(), "--help")
    assert code == 0
    check(f"help-{command or 'lrfinder'}.txt", text)


# --- checkpoints -----------------------------------------------------------------------------------------------------


class Falling(pl.LightningModule):
    """A loss that falls and then stays, whatever the learning rate."""

    losses = np.r_[np.linspace(3, 1, 60), np.ones(240)] + 0.002 * np.random.default_rng(0).standard_normal(300)

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch, batch_idx):
        return torch.tensor(self.losses[batch_idx], dtype=torch.float32) + 0 * self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def checkpoint(callback, steps):
    """Train with a callback; return what a checkpoint holds of the callbacks and the schedulers."""
    trainer = pl.Trainer(
        accelerator="cpu", callbacks=[callback], max_steps=steps, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Falling(), DataLoader(TensorDataset(torch.zeros(steps, 1))))
    trainer.save_checkpoint("x.ckpt")
    saved = torch.load("x.ckpt", weights_only=True)
    for state in saved["lr_schedulers"]:
        for key in ("_is_initial", "verbose"):  # torch's own, not in all versions
            state.pop(key, None)
    return json.loads(json.dumps({key: saved[key] for key in ("callbacks", "lr_schedulers")}))


CALLBACKS = {
    "policy": lambda: PolicyCallback("wsd", 40, 5, {"cooldown": 0.5}),
    "plateau-detector": lambda: PlateauDetector(min_steps=24),
}


@pytest.mark.parametrize("name", ["policy", "plateau-detector"])
@pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec.*:DeprecationWarning")
def test_the_keys_of_a_checkpoint(name):
    check(f"checkpoint-{name}.json", checkpoint(CALLBACKS[name](), 40 if name == "policy" else 200))


def test_the_state_of_callbacks_and_of_a_detector():
    detector = Detector(min_steps=24)
    for loss in Falling.losses:
        detector.update(float(loss))
    states = {"Detector": detector.state_dict(), "PlateauDetector": PlateauDetector().state_dict()}
    states |= {"LRFinder": LRFinder().state_dict(), "PolicyCallback": PolicyCallback("wsd", 40).state_dict()}
    check("states.json", json.loads(json.dumps(states)))
    stored = json.loads((GOLDEN / "expected" / "states.json").read_text())["Detector"]  # a checkpoint of before
    again = Detector(min_steps=24)
    again.load_state_dict(stored)
    assert json.loads(json.dumps(again.state_dict())) == stored
