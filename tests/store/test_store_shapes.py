"""Decoding: what our own writer stores is read, and everything that has another type is refused at its place."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcore.store import DATABASE_NAME, RunReader, RunWriter
from qcore.store.declared import check_meta
from qcore.store.errors import DamagedRunError
from qcore.store.records import Event, Finding, Generation, LogLine, Status, decode, encode
from qcore.store.shapes import ShapeError

TOKEN = {"label": "a", "probability": 0.5, "rank": 1, "entropy": 0.1, "top": [["a", 0.5]]}
GOOD: list[Any] = [
    Event(1, 2, 3.0, "me", "control", {"name": "x", "old": None, "new": ["a"]}),
    Event(1, 2, 3.0, "me", "another", {"deep": {"er": [1]}}, 4),
    Generation("g", 1, 2.0, "prompt", "p", {"temperature": 0}, "t", [TOKEN], {"error": "x", "a": math.nan}),
    Generation("g", 1, 2.0, "prompt", "p", tokens=[{"shape": [1, 2, 2, 1], "pixels": "AAAA"}]),
    Finding("f", "n", 1, 2, "active", {"figure": None, "numbers": None}, "t", "e", [{"label": "l", "kind": "set"}]),
    LogLine(1, 2.0, 3, "info", "m"),
    Status("running", 1, 2, 3.0, 4, "h", extra={"loss": math.inf, "seconds_left": None}),
]


@pytest.mark.parametrize("record", GOOD)
def test_what_is_encoded_is_decoded(record: Any) -> None:
    assert repr(decode(type(record), encode(record))) == repr(record)


@pytest.mark.parametrize("record", GOOD)
@pytest.mark.parametrize(
    "value", [None, b"x", "x", "{", "[5]", "5", "[" * 3000, -1, 2**60, 1e300, math.inf, math.nan, "{}", '"\\ud800"']
)
def test_a_column_of_another_type_is_refused_or_harmless(record: Any, value: Any) -> None:
    row = encode(record)
    for place in range(len(row)):
        changed = (*row[:place], value, *row[place + 1 :])
        try:
            found = decode(type(record), changed)
        except ValueError as error:
            told = str(error)
            assert told
        else:
            repr(found).encode()
            for name, kind in type(record).__annotations__.items():
                if kind is int:
                    assert type(getattr(found, name)) is int
                if kind is float:
                    assert math.isfinite(getattr(found, name))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "lacks 'created'"),
        ({"created": 1.0}, "lacks 'epoch'"),
        ({"created": 1.0, "epoch": 0}, "lacks 'rewinds'"),
        ({"created": "x", "epoch": 0}, "meta.created is 'x', not a number"),
        ({"created": 1e300, "epoch": 0}, "a time"),
        ({"created": 1.0, "epoch": -1}, "from 0"),
        ({"created": 1.0, "epoch": 0, "lineage": 5}, "meta.lineage is 5, not an object"),
        ({"created": 1.0, "epoch": 0, "bytes_per_token": 0}, "above 0"),
        ({"created": 1.0, "epoch": 0, "special_tokens": {"eos": "x"}}, "special_tokens.eos"),
        ({"created": 1.0, "epoch": 0, "rewinds": [5]}, "rewinds"),
    ],
)
def test_meta_values_have_their_declared_shapes(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        check_meta(values if len(values) < 2 or "lacks" in words else {"rewinds": [], **values})


CHANGE = {"name": "x", "old": None, "new": 1.5, "step": 3}


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        ({"resolved": "yes"}, "resolved is 'yes', not an object"),
        ({"resolved": {"was": [5]}}, "resolved.was"),
        ({"resolved": {"step": "3"}}, "resolved.step"),
        ({"resolved": {"change": "x"}}, "resolved.change is 'x', not an object"),
        *(
            ({"resolved": {"change": {key: one for key, one in CHANGE.items() if key != gone}}}, f"lacks '{gone}'")
            for gone in CHANGE
        ),
        ({"resolved": {"change": CHANGE | {"new": {"a": 1}}}}, "resolved.change.new"),
        ({"moving": "yes"}, "moving is 'yes', not true or false"),
        ({"shown_at": "9"}, "shown_at"),
        ({"numbers": [{"label": "l", "value": 1, "side": 5}]}, "side"),
        ({"figure": {"side": 5}}, "figure.side"),
    ],
)
def test_every_key_of_the_evidence_that_a_page_reads_is_declared(evidence: dict[str, Any], words: str) -> None:
    whole = {"resolved": {"step": 4, "was": "w", "change": CHANGE}, "moving": True, "shown_at": 2}
    row = encode(Finding("f", "n", 1, 2, "resolved", whole, "t", "e", []))
    assert decode(Finding, row).evidence == whole
    with pytest.raises(ShapeError, match=words):
        decode(Finding, encode(Finding("f", "n", 1, 2, "resolved", evidence, "t", "e", [])))


INSIDE = {
    "pam": {"decay": (2, 3, 5), "singular": (2, 3, 4), "energy": (2, 2)},
    "flux": {"threshold": (2, 1, 5), "kept": (2, 1, 5), "similarity": (2, 1, 5, 5), "tokens": (5,), "dt": (2,)},
}


@pytest.mark.parametrize("family", INSIDE)
def test_the_inside_of_a_model_has_the_axes_of_its_family(tmp_path: Path, family: str) -> None:
    arrays = {name: np.zeros(shape, np.float32) for name, shape in INSIDE[family].items()}
    with RunWriter(tmp_path / DATABASE_NAME) as writer:
        writer.log_arrays(1, "internals", arrays)
        for step, name in enumerate(arrays, 2):
            writer.log_arrays(step, "internals", {**arrays, name: np.zeros((7, 9, 8), np.float32)})
        writer.log_arrays(99, "internals", {"other": np.zeros(3, np.float32)})
    with RunReader(tmp_path / DATABASE_NAME) as reader:
        assert reader.arrays("internals", 1, needs=tuple(arrays)) is not None
        for step in range(2, 2 + len(arrays)):
            with pytest.raises(DamagedRunError, match=r"has the shape \["):
                reader.arrays("internals", step)
        assert reader.arrays("internals", 99) is not None
        with pytest.raises(DamagedRunError, match="lacks"):
            reader.arrays("internals", 99, needs=tuple(arrays))
