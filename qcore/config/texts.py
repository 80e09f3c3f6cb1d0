"""Lines that say something themselves (schedule, rules, limits): split into pieces first, each piece read on its own.

Blanks are made single spaces, so no pattern ever meets a run of them, and a line is split at its commas, colons and
arrows before anything is matched: the time is linear in its length, whatever it holds. Numbers are ASCII digits,
finite and short; what is refused is refused with its line.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from qcore.config.errors import ConfigError, shorten
from qcore.config.names import normal_name, trailing_operator

MOST_LINES, LONGEST_LINE = 1_000, 4_000
MOST_BYTES, MOST_PIECES = 64_000, 2_000
"""Of a whole text that is entered: each piece is a change, a knot, a condition or a clause that a run keeps in mind."""
LARGEST_STEP = 10_000_000
"""No run has more steps, so no moment, pause or count in a line needs to be larger."""
_LONGEST_NUMBER = 40
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_WHOLE = re.compile(r"[0-9]+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.* -]*")
_SEPARATORS = (",", ";", "->", "→", " and ")
_ODD = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class TextLine:
    """One line.

    Attributes:
        what: schedule line, rule or limit.
        text: as it was written.
        plain: its blanks single spaces.
    """

    what: str
    text: str
    plain: str

    def refuse(self, why: str) -> ConfigError:
        """The refusal that names this line."""
        return ConfigError(f"{self.what} {shorten(self.text, 200)!r} is refused: {why}")

    def name(self, text: str) -> str | None:
        """A control's name in the form of the declarations; None for what can't be one.

        Raises:
            ConfigError: where an operator that is not read follows it.
        """
        if operator := trailing_operator(text):
            raise self.refuse(
                f"{operator}= is not read; write control = value, or in a rule *= factor or += difference, such as "
                "+= -0.001"
            )
        return normal_name(text) if _NAME.fullmatch(text.strip()) else None

    def number(self, text: str) -> float:
        """A finite number.

        Raises:
            ConfigError: when it is refused.
        """
        text = text.strip()
        if len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text) and math.isfinite(float(text)):
            return float(text)
        raise self.refuse(f"{shorten(text, 80)!r} is not a number; write one such as 0.5 or 1e-4")

    def whole(self, text: str, what: str) -> int:
        """A whole number up to ten million.

        Raises:
            ConfigError: when it is refused.
        """
        text = text.strip()
        if len(text) <= _LONGEST_NUMBER and _WHOLE.fullmatch(text) and int(text) <= LARGEST_STEP:
            return int(text)
        raise self.refuse(f"{what} {shorten(text, 80)!r} must be a whole number from 0 to {LARGEST_STEP}")

    def parts(self, text: str, separator: str) -> list[str]:
        """`text` split at `separator`.

        Raises:
            ConfigError: for a piece with nothing in it, such as after a comma too many.
        """
        found = [part.strip() for part in text.split(separator)]
        if not all(found):
            where = "ends with" if not found[-1] else "begins with" if not found[0] else "has nothing between two"
            name = {",": "comma", ";": "semicolon"}.get(separator, repr(separator))
            raise self.refuse(f"it {where} {name if where[0] == 'h' else 'a ' + name}: leave it out")
        return found

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Put the line before what is refused inside."""
        try:
            yield
        except ConfigError as error:
            raise self.refuse(str(error)) from None


def check_extent(name: str, texts: Iterable[str]) -> None:
    """Raise `ConfigError` where all lines of a control together are more than a run is given to keep in mind."""
    size = pieces = 0
    for text in texts:
        size += len(text.encode("utf-8", "replace"))
        pieces += 1 + sum(map(text.count, _SEPARATORS))
    if size > MOST_BYTES or pieces > MOST_PIECES:
        raise ConfigError(
            f"{name} with {size:,} bytes in {pieces:,} pieces is refused: at most {MOST_BYTES:,} bytes and "
            f"{MOST_PIECES:,} pieces between commas and arrows are read; write fewer, or a ramp between steps"
        )


def lines_of(what: str, texts: Iterable[str]) -> Iterator[TextLine]:
    """The lines that are not empty.

    Raises:
        ConfigError: for too many, too long ones, and characters that are neither printed nor blank.
    """
    for number, text in enumerate(texts, 1):
        if number > MOST_LINES:
            raise ConfigError(f"more than {MOST_LINES} lines are refused: {what}s are read one per line, write fewer")
        if not text.strip():
            continue
        line = TextLine(what, text.strip(), "")
        if len(line.text) > LONGEST_LINE:
            raise line.refuse(f"it has {len(line.text)} letters, {LONGEST_LINE} are allowed: write several lines")
        if odd := _ODD.search(line.text):
            raise line.refuse(f"it holds the character U+{ord(odd.group()):04X}: put an ordinary space there")
        yield TextLine(what, line.text, " ".join(line.text.split()))
