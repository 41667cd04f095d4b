"""A document from outside is read as it was written, or refused with the field that is wrong."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
from support.curves import answered

from lrfinder import InputError, Suggestion
from lrfinder.answer.suggestion_text import Reason

DOCUMENTS = Path(__file__).parents[1] / "golden" / "documents"

PROBED = json.loads((DOCUMENTS / "probe-ok.json").read_text())

ABSURD = (None, True, -1, 1e30, 1e300, 10**400, math.nan, "NaN", "x", [], {}, [[1]], {"a": 1})
"""What a field may hold in a forged document."""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema_version must be 1, got 2"),
        ({"lr": "fast"}, "lr must be a number, got 'fast'"),
        ({"lr": None}, "one of lr and reason must be given, got lr = None and reason = None"),
        ({"reason": "Because."}, "reason must be the text of a refusal, got 'Because.'"),
        ({"reason": Reason.FLAT.value}, "one of lr and reason must be given, got lr = "),
        ({"policy": {"name": "linear"}}, "policy: the field '.*' is missing"),
        ({"policy": {"name": "fast", "params": {}, "total_steps": 1, "warmup_steps": 0}}, "policy: policy must be one"),
        ({"horizon": math.inf}, "horizon must be a whole number from 1 to 1,000,000,000, got inf"),
        ({"horizon": 0}, "horizon must be a whole number from 1 to 1,000,000,000, got 0"),
        ({"steps_spent": "5"}, "steps_spent must be a whole number from 0 to 1,000,000,000, got '5'"),
        ({"lr": -1.0}, r"lr must be a number from 1e-100 to 1e\+100, got -1.0"),
        ({"lr_low": None}, "lr must lie from lr_low to lr_high, got lr = .*, lr_low = None"),
        ({"lr_low": 1e9}, "lr must lie from lr_low to lr_high, got lr = .*, lr_low = 1000000000.0"),
        ({"lr": 1e9}, "lr must lie from lr_low to lr_high, got lr = 1000000000.0"),
        ({"caveats": "none"}, "caveats must be a list, got 'none'"),
        ({"environment": ["torch"]}, r"environment must be an object, got \['torch'\]"),
        ({"environment": {"seed": [math.nan]}}, "environment: seed: item 0 must be a number from"),
        ({"curves": []}, "curves must hold one curve, got none"),
        ({"alternatives": 3}, "alternatives must be a list, got 3"),
        ({"curves": [{"lr": [1.0]}]}, "curves: item 0: the field 'loss' is missing"),
        ({"curves": [3]}, "curves: item 0: must be an object, got 3"),
    ],
)
def test_a_malformed_document_is_named(change, message):
    with pytest.raises(InputError, match=f"^saved.json: {message}"):
        Suggestion.from_dict(answered().to_dict() | change, "saved.json")


def test_a_missing_field_is_named():
    document = answered().to_dict()
    del document["method"]
    with pytest.raises(InputError, match="suggestion: the field 'method' is missing"):
        Suggestion.from_dict(document)


def test_the_untrained_model_comes_once():
    document = copy.deepcopy(PROBED)
    document["probes"].append(document["probes"][0])
    with pytest.raises(InputError, match="probes must hold the untrained model once, as the first"):
        Suggestion.from_dict(document)


def test_the_probes_spend_no_more_steps_than_the_search():
    with pytest.raises(InputError, match=r"steps_spent must be at least those of the probes, .*, got 1"):
        Suggestion.from_dict(PROBED | {"steps_spent": 1})


def places(value: object, place: tuple = ()) -> list[tuple]:
    """Return the way to every value of a document; of a longer list, to the first, second and last item."""
    if not isinstance(value, (dict, list)):
        return [place]
    keys = list(value) if isinstance(value, dict) else sorted({0, 1, len(value) - 1} & set(range(len(value))))
    return [place, *(way for key in keys for way in places(value[key], (*place, key)))]


def changed(document: dict, place: tuple, value: object) -> dict:
    """Return a copy of a document with another value at a place."""
    copied = holder = copy.deepcopy(document)
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    return copied


@pytest.mark.parametrize("name", ["probe-ok", "probe-edge", "probe-flat", "range-ok"])
def test_any_field_may_be_absurd(name):
    """It is refused, or what is read can be shown and written."""
    document = json.loads((DOCUMENTS / f"{name}.json").read_text())
    for number, place in enumerate(places(document)[1:]):
        for value in ABSURD[number % 6 :: 6]:
            suggestion, problem = read(changed(document, place, value))
            if suggestion is None:
                assert problem.startswith("saved.json: ")
                assert len(problem) < 400
                continue
            assert str(suggestion)
            if suggestion.evidence.probed:  # the fit of a range test takes a tenth of a second
                json.dumps(suggestion.to_dict(), allow_nan=False)


def read(document: dict) -> tuple[Suggestion | None, str]:
    """Return the suggestion, or None and what is wrong."""
    try:
        return Suggestion.from_dict(document, "saved.json"), ""
    except InputError as error:
        return None, str(error)
