"""JSON of strangers: bounds on size and depth, in time that is linear in the text."""

import json
import time

import pytest

from qcore.base import DocumentError, LabError, parse_json


@pytest.mark.parametrize(
    "value", [None, 5, [1, [2, {"a": "]]]]["}]], {"x": '\\"[[[['}, ["["] * 500, [["{", "["] * 300] * 2, "é\u2028"]
)
def test_what_json_writes_comes_back(value: object) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False).encode()):
        assert parse_json(text, "x.json") == value
    assert parse_json("[NaN, Infinity]", "x.json")[1] == float("inf")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[" * 200_000, "nested more than 64 deep"),
        (b'{"a":' * 200_000, "nested more than 64 deep"),
        ("[" * 65 + "]" * 65, "nested more than 64 deep"),
        ('["[", ' * 65 + "1" + "]" * 65, "nested more than 64 deep"),
        (b"\xff\xfe", "not UTF-8"),
        ("\ud800", "not UTF-8"),
        (b"", "not JSON"),
        (b"[1,", "not JSON"),
        (b"1" * 5000, "not JSON"),
        (b'"' + b"a" * 2000 + b'"', "more than 1,000 bytes"),
    ],
)
def test_anything_else_is_refused_by_name(text: str | bytes, words: str) -> None:
    with pytest.raises(DocumentError, match=f"x.json.*{words}"):
        parse_json(text, "x.json", max_bytes=1000 if "1,000" in words else 2**24)
    assert issubclass(DocumentError, LabError)


def test_sixty_four_levels_are_read() -> None:
    text = "[" * 64 + "]" * 64
    assert json.dumps(parse_json(text, "x.json")).replace(" ", "") == text


@pytest.mark.parametrize("piece", ['["[",', '"\\\\', "[]", "}{", '"[]{}",', "\\", '"'])
def test_the_look_at_depth_is_linear(piece: str) -> None:
    def cost(count: int) -> float:
        took = []
        for _ in range(3):
            began = time.process_time()
            with pytest.raises(DocumentError):
                parse_json(piece * count, "x.json")
            took.append(time.process_time() - began)
        return min(took)

    assert cost(200_000) < 8 * cost(50_000) + 0.02
