"""Controls: named, typed, bounded values, each declared once as a field of the run configuration.

A field made by `knob(...)` carries its range, unit, help, scale and whether it may change while training. Validation of
YAML, sliders, CLI options, the control board of a running trainer and the table of controls come from that declaration
alone. Every check raises `ConfigError` with the value received, the range and the nearest valid name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from qcore.config.documents import LARGEST, MOST_NODES
from qcore.config.errors import ConfigError, short_repr
from qcore.config.names import nearest_hint, normal_name

__all__ = ["ConfigError", "Control", "Kind", "knob", "nearest_hint"]

Kind = Literal["float", "int", "bool", "choice", "text", "texts"]
Scale = Literal["linear", "log"]
_ABBREVIATIONS = {"ce": "CE", "eos": "EOS", "lr": "LR", "z": "Z", "ffn": "FFN", "k": "K"}
Value = float | int | bool | str | list[str]


@dataclass(frozen=True)
class Control:
    """One declared value.

    Attributes:
        name: unique within a run configuration.
        section: the part it belongs to.
        low, high: inclusive range of a number.
        unit: as shown beside the value.
        scale: how a slider spaces it.
        live: may change while training ("safe while training").
        risky: a checkpoint is written before a change is applied.
    """

    name: str
    section: str
    kind: Kind
    default: Any
    help: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    scale: Scale = "linear"
    choices: tuple[str, ...] = ()
    live: bool = False
    risky: bool = False
    models: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Name for a person: underscores as spaces, abbreviations and first letter capital, with the unit."""
        words = [_ABBREVIATIONS.get(word, word) for word in self.name.replace("t_star", "collapse_time_t*").split("_")]
        words[0] = words[0][0].upper() + words[0][1:]
        return " ".join(words) + (f" ({self.unit})" if self.unit else "")

    @property
    def written(self) -> tuple[str, ...]:
        """The label as `normal_name` has it, without the unit and with it: what a person copies from a page."""
        label = self.label
        return normal_name(label.removesuffix(f" ({self.unit})") if self.unit else label), normal_name(label)

    def check_model(self, value: object, kind: str) -> None:
        """Raise `ConfigError` when `value` switches something on that the model family `kind` does not have."""
        if self.models and kind not in self.models and value != self.default:
            raise ConfigError(
                f"{self.name} = {short_repr(value)} is refused: a {kind} has nothing that it affects; keep "
                f"{self.default!r}, or choose {' or '.join(self.models)}"
            )

    @property
    def range_text(self) -> str:
        """The accepted values, in words."""
        if self.kind == "choice":
            return "one of " + ", ".join(self.choices)
        if self.kind == "bool":
            return "true or false"
        if self.kind in ("text", "texts"):
            return "text" if self.kind == "text" else "a list of texts"
        number = "a whole number" if self.kind == "int" else "a number"
        return f"{number} from {_bound(self.low)} to {_bound(self.high)}"

    def check(self, value: object) -> Any:
        """Return `value` in the declared type, or raise `ConfigError`.

        Text is read as a number or truth value where one is declared, so that the CLI's `key=value` and a form agree.
        """
        match self.kind:
            case "bool":
                return self._check_bool(value)
            case "choice":
                return self._check_choice(value)
            case "text":
                return self._check_text(value)
            case "texts":
                return self._check_texts(value)
            case _:
                return self._check_number(value)

    def _refuse(self, value: object, hint: str = "") -> ConfigError:
        return ConfigError(f"{self.name} = {short_repr(value)} is refused: it must be {self.range_text}{hint}")

    def _check_bool(self, value: object) -> bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        raise self._refuse(value)

    def _check_choice(self, value: object) -> str:
        if value not in self.choices:
            raise self._refuse(value, nearest_hint(value, self.choices) if isinstance(value, str) else "")
        return str(value)

    def _check_text(self, value: object) -> str:
        if not isinstance(value, str):
            raise self._refuse(value)
        try:
            size = len(value.encode("utf-8"))
        except UnicodeEncodeError:  # half a character: neither a file nor the database could keep it
            raise self._refuse(value, " of valid Unicode letters") from None
        if "\0" in value:  # the end of a path and of a text to what is written in C
            raise self._refuse(value, " without the character U+0000")
        if size > LARGEST:  # a run's own configuration must be a file that can be read
            raise self._refuse(value, f" of at most {LARGEST} bytes, not {size}")
        return value

    def _check_texts(self, value: object) -> list[str]:
        if isinstance(value, str):
            value = [line for line in value.split("\n") if line.strip()]
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise self._refuse(value)
        if len(value) > MOST_NODES or sum(map(len, value)) > LARGEST:
            raise self._refuse(value, f" of at most {LARGEST} letters, and at most {MOST_NODES} of them")
        return [self._check_text(item) for item in value]

    def _check_number(self, value: object) -> float | int:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise self._refuse(value)
        if isinstance(value, str) and not value.strip().isascii():  # float() takes the digits of every script
            raise self._refuse(value)
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise self._refuse(value) from None
        assert self.low is not None
        assert self.high is not None
        if not math.isfinite(number) or not self.low <= number <= self.high:
            raise self._refuse(value)
        if self.kind == "int":
            if number != int(number):
                raise self._refuse(value)
            return int(number)
        return number


def _bound(number: float | None) -> str:
    """A bound in full when it is whole (2147483647, not 2.14748e+09), else short."""
    assert number is not None
    return str(int(number)) if number == int(number) else f"{number:g}"


def knob(
    default: Any,
    *,
    help: str,
    low: float | None = None,
    high: float | None = None,
    unit: str = "",
    scale: Scale = "linear",
    live: bool = False,
    risky: bool = False,
    models: tuple[str, ...] = (),
) -> Any:
    """Declare a configuration field that is a control. Choices come from the field's `Literal` annotation."""
    extra: Any = {
        "low": low,
        "high": high,
        "unit": unit,
        "scale": scale,
        "live": live,
        "risky": risky,
        "models": models,
    }
    if isinstance(default, list):
        return Field(default_factory=lambda: list(default), description=help, json_schema_extra=extra)
    return Field(default=default, description=help, json_schema_extra=extra)
