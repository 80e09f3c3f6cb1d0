"""The refusal of a person's mistake, always short enough for one line of a terminal or a page, and shortened values."""

from __future__ import annotations

import reprlib

from qcore.base import QcoreError

LONGEST_MESSAGE = 1_000
"""Letters of a refusal: a page shows it whole, a log keeps it, an answer of the protocol carries it."""
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlevel = 2


class ConfigError(QcoreError):
    """A person's mistake in a configuration or a control value; the message names the value and the remedy.

    A message longer than `LONGEST_MESSAGE` is cut in its middle: the value stands at its start, the remedy at its end.
    """

    def __init__(self, message: str = "") -> None:
        # Half a character, which no terminal, page or database could take, is written out.
        text = message.encode("utf-8", "backslashreplace").decode("utf-8")
        super().__init__(shorten(text, LONGEST_MESSAGE))


def shorten(text: str, most: int = 120) -> str:
    """`text`, its middle left out when it has more than `most` letters."""
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail - 1]}…{text[len(text) - tail :]}"


def short_repr(value: object) -> str:
    """`repr` cut short; never expands nested YAML aliases, never fails on an integer of thousands of digits."""
    try:
        return _SHORT.repr(value)
    except (ValueError, RecursionError):
        return "<an integer of thousands of digits>" if isinstance(value, int) else f"<a {type(value).__name__}>"
