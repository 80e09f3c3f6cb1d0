"""The description of a run that no trainer of ours made: `kind: external`, and no section of ours.

    kind: external
    source: nanoGPT, train.py
    domain: text
    settings: {learning_rate: 0.0006, batch_size: 12}

All of it is optional, the file itself, too. A YAML file of that program's own serves as well: its values are the
settings. What such a run has to show is not said here but found in its database (`qcore.runs.external`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from qcore.config.controls import ConfigError
from qcore.config.documents import parse_yaml, yaml_text
from qcore.config.errors import short_repr

EXTERNAL: Literal["external"] = "external"
Domain = Literal["", "text", "video"]


class ExternalConfig(BaseModel):
    """What is known of a run of another program.

    Attributes:
        source: what wrote it, in a few words.
        domain: what its model makes, "" where nobody says.
        settings: values of that program that are worth knowing, by dotted name.
        note: a sentence that stands beside them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["external"] = EXTERNAL
    source: str = ""
    domain: Domain = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    note: str = ""

    @field_validator("settings", mode="before")
    @classmethod
    def _flat_settings(cls, value: object) -> Any:
        return dict(_flat(value)) if isinstance(value, Mapping) else value

    @staticmethod
    def from_dict(values: Mapping[Any, Any]) -> ExternalConfig:
        """Validate what a file with `kind: external` holds. `ConfigError` names the key and what it may be."""
        try:
            return ExternalConfig.model_validate({str(key): value for key, value in values.items()})
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise ConfigError(
                f"{key} = {short_repr(first['input'])} is refused in a configuration of kind external: "
                f"{first['msg']}; it "
                "has kind, source, domain (text or video), settings and note"
            ) from None

    @staticmethod
    def of_foreign(text: str, name: str = "") -> ExternalConfig:
        """Of a file that another program wrote for itself: its values are the settings. A text that is no mapping of
        values in YAML gives none, and a note that says so.
        """
        try:
            values = parse_yaml(text, name)
        except ConfigError as error:
            return ExternalConfig(note=str(error))
        if isinstance(values, Mapping):
            return ExternalConfig(settings=dict(_flat(values)))
        return (
            ExternalConfig()
            if values is None
            else ExternalConfig(note=f"{name} holds no settings: {short_repr(values)}")
        )

    def to_yaml(self) -> str:
        """The description as YAML; `from_dict` of what it says gives an equal one."""
        values = self.model_dump()
        return yaml_text({key: value for key, value in values.items() if value})


def external_in(values: object) -> bool:
    """Whether what a document holds calls itself `kind: external`."""
    return isinstance(values, Mapping) and values.get("kind") == EXTERNAL


def _flat(values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values by dotted names; what is no plain value is told as text."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{name}.")
        else:
            yield name, value if value is None or isinstance(value, str | bool | int | float) else str(value)
