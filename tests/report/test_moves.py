"""The section on what would move a rate: its numbers are those of `rescale`."""

from __future__ import annotations

import pytest
from support.curves import pure_noise
from support.scripted import evidence, valley

from lrfinder import report_html, suggest
from lrfinder.answer.choose import choose
from lrfinder.report.markdown import report_markdown
from lrfinder.report.moves import TITLE, list_moves, notes_on_moves


def answer(optimizer="torch.optim.AdamW(weight_decay=0.1)", steps=500):
    return choose(evidence(valley(-6.0)), steps=steps).with_environment(optimizer=optimizer)


def test_every_row_is_what_rescale_returns():
    suggestion = answer()
    rows = {move.change: move for move in list_moves(suggestion)}
    assert len(rows) == 8
    for change, scaled in (
        ("4 times the batch, as many examples", suggestion.rescale((64, 256))),
        ("16 times the batch, as many steps", suggestion.rescale((64, 1024), steps=500)),
        ("4 times the steps", suggestion.rescale(steps=2000)),
    ):
        assert rows[change].lr == f"{scaled.lr:.3g}"
        assert rows[change].interval == f"{scaled.lr_low:.2g} to {scaled.lr_high:.2g}"


def test_without_a_length_only_batches_of_as_many_examples_are_shown():
    assert {move.change.partition(", ")[2] for move in list_moves(answer(steps=None))} == {"as many examples"}


def test_an_optimizer_without_a_rule_shows_lengths_alone():
    suggestion = answer("torch.optim.Adagrad()")
    assert [move.change for move in list_moves(suggestion)] == ["4 times the steps", "a quarter of the steps"]
    assert notes_on_moves(suggestion) == notes_on_moves(answer(None))
    assert "No rule for the batch size" in notes_on_moves(suggestion)[0]


@pytest.mark.parametrize(("optimizer", "notes"), [("AdamW(weight_decay=0.1)", 2), ("SGD(momentum=0.9)", 1)])
def test_the_time_scale_of_the_decay_is_shown_where_there_is_one(optimizer, notes):
    suggestion = answer(f"torch.optim.{optimizer}")
    found = notes_on_moves(suggestion)
    assert len(found) == notes
    if notes == 2:
        assert f"forgets over {float(f'{1 / (0.1 * suggestion.lr):.2g}'):,g} steps" in found[1]


def test_a_refusal_has_no_such_section():
    refused = suggest(pure_noise("normal", 0))
    assert (list_moves(refused), notes_on_moves(refused)) == ((), ())
    assert TITLE not in report_html(refused) + report_markdown(refused)


def test_page_and_text_hold_the_section_once():
    assert report_html(answer()).count(f"<h2>{TITLE}</h2>") == 1
    assert report_markdown(answer()).count(f"## {TITLE}") == 1
