"""JSON for other programs: what is not finite becomes null, because JSON has no word for it.

Files of the lab's own keep NaN and infinities, as Python's `json` writes and `qcore.base.documents` reads them. What
leaves the house (an answer over HTTP or MCP, a line of the terminal) is written here, and only here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """A dataclass as a mapping, a path as its last part, anything else as text."""
    if is_dataclass(value) and not isinstance(value, type):
        return vars(value)
    return value.name if isinstance(value, Path) else str(value)


def plain_json(
    value: Any, default: Callable[[Any], Any] = plain, *, indent: int | None = None, ascii_only: bool = False
) -> str:
    """JSON text of dataclasses and plain values, without blanks where nothing is indented.

    Args:
        default: what stands for a value that JSON does not know.
        ascii_only: other letters are escaped. A number that is not finite becomes null; half a surrogate pair, which
            UTF-8 cannot hold, "?".

    Example:
        >>> plain_json({"loss": float("nan"), "steps": (1, 2)})
        '{"loss":null,"steps":[1,2]}'
    """
    try:
        text = _dumped(value, default, indent, ascii_only)
    except ValueError:
        text = _dumped(_finite(value, default), default, indent, ascii_only)
    return text if ascii_only else text.encode("utf-8", "replace").decode("utf-8")


def _dumped(value: Any, default: Callable[[Any], Any], indent: int | None, ascii_only: bool) -> str:
    between = (",", ":") if indent is None else (",", ": ")
    return json.dumps(
        value, default=default, indent=indent, separators=between, allow_nan=False, ensure_ascii=ascii_only
    )


def _finite(value: Any, default: Callable[[Any], Any]) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item, default) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item, default) for item in value]
    return value if value is None or isinstance(value, str | int) else _finite(default(value), default)
