from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.curves import synthetic, write_csv
from support.targets import EXAMPLE, PLAIN, fresh, lrfinder, unread, write

from lrfinder import Suggestion, find_lr
from lrfinder.cli.main import main
from lrfinder.cli.suggest import _paths
from lrfinder.cli.suggest_target import build
from lrfinder.probing.options import SearchOptions

__all__ = ["fresh", "lrfinder", "unread"]

QUICK = ("--steps", "500", "--budget", "150", "--quiet")


@pytest.fixture
def plain(fresh):
    return write("a folder/my plain.py", PLAIN) + ":parts"


def timeless(text):
    return re.sub(r", [\d.]+ s$", "", text, flags=re.MULTILINE)


def expected(steps=500, budget=150):
    import torch

    from lrfinder.cli.code_ref import CodeRef
    from lrfinder.cli.suggest_target import seed_everything

    seed_everything(0)
    made = CodeRef.parse("a folder/my plain.py:parts").build({}, "--init")
    torch.set_num_threads(1)
    return find_lr(*made, steps=steps, budget=budget)


def test_the_whole_output_for_a_plain_factory(lrfinder, plain):
    code, out, err = lrfinder(plain, *QUICK)
    answer = expected()
    assert (code, err) == (0, "")
    assert timeless(out) == timeless(f"{answer}\n").replace("with details()", "with --verbose")
    assert sorted(os.listdir()) == ["a folder", "lrfinder-report.html"]
    assert os.listdir("a folder") == ["my plain.py"]


def test_a_module_is_tuned_and_nothing_else_is_written(lrfinder):
    words = [f"{EXAMPLE}:LitModel", "--data", f"{EXAMPLE}:Data", "--init.hidden", "16", "--data.batch_size=64"]
    code, out, err = lrfinder(*words, "--epochs", "20", "--budget", "150", "--quiet", "--json", "--accelerator", "cpu")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert document["horizon"] == 20 * 22  # 1,400 images
    assert document["environment"]["device"] == "cpu"
    assert document["environment"]["command"].startswith("lrfinder suggest ")
    assert document["environment"]["seed"] == 0
    assert len(document["param_group_lrs"]) == 2
    assert os.listdir() == ["lrfinder-report.html"]


def test_code_is_the_only_thing_on_stdout_and_runs(lrfinder, plain, unread):
    code, out, err = lrfinder(plain, *QUICK[:4], "--code", "--policy", "cosine", "--optimizer", "adamw")
    scope = {}
    exec(out, scope)
    assert code == 0
    assert "torch.optim.AdamW(self.parameters(), lr=" in out
    assert "Peak LR" not in out
    assert callable(scope["configure_optimizers"])
    assert scope["multiplier"](75) == 1.0
    assert err.endswith("Report    lrfinder-report.html\n")


def test_a_curve_has_code_and_a_policy_too(lrfinder):
    curve = write_csv("good.csv", synthetic())
    code, out, err = lrfinder("--curve", curve, "--steps", "1000", "--policy", "linear", "--code", "--quiet")
    assert (code, err) == (0, "")
    assert '"""150 steps of warmup, linear to zero over 850 steps."""' in out


def test_code_of_a_refusal_is_said_aside(lrfinder):
    Path("flat.csv").write_text("lr,loss\n" + "".join(f"{10.0**k},1\n" for k in range(-9, 3)))
    code, out, err = lrfinder("--curve", "flat.csv", "--code", "--quiet")
    assert (code, out) == (1, "")
    assert err.startswith("Refused   ")


def test_code_and_json_are_one_or_the_other(lrfinder):
    code, out, err = lrfinder("--code", "--json")
    assert (code, out) == (2, "")
    assert "not allowed with argument" in err


def test_optimizers_are_compared_at_equal_budget(lrfinder, plain, unread):
    words = ["--optimizer", "sgd", "--optimizer", "adamw", "--optimizer.weight_decay", "0.1"]
    code, out, err = lrfinder(plain, *QUICK, *words, "--out", "result.json", "--report", "r.html")
    document = json.loads(Path("result.json").read_text())
    names = [one["optimizer"] for one in document["comparison"]]
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].split()[0] == "optimizer"
    assert [line.split()[0] for line in lines[1:3]] == names
    assert f"Verdict   {document['verdict']}" in lines
    assert lines[lines.index("") + 1] == f"With {names[0]}:"
    assert lines[lines.index("") + 2].startswith("Peak LR   ")
    assert sorted(names) == ["adamw", "sgd"]
    probes = [Suggestion.from_dict(one).probes for one in document["comparison"]]
    assert probes[0][0].loss.tolist() == probes[1][0].loss.tolist()  # before any step
    caveats = {one["optimizer"]: one["caveats"] for one in document["comparison"]}
    assert "sgd has momentum 0.9, since --optimizer.momentum was not given." in caveats["sgd"]
    assert sorted(os.listdir()) == [
        "a folder", "r-adamw.html", "r-sgd.html", "r.html", "result.json",
    ]  # fmt: skip


def test_a_device_takes_the_pages_of_all():
    options = argparse.Namespace(optimizer=["sgd", "adam"])
    assert _paths(os.devnull, options) == [os.devnull, os.devnull]
    assert _paths("other", options) == ["other-sgd", "other-adam"]


def test_a_search_goes_on_from_a_journal_for_each_optimizer(lrfinder, plain, unread):
    words = [plain, *QUICK[:4], "--optimizer", "sgd", "--optimizer", "adamw", "--journal", "j.jsonl", "--json"]
    _, first, _ = lrfinder(*words)
    lines = Path("j-adamw.jsonl").read_bytes().splitlines(keepends=True)
    Path("j-adamw.jsonl").write_bytes(b"".join(lines[:4]))  # killed in the second search
    _, again, err = lrfinder(*words)
    results = len(Path("j-sgd.jsonl").read_bytes().splitlines()) - 1
    assert f"Resuming from j-sgd.jsonl, which holds {results} results." in err
    assert "Resuming from j-adamw.jsonl, which holds 3 results." in err
    assert "Optimizer 2 of 2: adamw\n" in err
    rates = [[one["lr"] for one in json.loads(text)["comparison"]] for text in (first, again)]
    assert rates[0] == rates[1]
    code, _, err = lrfinder(*words, "--init.width", "3")
    assert (code, err.count("belongs to a search with")) == (2, 1)


def test_an_interrupt_gives_the_comparison_so_far(lrfinder, plain, unread, monkeypatch):
    def second_is_interrupted(options, search, choice):
        if choice.name == "adamw":
            raise KeyboardInterrupt
        return build(options, search, choice)

    monkeypatch.setattr("lrfinder.cli.suggest.build", second_is_interrupted)
    code, out, _ = lrfinder(plain, *QUICK, "--optimizer", "sgd", "--optimizer", "adamw")
    assert code == 130
    assert "Verdict   Not ranked: fewer than two of them have an answer from probes." in out
    assert "\n\nWith sgd:\nPeak LR   " in out
    code, out, err = lrfinder(plain, *QUICK, "--optimizer", "adamw", "--optimizer", "sgd")
    assert (code, out, err) == (130, "", "lrfinder: interrupted\n")


def test_a_dry_run_shows_the_plan_and_writes_nothing(lrfinder, plain, monkeypatch):
    def never(*args, **options):
        raise AssertionError("it trained")

    monkeypatch.setattr("torch.optim.SGD.step", never)
    code, out, err = lrfinder(plain, "--steps", "2000", "--budget", "300", "--dry-run", "--quiet")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["Plan", "Range", "Probes"]
    assert out.splitlines()[:2] == [
        "Plan      300 steps for a training of 2,000 steps (dry run: nothing was trained)",
        "Range     40 steps, from 1e-07 to 100",
    ]
    code, out, _ = lrfinder(
        plain, "--steps", "2000", "--dry-run", "--json", "--optimizer", "sgd", "--optimizer", "adam"
    )
    document = json.loads(out)
    assert document.pop("searches") == 2
    assert document == SearchOptions(steps=2000).dry_run()
    assert os.listdir() == ["a folder"]


FAILS = """
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 1)

        def forward(self, inputs):
            return self.deeper(inputs)

        def deeper(self, inputs):
            raise ValueError("not these inputs")

    def parts():
        model = Model()
        batch = torch.ones(8, 4), torch.ones(8, 1)
        return model, torch.optim.SGD(model.parameters(), lr=0.1), nn.MSELoss(), [batch] * 20
"""


def test_an_error_of_theirs_is_their_traceback_and_exits_with_2(lrfinder):
    write("it fails.py", FAILS)
    code, out, err = lrfinder("it fails.py:parts", *QUICK)
    assert (code, out) == (2, "")
    lines = err.splitlines()
    assert lines[0] == "lrfinder: it fails.py:parts raised while it was tried; it is as it was:"
    frames = [line.rsplit(" ", 1)[1] for line in lines if line.startswith("  File") and "it fails.py" in line]
    assert frames == ["forward", "deeper"]
    assert lines[-1] == "ValueError: not these inputs"
    assert str(Path(sys.modules["lrfinder"].__file__).parent) not in err
    assert os.listdir() == ["it fails.py"]


LIT_FAILS = """
    import lightning.pytorch as pl
    import torch

    class Model(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch, batch_idx):
            return self.deeper(batch)

        def deeper(self, batch):
            raise ValueError("not this batch")

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

        def train_dataloader(self):
            return [torch.ones(8, 4)] * 20
"""


def test_an_error_in_training_step_is_shown_without_lightning(lrfinder):
    write("lit_fails.py", LIT_FAILS)
    code, out, err = lrfinder("lit_fails.py:Model", *QUICK)
    assert (code, out) == (2, "")
    frames = [line.rsplit(" ", 1)[1] for line in err.splitlines() if line.startswith("  File")]
    assert frames == ["training_step", "deeper"]
    assert err.splitlines()[-1] == "ValueError: not this batch"
    assert os.listdir() == ["lit_fails.py"]


def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(lrfinder, plain, monkeypatch):
    monkeypatch.setattr("lrfinder.files.os.access", lambda path, mode: False)
    code, out, err = lrfinder(plain, *QUICK, "--out", "o.json")
    assert (code, out) == (2, "")
    assert err == (
        "lrfinder: --report: lrfinder-report.html cannot be written, choose another path or fix its permissions\n"
    )


BAD = {
    "--curve c.csv t.py:M": "a target is for a training and must be left out with --curve, got t.py:M",
    "--curve c.csv --optimizer sgd": "--optimizer is for a training and must be left out with --curve, got sgd",
    "--curve c.csv --dry-run": "--dry-run is for a training and must be left out with --curve, got True",
    "--curve c.csv --init.x 3": "--init.x is for a training and must be left out with --curve, got 3",
    "t.py:M --write-config o.yaml": "--write-config must be given with the --config to copy, got none",
    "--config a.yaml --write-config o.yaml --optimizer sgd": "--write-config must be given without --optimizer",
    "--config a.yaml --write-config ./a.yaml": "--curve, --report, --plot, --out and --journal must name different",
    "--config a.yaml --write-config o.yaml --policy plateau": "--policy plateau with --write-config must be given",
    "t.py:M --out ./t.py": "--curve, --report, --plot, --out and --journal must name different files",
    "--optimizer sgd --optimizer adam --out lrfinder-report.html": "--curve, --report, --plot, --out and --journal",
    "--optimizer sgd --optimizer adam --report .": "--report must name a file, got the folder .",
    "--seed_everything 1": "--seed_everything must be given with --config",
    "--optimizer sgd --optimizer SGD": "--optimizer must name each optimizer once, got sgd, SGD",
}


@pytest.mark.parametrize("words", BAD)
def test_a_bad_argument_is_one_line_and_exits_with_2(lrfinder, words):
    code, out, err = lrfinder(*words.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"lrfinder: {BAD[words]}")
    assert err.count("\n") == 1
    assert os.listdir() == []


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_the_options(shell, capsys):
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit) as end:
        main(["--print-completion", shell])
    out = capsys.readouterr().out
    assert end.value.code == 0
    assert all(word in out for word in ("suggest", "--journal", "--strategy", "forecast", "--optimal"))


def test_without_shtab_completion_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as end:
        main(["--print-completion", "bash"])
    assert end.value.code == 2
    assert capsys.readouterr().err == ("lrfinder: --print-completion needs shtab: pip install 'lrfinder[completion]'\n")


def test_a_terminal_without_unicode_gets_escapes():
    write("modèle.py", PLAIN)
    done = subprocess.run(
        [sys.executable, "-m", "lrfinder", "suggest", "modèle.py:parts", *QUICK[:4], "--report", "modèle.html"],
        capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode("ascii").endswith("Report    mod\\xe8le.html\n")
    assert done.stderr.decode("ascii").startswith("\rLR search")
    assert "modèle.html" in os.listdir()


def test_the_demo_takes_other_optimizers(lrfinder, unread):
    code, out, err = lrfinder("--budget", "150", "--optimizer", "adam", "--json")
    document = json.loads(out)
    assert code in (0, 1)
    assert document["environment"]["optimizer"] == "torch.optim.Adam()"
    assert document["horizon"] == 430
    assert err.startswith("No target was given: tuning a small network on the bundled handwritten digits.\n")
