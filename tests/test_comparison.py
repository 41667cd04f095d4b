from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from scripted import Quadratic

from lrfinder import InputError, Suggestion
from lrfinder.comparison import compare
from lrfinder.finder import find
from lrfinder.reason import Reason
from lrfinder.search_options import SearchOptions


def found(level=0.0, steps=1000, **options) -> Suggestion:
    """A search on a trainee whose loss lies so much higher on every held-out batch."""
    suggestion = find(Quadratic(**options), SearchOptions("probe", steps, 300))
    raised = [dataclasses.replace(o, loss=o.loss + (level if o.probe.steps else 0.0)) for o in suggestion.probes]
    return dataclasses.replace(suggestion, probes=tuple(raised))


def refused(suggestion: Suggestion) -> Suggestion:
    return dataclasses.replace(suggestion, reason=Reason.FLAT, lr=None, lr_low=None, lr_high=None, policy=None)


def test_the_one_that_ends_lowest_comes_first():
    comparison = compare(
        [("high", found(0.4, noise=0.1)), ("low", found(noise=0.1)), ("higher", found(0.6, noise=0.1))]
    )
    assert [entry.name for entry in comparison.entries] == ["low", "high", "higher"]
    assert [entry.behind for entry in comparison.entries] == pytest.approx([0.0, 0.4, 0.6], abs=0.05)
    assert not any(entry.tied for entry in comparison.entries)
    assert comparison.verdict == f"low ended lowest after {comparison.best.best.probe.steps} steps of 1000."


def test_what_both_saw_cancels_in_the_difference():
    """The batches differ by ten times the difference, alike for both: paired, it is seen; not paired, it is not."""
    one, other = found(noise=0.5), found(0.05, noise=0.5)
    assert one.probes[0].loss.std() > 0.2
    paired = compare([("a", one), ("b", other)])
    assert paired.entries[1].behind == pytest.approx(0.05)
    assert paired.entries[1].behind_error == pytest.approx(0.0, abs=1e-12)
    assert not paired.entries[1].tied
    elsewhere = dataclasses.replace(
        other, curves=(dataclasses.replace(other.curves[0], loss=other.curves[0].loss + 1),)
    )
    apart = compare([("a", one), ("b", elsewhere)])
    assert apart.entries[1].behind_error > 0.1
    assert apart.entries[1].tied
    assert apart.caveats[0].startswith("The optimizers did not start from the same weights on the same batches")
    assert "no detectable difference from b" in apart.verdict


def test_the_longest_annealed_probes_count_alone():
    suggestion = found()
    low = [dataclasses.replace(o, loss=o.loss - 9) for o in suggestion.probes if o.probe.stage not in ("rung 2",)]
    longest = [o for o in suggestion.probes if o.probe.stage == "rung 2"]
    (entry,) = compare([("a", dataclasses.replace(suggestion, probes=(*low, *longest)))]).entries
    assert entry.loss == min(o.mean for o in longest)


def test_a_difference_that_decides_nothing_is_a_tie_however_sure_it_is():
    comparison = compare([("a", found()), ("b", found(0.004))])
    assert comparison.entries[1].behind_error == pytest.approx(0.0, abs=1e-12)
    assert comparison.entries[1].tied


def test_what_was_refused_comes_last_and_is_told():
    good = found()
    comparison = compare([("bad", refused(found(-1.0))), ("good", good)])
    assert [entry.name for entry in comparison.entries] == ["good", "bad"]
    assert comparison.entries[1].behind is None
    assert ("Refused", f"bad: {Reason.FLAT.value}") in comparison.lines()
    assert compare([("bad", refused(good))]).verdict == "Every search was refused."


def test_a_refusal_with_shorter_probes_hinders_no_order():
    short = found()
    longest = max(one.probe.steps for one in short.probes)
    short = dataclasses.replace(short, probes=tuple(one for one in short.probes if one.probe.steps < longest))
    comparison = compare([("b", found(0.4)), ("short", refused(short)), ("a", found())])
    assert [entry.name for entry in comparison.entries] == ["a", "b", "short"]
    assert comparison.entries[1].behind == pytest.approx(0.4)
    assert not any("no order is implied" in caveat for caveat in comparison.caveats)


def test_one_held_out_value_says_how_far_and_not_how_sure():
    one, other = found(batches=1), found(0.5, batches=1)
    comparison = compare([("a", one), ("b", other)])
    assert (comparison.entries[1].behind, comparison.entries[1].behind_error) == (pytest.approx(0.5), None)
    assert "how sure that is cannot be told" in comparison.verdict


def test_range_tests_are_not_ranked():
    suggestion = dataclasses.replace(found(), probes=())
    comparison = compare([("b", suggestion), ("a", suggestion)])
    assert [entry.name for entry in comparison.entries] == ["b", "a"]
    assert comparison.verdict.startswith("Nothing was measured that could be compared")
    assert comparison.caveats == ()


def test_a_horizon_far_beyond_the_probes_is_said():
    assert "is slow at first may end lower" in "".join(compare([("a", found(steps=10**5))]).caveats).replace("\n", " ")
    assert "may end lower" not in "".join(compare([("a", found(steps=100))]).caveats)


def test_probes_of_different_length_are_not_ranked():
    longer = find(Quadratic(), SearchOptions("probe", 1000, 400))
    comparison = compare([("a", found(0.4)), ("b", longer)])
    assert [(entry.name, entry.behind, entry.tied) for entry in comparison.entries] == [
        ("a", None, False),
        ("b", None, False),
    ]
    assert comparison.verdict.endswith("the longest probes differ in length.")
    assert "no order is implied" in comparison.caveats[-1]


def test_the_table_is_aligned_and_the_document_holds_whole_suggestions():
    pairs = [("sgd", found(noise=0.1)), ("adagrad", found(0.3, noise=0.1)), ("no", refused(found()))]
    comparison = compare(pairs)
    lines = comparison.table().splitlines()
    assert lines[0].split("  ")[0] == "optimizer"
    column = lines[0].index("held-out loss")
    assert all(line[column - 1] == " " and line[column] != " " for line in lines)
    assert lines[1].startswith("sgd ")
    assert lines[3].endswith("refused")
    assert str(comparison).splitlines()[: len(lines)] == lines
    document = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert document["schema_version"] == 1
    assert [one["optimizer"] for one in document["comparison"]] == ["sgd", "adagrad", "no"]
    for one in document["comparison"]:
        assert Suggestion.from_dict(one).to_dict() == json.loads(json.dumps(dict(pairs)[one["optimizer"]].to_dict()))
    assert document["comparison"][1]["held_out"]["behind"] == pytest.approx(0.3, abs=0.05)
    assert document["verdict"] == comparison.verdict


def test_nothing_cannot_be_compared():
    with pytest.raises(InputError, match="must be at least one, got none"):
        compare([])


def test_a_rate_at_which_all_blew_up_has_no_loss():
    suggestion = found()
    gone = [dataclasses.replace(o, loss=np.array([np.nan] * 8)) for o in suggestion.probes]
    (entry,) = compare([("a", dataclasses.replace(suggestion, probes=tuple(gone)))]).entries
    assert (entry.best, entry.loss, entry.error) == (None, None, None)
