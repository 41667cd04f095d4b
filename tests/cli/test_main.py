from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.curves import pure_noise, synthetic, write_csv

from lrfinder import Curve, Reason, Suggestion, __version__, suggest
from lrfinder.cli.main import main


@pytest.fixture
def good():
    return str(write_csv("good.csv", synthetic()))


@pytest.fixture
def flat():
    return str(write_csv("flat.csv", pure_noise("normal", 0)))


def saved(**change):
    """Write the document of a refused curve, which is quick to make."""
    document = suggest(Curve([10.0**k for k in range(-9, 3)], [1.0] * 12)).to_dict()
    Path("out.json").write_text(json.dumps(document | change))


def process(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "lrfinder", *arguments], capture_output=True, text=True, check=False, **options
    )


def test_the_whole_output_for_a_curve(good):
    answer = suggest(synthetic(), steps=1000)
    done = process("suggest", "--curve", good, "--steps", "1000")
    assert done.stdout.splitlines() == [
        f"Peak LR   {answer.lr:.3g}",
        f"Interval  {answer.lr_low:.2g} to {answer.lr_high:.2g} holds the best rate with 90% probability",
        "Policy    150 steps of warmup, constant, then linear to zero over the last 40% of 850 steps",
        f"How sure  {dict(answer.lines())['How sure']}",
        "Spent     100 optimizer steps for a training of 1,000",
        "Read too  2 caveats, in the report and with --verbose",
        "Report    lrfinder-report.html",
    ]
    assert done.stderr == ""
    assert done.returncode == 0
    assert "lrfinder suggest --curve good.csv --steps 1000" in Path("lrfinder-report.html").read_text()


def test_the_whole_output_for_a_bad_file():
    done = process("suggest", "--curve", "missing.csv")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "lrfinder: cannot read missing.csv: No such file or directory\n"
    assert os.listdir() == []


def test_without_a_target_the_demo_is_tuned():
    done = process("suggest", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 0
    assert document["status"] == "ok"
    assert 1e-3 < document["lr"] < 0.3
    assert document["horizon"] == document["policy"]["total_steps"] == 430
    assert document["environment"]["seed"] == 0
    assert done.stderr.startswith("No target was given: tuning a small network on the bundled handwritten digits.\n")
    assert "Report    lrfinder-report.html\n" in done.stderr


def test_a_reader_that_leaves_early_is_no_fault(good):
    command = [sys.executable, "-m", "lrfinder", "suggest", "--curve", good, "--json", "--quiet"]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    started.stdout.close()
    assert started.stderr.read() == b""
    started.stderr.close()
    assert started.wait() == 0


@pytest.mark.parametrize("arguments", [["--help"], ["suggest", "--help"], ["--version"]])
def test_a_reader_of_the_help_that_leaves_early_is_no_fault(monkeypatch, arguments):
    class Closed(io.StringIO):
        def flush(self):
            raise BrokenPipeError

        def fileno(self):
            return number

    number = os.open("stdout", os.O_CREAT | os.O_WRONLY)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Closed())
        with pytest.raises(SystemExit) as end:
            main(arguments)
    os.close(number)
    assert end.value.code == 0


def test_without_any_stdout_the_report_is_written(monkeypatch, good):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        with pytest.raises(SystemExit) as end:
            main(["suggest", "--curve", good])
    assert end.value.code == 0
    assert Path("lrfinder-report.html").exists()


@pytest.mark.parametrize("options", [["--quiet"], ["--out", "out.json"]])
def test_json_is_the_only_thing_on_stdout(lrfinder, good, options):
    code, out, err = lrfinder("suggest", "--curve", good, "--json", *options)
    document = json.loads(out)
    assert code == 0
    assert Suggestion.from_dict(document).to_dict() == document
    assert err == ("" if options == ["--quiet"] else "Report    lrfinder-report.html\n")
    if Path("out.json").exists():
        assert json.loads(Path("out.json").read_text()) == document


def test_a_refusal_is_told_and_exits_with_1(lrfinder, flat):
    code, out, err = lrfinder("suggest", "--curve", flat)
    assert code == 1
    assert out.splitlines()[0] == f"Refused   {Reason.FLAT.value}".replace("max_lr", "--max-lr").replace(
        "budget=", "--budget "
    )
    assert err == ""
    assert Reason.FLAT.value in Path("lrfinder-report.html").read_text()


def test_quiet_prints_the_answer_and_nothing_else(lrfinder, good):
    code, out, err = lrfinder("suggest", "--curve", good, "--quiet")
    assert (code, err) == (0, "")
    assert out.startswith("Peak LR")
    assert "Report" not in out
    assert Path("lrfinder-report.html").exists()


def test_a_quiet_demo_is_quiet(lrfinder):
    code, out, err = lrfinder("suggest", "--quiet", "--budget", "150")
    assert (code, err) == (0, "")
    assert out.startswith("Peak LR")


def test_a_saved_document_gives_the_same_answer_again(lrfinder, good):
    lrfinder("suggest", "--curve", good, "--out", "out.json", "--steps", "1234")
    lrfinder("suggest", "--curve", "out.json", "--out", "again.json")
    first, again = (json.loads(Path(path).read_text()) for path in ("out.json", "again.json"))
    assert first["horizon"] == 1234
    for field in ("lr", "lr_low", "lr_high", "policy", "horizon", "steps_spent", "param_group_lrs", "curves"):
        assert again[field] == first[field]


def test_steps_given_outweigh_those_saved(lrfinder):
    saved(horizon=1234)
    _, out, _ = lrfinder("suggest", "--curve", "out.json", "--json", "--steps", "99")
    assert json.loads(out)["horizon"] == 99


def test_every_file_asked_for_is_written_where_asked(lrfinder, good):
    Path("a folder").mkdir()
    good = Path(good).rename("a folder/my curve.csv")
    options = {"--report": "a folder/my report.html", "--plot": "a folder/p.png", "--out": "a folder/o.json"}
    code, out, _ = lrfinder("suggest", "--curve", good, *(word for option in options.items() for word in option))
    assert code == 0
    assert sorted(os.listdir("a folder")) == ["my curve.csv", "my report.html", "o.json", "p.png"]
    assert os.listdir() == ["a folder"]
    assert "Report    a folder/my report.html" in out
    assert Path("a folder/p.png").read_bytes().startswith(b"\x89PNG")
    # As a shell takes it back.
    assert "lrfinder suggest --curve &#39;a folder/my curve.csv&#39;" in Path("a folder/my report.html").read_text()


BAD_ARGUMENTS = {
    "--steps 0": "argument --steps: must be a whole number from 1 to 1,000,000,000, got 0",
    "--method grid": "argument --method: invalid choice: 'grid'",
    "--budget 19": "--budget must come to at least 20 steps, got 19, which is 19",
    "--curve x.csv --method range": "--method is for a training and must be left out with --curve, got range",
    "--journal missing/j": "--journal: the folder missing does not exist, create it first",
    "--min-lr 1 --max-lr 0.1": "--min-lr must be below --max-lr, got 1, 0.1",
    "--min-lr low": "argument --min-lr: invalid float value: 'low'",
    "--out missing/out.json": "--out: the folder missing does not exist, create it first",
    "--out .": "--out must name a file, got the folder .",
    "--curve=": "cannot read .: Is a directory",
    "--fast": "unrecognized arguments: --fast",
}


@pytest.mark.parametrize("words", BAD_ARGUMENTS)
def test_a_bad_argument_is_one_line_and_exits_with_2(lrfinder, words):
    code, out, err = lrfinder("suggest", *words.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"lrfinder: {BAD_ARGUMENTS[words]}")
    assert err.count("\n") == 1
    assert os.listdir() == []


@pytest.mark.parametrize("words", [[], ["tune"]])
def test_a_command_is_needed(lrfinder, words):
    code, out, err = lrfinder(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "COMMAND" in err


BAD_FILES = {
    "missing.csv": (None, "No such file or directory"),
    "cut.json": ('{"lr": [1,', "not valid JSON"),
    "binary.csv": (b"\x93NUMPY\x01\x00\xff\xfe", "not a text file, expected CSV with columns lr,loss or JSON"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_line_and_exits_with_2(lrfinder, name):
    content, message = BAD_FILES[name]
    path = Path(f"a file named {name}")
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    code, out, err = lrfinder("suggest", "--curve", path)
    assert (code, out) == (2, "")
    assert err.startswith("lrfinder: ")
    assert str(path) in err
    assert message in err
    assert err.count("\n") == 1
    assert not Path("lrfinder-report.html").exists()


@pytest.mark.parametrize("horizon", [0, 1.5, True])
def test_a_saved_horizon_that_is_none_is_named(lrfinder, horizon):
    saved(horizon=horizon)
    code, _, err = lrfinder("suggest", "--curve", "out.json")
    assert code == 2
    assert err == f"lrfinder: out.json: horizon must be a positive whole number or null, got {horizon!r}\n"


def test_a_device_takes_the_report_and_stays_a_device(lrfinder, good):
    Path("null").symlink_to(os.devnull)  # a mistake then costs only the link
    code, _, _ = lrfinder("suggest", "--curve", good, "--report", "null")
    assert code == 0
    assert Path("null").is_char_device()


def test_nothing_is_written_after_an_interrupt(lrfinder, good, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("lrfinder.answer.choose.suggest", interrupted)
    code, out, err = lrfinder("suggest", "--curve", good, "--out", "out.json")
    assert (code, out, err) == (130, "", "lrfinder: interrupted\n")
    assert os.listdir() == ["good.csv"]


def test_the_version(lrfinder):
    assert lrfinder("--version") == (0, f"lrfinder {__version__}\n", "")


def test_a_curve_that_only_just_has_points_enough(lrfinder):
    lrs = np.geomspace(1e-4, 1, 10)
    write_csv("ten.csv", Curve(lrs, [3, 3, 2.5, 2, 1.5, 1, 1, 2, 30, 900]))
    code, out, _ = lrfinder("suggest", "--curve", "ten.csv")
    assert code in (0, 1)
    assert out.startswith(("Peak LR", "Refused"))


def test_two_results_in_one_file_are_refused(good, lrfinder):
    code, out, err = lrfinder("suggest", "--curve", good, "--out", "a.html", "--report", "./a.html")
    assert (code, out) == (2, "")
    assert "--curve, --report, --plot, --out and --journal must name different files" in err
    assert not Path("a.html").exists()


def test_a_picture_is_a_png(good, lrfinder):
    code, out, err = lrfinder("suggest", "--curve", good, "--plot", "a.pdf")
    assert (code, out, err) == (2, "", "lrfinder: --plot must name a .png file, got a.pdf\n")


def test_single_failed_losses_of_a_recorded_curve_are_counted_and_do_not_refuse_it(lrfinder):
    curve = synthetic()
    loss = [math.nan if i in (0, 40) else value for i, value in enumerate(curve.loss.tolist())]
    write_csv("curve.csv", Curve(curve.lr, loss))
    code, out, _ = lrfinder("suggest", "--curve", "curve.csv", "--verbose")
    assert code == 0
    assert f"2 of the {len(curve)} recorded losses are not finite and were left out." in out


def test_a_long_curve_makes_a_small_page(lrfinder):
    lr = np.geomspace(1e-6, 10.0, 30_000)
    loss = 2.3 - 1.5 / (1 + (0.01 / lr) ** 1.2) + np.maximum(lr / 0.3 - 1, 0) ** 2
    write_csv("curve.csv", Curve(lr, loss))
    code, _, _ = lrfinder("suggest", "--curve", "curve.csv", "--steps", "5000")
    assert code == 0
    page = Path("lrfinder-report.html").read_text(encoding="utf-8")
    assert len(page) < 1_000_000
    assert "Each row is the median of neighbours among 30000 points." in page
