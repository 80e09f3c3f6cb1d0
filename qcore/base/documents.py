"""JSON that came from elsewhere, read with bounds: a size, a depth and a length of numbers, known before it is parsed.

`json.loads` recurses into nested lists until the interpreter's stack ends, and turns a million digits into one integer;
both are counted here first, in one pass that is linear in the text.
"""

from __future__ import annotations

import json
import re
from typing import Any

from qcore.base.errors import LabError

MAX_BYTES = 64 * 2**20
MAX_DEPTH = 64
MAX_DIGITS = 1000
# A string up to its end (or to the text's), a bracket, or a number's digits: nothing in it repeats a repetition.
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{\]}]|\d+', re.DOTALL)


class DocumentError(LabError):
    """Text that is no JSON, or is too large, too deep or not of the shape that it should have."""


def parse_json(
    data: bytes | bytearray | str, name: str, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH
) -> Any:
    """The value of a JSON text. NaN and infinities are numbers, as `json` writes them.

    name: what the text is, for the message. Raises `DocumentError` for anything that is not UTF-8 or not JSON, for more
    than `max_bytes`, lists in lists deeper than `max_depth`, and integers of more than 1,000 digits.
    """
    if len(data) > max_bytes:
        raise DocumentError(f"{name} has {len(data):,} bytes; at most {max_bytes:,} are read")
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(f"{name} is not UTF-8 text (byte {error.start:,}): take another copy") from None
    _check_bounds(text, name, max_depth)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{name} is not JSON ({error}): take another copy") from None


def _check_bounds(text: str, name: str, max_depth: int) -> None:
    # Most texts are shallow and short: counting brackets is far quicker than walking through the tokens.
    if text.count("[") + text.count("{") <= max_depth and len(text) <= MAX_DIGITS:
        return
    depth = 0
    for token in _TOKEN.finditer(text):
        head = text[token.start()]
        if head in "[{":
            depth += 1
            if depth > max_depth:
                raise DocumentError(f"{name} is nested more than {max_depth} deep: no file of Collapse Lab is")
        elif head in "]}":
            depth -= 1
        elif head != '"' and token.end() - token.start() > MAX_DIGITS:
            raise DocumentError(f"{name} holds a number of {token.end() - token.start():,} digits")
