from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from support.curves import synthetic
from support.pages import Page
from support.scripted import Quadratic, evidence, find, valley, with_probes

from lrfinder import InputError, Suggestion, suggest
from lrfinder.answer.choose import choose
from lrfinder.answer.comparison import compare
from lrfinder.answer.suggestion_text import Reason
from lrfinder.probing.options import SearchOptions
from lrfinder.report.comparison_page import comparison_html, comparison_png
from lrfinder.report.markdown import comparison_markdown


def found(level=0.0, steps=1000, **options) -> Suggestion:
    """A search on a trainee whose loss lies so much higher on every held-out batch."""
    suggestion = find(Quadratic(**options), SearchOptions("probe", steps, 300))
    raised = [dataclasses.replace(o, loss=o.loss + (level if o.probe.steps else 0.0)) for o in suggestion.probes]
    return with_probes(suggestion, raised)


def refused(suggestion: Suggestion) -> Suggestion:
    return dataclasses.replace(suggestion, reason=Reason.FLAT, lr=None, lr_low=None, lr_high=None, policy=None)


def test_the_one_that_ends_lowest_comes_first():
    comparison = compare(
        [("high", found(0.4, noise=0.1)), ("low", found(noise=0.1)), ("higher", found(0.6, noise=0.1))]
    )
    assert [entry.name for entry in comparison.entries] == ["low", "high", "higher"]
    assert [entry.behind for entry in comparison.entries] == pytest.approx([0.0, 0.4, 0.6], abs=0.05)
    assert not any(entry.tied for entry in comparison.entries)
    assert comparison.ranked
    assert comparison.verdict == (
        f"After {comparison.first.steps} of 1,000 steps low ended lowest,"
        " by more than 2 standard errors of the difference."
    )


def test_what_both_saw_cancels_in_the_difference():
    """The losses of the batches differ by ten times the difference, but in the same way for both."""
    one, other = found(noise=0.5), found(0.05, noise=0.5)
    assert one.probes[0].loss.std() > 0.2
    paired = compare([("a", one), ("b", other)])
    assert paired.entries[1].behind == pytest.approx(0.05)
    assert paired.entries[1].behind_error == pytest.approx(0.0, abs=1e-12)
    assert not paired.entries[1].tied


def test_the_longest_probes_of_an_older_document_count_alone():
    suggestion = chosen(lengths=(10, 40))
    low = [dataclasses.replace(o, loss=o.loss - 9) for o in suggestion.probes if o.probe.steps < 40]
    longest = [o for o in suggestion.probes if o.probe.steps == 40]
    (entry,) = compare([("a", with_probes(suggestion, (*low, *longest)))]).entries
    assert entry.loss == min(o.mean for o in longest)


def test_a_difference_that_decides_nothing_is_a_tie_however_sure_it_is():
    comparison = compare([("a", found()), ("b", found(0.004))])
    assert comparison.entries[1].behind_error == pytest.approx(0.0, abs=1e-12)
    assert comparison.entries[1].tied
    assert dict(comparison.rows)["behind"][1].endswith(", no detectable difference")


def test_what_was_refused_comes_last_and_is_told():
    good = found()
    comparison = compare([("bad", refused(found(-1.0))), ("good", good)])
    assert [entry.name for entry in comparison.entries] == ["good", "bad"]
    assert comparison.entries[1].behind is None
    assert comparison.table().splitlines()[2].split()[:2] == ["bad", "refused"]
    assert ("Refused", f"bad: {Reason.FLAT.why} {comparison.entries[1].suggestion.remedy}") in comparison.lines()
    assert comparison.verdict == "Not ranked: fewer than two of them have an answer from probes."


def test_one_held_out_value_says_how_far_and_not_how_sure():
    one, other = found(batches=1), found(0.5, batches=1)
    comparison = compare([("a", one), ("b", other)])
    assert (comparison.entries[1].behind, comparison.entries[1].behind_error) == (pytest.approx(0.5), None)
    assert comparison.verdict.endswith(
        " a ended lowest; the uncertainty is unknown, because there is only one held-out value."
    )


@pytest.mark.parametrize(("steps", "far"), [(10**5, True), (100, False)])
def test_a_horizon_far_beyond_the_probes_is_said(steps, far):
    comparison = compare([("a", found(steps=steps)), ("b", found(0.4, steps=steps))])
    assert any("is slow at first may end lower" in caveat for caveat in comparison.caveats) is far


def test_the_table_is_aligned_and_the_document_holds_whole_suggestions():
    pairs = [("sgd", found(noise=0.1)), ("adagrad", found(0.3, noise=0.1)), ("no", refused(found()))]
    comparison = compare(pairs)
    lines = comparison.table().splitlines()
    assert lines[0].split("  ")[0] == "optimizer"
    column = lines[0].index("held-out loss")
    assert all(line[column - 1] == " " and line[column] != " " for line in lines)
    assert lines[1].startswith("sgd ")
    assert lines[3].split()[:2] == ["no", "refused"]
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
    (entry,) = compare([("a", with_probes(suggestion, gone))]).entries
    assert (entry.best, entry.loss, entry.error) == (None, None, None)
    assert comparison_html(compare([("a", with_probes(suggestion, gone))]))


def chosen(*, shift=0.0, place=-6.0, steps=500, noise=0.001, untrained=2.0, lengths=(40,), seed=0):
    """A suggestion from losses made by hand."""
    losses = valley(place, shift=shift, lengths=lengths)
    return choose(evidence(losses, noise=noise, untrained=untrained, seed=seed), steps=steps)


def noisier(suggestion, rise, swing):
    """The same, but every probe of 40 steps higher by ``rise`` on average, now more, now less from batch to batch."""
    swings = rise + swing * (-1.0) ** np.arange(8)
    probes = tuple(
        dataclasses.replace(one, loss=one.loss + swings) if one.probe.steps == 40 else one for one in suggestion.probes
    )
    return with_probes(suggestion, probes)


def test_a_difference_within_its_noise_is_a_tie():
    close, far = noisier(chosen(), 0.02, 0.1), noisier(chosen(), 0.9, 0.1)
    comparison = compare({"one": close, "other": chosen(), "far": far})
    assert comparison.ranked
    assert [entry.tied for entry in comparison.entries] == [False, True, False]
    assert comparison.verdict == (
        "After 40 of 500 steps other ended lowest, with no detectable difference from one"
        " (less than 2 standard errors, or 0.5%). far ended higher by more than that."
    )


def test_the_horizon_is_left_out_if_it_is_unknown():
    comparison = compare({"a": chosen(steps=None), "b": chosen(steps=None, shift=0.1)})
    assert comparison.verdict == "After 40 steps a ended lowest, by more than 2 standard errors of the difference."


OBSTACLES = [
    (chosen(steps=5000), "they are for trainings of different lengths (500 and 5,000 steps)"),
    (chosen(steps=None), "they are for trainings of different lengths (500 and unknown steps)"),
    (chosen(lengths=(30,)), "their probes differ in length (30 and 40 steps)"),
    (chosen(untrained=3.0), "before training they differ in held-out loss (2.000 and 3.000 on average)"),
    (chosen(seed=1), "before training they differ in held-out loss"),
    (suggest(synthetic(), steps=500), "fewer than two of them have an answer from probes"),
]


@pytest.mark.parametrize(("other", "why"), OBSTACLES)
def test_what_cannot_be_compared_is_not_ranked(other, why):
    comparison = compare({"b": chosen(shift=0.1), "a": other})
    assert not comparison.ranked
    assert [entry.name for entry in comparison.entries] == ["b", "a"]
    assert all(entry.behind is None for entry in comparison.entries)
    assert comparison.verdict.startswith("Not ranked: ")
    assert why.replace(".000", "") in comparison.verdict.replace(".000", "")


def test_results_refused_or_without_probes_come_last_and_are_no_obstacle():
    without = choose(evidence(dict.fromkeys(valley(-6.0), 3.0), untrained=3.0), steps=50)
    assert without.reason is Reason.FLAT
    others = {"refused": without, "range": suggest(synthetic(), steps=500)}
    comparison = compare({**others, "b": chosen(shift=0.1), "a": chosen()})
    assert comparison.ranked
    assert [entry.name for entry in comparison.entries] == ["a", "b", "range", "refused"]
    assert [entry.behind is None for entry in comparison.entries] == [False, False, True, True]
    assert math.isnan(comparison.entries[2].untrained)


def test_untrained_losses_are_the_same_up_to_rounding():
    one = found(noise=0.1)

    def rescaled(factor):
        untrained, *trained = one.probes
        return with_probes(one, (dataclasses.replace(untrained, loss=untrained.loss * factor), *trained))

    assert compare({"a": one, "b": rescaled(1 + 5e-5)}).ranked
    assert not compare({"a": one, "b": rescaled(1.001)}).ranked


def test_facts_that_differ_are_shown_and_others_not():
    one = chosen().with_environment(batch_size=32, command="x")
    other = chosen().with_environment(batch_size=64, command="y")
    assert compare({"a": one, "b": other}).rows[-1] == ("batch_size", ("32", "64"))
    assert [name for name, _ in compare({"a": one, "b": one}).rows][-1] == "spent"


def test_the_standard_error_is_that_of_the_mean():
    (entry,) = compare({"a": chosen()}).entries
    assert entry.error == pytest.approx(entry.best.loss.std(ddof=1) / math.sqrt(8))


def texts_of(comparison):
    """What a terminal, a JSON document, a page and a Markdown text say of a comparison, without markup."""
    return {
        "terminal": str(comparison),
        "json": json.loads(json.dumps(comparison.to_dict()))["verdict"],
        "page": " ".join(Page(comparison_html(comparison, "x")).text.split()),
        "markdown": comparison_markdown(comparison, "x"),
    }


@pytest.mark.parametrize(
    "pair",
    [
        {"sgd": chosen(), "adamw": chosen(shift=0.1)},
        {"sgd": chosen(shift=0.1), "adamw": chosen(untrained=3.0)},  # they began from different untrained losses
        {"sgd": chosen(), "adamw": noisier(chosen(), 0.02, 0.1)},
        {"sgd": found(), "adamw": found(0.004)},
        {"sgd": found(batches=1), "adamw": found(0.5, batches=1)},
        {"sgd": found(batches=1), "adamw": found(0.0, batches=1)},
        *({"sgd": chosen(), "adamw": other} for other, _ in OBSTACLES),
    ],
)
def test_terminal_document_page_and_text_say_the_same(pair):
    comparison = compare(pair)
    texts = texts_of(comparison)
    for where, text in texts.items():
        assert comparison.verdict in text, where
        assert ("ended lowest" in text) is comparison.ranked, where
        assert ("Not ranked" in text) is not comparison.ranked, where
        assert ("no detectable difference from" in text) is any(entry.tied for entry in comparison.entries), where
    for where in ("terminal", "page", "markdown"):
        for caveat in comparison.caveats:
            assert caveat in texts[where], where
    rows = dict(comparison.rows)
    assert ("behind" in rows) is comparison.ranked
    for name in {"peak learning rate", "90% interval", "held-out loss", "behind"} & rows.keys():
        for cell in rows[name]:
            assert all(cell in texts[where] for where in ("terminal", "page", "markdown")), cell
    document = comparison.to_dict()["comparison"]
    order = [entry.name for entry in comparison.entries]
    assert [one["optimizer"] for one in document] == order
    assert [line.split()[0] for line in comparison.table().splitlines()[1:]] == order
    for one, entry in zip(document, comparison.entries, strict=True):
        assert (one["held_out"]["behind"], one["held_out"]["tied"]) == (entry.behind, entry.tied)
    assert comparison_png(comparison).startswith(b"\x89PNG")
