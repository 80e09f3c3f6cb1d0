"""JSON that came from elsewhere, read with bounds on its size, its depth and its number of values, before it is parsed.

`json.loads` follows nested lists until the interpreter's stack ends, and whatever walks over the value later does so
again. Depth is bounded first, by taking the innermost pairs of brackets away until none is left: each turn is one pass
in C, and real documents need four. Values are bounded by the commas and brackets before them, because an empty object
takes twenty times the room of its two letters. (Those within texts only ever make a document look larger; then it is
counted exactly.) Numbers are bounded by the interpreter itself: 4,300 digits.
Half a surrogate pair, which no page, database or file can hold, becomes "?" here, for all who read.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from qcore.base.errors import LabError
from qcore.base.files import plain_file

MAX_BYTES = 64 * 2**20
MAX_DEPTH = 64
MAX_VALUES = 2_000_000
"""Lists, objects and their members: the largest tokenizers have half of it."""
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_NO_MARKS = bytes(set(range(256)) - set(b",[{"))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
# A string up to its end (or the document's), a bracket or a comma: nothing in it repeats a repetition.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{\]},]', re.DOTALL)


class DocumentError(LabError):
    """Text that is no JSON, or is too large, too deep or not of the shape that it should have."""


def parse_json(
    data: bytes | bytearray | str,
    name: str,
    *,
    max_bytes: int = MAX_BYTES,
    max_depth: int = MAX_DEPTH,
    max_values: int = MAX_VALUES,
) -> Any:
    """The value of a JSON text. NaN and infinities are numbers, as `json` writes them.

    Args:
        name: what the text is, for the message.

    Raises:
        DocumentError: for anything that is not UTF-8 or not JSON, for more than `max_bytes` or `max_values`, and for
            lists in lists deeper than `max_depth`.
    """
    try:
        raw = data.encode("utf-8") if isinstance(data, str) else bytes(data)
        text = data if isinstance(data, str) else data.decode("utf-8")
    except UnicodeError as error:
        raise DocumentError(f"{name} is not UTF-8 text ({error}): use another copy") from None
    if len(raw) > max_bytes:
        raise DocumentError(f"{name} has more than {max_bytes:,} bytes, as no file of Collapse Lab has")
    if _may_be_more(raw, max_values) or _may_be_deeper(raw, max_depth):
        _check_bounds(raw, name, max_depth, max_values)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{name} is not JSON ({error}): use another copy") from None
    return _without_lone_surrogates(found) if b"\\ud" in raw or b"\\uD" in raw else found


def read_json(path: Path, name: str | None = None, *, max_bytes: int = MAX_BYTES) -> Any:
    """The value of a JSON file, of which no more than `max_bytes` are read.

    Args:
        name: for messages, else the file's.

    Raises:
        DocumentError: as `parse_json`.
        OSError: for a file that cannot be read, or that is none.
    """
    with open(path, "rb", opener=plain_file) as file:
        return parse_json(file.read(max_bytes + 1), name or path.name, max_bytes=max_bytes)


def _may_be_more(raw: bytes, most: int) -> bool:
    return len(raw) > most and len(raw.translate(None, _NO_MARKS)) > most


def _may_be_deeper(raw: bytes, most: int) -> bool:
    # Of one kind, so that a turn takes exactly one level away, however lists and objects take turns.
    brackets = raw.translate(_ONE_KIND, _NO_BRACKETS)
    for turn in range(most):
        if len(brackets) <= most - turn:
            return False
        fewer = brackets.replace(b"[]", b"")
        if len(fewer) == len(brackets):
            break
        brackets = fewer
    return bool(brackets)


def _check_bounds(raw: bytes, name: str, max_depth: int, max_values: int) -> None:
    depth = values = 0
    for token in _TOKEN.finditer(raw):
        head = raw[token.start()]
        depth += (head in b"[{") - (head in b"]}")
        values += head in b",[{"
        if depth > max_depth:
            raise DocumentError(f"{name} is nested more than {max_depth} deep, as no file of Collapse Lab is")
        if values > max_values:
            raise DocumentError(f"{name} holds more than {max_values:,} values, as no file of Collapse Lab does")


def _without_lone_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_without_lone_surrogates(one) for one in value]
    if isinstance(value, dict):
        return {_without_lone_surrogates(key): _without_lone_surrogates(one) for key, one in value.items()}
    return value
