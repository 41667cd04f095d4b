from __future__ import annotations

import dataclasses

import pytest
from support.curves import refused, synthetic

from lrfinder import Reason, suggest
from lrfinder.answer.suggestion_text import headline_of, lines_of, repr_of


def test_the_headline_is_the_rate_and_its_interval():
    suggestion = suggest(synthetic(), steps=1000)
    assert headline_of(suggestion) == suggestion.headline()
    assert headline_of(suggestion).startswith(f"learning rate {suggestion.lr:.3g}, 90% interval")


def test_the_lines_name_the_groups_if_there_are_several():
    suggestion = dataclasses.replace(suggest(synthetic(), steps=1000), param_group_lrs=(0.1, 0.01))
    assert ("Groups", "0.1, 0.01") in lines_of(suggestion)


def test_repr_is_one_short_line():
    suggestion = suggest(synthetic(), steps=1000)
    assert repr(suggestion) == repr_of(suggestion)
    assert len(repr(suggestion)) < 120
    assert "\n" not in repr(suggestion)
    assert f"lr={suggestion.lr:.3g}" in repr(suggestion)


def test_repr_of_a_refusal_says_why():
    suggestion = refused("FLAT")
    assert repr(suggestion) == f"Suggestion(refused. {suggestion.reason.value})"


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_says_why_and_what_to_do_and_is_read_again_by_why(reason):
    assert reason.value == f"{reason.why} {reason.remedy}"
    assert Reason.of_text(reason.value) is reason
    assert Reason.of_text(f"{reason.why} Do something else.") is reason


def test_another_text_is_no_reason():
    assert Reason.of_text("Because.") is None
