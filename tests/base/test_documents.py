"""JSON of strangers: bounds on size and depth, in time that is linear in the text."""

import json
import os
import time
from pathlib import Path

import pytest

from qcore.base import DocumentError, LabError, parse_json, plain_file, read_json
from tests.support.configs import alarmed


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
        ('[{"a":' * 33 + "1" + "}]" * 33, "nested more than 64 deep"),
        ("[" + "{}," * 2_000_001 + "1]", "holds more than 2,000,000 values"),
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


@pytest.mark.parametrize("text", ["[" * 64 + "]" * 64, '[{"a":' * 32 + "1" + "}]" * 32])
def test_sixty_four_levels_are_read(text: str) -> None:
    assert json.dumps(parse_json(text, "x.json")).replace(" ", "") == text


def test_values_are_counted_and_not_the_commas_of_texts() -> None:
    texts = [",[{" * 500] * 9
    assert parse_json(json.dumps(texts), "x.json", max_values=9) == texts
    with pytest.raises(DocumentError, match="more than 8 values"):
        parse_json(json.dumps(texts), "x.json", max_values=8)


def test_half_a_pair_of_surrogates_is_taken_out_wherever_it_stands() -> None:
    text = r'{"\ud83d": ["a\uDFFFb", "\ud83d\ude00"]}'
    assert parse_json(text, "x.json") == {"?": ["a?b", "\U0001f600"]}


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.json")
    for path in (tmp_path / "x.json", tmp_path, Path("/dev/null")):
        with alarmed(), pytest.raises(OSError, match=r"directory|pipe or a device"):
            read_json(path)
    with alarmed(), pytest.raises(OSError, match=r"pipe or a device|No such device"):
        plain_file(tmp_path / "x.json", os.O_WRONLY | os.O_CREAT)
    (tmp_path / "y.json").write_text("[1]")
    assert read_json(tmp_path / "y.json") == [1]


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
