"""Numbers, names and values in words, the same in findings, on pages, in reports, on charts and in the terminal.

`number_words` is the one formatter of measured numbers. Nothing says `nan`, `None` or `9.3e-05`: what was not measured
is a dash, what is not finite says so, and digits beyond the fourth are left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

NOT_MEASURED, NOT_FINITE = "–", "not finite"
_SMALLEST_PLAIN = 1e-6


def number_words(value: float | None, digits: int = 4, *, places: int | None = None, signed: bool = False) -> str:
    """A number as a person writes it: 0.3363, 6.705, 1,465, 100,000, 0.000093; from a millionth down 9.3e-8.

    None is a dash; NaN and infinity are `not finite`. The minus is a true one.

    Args:
        digits: at most so many that matter, never fewer than the whole part has.
        places: exactly so many decimals instead, for columns.
        signed: with a plus, too.

    Example:
        >>> number_words(0.00009303), number_words(1234567.0), number_words(None)
        ('0.00009303', '1,234,567', '–')
    """
    if value is None:
        return NOT_MEASURED
    value = float(value)
    if not math.isfinite(value):
        return NOT_FINITE
    if places is not None:
        text = f"{abs(value):,.{places}f}"
        negative = value < 0 and any(letter in "123456789" for letter in text)
    else:
        text, negative = _magnitude(abs(value), digits), value < 0
    return f"{'−' if negative else '+' if signed and value > 0 else ''}{text}"


def _magnitude(size: float, digits: int) -> str:
    if size == 0:
        return "0"
    if size < _SMALLEST_PLAIN or size >= 1e15:
        number, _, power = f"{size:.{digits - 1}e}".partition("e")
        return f"{number.rstrip('0').rstrip('.') if '.' in number else number}e{int(power)}"
    whole = math.floor(math.log10(size)) + 1
    text = f"{size:,.{max(0, digits - whole)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


_E_NOTATION = re.compile(r"(?<![\w.])[+-]?\d+(?:\.\d+)?e[+-]?\d{1,3}(?![\w.])", re.ASCII)


def spell_out_numbers(text: str) -> str:
    """A sentence of another room with its numbers written out: `+9.303e-05` becomes `+0.000093`."""
    return _E_NOTATION.sub(lambda found: number_words(float(found[0]), 3, signed=found[0].startswith("+")), text)


def percent_words(share: float | None, *, places: int | None = None) -> str:
    """A share as a percentage: `12 %`, under 10 % with one decimal.

    Args:
        places: exactly so many decimals instead.
    """
    if share is None or not math.isfinite(share):
        return number_words(share)
    decimals = places if places is not None else 0 if abs(share) >= 0.0995 else 1
    return f"{number_words(100 * share, places=decimals)} %"


def form_words(value: float | None, form: str) -> str:
    """A number in the format that its declaration asks for: Python's, such as `.2f`, `.0%` or `.3g`; "" is four digits.

    >>> form_words(-0.5, ".2f"), form_words(0.126, ".0%"), form_words(None, ".2f")
    ('−0.50', '13 %', '–')
    """
    if value is None or not math.isfinite(value) or not form or form.endswith("g"):
        return number_words(value, 3 if form else 4)
    return percent_words(value) if form.endswith("%") else format(value, form).replace("-", "−")


def unit_words(value: float | None, unit: str, *, places: int | None = None) -> str:
    """A number with its unit: `22 ms`; one that is not known or not finite without."""
    known = value is not None and math.isfinite(value)
    return f"{number_words(value, places=places)} {unit}" if known else number_words(value)


def bytes_words(size: float) -> str:
    """A number of bytes: `22 GB`, `1.4 GB`, `340 MB`, `12 kB`, `87 bytes`; two digits, or all of the whole part."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            number = size / factor
            return f"{number_words(number, places=0) if number >= 10 else number_words(number, 2)} {unit}"
    return f"{number_words(size, places=0)} byte{'' if size == 1 else 's'}"


def limit_words(limit: float | None, side: str | None) -> str:
    """A limit with its direction: `below 0.336`, `above 0.3`; without a known side `limit 0.336`; empty without one."""
    return "" if limit is None else f"{side or 'limit'} {number_words(limit)}"


def name_words(name: str) -> str:
    """`learning_rate` → `learning rate`."""
    return name.replace("_", " ")


def value_words(value: object) -> str:
    """A control's value for a person: short, without losing digits that matter."""
    if isinstance(value, list | tuple):
        return f"{len(value)} line{'' if len(value) == 1 else 's'}" if value else "nothing"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if isinstance(value, float):
        return number_words(value, 6)
    if isinstance(value, Mapping):
        return changes_words(value)
    return str(value) if value is not None and value != "" else "nothing"


def author_words(author: str) -> str:
    """Who made a change, as it is shown: `user` for the stored `person`, the author of what is done in the app; others
    as they are.
    """
    return "user" if author == "person" else author


def change_words(name: str, old: object, new: object) -> str:
    """`diversity weight 0 → 0.3`.

    Example:
        >>> change_words("learning_rate", 0.003, 0.01)
        'learning rate 0.003 → 0.01'
    """
    return f"{name_words(name)} {value_words(old)} → {value_words(new)}"


def changes_words(changes: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> str:
    """Several changes: `learning rate 0.003 → 0.01, seed 2`; values of before where they are known."""
    return ", ".join(
        change_words(name, before[name], value)
        if before is not None and name in before
        else f"{name_words(name)} {value_words(value)}"
        for name, value in changes.items()
    )
