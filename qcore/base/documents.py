"""JSON that came from elsewhere, read with bounds on its size and its depth, which are known before it is parsed.

`json.loads` follows nested lists until the interpreter's stack ends, and whatever walks over the value later does so
again. Depth is bounded first, by taking the innermost pairs of brackets away until none is left: each turn is one pass
in C, and real documents need four. (Brackets within texts only ever make a document look deeper; then it is counted
exactly.) Numbers are bounded by the interpreter itself: 4,300 digits.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from qcore.base.errors import LabError

MAX_BYTES = 64 * 2**20
MAX_DEPTH = 64
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# A string up to its end (or the document's), or a bracket: nothing in it repeats a repetition.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{\]}]', re.DOTALL)


class DocumentError(LabError):
    """Text that is no JSON, or is too large, too deep or not of the shape that it should have."""


def parse_json(
    data: bytes | bytearray | str, name: str, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH
) -> Any:
    """The value of a JSON text. NaN and infinities are numbers, as `json` writes them.

    name: what the text is, for the message. Raises `DocumentError` for anything that is not UTF-8 or not JSON, for more
    than `max_bytes`, and for lists in lists deeper than `max_depth`.
    """
    try:
        raw = data.encode("utf-8") if isinstance(data, str) else bytes(data)
        text = data if isinstance(data, str) else data.decode("utf-8")
    except UnicodeError as error:
        raise DocumentError(f"{name} is not UTF-8 text ({error}): take another copy") from None
    if len(raw) > max_bytes:
        raise DocumentError(f"{name} has more than {max_bytes:,} bytes, as no file of Collapse Lab has")
    if _may_be_deeper(raw, max_depth) and _is_deeper(raw, max_depth):
        raise DocumentError(f"{name} is nested more than {max_depth} deep, as no file of Collapse Lab is")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{name} is not JSON ({error}): take another copy") from None


def read_json(path: Path, name: str | None = None, *, max_bytes: int = MAX_BYTES) -> Any:
    """The value of a JSON file, of which no more than `max_bytes` are read. name: for messages, else the file's.

    Raises `DocumentError` as `parse_json`, OSError for a file that cannot be read.
    """
    with path.open("rb") as file:
        return parse_json(file.read(max_bytes + 1), name or path.name, max_bytes=max_bytes)


def _may_be_deeper(raw: bytes, most: int) -> bool:
    brackets = raw.translate(None, _NO_BRACKETS)
    for turn in range(most):
        if len(brackets) <= most - turn:
            return False
        fewer = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(fewer) == len(brackets):
            break
        brackets = fewer
    return bool(brackets)


def _is_deeper(raw: bytes, most: int) -> bool:
    depth = 0
    for token in _TOKEN.finditer(raw):
        head = raw[token.start()]
        depth += (head in b"[{") - (head in b"]}")
        if depth > most:
            return True
    return False
