"""The share of a text that is written without spaces between words, where a vocabulary of words takes sentences for
words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_SAMPLE = 200_000
_BLOCKS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x0FFF),  # Tibetan
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Chinese characters
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),
    (0x20000, 0x323AF),
)


def spaceless_share(documents: Sequence[str]) -> float:
    """Share of the characters that are no blanks which belong to scripts without spaces, in the first 200,000
    characters of an even spread of documents; 0 without any.

    >>> round(spaceless_share(["むかしむかし、あるところに", "once upon a time"]), 2)
    0.46
    """
    every = max(1, sum(map(len, documents)) // _SAMPLE)
    text = "".join("".join(documents[::every])[:_SAMPLE].split())
    letters = np.frombuffer(text.encode("utf-32-le", "replace"), "<u4")
    if not len(letters):
        return 0.0
    inside = np.zeros(len(letters), bool)
    for low, high in _BLOCKS:
        inside |= (letters >= low) & (letters <= high)
    return float(inside.mean())
