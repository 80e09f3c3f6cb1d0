"""Values of requests, declared once: checked on entry, and described in the OpenAPI document and the MCP tools.

A field is read from the path, the query or the JSON body. Numbers, truth values and choices go through the same
`Control.check` as a slider, so that a script is told the same range in the same words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from qcore.config import ConfigError, Control, nearest_hint
from qcore.server.problems import Problem

Kind = Literal["float", "int", "bool", "choice", "text", "texts", "mapping", "any"]
_JSON_TYPES = {"float": "number", "int": "integer", "bool": "boolean", "mapping": "object"}
TEXT_LIMIT = 100_000


@dataclass(frozen=True)
class Field:
    """One value of a request.

    Attributes:
        low, high: range of a number, or the number of letters of a text, or items of texts.
    """

    name: str
    help: str
    kind: Kind = "text"
    default: Any = None
    required: bool = False
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def check(self, value: object) -> Any:
        """The value in the declared type.

        Raises:
            ConfigError: naming it and what is accepted.
        """
        match self.kind:
            case "any":
                return value
            case "mapping":
                if not isinstance(value, dict):
                    raise ConfigError(f"{self.name} is a {type(value).__name__}: it must map names to values")
                return value
            case "texts":
                return self._check_texts(value)
        checked = Control(
            self.name, "request", self.kind, self.default, self.help, low=self.low, high=self.high, choices=self.choices
        ).check(value)
        if self.kind == "text":
            self._check_length(checked)
        return checked

    def _check_texts(self, value: object) -> list[str]:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise ConfigError(f"{self.name} is refused: it must be a list of texts")
        names = [part for item in items for part in item.split(",") if part]
        if self.high is not None and len(names) > self.high:
            raise ConfigError(f"{self.name} has {len(names)} items: {self.high:g} are allowed")
        return names

    def _check_length(self, text: str) -> None:
        most = TEXT_LIMIT if self.high is None else int(self.high)
        if len(text) > most or len(text) < (self.low or 0):
            raise ConfigError(f"{self.name} has {len(text)} letters: {self.low or 0:g} to {most} are allowed")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise ConfigError(f"{self.name} is refused: it is not valid Unicode text") from None

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of the value, as OpenAPI 3.1 and MCP write it."""
        found: dict[str, Any] = {"description": self.help}
        if self.kind == "texts":
            found |= {"type": "array", "items": {"type": "string"}}
            found |= {} if self.high is None else {"maxItems": int(self.high)}
        elif self.kind in ("text", "choice"):
            found["type"] = "string"
            if self.kind == "choice":
                found["enum"] = list(self.choices)
            found |= {} if self.low is None else {"minLength": int(self.low)}
            found |= {} if self.high is None else {"maxLength": int(self.high)}
        elif self.kind != "any":
            found["type"] = _JSON_TYPES[self.kind]
            found |= {} if self.low is None else {"minimum": self.low}
            found |= {} if self.high is None else {"maximum": self.high}
        if self.default is not None:
            found["default"] = self.default
        return found


def check_fields(fields: Sequence[Field], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """All declared values of one part of a request, defaults filled in.

    Raises:
        Problem: (422) for an unknown name with the nearest one, a missing value, or one that is out of range.
    """
    known = {field.name: field for field in fields}
    for name in given:
        if name not in known:
            names = ", ".join(known) or "nothing"
            detail = f"unknown name {name[:80]!r} in the {where}{nearest_hint(name[:80], known)}"
            raise Problem(422, "unknown-field", detail, f"The {where} takes {names}.")
    values: dict[str, Any] = {}
    for name, field in known.items():
        if given.get(name) is None:
            if field.required:
                detail = f"{name} is missing from the {where}"
                raise Problem(422, "missing-field", detail, f"Send {name}: {field.help}")
            values[name] = field.default
            continue
        try:
            values[name] = field.check(given[name])
        except ConfigError as error:
            raise Problem(422, "refused-value", str(error), field.help, {"field": name}) from None
    return values


def control_schema(control: Control) -> dict[str, Any]:
    """JSON Schema of a declared control: type, range, choices, default, help and unit."""
    kind: Kind = control.kind
    field = Field(control.name, control.help, kind, choices=control.choices)
    found = field.schema
    if kind in ("float", "int"):
        found |= {"minimum": control.low, "maximum": control.high}
    found["default"] = control.default
    return found | ({"x-unit": control.unit} if control.unit else {})


def object_schema(fields: Sequence[Field]) -> dict[str, Any]:
    """JSON Schema of an object with these fields and no others."""
    found: dict[str, Any] = {
        "type": "object",
        "properties": {field.name: field.schema for field in fields},
        "additionalProperties": False,
    }
    required = [field.name for field in fields if field.required]
    return found | ({"required": required} if required else {})
