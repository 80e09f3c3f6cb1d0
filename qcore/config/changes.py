"""Changes as a person writes them, `key = value`: on the command line, in a page's form, in the label of a model."""

from __future__ import annotations

from collections.abc import Iterable

from qcore.config.errors import ConfigError, shorten
from qcore.config.names import assignment, normal_name, trailing_operator

HOW = "write it as key=value, such as learning_rate=0.001"


def read_changes(items: Iterable[str], how: str = HOW) -> dict[str, str]:
    """Name → value of `key=value` or `key = value`, neither checked yet; empty items are passed over.

    The name is written as it is declared, the value as it stands, without the blanks around it. `ConfigError` names an
    item that is no change, and says how to write one, and a name that is given twice.
    """
    found: dict[str, str] = {}
    for item in items:
        if not item.strip():
            continue
        change = assignment(item)
        name = normal_name(change.written) if change else ""
        if not change or not name:
            raise ConfigError(f"{shorten(item.strip(), 80)!r} is refused: {how}")
        if operator := trailing_operator(change.written):
            raise ConfigError(f"{shorten(item.strip(), 80)!r} is refused: {operator}= is not read here; {how}")
        if name in found:
            both = f"{shorten(found[name], 40)!r} and {shorten(change.value, 40)!r}"
            raise ConfigError(f"{shorten(name, 80)!r} is given twice: {both}")
        found[name] = change.value
    return found
