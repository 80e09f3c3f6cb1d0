"""JSON for other programs: no NaN, no half of a letter, whatever stands around it."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from qcore.base.plain_json import plain_json


@dataclass
class Measured:
    loss: float
    folder: Path


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null_at_any_depth(bad):
    value = {"rows": [Measured(bad, Path("/runs/a")), (1, bad)], "step": 3, "said": "ü"}
    text = plain_json(value)
    assert json.loads(text) == {"rows": [{"loss": None, "folder": "a"}, [1, None]], "step": 3, "said": "ü"}
    assert " " not in text
    assert json.loads(plain_json(value, ascii_only=True, indent=1)) == json.loads(text)
    assert plain_json(value, ascii_only=True).isascii()


def test_half_a_surrogate_pair_becomes_a_question_mark_and_an_unknown_value_what_the_caller_says():
    assert plain_json({"a": "\ud800"}).encode("utf-8") == b'{"a":"?"}'
    assert plain_json([Path("/x/y"), math.nan], str) == '["/x/y",null]'
    with pytest.raises(TypeError, match="no such"):
        plain_json({1, 2}, _refuse)


def _refuse(value):
    raise TypeError(f"no such {type(value)}")
