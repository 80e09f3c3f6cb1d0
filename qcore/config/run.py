"""The run configuration: all that a run is, besides its events. YAML in and out, dotted or short names for changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from qcore.config.controls import ConfigError, Control, nearest_hint
from qcore.config.faultbank import FAULTS
from qcore.config.flux import FluxConfig
from qcore.config.ltx import LatentsConfig, LTXVideoConfig, check_adapter
from qcore.config.pam import PAMConfig
from qcore.config.phase import PhaseLMConfig
from qcore.config.rules import Limit, WhenRule, parse_limits, parse_rules
from qcore.config.schedules import Schedule, parse_schedule
from qcore.config.sections import (
    CommonProbes,
    DataConfig,
    ObjectiveConfig,
    OptimConfig,
    ProbesConfig,
    SamplingConfig,
    Section,
    TransformerConfig,
)
from qcore.config.video import (
    ClipSamplingConfig,
    ClipsConfig,
    FlowConfig,
    VideoFlowConfig,
    VideoObjectiveConfig,
    VideoProbesConfig,
)

LanguageConfig = PhaseLMConfig | PAMConfig | FluxConfig | TransformerConfig
LANGUAGE_KINDS: dict[str, type[Section]] = {
    "phase_lm": PhaseLMConfig,
    "pam": PAMConfig,
    "flux_lm": FluxConfig,
    "transformer": TransformerConfig,
}
VIDEO_KINDS: dict[str, type[Section]] = {"video_flow": VideoFlowConfig, "ltx_video": LTXVideoConfig}
_VIDEO_DATA: dict[str, type[Section]] = {"video_flow": ClipsConfig, "ltx_video": LatentsConfig}
MODEL_KINDS: dict[str, type[Section]] = {**LANGUAGE_KINDS, **VIDEO_KINDS}

KIND = Control("kind", "model", "choice", "phase_lm", "Model family.", choices=tuple(MODEL_KINDS))
SEED = Control(
    "seed", "run", "int", 0, "Seed of the weights, the order of the batches, noise and dropout.", low=0, high=2**31 - 1
)
ORDER_SEED = Control(
    "order_seed",
    "run",
    "int",
    -1,
    "Seed of the order of the batches, their noise and dropout, but not of the weights; −1 takes the run's seed.",
    low=-1,
    high=2**31 - 1,
)
FAULT = Control(
    "fault", "run", "choice", "", "Mistake of the fault bank to plant in this run; empty: none.", choices=("", *FAULTS)
)
_TOP = {control.name: control for control in (SEED, ORDER_SEED, FAULT)}
BEFORE: Mapping[str, Mapping[str, Any]] = {"data": {"data_version": 1}}
"""What a run's own file means where it leaves a key out because there was none yet, by section."""


class RunConfig(BaseModel):
    """Configuration of one run: a `TextRunConfig` or a `VideoRunConfig`, as its model family asks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Section
    data: Section
    objective: Section
    optim: OptimConfig
    probes: CommonProbes
    sampling: Section
    seed: int = 0
    order_seed: int = -1
    fault: str = ""

    @field_validator(*_TOP, mode="before")
    @classmethod
    def _check_top(cls, value: object, info: ValidationInfo) -> Any:
        assert info.field_name is not None
        return _TOP[info.field_name].check(value)

    @property
    def drawn_seed(self) -> int:
        """Seed of all that an update draws: its batch, noise and dropout."""
        return self.seed if self.order_seed < 0 else self.order_seed

    @property
    def kind(self) -> str:
        """The model family."""
        return str(self.model.kind)  # type: ignore[attr-defined]

    @staticmethod
    def from_dict(values: object) -> RunConfig:
        """Validate a nested mapping; what it leaves out takes the model family's defaults. `ConfigError` names the key
        or value, the range and the nearest valid name.
        """
        if not isinstance(values, dict):
            raise ConfigError(f"a run configuration is a mapping of sections, not {type(values).__name__}")
        kind = values["model"].get("kind", KIND.default) if isinstance(values.get("model"), dict) else KIND.default
        kind = KIND.check(kind)
        base, sections = default_run(kind), section_types(kind)
        parts: dict[str, Any] = {}
        try:
            for key, part in values.items():
                parts[key] = part if key in _TOP else _section(key, part, sections, base)
            return type(base).model_validate({**dict(base), **parts})
        except ValidationError as error:
            raise ConfigError("; ".join(_plain(item["msg"]) for item in error.errors())) from None

    @staticmethod
    def from_yaml(text: str, before: Mapping[str, Mapping[str, Any]] | None = None) -> RunConfig:
        """Read a YAML document; missing keys take their defaults, or those of `before`. Errors as in `from_dict`."""
        try:
            values = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: an impossible date, a huge integer
            raise ConfigError(f"this is not YAML: {error}") from None
        values = {} if values is None else values
        if before and isinstance(values, dict):
            for section, keys in before.items():
                part = values.get(section, {})
                values = {**values, section: {**keys, **part} if isinstance(part, dict) else part}
        return RunConfig.from_dict(values)

    def to_yaml(self) -> str:
        """The whole configuration as YAML; `from_yaml` gives an equal one."""
        values = self.model_dump()
        ordered = {name: values[name] for name in (*section_types(self.kind), *_TOP)}
        return yaml.dump(ordered, Dumper=_Dumper, sort_keys=False, allow_unicode=True)

    def with_values(self, changes: dict[str, Any]) -> RunConfig:
        """A copy with some values replaced; keys are names (`learning_rate`) or dotted names (`optim.learning_rate`).

        Changing `kind` keeps the fields that the new model family shares with the old one; where the data are
        of another kind it starts from the new family's defaults and keeps the seed.
        """
        values: dict[str, Any] = self.model_dump()
        kind = changes.get("kind", changes.get("model.kind", self.kind))
        if kind != self.kind:
            shared = section_types(kind)["model"].model_fields
            model = {name: value for name, value in values["model"].items() if name in shared}
            if section_types(kind)["data"] is not section_types(self.kind)["data"]:
                values, model = {**default_run(kind).model_dump(), "seed": self.seed}, {}
            values["model"] = {**model, "kind": kind}
        for key, value in changes.items():
            control = find_control(key, values["model"]["kind"])
            if control.name in _TOP:
                values[control.name] = value
            else:
                values[control.section][control.name] = value
        return RunConfig.from_dict(values)

    def value(self, name: str) -> Any:
        """The value of one control by its name or dotted name."""
        control = find_control(name, self.kind)
        owner = self if control.name in _TOP else getattr(self, control.section)
        return getattr(owner, control.name)

    def check_change(self, name: object, value: object) -> tuple[str, Any]:
        """Name and value of a change of a live control of this run, checked against its model, too. `ConfigError`."""
        found, checked = check_live(name, value, self.kind)
        check_mechanism(found, checked, self.model)
        _check_wave(find_control(found, self.kind), checked, self.model)
        return found, checked

    def live_values(self) -> dict[str, Any]:
        """Initial values of the controls that may change while training."""
        return {name: self.value(name) for name in live_controls(self.kind)}


class TextRunConfig(RunConfig):
    """Configuration of a language run: model, text, objective, optimisation, probes, sampling, seed, planted fault."""

    model: LanguageConfig = Field(default_factory=PhaseLMConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    objective: ObjectiveConfig = Field(default_factory=ObjectiveConfig)
    optim: OptimConfig = Field(default_factory=OptimConfig)
    probes: ProbesConfig = Field(default_factory=ProbesConfig)
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)

    @model_validator(mode="after")
    def _check_together(self) -> TextRunConfig:
        model = self.model
        if not isinstance(model, FluxConfig):
            _check_heads(model.width, model.heads)
        if isinstance(model, PhaseLMConfig) and model.phases <= -(-model.phases // model.heads) * (model.heads - 1):
            raise ConfigError(
                f"phases = {model.phases} is refused: with heads = {model.heads} it leaves a head without any; "
                f"take {-(-model.phases // model.heads) * model.heads}"
            )
        if isinstance(model, PhaseLMConfig):
            _check_switches(model)
        for weight in _MECHANISMS:
            check_mechanism(weight, getattr(self.objective, weight), model)
        if isinstance(model, TransformerConfig) and (model.width // model.heads) % 2:
            raise ConfigError(
                f"width = {model.width} with heads = {model.heads} is refused: rotary positions need an even width a "
                f"head; take {model.heads * 2 * max(1, round(model.width / model.heads / 2))}"
            )
        for control in ObjectiveConfig.controls():
            control.check_model(getattr(self.objective, control.name), model.kind)
            _check_wave(control, getattr(self.objective, control.name), model)
        _check_texts(self.optim, model.kind)
        needed = {"text": "path", "huggingface": "hub_name"}.get(self.data.source)
        if needed and not getattr(self.data, needed):
            raise ConfigError(f"source = {self.data.source!r} needs {needed}, which is empty: give it a value")
        return self


class VideoRunConfig(RunConfig):
    """Configuration of a video run: backbone, clips, flow, objective, optimisation, probes, sampling, seed, fault."""

    model: VideoFlowConfig | LTXVideoConfig = Field(default_factory=VideoFlowConfig)
    data: ClipsConfig | LatentsConfig = Field(default_factory=ClipsConfig)
    flow: FlowConfig = Field(default_factory=FlowConfig)
    objective: VideoObjectiveConfig = Field(default_factory=VideoObjectiveConfig)
    optim: OptimConfig = Field(
        default_factory=lambda: OptimConfig(steps=1000, batch_size=32, learning_rate=4e-3, warmup_steps=50)
    )
    probes: VideoProbesConfig = Field(default_factory=VideoProbesConfig)
    sampling: ClipSamplingConfig = Field(default_factory=ClipSamplingConfig)

    @model_validator(mode="after")
    def _check_together(self) -> VideoRunConfig:
        model, data = self.model, self.data
        if isinstance(model, VideoFlowConfig) and isinstance(data, ClipsConfig):
            self._check_backbone(model, data)
        elif isinstance(model, LTXVideoConfig) and isinstance(data, LatentsConfig):
            check_adapter(model, data)
        else:
            raise ConfigError(f"kind = {model.kind!r} does not read data of this kind: leave the section data out")
        _check_texts(self.optim, model.kind)
        return self

    @staticmethod
    def _check_backbone(model: VideoFlowConfig, data: ClipsConfig) -> None:
        _check_heads(model.width, model.heads)
        if data.source == "folder" and not data.path:
            raise ConfigError("source = 'folder' needs path, which is empty: give it a folder of videos")
        if data.source == "digits" and data.digit_size > data.canvas:
            raise ConfigError(f"digit_size = {data.digit_size} is refused: the canvas has {data.canvas} px")
        if data.source == "digits" and data.speed_low > data.speed_high:
            raise ConfigError(f"speed_low = {data.speed_low} is refused: speed_high is {data.speed_high}")
        if data.source == "digits" and data.colour != "grey":
            raise ConfigError("colour = 'rgb' is refused: the digits are grey; take source = 'folder'")
        side = data.canvas
        if model.latents != "pixels":
            if side % model.latent_patch:
                raise ConfigError(
                    f"latent_patch = {model.latent_patch} is refused: it does not divide the canvas of {side} px"
                )
            side //= model.latent_patch
        if side % model.patch:
            raise ConfigError(f"patch = {model.patch} is refused: it does not divide the {side} positions of a frame")


def _check_texts(optim: OptimConfig, kind: str) -> None:
    for name, check in _TEXTS_CHECKED.items():
        check(getattr(optim, name), kind)


def _check_switches(model: PhaseLMConfig) -> None:
    if model.attention != "interference" and not model.interference_attention:
        raise ConfigError(
            f"attention = {model.attention!r} is refused: interference_attention = False switches attention off; set "
            "it to True"
        )
    if model.concepts == 1:
        raise ConfigError("concepts = 1 is refused: one concept tells no words apart; take 0 for none, or at least 2")
    if model.experts == 1:
        raise ConfigError("experts = 1 is refused: one expert leaves no choice; take 0 for none, or at least 2")
    if model.experts and model.experts_active > model.experts:
        raise ConfigError(
            f"experts_active = {model.experts_active} is refused: there are {model.experts} experts; take at most as "
            "many"
        )
    if model.language_phases and model.languages < 2:
        raise ConfigError("languages = 1 is refused: language_phases needs languages to tell apart; take at least 2")


_MECHANISMS = {"concept_weight": "concepts", "balance_weight": "experts"}


def check_mechanism(name: str, value: object, model: Section) -> None:
    """Raise `ConfigError` when `value` weighs a term whose mechanism the model has not: the run would stop at its next
    step. Nothing for other names, and for families without such a mechanism, which `Control.check_model` refuses.
    """
    switch = _MECHANISMS.get(name)
    if switch and value and not getattr(model, switch, 1):
        raise ConfigError(
            f"{name} = {value!r} is refused: the model has no {switch}; set {switch} to at least 2, or {name} to 0"
        )


def _check_wave(control: Control, value: Any, model: Section) -> None:
    """A real memory has no phases for the phase terms."""
    real = isinstance(model, PAMConfig) and not model.complex_state
    if real and "pam" in control.models and value != control.default:
        raise ConfigError(
            f"{control.name} = {value:g} is refused: with complex_state off there are no phases; keep "
            f"{control.default:g}, or switch complex_state on"
        )


def _check_heads(width: int, heads: int) -> None:
    if width % heads:
        raise ConfigError(f"width = {width} is refused: it must be a multiple of heads = {heads}")


def default_run(kind: str = KIND.default) -> RunConfig:
    """The default configuration of a model family."""
    if kind in VIDEO_KINDS:
        return VideoRunConfig.model_validate({"model": VIDEO_KINDS[kind](), "data": _VIDEO_DATA[kind]()})
    return TextRunConfig.model_validate({"model": LANGUAGE_KINDS[KIND.check(kind)]()})


class _Dumper(yaml.SafeDumper):
    """Quotes a text that holds U+0085, which PyYAML would otherwise write raw and read back as a line break."""


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "\x85" in text else None)


_Dumper.add_representer(str, _text_node)


def _section(key: str, part: object, sections: dict[str, type[Section]], base: RunConfig) -> Section:
    if key not in sections:
        raise ConfigError(f"unknown section {key!r}{nearest_hint(str(key), [*sections, *_TOP])}")
    if not isinstance(part, dict):
        raise ConfigError(f"section {key!r} is a mapping of names to values, not {type(part).__name__}")
    for name in part:
        if name not in sections[key].model_fields:
            raise ConfigError(f"unknown key {key}.{name}{nearest_hint(str(name), sections[key].model_fields)}")
    return sections[key].model_validate({**getattr(base, key).model_dump(), **part})


def section_types(kind: str) -> dict[str, type[Section]]:
    """Section name → class, for one model family, in the order of the file."""
    if KIND.check(kind) in VIDEO_KINDS:
        return {
            "model": VIDEO_KINDS[kind],
            "data": _VIDEO_DATA[kind],
            "flow": FlowConfig,
            "objective": VideoObjectiveConfig,
            "optim": OptimConfig,
            "probes": VideoProbesConfig,
            "sampling": ClipSamplingConfig,
        }
    return {
        "model": LANGUAGE_KINDS[kind],
        "data": DataConfig,
        "objective": ObjectiveConfig,
        "optim": OptimConfig,
        "probes": ProbesConfig,
        "sampling": SamplingConfig,
    }


@cache
def all_controls(kind: str = KIND.default) -> tuple[Control, ...]:
    """Every declared value of a run with this model family, in the order of the file; defaults are the family's."""
    base = default_run(kind)
    controls = [
        replace(control, default=getattr(getattr(base, name), control.name))
        for name, section in section_types(kind).items()
        for control in section.controls()
    ]
    return (*(KIND if control.name == KIND.name else control for control in controls), *_TOP.values())


@cache
def live_controls(kind: str = KIND.default) -> dict[str, Control]:
    """Controls of a model family that may change while training, by name."""
    return {control.name: control for control in all_controls(kind) if control.live}


def find_control(name: str, kind: str = KIND.default) -> Control:
    """The declaration behind a name or dotted name, or `ConfigError` with the nearest valid name."""
    controls = {control.name: control for control in all_controls(kind)}
    section, _, leaf = name.rpartition(".")
    control = controls.get(leaf)
    if control is None or (section and section != control.section):
        others = [other for other in MODEL_KINDS if any(known.name == leaf for known in all_controls(other))]
        if others and not section:
            raise ConfigError(f"{name!r} is no value of a {kind}: it belongs to {' and '.join(others)}")
        dotted = [f"{control.section}.{control.name}" for control in controls.values()]
        hint = nearest_hint(name, dotted if section else controls)
        raise ConfigError(f"unknown name {name!r}{hint}")
    return control


def check_live(name: object, value: object, kind: str | None = None) -> tuple[str, Any]:
    """Name and value of a change of a live control, checked. Without `kind`, any family that has such a control will
    do. `ConfigError` for an unknown or fixed name, or a bad value.
    """
    if not isinstance(name, str):
        raise ConfigError(f"name = {name!r} is refused: it must be the name of a control")
    family = kind or _family_of(name)
    control = find_control(name, family)
    if kind is not None:
        control.check_model(value, kind)
    if not control.live:
        raise ConfigError(
            f"{control.name} cannot change while training; start a new run with --set {control.name}=…"
            f"{nearest_hint(control.name, live_controls(family))}"
        )
    checked = control.check(value)
    if control.name in _TEXTS_CHECKED:
        _TEXTS_CHECKED[control.name](checked, kind)
    return control.name, checked


def check_schedule(lines: list[str], kind: str | None = None) -> Schedule:
    """What a schedule says, each value checked against its control, and against the model family when given."""
    schedule = parse_schedule(lines)
    for change in schedule.changes:
        _check_scheduled(change.name, change.value, kind)
    for ramp in schedule.ramps:
        if find_control(ramp.name, kind or _family_of(ramp.name)).kind not in ("float", "int"):
            raise ConfigError(f"{ramp.name} cannot move from step to step: it is no number; set it at single steps")
        for value in ramp.values:
            _check_scheduled(ramp.name, value, kind)
    return schedule


def check_rules(lines: list[str], kind: str | None = None) -> tuple[WhenRule, ...]:
    """What rules say, each action checked against its control, and against the model family when given."""
    rules = parse_rules(lines)
    for rule in rules:
        for action in rule.actions:
            if action.operator == "=":
                _check_scheduled(action.name, action.value, kind)
            elif find_control(action.name, kind or _family_of(action.name)).kind not in ("float", "int"):
                raise ConfigError(f"{action.name} {action.operator} {action.value} is refused: it is no number")
            elif not find_control(action.name, kind or _family_of(action.name)).live:
                raise ConfigError(f"{action.name} cannot change while training: name a live control")
    return rules


def check_limits(lines: list[str], kind: str | None = None) -> dict[str, Limit]:
    """Limits of automatic changes by control name, each within the control's own range."""
    limits = parse_limits(lines)
    for limit in limits:
        control = find_control(limit.name, kind or _family_of(limit.name))
        if not control.live:
            raise ConfigError(f"{limit.name} cannot change while training: it needs no limit")
        for bound in (limit.low, limit.high):
            if bound is not None:
                control.check(bound)
    return {limit.name: limit for limit in limits}


_TEXTS_CHECKED: dict[str, Callable[[list[str], str | None], object]] = {
    "schedule": check_schedule,
    "rules": check_rules,
    "limits": check_limits,
}
"""Controls whose lines say something themselves."""


def _check_scheduled(name: str, value: object, kind: str | None) -> None:
    found, _ = check_live(name, value, kind)
    if found in _TEXTS_CHECKED:
        raise ConfigError(f"{found} cannot be changed by a schedule or a rule: write all its lines into one")


def _family_of(name: str) -> str:
    """A family that has a live control of this name, else the default one, whose refusal will do."""
    return next((kind for kind in MODEL_KINDS if name.rpartition(".")[2] in live_controls(kind)), KIND.default)


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ")
