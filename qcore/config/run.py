"""The run configuration: all that a run is, besides its events. YAML in and out, dotted or short names for changes."""

from __future__ import annotations

from functools import cache
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from qcore.config.controls import ConfigError, Control, nearest_hint
from qcore.config.faultbank import FAULTS
from qcore.config.schedules import ScheduledChange, parse_schedule
from qcore.config.sections import (
    DataConfig,
    ObjectiveConfig,
    OptimConfig,
    PhaseLMConfig,
    ProbesConfig,
    SamplingConfig,
    Section,
    TransformerConfig,
)

ModelConfig = PhaseLMConfig | TransformerConfig
MODEL_KINDS: dict[str, type[Section]] = {"phase_lm": PhaseLMConfig, "transformer": TransformerConfig}

KIND = Control("kind", "model", "choice", "phase_lm", "Model family.", choices=tuple(MODEL_KINDS))
SEED = Control(
    "seed", "run", "int", 0, "Seed of the weights, the order of the batches and dropout.", low=0, high=2**31 - 1
)
FAULT = Control(
    "fault", "run", "choice", "", "Mistake of the fault bank to plant in this run; empty: none.", choices=("", *FAULTS)
)
_SCHEDULE = "schedule"
_TOP = {control.name: control for control in (SEED, FAULT)}


class RunConfig(BaseModel):
    """Configuration of one run: model, data, objective, optimisation, probes, sampling, seed and planted fault."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: ModelConfig = Field(default_factory=PhaseLMConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    objective: ObjectiveConfig = Field(default_factory=ObjectiveConfig)
    optim: OptimConfig = Field(default_factory=OptimConfig)
    probes: ProbesConfig = Field(default_factory=ProbesConfig)
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    seed: int = 0
    fault: str = ""

    @field_validator(*_TOP, mode="before")
    @classmethod
    def _check_top(cls, value: object, info: ValidationInfo) -> Any:
        assert info.field_name is not None
        return _TOP[info.field_name].check(value)

    @model_validator(mode="after")
    def _check_together(self) -> RunConfig:
        model = self.model
        if model.width % model.heads:
            raise ConfigError(f"width = {model.width} is refused: it must be a multiple of heads = {model.heads}")
        if isinstance(model, PhaseLMConfig) and model.phases <= -(-model.phases // model.heads) * (model.heads - 1):
            raise ConfigError(
                f"phases = {model.phases} is refused: with heads = {model.heads} it leaves a head without any; "
                f"take {-(-model.phases // model.heads) * model.heads}"
            )
        if isinstance(model, TransformerConfig) and (model.width // model.heads) % 2:
            raise ConfigError(
                f"width = {model.width} with heads = {model.heads} is refused: rotary positions need an even width a "
                f"head; take {model.heads * 2 * max(1, round(model.width / model.heads / 2))}"
            )
        for control in all_controls(model.kind):
            if control.models:
                control.check_model(self.value(control.name), model.kind)
        scheduled_changes(self.optim.schedule, model.kind)
        needed = {"text": "path", "huggingface": "hub_name"}.get(self.data.source)
        if needed and not getattr(self.data, needed):
            raise ConfigError(f"source = {self.data.source!r} needs {needed}, which is empty: give it a value")
        return self

    @classmethod
    def from_dict(cls, values: object) -> RunConfig:
        """Validate a nested mapping. `ConfigError` names the key or value, the range and the nearest valid name."""
        if not isinstance(values, dict):
            raise ConfigError(f"a run configuration is a mapping of sections, not {type(values).__name__}")
        kind = values["model"].get("kind", "phase_lm") if isinstance(values.get("model"), dict) else "phase_lm"
        sections = section_types(kind)
        parts: dict[str, Any] = {}
        try:
            for key, part in values.items():
                parts[key] = part if key in _TOP else _section(key, part, sections)
            return cls.model_validate({"model": sections["model"](), **parts})
        except ValidationError as error:
            raise ConfigError("; ".join(_plain(item["msg"]) for item in error.errors())) from None

    @classmethod
    def from_yaml(cls, text: str) -> RunConfig:
        """Read a YAML document; missing keys take their defaults. Errors as in `from_dict`."""
        try:
            values = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: an impossible date, a huge integer
            raise ConfigError(f"this is not YAML: {error}") from None
        return cls.from_dict({} if values is None else values)

    def to_yaml(self) -> str:
        """The whole configuration as YAML; `from_yaml` gives an equal one."""
        return yaml.dump(self.model_dump(), Dumper=_Dumper, sort_keys=False, allow_unicode=True)

    def with_values(self, changes: dict[str, Any]) -> RunConfig:
        """A copy with some values replaced; keys are names (`learning_rate`) or dotted names (`optim.learning_rate`).

        Changing `kind` keeps the fields that the new model family shares with the old one.
        """
        values: dict[str, Any] = self.model_dump()
        kind = changes.get("kind", changes.get("model.kind"))
        if kind is not None and kind != self.model.kind:
            shared = section_types(kind)["model"].model_fields
            values["model"] = {name: value for name, value in values["model"].items() if name in shared}
            values["model"]["kind"] = kind
        for key, value in changes.items():
            control = find_control(key, values["model"]["kind"])
            if control.name in _TOP:
                values[control.name] = value
            else:
                values[control.section][control.name] = value
        return type(self).from_dict(values)

    def value(self, name: str) -> Any:
        """The value of one control by its name or dotted name."""
        control = find_control(name, self.model.kind)
        owner = self if control.name in _TOP else getattr(self, control.section)
        return getattr(owner, control.name)

    def live_values(self) -> dict[str, Any]:
        """Initial values of the controls that may change while training."""
        return {control.name: self.value(control.name) for control in all_controls(self.model.kind) if control.live}


class _Dumper(yaml.SafeDumper):
    """Quotes a text that holds U+0085, which PyYAML would otherwise write raw and read back as a line break."""


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "\x85" in text else None)


_Dumper.add_representer(str, _text_node)


def _section(key: str, part: object, sections: dict[str, type[Section]]) -> Section:
    if key not in sections:
        raise ConfigError(f"unknown section {key!r}{nearest_hint(str(key), [*sections, *_TOP])}")
    if not isinstance(part, dict):
        raise ConfigError(f"section {key!r} is a mapping of names to values, not {type(part).__name__}")
    for name in part:
        if name not in sections[key].model_fields:
            raise ConfigError(f"unknown key {key}.{name}{nearest_hint(str(name), sections[key].model_fields)}")
    return sections[key].model_validate(part)


def section_types(kind: str) -> dict[str, type[Section]]:
    """Section name → class, for one model family."""
    return {
        "model": MODEL_KINDS[KIND.check(kind)],
        "data": DataConfig,
        "objective": ObjectiveConfig,
        "optim": OptimConfig,
        "probes": ProbesConfig,
        "sampling": SamplingConfig,
    }


@cache
def all_controls(kind: str = "phase_lm") -> tuple[Control, ...]:
    """Every declared value of a run with this model family, in the order of the file."""
    controls = (control for section in section_types(kind).values() for control in section.controls())
    return (*(KIND if control.name == KIND.name else control for control in controls), *_TOP.values())


def live_controls() -> dict[str, Control]:
    """Controls that may change while training, by name; the same for every model family."""
    return {control.name: control for control in all_controls() if control.live}


def find_control(name: str, kind: str = "phase_lm") -> Control:
    """The declaration behind a name or dotted name, or `ConfigError` with the nearest valid name."""
    controls = {control.name: control for control in all_controls(kind)}
    section, _, leaf = name.rpartition(".")
    control = controls.get(leaf)
    if control is None or (section and section != control.section):
        dotted = [f"{control.section}.{control.name}" for control in controls.values()]
        hint = nearest_hint(name, dotted if section else controls)
        raise ConfigError(f"unknown name {name!r}{hint}")
    return control


def check_live(name: object, value: object) -> tuple[str, Any]:
    """Name and value of a change of a live control, checked. `ConfigError` for an unknown or fixed name, or a bad
    value."""
    if not isinstance(name, str):
        raise ConfigError(f"name = {name!r} is refused: it must be the name of a control")
    control = find_control(name)
    if not control.live:
        raise ConfigError(
            f"{control.name} cannot change while training; start a new run with --set {control.name}=…"
            f"{nearest_hint(control.name, live_controls())}"
        )
    checked = control.check(value)
    if control.name == _SCHEDULE:
        scheduled_changes(checked)
    return control.name, checked


def scheduled_changes(lines: list[str], kind: str | None = None) -> tuple[ScheduledChange, ...]:
    """The changes of a schedule, each checked against its control, and against the model family when given."""
    changes = parse_schedule(lines)
    for change in changes:
        name, value = check_live(change.name, change.value)
        if name == _SCHEDULE:
            raise ConfigError("a schedule cannot change the schedule: write all its lines into one")
        if kind is not None:
            live_controls()[name].check_model(value, kind)
    return changes


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ")
