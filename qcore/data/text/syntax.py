"""What stands around a text that was meant: tags, JSON with the text inside, base64, bytes that are no text.

Only wrappings are measured, not kinds of text: code, tables, logs and DNA are what somebody may want to model. Each
share is of the characters of a bounded sample; patterns are linear in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from qcore.base import BAD_VALUES, parse_json

_SAMPLE = 200_000
_TAG = re.compile(r"<[/!]?[A-Za-z][^<>\n]{0,300}>")
_BASE64 = re.compile(r"[A-Za-z0-9+/=_-]{60,}")
_PROSE_WORDS = 8
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufffd]+")


def wrapping_shares(documents: Sequence[str]) -> dict[str, float]:
    """Shares of a sample by kind: tags, json (lines that are objects with mostly one text inside), base64, binary.

    >>> wrapping_shares(["<p>Once <b>upon</b> a time</p>"])["tags"]
    0.47
    """
    every = max(1, sum(map(len, documents)) // _SAMPLE)
    text = "\n".join(documents[::every])[:_SAMPLE]
    lines = text.splitlines()
    counts = {
        "tags": sum(len(tag) for tag in _TAG.findall(text)) if "</" in text else 0,
        "json": sum(len(line) for line in lines if _wraps_prose(line)),
        "base64": sum(len(line) for line in lines if _is_base64(line.strip())),
        "binary": sum(map(len, _CONTROL.findall(text))),
    }
    return {kind: round(count / max(1, len(text)), 2) for kind, count in counts.items()}


def _wraps_prose(line: str) -> bool:
    """Whether a line is a JSON object of which one string, a sentence or more, is the larger part."""
    line = line.strip()
    if not (line.startswith("{") and line.endswith("}")):
        return False
    try:
        values = parse_json(line, "a line").values()
    except BAD_VALUES:
        return False
    longest = max((value for value in values if isinstance(value, str)), key=len, default="")
    return len(longest) > len(line) / 2 and len(longest.split()) >= _PROSE_WORDS


def _is_base64(line: str) -> bool:
    kinds = (str.islower, str.isupper, str.isdigit)
    return bool(_BASE64.fullmatch(line)) and all(any(map(kind, line)) for kind in kinds)
