"""The commands that read files."""

from __future__ import annotations

import copy
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.curves import pure_noise, synthetic
from support.losslogs import made, write_events, write_log
from support.processes import loaded_by
from support.scripted import evidence, valley

from lrfinder import Curve, InputError, find_plateaus, forecast, read_log, suggest
from lrfinder.answer.choose import choose
from lrfinder.answer.comparison import compare
from lrfinder.cli.file_commands import read_results
from lrfinder.logs.law_fit import NO_FALLS
from lrfinder.report.comparison_page import comparison_html
from lrfinder.report.markdown import report_markdown

READ_AS = "CSV; step = 'step', metric = 'loss', learning rate = 'lr'"


@pytest.fixture
def logs():
    """Write three logs and return the words that name the first two."""
    for kind in ("cosine", "two-stage", "late", "constant"):
        write_log(made(kind), f"{kind}.csv")
    return ["cosine.csv", "two-stage.csv"]


@pytest.fixture
def forecasting(lrfinder):
    """Run `lrfinder forecast` in this process; return ``(exit code, stdout, stderr)``."""
    return functools.partial(lrfinder, "forecast")


def test_the_whole_output(logs):
    done = subprocess.run(
        [sys.executable, "-m", "lrfinder", "forecast", *logs, "--schedule", "cosine", "--schedule", "wsd"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    one, two = forecast([read_log(path) for path in logs], ["cosine", "wsd"]).schedules
    behind = f"+{two.final_loss - one.final_loss:.4f}"
    tied = ["  within error"] if two.tied else [""]
    assert done.stdout.splitlines() == [
        *(f"Log       {path}: {READ_AS}" for path in logs),
        "schedule  final loss  90% interval      behind",
        *(
            f"{s.name:8}  {s.final_loss:.4f}      {s.final_loss_low:.4f} to {s.final_loss_high:.4f}  {text}"
            for s, text in ((one, "best"), (two, behind + tied[0]))
        ),
    ]
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(os.listdir()) == ["constant.csv", "cosine.csv", "late.csv", "two-stage.csv"]


def test_targets_are_scored(logs, forecasting):
    code, out, err = forecasting(*logs, "--target", "late.csv")
    (target,) = forecast([read_log(path) for path in logs], targets=[read_log("late.csv")]).targets
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        *(f"Log       {path}: {READ_AS}" for path in (*logs, "late.csv")),
        "target    steps  mean error  end error",
        f"late.csv  4000   {target.mae:.4f}      {target.end_rel_error:.3%}",
    ]


def test_json_is_the_only_thing_on_stdout(logs, forecasting):
    code, out, err = forecasting(
        *logs, "--schedule", "linear", "--steps", "5000", "--target", "late.csv", "--target", "constant.csv", "--json"
    )
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert [one["name"] for one in document["schedules"]] == ["linear"]
    assert document["schedules"][0]["total_steps"] == 5000
    assert [target["file"] for target in document["targets"]] == ["late.csv", "constant.csv"]
    assert document["best"] == "linear"


def test_every_option_reaches_the_forecast(logs, forecasting):
    options = ["--peak-lr", "8e-4", "--warmup-steps", "0", "--end-lr", "2e-4", "--optimal", "--schedule", "linear"]
    document = json.loads(forecasting(*logs, *options, "--json")[1])
    one = document["schedules"][0]
    assert (one["peak_lr"], one["warmup_steps"], one["lr"][-1]) == (8e-4, 0, 2e-4)
    assert document["optimal"]["final_loss"] <= one["final_loss"]


def test_columns_are_chosen_by_name(logs, forecasting):
    for path in logs:
        Path(path).write_text(Path(path).read_text().replace("step,lr,loss", "n,lr-a,train_loss"))
    columns = ["--step-column", "n", "--lr-column", "lr-a", "--loss-column", "train_loss"]
    code, out, _ = forecasting(*logs, "--schedule", "wsd", *columns)
    assert code == 0
    assert out.splitlines()[0].endswith("step = 'n', metric = 'train_loss', learning rate = 'lr-a'")


def test_folders_and_event_files_are_logs_too(logs, forecasting):
    pytest.importorskip("tensorboard")
    Path("version_0").mkdir()
    Path("cosine.csv").rename("version_0/metrics.csv")
    log = read_log("two-stage.csv")
    write_events("run", zip(log.step.tolist(), log.value.tolist(), strict=True), tag="train_loss")
    write_events("run", zip(log.step.tolist(), log.lr.tolist(), strict=True), tag="lr-SGD")
    code, out, err = forecasting("version_0", "run", "--schedule", "cosine", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert [run["file"] for run in document["runs"]] == ["version_0", "run"]
    assert document["caveats"] == []
    write_log(made("cosine"), "cosine.csv")
    wanted = json.loads(forecasting(*logs, "--schedule", "cosine", "--json")[1])["schedules"][0]
    assert document["schedules"][0]["final_loss"] == pytest.approx(wanted["final_loss"], rel=1e-5)  # float32 events


def test_a_log_without_learning_rates_is_refused(forecasting):
    Path("log.csv").write_text("step,loss\n" + "".join(f"{i},{5 - i / 100}\n" for i in range(100)))
    code, out, err = forecasting("log.csv")
    assert (code, out) == (2, "")
    assert err == (
        "lrfinder: log.csv: needs learning rates, got none: log them with the loss (in Lightning by"
        " LearningRateMonitor), or name their column with --lr-column\n"
    )


def test_a_picture_is_written(logs, forecasting):
    code, *_ = forecasting(*logs, "--target", "late.csv", "--plot", "out.png")
    assert code == 0
    assert Path("out.png").read_bytes().startswith(b"\x89PNG")


def test_a_refusal_is_told_and_exits_with_1(logs, forecasting):
    code, out, err = forecasting("constant.csv", "--schedule", "cosine")
    assert (code, out, err) == (1, f"Log       constant.csv: {READ_AS}\nRefused   {NO_FALLS}\n", "")
    code, out, _ = forecasting("constant.csv", "--json")
    assert (code, json.loads(out)["status"], json.loads(out)["best"]) == (1, "refused", "constant")


BAD_ARGUMENTS = {
    "": "the following arguments are required: LOG",
    "missing.csv": "cannot read missing.csv: No such file or directory",
    "cosine.csv --steps 0": "argument --steps: must be a whole number from 1 to 1,000,000,000, got 0",
    "cosine.csv --steps 9": "--warmup-steps must be at least 0 and below steps, got 100 (as in the logs)",
    "cosine.csv --schedule plateau": "--schedule must be one of constant, step",
    "cosine.csv --peak-lr 0": "--peak-lr must be positive and finite, got 0",
    "cosine.csv --lr-column rate": "cosine.csv: --lr-column must be a column of the file (step, lr, loss), got 'rate'",
    "cosine.csv --plot out.pdf": "--plot must name a .png file, got out.pdf",
    "late.png --plot ./late.png": "--plot must not name a log, got ./late.png",
}


@pytest.mark.parametrize("words", BAD_ARGUMENTS)
def test_a_bad_argument_is_one_line_and_exits_with_2(logs, forecasting, words):
    before = os.listdir()
    code, out, err = forecasting(*words.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"lrfinder: {BAD_ARGUMENTS[words]}")
    assert err.count("\n") == 1
    assert os.listdir() == before


def test_an_interrupt_exits_with_130(logs, forecasting, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("scipy.optimize.least_squares", interrupted)
    assert forecasting(*logs) == (130, "", "lrfinder: interrupted\n")


def test_neither_torch_nor_lightning_is_loaded(logs):
    call = f"main(['forecast', *{logs}, '--optimal', '--plot', 'p.png'])"
    code = f"from lrfinder.cli.main import main\ntry:\n    {call}\nexcept SystemExit as end:\n    assert end.code == 0"
    assert loaded_by(code) == {"scipy", "matplotlib"}


@pytest.fixture
def metrics():
    """Write a log with two metrics, one of which is on a plateau."""
    rng = np.random.default_rng(0)
    loss = 1 + np.exp(-np.arange(200) / 8) + 0.001 * rng.normal(size=200)
    rows = [f"{10 * i},{0.1 if i < 150 else 0.01},{one!r},{1 - one / 3!r}\n" for i, one in enumerate(loss.tolist())]
    Path("metrics.csv").write_text("step,lr,train_loss,acc\n" + "".join(rows))


@pytest.fixture
def finding(lrfinder):
    """Run `lrfinder plateau` in this process; return ``(exit code, stdout, stderr)``."""
    return functools.partial(lrfinder, "plateau")


def test_the_whole_output_of_plateau(metrics):
    done = subprocess.run(
        [sys.executable, "-m", "lrfinder", "plateau", "metrics.csv"], capture_output=True, text=True, check=False
    )
    scan = find_plateaus(read_log("metrics.csv"))
    assert len(scan.plateaus) >= 1
    assert (done.stdout, done.stderr, done.returncode) == (f"{scan}\n", "", 0)
    assert os.listdir() == ["metrics.csv"]


def test_no_plateau_is_an_answer(finding):
    Path("short.csv").write_text("loss\n3\n2\n1\n")
    code, out, err = finding("short.csv")
    assert out.splitlines() == [
        "Log       short.csv: loss, 3 rows, steps 1 to 3",
        "Read as   CSV; step = number of the row, metric = 'loss', no learning rate",
        "End       step 3: could not be tested, see the caveats",
        "Caveat    Too few rows to test: 3, at least 24 are needed.",
    ]
    assert (code, err) == (0, "")


def test_every_option_reaches_the_search(metrics, finding):
    options = ["--loss-column", "acc", "--step-column", "step", "--mode", "max"]
    options += ["--delta", "0.1", "--alpha", "0.01", "--ahead", "700"]
    code, out, err = finding("metrics.csv", *options, "--min-rows", "30", "--lr-column", "lr", "--json")
    scan = find_plateaus(
        read_log("metrics.csv", "acc", lr_column="lr"),
        delta=0.1, alpha=0.01, ahead=700, mode="max", min_rows=30,
    )  # fmt: skip
    assert json.loads(out) == scan.to_dict()
    assert scan.plateaus
    assert {one.delta for one in scan.plateaus} == {0.1}
    assert (code, err) == (0, "")


def test_a_picture_of_plateaus_is_written(metrics, finding):
    code, out, err = finding("metrics.csv", "--plot", "picture.png")
    assert (code, err) == (0, "")
    assert Path("picture.png").read_bytes().startswith(b"\x89PNG")
    assert "picture" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.csv"], "cannot read none.csv: No such file or directory"),
        (
            ["metrics.csv", "--column", "x"],
            "metrics.csv: --loss-column must be a column of the file (step, lr, train_loss, ",
        ),
        (["metrics.csv", "--plot", "a.svg"], "--plot must name a .png file, got a.svg"),
        (["metrics.png", "--plot", "metrics.png"], "--plot must not name a log, got metrics.png"),
        (["metrics.csv", "--min-rows", "3"], "--min-rows must be a whole number, at least 24, got 3"),
        (["metrics.csv", "--alpha", "1"], "--alpha must be a rate in (0, 0.5), got 1.0"),
        (["metrics.csv", "--mode", "up"], "argument --mode: invalid choice: 'up'"),
    ],
)
def test_bad_input_is_one_line(arguments, message, metrics, finding):
    code, out, err = finding(*arguments)
    assert err.startswith(f"lrfinder: {message}")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_a_bad_log_is_found_before_torch_loads():
    Path("bad.csv").write_text("step,a,b\n1,2,3\n")
    code = "from lrfinder.cli.main import main\ntry:\n    main(['plateau', 'bad.csv'])\nexcept SystemExit as end:\n"
    assert loaded_by(code + "    assert end.code == 2") == set()


@pytest.fixture
def result():
    return saved("result.json", suggest(synthetic(), steps=1000))


def saved(name, suggestion):
    Path(name).write_text(json.dumps(suggestion.to_dict()), encoding="utf-8")
    return name


@pytest.mark.parametrize(
    ("kind", "start"), [("html", b"<!DOCTYPE html>"), ("md", b"# Which"), ("png", b"\x89PNG"), ("PNG", b"\x89PNG")]
)
@pytest.mark.parametrize("count", [1, 2])
def test_every_kind_is_written_of_one_and_of_several(lrfinder, kind, start, count):
    paths = [saved(f"{i}.json", suggest(pure_noise("normal", i))) for i in range(count)]
    assert lrfinder("report", *paths, "-o", f"a b.{kind}") == (0, f"Report    a b.{kind}\n", "")
    assert Path(f"a b.{kind}").read_bytes().startswith(start)
    assert sorted(os.listdir()) == sorted([*paths, f"a b.{kind}"])


def test_a_page_is_what_is_written_by_default_and_an_old_one_is_replaced(lrfinder, result):
    Path("lrfinder-report.html").write_text("old")
    code, out, _ = lrfinder("report", result)
    assert (code, out) == (0, "Report    lrfinder-report.html\n")
    assert "old" not in Path("lrfinder-report.html").read_text()[:20]


def test_the_page_made_later_is_the_page_made_at_once(lrfinder):
    Path("curve.csv").write_text("lr,loss\n" + "".join(f"{10.0**k},1\n" for k in range(-9, 3)))
    assert lrfinder("suggest", "--curve", "curve.csv", "--out", "r.json", "--report", "at-once.html")[0] == 1
    assert lrfinder("report", "r.json", "-o", "later.html")[0] == 0
    assert Path("later.html").read_text() == Path("at-once.html").read_text()
    assert "lrfinder suggest --curve curve.csv --out r.json --report at-once.html" in Path("later.html").read_text()


def test_several_are_ranked_on_one_page_with_the_command_that_made_it(lrfinder):
    one, other = (choose(evidence(valley(-6.0, shift=shift), noise=0.001), steps=500) for shift in (0.0, 0.1))
    assert lrfinder("report", saved("b.json", other), saved("a.json", one), "-o", "both.md")[0] == 0
    text = Path("both.md").read_text()
    assert "After 40 of 500 steps a ended lowest" in text
    assert "lrfinder report b.json a.json -o both.md" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("result.json -o x.txt", "--out must name a file that ends in .html, .md, .png, got x.txt"),
        ("result.json -o result", "--out must name a file that ends in .html, .md, .png, got result"),
        ("result.json -o missing/x.md", "--out: the folder missing does not exist, create it first"),
        ("result.html -o ./result.html", "--out must not name one of the results, got ./result.html"),
        ("nothing.json", "cannot read nothing.json: No such file or directory"),
        ("bad.json", "bad.json: not valid JSON (Expecting value: line 1 column 1 (char 0))"),
        ("wrong.json", "wrong.json: steps_spent must be a whole number from 0 to 1,000,000,000, got 'many'"),
        ("result.json wrong.json", "wrong.json: steps_spent must be"),
        ("", "the following arguments are required: RESULT.json (see lrfinder report --help)"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(lrfinder, result, arguments, message):
    document = json.loads(Path(result).read_text())
    Path("wrong.json").write_text(json.dumps(document | {"steps_spent": "many"}))
    Path("bad.json").write_text("lr,loss")
    before = sorted(os.listdir())
    code, out, err = lrfinder("report", *arguments.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"lrfinder: {message}")
    assert err.count("\n") == 1
    assert sorted(os.listdir()) == before


def test_the_help_fits_on_a_screen(lrfinder):
    code, out, _ = lrfinder("report", "--help")
    assert code == 0
    assert len(out.splitlines()) < 25
    assert max(map(len, out.splitlines())) <= 100


def test_a_constant_curve_has_every_kind_of_report(lrfinder):
    saved("flat.json", suggest(Curve([10.0**k for k in range(-9, 3)], [1.0] * 12)))
    for kind in ("html", "md", "png"):
        assert lrfinder("report", "flat.json", "--out", f"flat.{kind}")[0] == 0


ANSWER = choose(evidence(valley(-6.0), noise=0.001), steps=500)

RANGE = suggest(synthetic(), steps=500)


def save(name, document):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(json.dumps(document), encoding="utf-8")
    return name


def compared(**entries):
    return {"schema_version": 1, "comparison": [{"optimizer": name, **one.to_dict()} for name, one in entries.items()]}


def test_files_are_called_by_their_names():
    paths = [save("a.json", ANSWER.to_dict()), save("b c.json", RANGE.to_dict()), save("x/a.json", RANGE.to_dict())]
    found = read_results(paths)
    assert list(found) == ["a", "b c", "a (2)"]
    assert [one.to_dict() for one in found.values()] == [ANSWER.to_dict(), RANGE.to_dict(), RANGE.to_dict()]


def test_a_comparison_is_several():
    path = save("both.json", compared(sgd=ANSWER, adamw=RANGE))
    assert list(read_results([path])) == ["sgd", "adamw"]
    assert list(read_results([path, save("c.json", RANGE.to_dict())])) == ["both sgd", "both adamw", "c"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "expected a JSON object, got list"),
        ({"comparison": []}, "schema_version must be 1, got None"),
        ({"schema_version": 1, "comparison": []}, r"comparison must be a list of results, at least one, got \[\]"),
        ({"schema_version": 1, "comparison": [3]}, r"comparison\[0\]: must be an object with the name of an optimizer"),
        (
            {"schema_version": 1, "comparison": [{"optimizer": "sgd"}]},
            r"comparison\[0\]: the field 'reason' is missing",
        ),
        ({"schema_version": 2}, "schema_version must be 1, got 2"),
        ({**ANSWER.to_dict(), "horizon": "long"}, "horizon must be a whole number from 1 to 1,000,000,000"),
    ],
)
def test_a_wrong_file_is_named_with_its_field(document, message):
    with pytest.raises(InputError, match=f"^r.json: {message}"):
        read_results([save("r.json", document)])


def test_what_is_no_json_is_named():
    Path("r.json").write_bytes(b"\x80\x04\x95")  # a pickle
    with pytest.raises(InputError, match=r"^r.json: not a text file, expected JSON written by lrfinder suggest --out"):
        read_results(["r.json"])


JUNK = [None, True, -1, 0, 3, 2.5, 1e-300, 1e300, "", "NaN", "x", [], [1], ["x"], [[]], {}, {"a": 1}, [None]]

PLACES = [
    *((name,) for name in ANSWER.to_dict()),
    *(("curves", 0, name) for name in ANSWER.curves[0].to_dict()),
    *(("probes", i, name) for i in (0, 7) for name in ANSWER.probes[0].to_dict()),
    *(("alternatives", 1, name) for name in ANSWER.alternatives[0].to_dict()),
    *(("policy", name) for name in ANSWER.policy.to_dict()),
    *(("fit", name) for name in ANSWER.fit),
]


def read_with(place, junk):
    """Read the document with junk in a place; return (result, None) or (None, what was complained of)."""
    document = copy.deepcopy(ANSWER.to_dict())
    parent = document
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = junk
    try:
        return read_results([save("r.json", document)])["r"], None
    except InputError as error:
        return None, str(error)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_junk_is_taken_or_named_with_its_file_and_field(place):
    for junk in JUNK:
        _, complaint = read_with(place, junk)
        if complaint is not None:
            assert complaint.startswith("r.json: ")
            assert any(str(key) in complaint for key in place), complaint


@settings(max_examples=20)
@given(place=st.sampled_from(PLACES), junk=st.sampled_from(JUNK))
def test_what_is_taken_can_be_shown(place, junk):
    found, _ = read_with(place, junk)
    if found is not None:
        assert report_markdown(found)
        assert comparison_html(compare({"a": ANSWER, "b": found}))


@pytest.fixture
def searched():
    return choose(evidence(valley(-6.0)), steps=500).with_environment(optimizer="torch.optim.AdamW()")


@pytest.fixture
def rescaling(lrfinder):
    """Run `lrfinder rescale` in this process; return ``(exit code, stdout, stderr)``."""
    return functools.partial(lrfinder, "rescale")


def test_text_and_json_are_those_of_the_call(searched, rescaling):
    searched = searched.with_environment(batch_size=64)
    scaled = searched.rescale(128, devices=8, steps=1000)
    arguments = (saved("result.json", searched), "--batch-size", "128", "--devices", "8", "--steps", "1000")
    assert rescaling(*arguments) == (0, f"{scaled}\n", "")
    code, out, _ = rescaling(*arguments, "--json")
    assert (code, json.loads(out)) == (0, scaled.to_dict())


def test_devices_before_and_after_a_noise_scale_and_a_family(searched, rescaling):
    scaled = searched.rescale((64, 32), devices=(2, 16), noise_scale=100.0, optimizer="sgd")
    options = ("--batch-size", "64:32", "--devices", "2:16", "--noise-scale", "100", "--optimizer", "sgd")
    assert rescaling(saved("result.json", searched), *options) == (0, f"{scaled}\n", "")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--batch-size", "64"], "--batch-size must be a pair"),
        (["--batch-size", "64:x"], "--batch-size"),
        ([], "--steps must be given, or a --batch-size or devices that change"),
    ],
)
def test_bad_input_is_named(searched, rescaling, options, text):
    code, out, error = rescaling(saved("result.json", searched), *options)
    assert (code, out) == (2, "")
    assert text in error


def test_a_refusal_and_a_comparison_are_bad_input(searched, rescaling):
    code, _, error = rescaling(saved("result.json", suggest(pure_noise("normal", 0))), "--steps", "100")
    assert code == 2
    assert "refused" in error
    entries = [{"optimizer": name, **searched.to_dict()} for name in ("a", "b")]
    Path("both.json").write_text(json.dumps({"schema_version": 1, "comparison": entries}))
    code, _, error = rescaling("both.json", "--steps", "100")
    assert (code, "must hold one result, got 2" in error) == (2, True)
