"""The run configuration: all that a run is, besides its events. YAML in and out, dotted or short names for changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from qcore.config.controls import ConfigError, Control, nearest_hint
from qcore.config.documents import Defaults, parse_yaml, with_defaults, yaml_text
from qcore.config.errors import short_repr, shorten
from qcore.config.families import FAMILIES, LANGUAGE_KINDS, MODEL_KINDS, VIDEO_KINDS, LanguageConfig
from qcore.config.flux import FluxConfig
from qcore.config.kinds import KIND, TOP, kind_of, normalize_keys, section_types, split_live_controls
from qcore.config.lines import assignments, checked_limits, checked_rules, checked_schedule
from qcore.config.ltx import LatentsConfig, LTXVideoConfig, check_adapter
from qcore.config.names import normal_name
from qcore.config.phase import PhaseLMConfig
from qcore.config.rule_text import Limit, WhenRule
from qcore.config.schedule_text import Schedule
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
from qcore.config.texts import check_extent
from qcore.config.together import MECHANISMS, check_backbone, check_heads, check_mechanism, check_switches, check_wave
from qcore.config.video import (
    ClipSamplingConfig,
    ClipsConfig,
    FlowConfig,
    VideoFlowConfig,
    VideoObjectiveConfig,
    VideoProbesConfig,
)

BEFORE: Defaults = {"data": {"data_version": 1}, "probes": {"probe_version": 1}, "model": {"start": "tied"}}
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

    @field_validator(*TOP, mode="before")
    @classmethod
    def _check_top(cls, value: object, info: ValidationInfo) -> Any:
        assert info.field_name is not None
        return TOP[info.field_name].check(value)

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
        config = _build_config(values)
        config._check_lines(_TEXTS_CHECKED)
        return config

    @staticmethod
    def from_yaml(text: str, name: str = "", before: Defaults | None = None) -> RunConfig:
        """Read a YAML document; missing keys take their defaults, or those of `before` (section → key → value). Errors
        as in `parse_yaml` and `from_dict`.
        """
        return RunConfig.from_dict(_with_known_defaults(parse_yaml(text, name), before))

    @staticmethod
    def from_stored(text: str, name: str = "", before: Defaults | None = None) -> tuple[RunConfig, dict[str, str]]:
        """The configuration that a run was started with, and why values of live controls in it are refused, by name:
        those take their defaults, so that a run whose schedule an earlier version accepted still goes on. Errors of
        everything else as in `from_yaml`.
        """
        values = _with_known_defaults(parse_yaml(text, name), before)
        try:
            return _build_config(values), {}
        except ConfigError:
            if not isinstance(values, dict):
                raise
        kept, live = split_live_controls(normalize_keys(values))
        config, refused = _build_config(kept), {}
        for key, value in live.items():
            try:
                config = config._changed({key: value})
            except ConfigError as error:
                refused[key] = str(error)
        return config, refused

    def to_yaml(self) -> str:
        """The whole configuration as YAML; `from_yaml` gives an equal one."""
        values = self.model_dump()
        return yaml_text({name: values[name] for name in (*section_types(self.kind), *TOP)})

    def with_values(self, changes: dict[str, Any]) -> RunConfig:
        """A copy with some values replaced; keys are names (`learning_rate`, as a page writes them, too) or dotted
        names (`optim.learning_rate`).

        Changing `kind` keeps the fields that the new model family shares with the old one; where the data are
        of another kind it starts from the new family's defaults and keeps the seed.

        Raises:
            ConfigError: for a value that is refused, and for one that is named twice.

        Example:
            >>> config = default_run().with_values({"width": 64, "optim.learning_rate": 0.001})
            >>> config.value("width"), config.value("learning_rate")
            (64, 0.001)
        """
        config = self._changed(changes)
        other_model = config.model != self.model
        config._check_lines(name for name in _TEXTS_CHECKED if other_model or self.value(name) != config.value(name))
        return config

    def _changed(self, changes: dict[str, Any]) -> RunConfig:
        values: dict[str, Any] = self.model_dump()
        kinds = [value for key, value in changes.items() if normal_name(str(key)) in ("kind", "model.kind")]
        kind = kinds[-1] if kinds else self.kind
        if kind != self.kind:
            shared = section_types(kind)["model"].model_fields
            model = {name: value for name, value in values["model"].items() if name in shared}
            if section_types(kind)["data"] is not section_types(self.kind)["data"]:
                values, model = {**default_run(kind).model_dump(), "seed": self.seed}, {}
            values["model"] = {**model, "kind": kind}
        written: dict[str, object] = {}
        for key, value in changes.items():
            control = find_control(key, values["model"]["kind"])
            if control.name in written:
                raise ConfigError(
                    f"{control.name} is given twice, as {short_repr(written[control.name])} and as "
                    f"{short_repr(key)}: leave one "
                    "out"
                )
            written[control.name] = key
            if control.name in TOP:
                values[control.name] = value
            else:
                values[control.section][control.name] = value
        return _build_config(values)

    def value(self, name: str) -> Any:
        """The value of one control by its name or dotted name."""
        control = find_control(name, self.kind)
        owner = self if control.name in TOP else getattr(self, control.section)
        return getattr(owner, control.name)

    def check_change(self, name: object, value: object, *, stored: bool = False) -> tuple[str, Any]:
        """Name and value of a change of a live control of this run, checked against its model, too.

        Args:
            stored: it was accepted before, so what a line of it sets is checked when it sets it.

        Raises:
            ConfigError: when it is refused.
        """
        control = find_control(name, self.kind)
        if control.name in _TEXTS_CHECKED and not stored:
            check_extent(control.name, control.check(value))
        found, checked = check_live(name, value, self.kind)
        check_mechanism(found, checked, self.model)
        check_wave(control, checked, self.model)
        if found in _TEXTS_CHECKED and not stored:
            self._check_set_by(found, checked)
        return found, checked

    def _check_lines(self, names: Iterable[str]) -> None:
        """Raise `ConfigError` when a schedule or rule sets what this model has not."""
        for name in names:
            check_extent(name, self.value(name))
            self._check_set_by(name, self.value(name))

    def _check_set_by(self, name: str, lines: list[str]) -> None:
        for line, declared, value in assignments(_TEXTS_CHECKED[name](lines, self.kind), _control_finder(self.kind)):
            # the refusal names the line: a schedule has many
            with line.named():
                checked = declared.check(value)
                declared.check_model(checked, self.kind)
                check_mechanism(declared.name, checked, self.model)
                check_wave(declared, checked, self.model)

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
            check_heads(model.width, model.heads)
        if isinstance(model, PhaseLMConfig) and model.phases <= -(-model.phases // model.heads) * (model.heads - 1):
            raise ConfigError(
                f"phases = {model.phases} is refused: with heads = {model.heads} it leaves a head without any; "
                f"take {-(-model.phases // model.heads) * model.heads}"
            )
        if isinstance(model, PhaseLMConfig):
            check_switches(model)
        for weight in MECHANISMS:
            check_mechanism(weight, getattr(self.objective, weight), model)
        if isinstance(model, TransformerConfig) and (model.width // model.heads) % 2:
            raise ConfigError(
                f"width = {model.width} with heads = {model.heads} is refused: rotary positions need an even width a "
                f"head; take {model.heads * 2 * max(1, round(model.width / model.heads / 2))}"
            )
        for control in ObjectiveConfig.controls():
            control.check_model(getattr(self.objective, control.name), model.kind)
            check_wave(control, getattr(self.objective, control.name), model)
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
            check_backbone(model, data)
        elif isinstance(model, LTXVideoConfig) and isinstance(data, LatentsConfig):
            check_adapter(model, data)
        else:
            raise ConfigError(f"kind = {model.kind!r} does not read data of this kind: leave the section data out")
        _check_texts(self.optim, model.kind)
        return self


def _check_texts(optim: OptimConfig, kind: str) -> None:
    for name, check in _TEXTS_CHECKED.items():
        check(getattr(optim, name), kind)


def default_run(kind: str = KIND.default) -> RunConfig:
    """The default configuration of a model family.

    Example:
        >>> default_run("transformer").kind
        'transformer'
    """
    if kind in VIDEO_KINDS:
        return VideoRunConfig.model_validate({"model": VIDEO_KINDS[kind](), "data": FAMILIES[kind].data()})
    return TextRunConfig.model_validate({"model": LANGUAGE_KINDS[KIND.check(kind)]()})


def _with_known_defaults(values: Any, before: Defaults | None) -> Any:
    """What a document holds, with the values of `before` that its model family knows where it has none."""
    if before and (values is None or isinstance(values, dict)):
        sections = section_types(kind_of(values or {}))
        before = {
            section: {key: value for key, value in keys.items() if key in sections[section].model_fields}
            for section, keys in before.items()
        }
    return with_defaults(values, before)


def _build_config(values: object) -> RunConfig:
    """The configuration of a nested mapping.

    Raises:
        ConfigError: as of `RunConfig.from_dict`.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"a run configuration is a mapping of sections, not {type(values).__name__}")
    values = normalize_keys(values)
    kind = kind_of(values)
    base, sections = default_run(kind), section_types(kind)
    parts: dict[str, Any] = {}
    try:
        for key, part in values.items():
            parts[key] = part if key in TOP else _section(key, part, sections, base)
        return type(base).model_validate({**dict(base), **parts})
    except ValidationError as error:
        raise ConfigError("; ".join(_strip_prefix(item["msg"]) for item in error.errors())) from None


def _section(key: Any, part: object, sections: dict[str, type[Section]], base: RunConfig) -> Section:
    if key not in sections:
        raise ConfigError(f"unknown section {short_repr(key)}{nearest_hint(str(key), [*sections, *TOP])}")
    if not isinstance(part, dict):
        raise ConfigError(f"section {key!r} is a mapping of names to values, not {type(part).__name__}")
    given: dict[str, Any] = {}
    for written, value in part.items():
        name = sections[key].named(written)
        if name is None:
            hint = nearest_hint(str(written), sections[key].model_fields)
            raise ConfigError(f"unknown key {key}.{shorten(str(written), 80)}{hint}")
        if name in given:
            raise ConfigError(f"{key}.{name} is given twice: leave one out")
        given[name] = value
    return sections[key].model_validate({**getattr(base, key).model_dump(), **given})


@cache
def all_controls(kind: str = KIND.default) -> tuple[Control, ...]:
    """Every declared value of a run with this model family, in the order of the file; defaults are the family's."""
    base = default_run(kind)
    controls = [
        replace(control, default=getattr(getattr(base, name), control.name))
        for name, section in section_types(kind).items()
        for control in section.controls()
    ]
    return (*(KIND if control.name == KIND.name else control for control in controls), *TOP.values())


@cache
def live_controls(kind: str = KIND.default) -> dict[str, Control]:
    """Controls of a model family that may change while training, by name."""
    return {control.name: control for control in all_controls(kind) if control.live}


@cache
def _controls_by_name(kind: str) -> dict[str, Control]:
    """Controls of a family by every name that is accepted: their own, with the section, and as pages write them."""
    controls = all_controls(kind)
    found = {control.name: control for control in controls}
    found |= {f"{control.section}.{control.name}": control for control in controls}
    for control in controls:
        for written in control.written:
            found.setdefault(written, control)
    return found


def find_control(name: object, kind: str = KIND.default) -> Control:
    """The declaration behind a name or dotted name, written in any case, with blanks or hyphens, or as a page titles
    it; else `ConfigError` with the nearest valid name.

    Example:
        >>> control = find_control("learning rate")
        >>> control.name, control.live
        ('learning_rate', True)
    """
    if not isinstance(name, str):
        raise ConfigError(f"name = {short_repr(name)} is refused: it must be the name of a control")
    plain = normal_name(name)
    control = _controls_by_name(kind).get(plain)
    if control is None:
        dot, leaf = "." in plain, plain.rpartition(".")[2]
        others = [other for other in MODEL_KINDS if leaf in _controls_by_name(other)]
        if others and not dot:
            raise ConfigError(f"{short_repr(name)} is no value of a {kind}: it belongs to {' and '.join(others)}")
        known = [known for known in _controls_by_name(kind) if ("." in known) == dot]
        raise ConfigError(f"unknown name {short_repr(name)}{nearest_hint(plain, known)}")
    return control


def check_live(name: object, value: object, kind: str | None = None) -> tuple[str, Any]:
    """Name and value of a change of a live control, checked. Without `kind`, any family that has such a control will
    do.

    Raises:
        ConfigError: for an unknown or fixed name, or a bad value.
    """
    family = kind or _family_of(name)
    control = find_control(name, family)
    if not control.live:
        raise ConfigError(
            f"{control.name} cannot change while training; start a new run with --set {control.name}=…"
            f"{nearest_hint(control.name, live_controls(family))}"
        )
    checked = control.check(value)
    if kind is not None:
        control.check_model(checked, kind)
    if control.name in _TEXTS_CHECKED:
        _TEXTS_CHECKED[control.name](checked, kind)
    return control.name, checked


def check_schedule(lines: list[str], kind: str | None = None) -> Schedule:
    """What a schedule says, each value checked against its control, and against the model family when given; names as
    they are declared. `ConfigError` names the line.

    Example:
        >>> check_schedule(["120: learning_rate = 0.001"]).changes[0].value
        '0.001'
    """
    return checked_schedule(lines, _control_finder(kind), lambda name, value: _check_scheduled(name, value, kind))


def check_rules(lines: list[str], kind: str | None = None) -> tuple[WhenRule, ...]:
    """What rules say, each action checked against its control, and against the model family when given; names as they
    are declared. `ConfigError` names the line.
    """
    return checked_rules(lines, _control_finder(kind), lambda name, value: _check_scheduled(name, value, kind))


def check_limits(lines: list[str], kind: str | None = None) -> dict[str, Limit]:
    """Limits of automatic changes by control name, each within the control's own range. `ConfigError` names the
    line.
    """
    return checked_limits(lines, _control_finder(kind))


def _control_finder(kind: str | None) -> Callable[[str], Control]:
    return lambda name: find_control(name, kind or _family_of(name))


_TEXTS_CHECKED: dict[str, Callable[[list[str], str | None], object]] = {
    "schedule": check_schedule,
    "rules": check_rules,
    "limits": check_limits,
}
"""Controls whose lines say something themselves."""


def _check_scheduled(name: str, value: object, kind: str | None) -> str:
    control = find_control(name, kind or _family_of(name))
    if control.name in _TEXTS_CHECKED:  # before its value is read, which may hold such a line again, and so on
        raise ConfigError(f"{control.name} cannot be changed by a schedule or a rule: write all its lines into one")
    return check_live(name, value, kind)[0]


def _family_of(name: object) -> str:
    """A family that has a live control of this name, else the default one, whose refusal will do."""
    leaf = normal_name(str(name)).rpartition(".")[2]
    having = (kind for kind in MODEL_KINDS if (found := _controls_by_name(kind).get(leaf)) is not None and found.live)
    return next(having, KIND.default)


def _strip_prefix(message: str) -> str:
    return message.removeprefix("Value error, ")
