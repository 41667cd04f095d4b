"""Tests."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal

import pytest
from support.scripted import Quadratic, find

from lrfinder import InputError
from lrfinder.evidence.range_fit import fit_range
from lrfinder.probing.options import SearchOptions
from lrfinder.probing.search import Journal


def options(**changes):
    return SearchOptions(**{"steps": 500, "budget": 300, **changes})


class Timed(Quadratic):
    """Moves a clock of its own: a step takes a millisecond, an evaluation three."""

    now = 0.0

    def clock(self):
        return self.now

    def step(self):
        self.now += 0.001
        return super().step()

    def evaluate(self):
        self.now += 0.003
        return super().evaluate()


@pytest.mark.parametrize("place", [-12.0, -6.0, 0.0])
def test_the_best_rate_of_a_known_landscape_is_found(place):
    answer = find(Quadratic(place, noise=0.001), options())
    assert answer.lr_low < 2**place < answer.lr_high
    assert abs(math.log2(answer.lr) - place) < 1.5
    assert answer.param_group_lrs == pytest.approx((answer.lr, 0.1 * answer.lr))
    assert answer.caveats[0] == "As scripted."


def test_every_probe_starts_from_a_rewound_state_and_is_evaluated_once():
    trainee = Quadratic()
    answer = find(trainee, options())
    assert trainee.diary[0] == "in"
    assert trainee.diary[-1] == "out"
    kept = [entry for entry in trainee.diary if isinstance(entry, tuple) and entry[0] == "keep"]
    assert len(kept) == 1
    runs = "".join("r" if entry == "rewind" else "e" if entry[0] == "evaluate" else "" for entry in trainee.diary)
    probes = len(answer.probes) - 1
    assert runs == "rrer" + "re" * probes
    assert trainee.steps <= answer.steps_spent <= 300
    assert max(outcome.probe.steps for outcome in answer.probes) <= kept[0][1]


def test_the_range_test_is_fitted_once(monkeypatch):
    calls = []
    for module in ("evidence.range_fit", "probing.search"):
        monkeypatch.setattr(f"lrfinder.{module}.fit_range", lambda curve: calls.append(curve) or fit_range(curve))
    answer = find(Quadratic(), options())
    assert answer.range_fit is answer.evidence.known_fit
    assert len(calls) == 1


def test_progress_reaches_what_was_spent():
    seen, trainee = [], Quadratic()
    find(trainee, options(), lambda done, planned: seen.append((done, planned)))
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert trainee.steps - len(seen) in (0, 1)  # none for the step at which the range test ends
    assert {planned for _, planned in seen} == {300}


def test_an_interrupt_gives_the_best_answer_so_far():
    trainee = Quadratic()
    trainee.interrupt_at = 190
    answer = find(trainee, options())
    assert answer.interrupted
    assert answer.lr_low < 2**-6 < answer.lr_high
    assert any("interrupted after" in caveat for caveat in answer.caveats)
    assert trainee.diary[-1] == "out"


@pytest.mark.parametrize("step", [3, 50, 120])
def test_an_early_interrupt_passes_through(step):
    trainee = Quadratic()
    trainee.interrupt_at = step
    with pytest.raises(KeyboardInterrupt):
        find(trainee, options())
    assert trainee.diary[-1] == "out"


def test_a_timed_search_goes_on_from_its_journal_too(tmp_path):
    asked, path = options(budget="1s"), tmp_path / "journal.jsonl"
    one = Timed(-7.0)
    first = find(one, asked, journal=Journal(path, asked.journal_header()), clock=one.clock)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-2]))
    other = Timed(-7.0)
    again = find(other, asked, journal=Journal(path, asked.journal_header()), clock=other.clock)
    assert len(first.probes) > 5
    assert [o.probe for o in again.probes][: len(first.probes)] == [o.probe for o in first.probes]


@pytest.mark.parametrize("killed_at", [20, 60, 120, 190, 230])
def test_a_killed_search_goes_on_from_its_journal(tmp_path, killed_at):
    whole = find(Quadratic(), options())

    class Killed(Quadratic):
        def step(self):
            if self.steps == killed_at:
                raise SystemExit
            return super().step()

    path, asked = tmp_path / "journal.jsonl", options()
    with pytest.raises(SystemExit):
        find(Killed(), asked, journal=Journal(path, asked.journal_header()))
    again = Quadratic()
    answer = find(again, asked, journal=Journal(path, asked.journal_header()))
    assert answer.lr == whole.lr
    assert [o.probe for o in answer.probes] == [o.probe for o in whole.probes]
    if killed_at > 100:
        assert again.steps < whole.steps_spent


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="files can be limited on POSIX only")
def test_a_disk_that_fills_up_is_named_and_the_journal_goes_on_later(tmp_path):
    resource = pytest.importorskip("resource")
    path, asked = tmp_path / "journal.jsonl", options()
    journal = Journal(path, asked.journal_header())
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    trainee = Quadratic()
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 1500, before[1]))
    try:
        with pytest.raises(
            InputError, match=r"journal .* cannot be written: File too large\. The results in it are kept"
        ):
            find(trainee, asked, journal=journal)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert trainee.diary[-1] == "out"
    assert find(Quadratic(), asked, journal=Journal(path, asked.journal_header())).lr == find(Quadratic(), asked).lr


def test_without_held_out_batches_the_range_test_answers():
    trainee = Quadratic()
    trainee.apart = False
    answer = find(trainee, options())
    assert answer.method == "range"
    assert answer.lr_low < 2**-6 < answer.lr_high


def test_a_budget_too_small_for_probes_goes_into_the_range_test():
    trainee = Quadratic()
    answer = find(trainee, options(budget=79))
    assert answer.method == "range"
    assert trainee.steps == answer.steps_spent <= 79
    assert "keep" not in str(trainee.diary)
    assert answer.lr_low < 2**-6 < answer.lr_high


def test_an_untrained_loss_that_is_not_finite_is_an_error():
    with pytest.raises(InputError, match="the untrained loss must be finite on the held-out batches, got"):
        find(Quadratic(untrained=math.nan), options())


def test_held_out_batches_that_fail_untrained_are_left_out_and_counted(tmp_path):
    class Failing(Quadratic):
        def evaluate(self):
            loss = super().evaluate()
            loss[5] = math.nan
            return loss

    asked, path = options(), tmp_path / "journal.jsonl"
    answer = find(Failing(), asked, journal=Journal(path, asked.journal_header()))
    assert answer.lr_low < 2**-6 < answer.lr_high
    assert "1 of the 8 held-out losses is not finite and was left out." in answer.caveats
    assert {outcome.loss.size for outcome in answer.probes} == {7}
    again = find(Failing(), asked, journal=Journal(path, asked.journal_header()))
    assert (again.lr, again.caveats) == (answer.lr, answer.caveats)


def test_training_losses_that_fail_now_and_then_are_left_out_and_counted():
    class Failing(Quadratic):
        def step(self):
            loss = super().step()
            return loss * math.nan if self.steps % 13 == 10 else loss

    answer = find(Failing(), options())
    assert answer.lr_low < 2**-6 < answer.lr_high
    assert any("recorded losses are not finite and were left out" in caveat for caveat in answer.caveats)
    assert answer.caveats[0] == "As scripted."


@pytest.mark.parametrize(("seconds", "least"), [(1, 700), (2, 1450)])
def test_a_time_buys_steps_and_is_kept(seconds, least):
    timed = Timed()
    answer = find(timed, options(budget=f"{seconds}s"), clock=timed.clock)
    assert answer.lr_low < 2**-6 < answer.lr_high
    assert least < answer.steps_spent < 1000 * seconds
    assert timed.clock() <= seconds


def test_a_range_test_alone():
    answer = find(Quadratic(), options(method="range", budget=80))
    assert answer.method == "range"
    assert answer.probes == ()


def test_probes_that_blow_up_are_given_up_and_bound_the_answer():
    answer = find(Quadratic(-6.0, cliff=1.0), options())
    gone = [o for o in answer.probes if o.diverged]
    assert gone
    assert all(o.train_loss.size <= o.probe.steps for o in gone)
    assert answer.lr < 2**-5
    assert "blows up" in answer.details()


SETTINGS = {"steps": 500, "budget": None}


def fail():
    raise AssertionError("measured again")


@dataclasses.dataclass
class Number:
    value: float

    def to_dict(self):
        return self.value

    @classmethod
    def from_dict(cls, data):
        return cls(float(data))


def record(path, count, measure=lambda: 1.5):
    journal = Journal(path, SETTINGS)
    return journal, [journal.result("number", Number, lambda: Number(measure())).value for _ in range(count)]


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
        Journal(path, SETTINGS).result("probe", Number, fail)


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        '{"a": 1}',
        "hello\nworld\n",
        "[1, 2]\n",
        '{"kind": "report"}\n',
        '{"kind": "journal", "schema_version": 9}\n',
        '{"kind": "journal", "schema_version": 1, "settings": [1]}\n',
        "[" * 100_000 + "\n",
    ],
)
def test_a_file_that_is_no_journal_is_left_alone(tmp_path, text):
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(InputError, match="journal"):
        Journal(path, SETTINGS)
    assert path.read_text() == text


def test_a_device_is_no_journal():
    with pytest.raises(InputError, match="journal must be a file that can be read again"):
        Journal(os.devnull, SETTINGS)


def test_a_malformed_result_is_named(tmp_path):
    path = tmp_path / "j.jsonl"
    record(path, 1)
    path.write_text(path.read_text().replace("1.5", '"much"'))
    with pytest.raises(InputError, match="where 'number' is malformed"):
        record(path, 1, fail)
    path.write_text(path.read_text().replace('"result"', '"other"'))
    with pytest.raises(InputError, match="damaged line: the field 'result' is missing"):
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
