"""The exception tree, and the argument checks that several modules share."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lrfinder import InputError, LRFinderError, TargetError, UnsupportedError
from lrfinder.errors import checked_horizon, did_you_mean, is_number, one_of, positive, whole_number


@pytest.mark.parametrize(
    ("kind", "builtin"), [(InputError, ValueError), (UnsupportedError, RuntimeError), (TargetError, RuntimeError)]
)
def test_every_error_is_of_the_tree_and_of_a_builtin_kind(kind, builtin):
    assert issubclass(kind, LRFinderError)
    assert issubclass(kind, builtin)


@pytest.mark.parametrize("value", [0, 2.5, np.float32(1), math.nan])
def test_numbers(value):
    assert is_number(value)


@pytest.mark.parametrize("value", [True, "1", None, 1j, [1]])
def test_what_is_no_number(value):
    assert not is_number(value)


def test_whole_numbers_of_numpy_become_an_int():
    assert [whole_number("n", value) for value in (3, np.int32(3))] == [3, 3]
    assert type(whole_number("n", np.int64(3))) is int
    assert whole_number("n", 0, 0) == 0


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "3", None])
def test_other_values_are_refused_by_name_and_rule(value):
    with pytest.raises(InputError, match=f"^n must be a positive whole number of steps, got n = {value!r}$"):
        whole_number("n", value, of="steps")
    with pytest.raises(InputError, match=r"^n must be a whole number, at least 5, got"):
        whole_number("n", value, 5)


def test_positive_numbers():
    assert positive("lr", 3) == 3.0
    for value in (0, -1.0, math.inf, math.nan, True, "1"):
        with pytest.raises(InputError, match=f"^lr must be positive and finite, got lr = {value!r}$"):
            positive("lr", value)


def test_one_of_a_few_texts():
    one_of("mode", "min", ("min", "max"))
    with pytest.raises(InputError, match=r"^mode must be min or max, got 'best'$"):
        one_of("mode", "best", ("min", "max"))
    with pytest.raises(
        InputError, match=r"^policy must be one of wsd, linear, cosine, got 'cosin': did you mean cosine"
    ):
        one_of("policy", "cosin", ("wsd", "linear", "cosine"))
    with pytest.raises(InputError, match=r"^mode must be min or max, got None$"):
        one_of("mode", None, ("min", "max"))


def test_what_is_far_from_everything_is_not_guessed():
    assert did_you_mean("adamw", ["sgd"]) == ""
    assert did_you_mean("ADAMW", ["AdamW", "Adam"]) == ": did you mean AdamW?"


def test_a_horizon_may_be_unknown():
    assert checked_horizon(None) is None
    assert checked_horizon(7) == 7
    with pytest.raises(InputError, match=r"^steps must be a positive whole number of optimizer steps, got steps = 0$"):
        checked_horizon(0)
