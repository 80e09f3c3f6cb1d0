"""Cutting a text into documents.

Text in WikiText layout (" = Title = " lines) is divided by article; other text at blank lines, else at line ends, else
at spaces, into pieces of at least `PIECE` characters. `cut_anywhere` is for a text that has none of these.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

PIECE = 1000  # characters, at least, of a document cut out of a single file: several windows of a small model
ARTICLE = re.compile(r"^ ?= [^=\n]+ = *$", re.MULTILINE)
_SMALLEST = 200
_ENDS = (re.compile(r"[.!?…。！？।॥][\"'”’»」』）)]*\s*"), re.compile(r"\n"), re.compile(r"\s"))


def articles(text: str) -> list[str]:
    """The articles of a text in WikiText layout, title line first; any other text whole."""
    starts = [match.start() for match in ARTICLE.finditer(text)]
    if len(starts) < 2:
        return [text]
    bounds = [0, *starts, len(text)] if text[: starts[0]].strip() else [*starts, len(text)]
    return [text[a:b] for a, b in pairwise(bounds)]


def divide(text: str) -> list[str]:
    """One text as documents: articles, else pieces of at least PIECE characters; their union is the text."""
    found = articles(text)
    if len(found) > 1:
        return found
    for boundary in (r"\n\s*\n", r"\n", r"\s"):
        pieces, start = [], 0
        for match in re.finditer(boundary, text):
            if match.end() - start >= PIECE:
                pieces.append(text[start : match.end()])
                start = match.end()
        rest = text[start:]
        if pieces and len(rest.strip()) < PIECE // 2:
            pieces[-1] += rest
        else:
            pieces.append(rest)
        if len(pieces) > 1:
            return pieces
    return [text]


def cut_anywhere(text: str) -> list[str]:
    """A text without blank lines, lines or spaces as pieces: after sentences, else after any character; their union is
    the text. A text of fewer than 400 characters stays whole.
    """
    piece = min(PIECE, len(text) // 2)
    if piece < _SMALLEST:
        return [text]
    pieces, start = [], 0
    while len(text) - start >= 2 * piece:
        low, high = start + piece, min(len(text), start + 2 * piece)
        ends = (pattern.search(text, low - 1, high) for pattern in _ENDS)
        end = next((match.end() for match in ends if match), low)
        while end < len(text) and unicodedata.combining(text[end]):
            end += 1  # an accent stays with its letter
        if len(text) - end < piece // 2:
            break
        pieces.append(text[start:end])
        start = end
    return [*pieces, text[start:]]
