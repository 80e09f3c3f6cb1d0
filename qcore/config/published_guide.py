"""Reading the published "quantum collapse" configuration file as it stands, whole or in parts.

Each of its keys is declared here once, with a range. It becomes one of our values, or is listed with the reason why it
has no effect; anything else is refused by name. YAML 1.1 reads `1e-4` as text, so numbers in text are numbers here.
What a part of the file leaves out takes the published recipe's value where that recipe defines one (path, anchor,
overdrive, orthogonality, noise shared by all frames), and our default elsewhere.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from qcore.config.controls import ConfigError, Control, nearest_hint
from qcore.config.documents import parse_yaml
from qcore.config.errors import short_repr, shorten
from qcore.config.ltx import LTX_SIZES, SPATIAL_RATIO, TEMPORAL_RATIO, LatentsConfig, LTXVideoConfig
from qcore.config.paths import person_path
from qcore.config.published_guide_keys import KEYS, METHODS, NO_EFFECT, PAIRS, PUBLISHED, STRAIGHT, WITH_ANCHOR
from qcore.config.run import RunConfig
from qcore.config.sections import OptimConfig, Section
from qcore.config.video import (
    ClipSamplingConfig,
    ClipsConfig,
    FlowConfig,
    VideoFlowConfig,
    VideoObjectiveConfig,
    VideoProbesConfig,
)

CANVAS_LIMIT, FRAMES_LIMIT = 32, 16
"""Largest canvas (px) and most frames that the two-core backbone is given from a guide made for a large GPU."""
_SHARED: tuple[type[Section], ...] = (
    FlowConfig,
    VideoObjectiveConfig,
    OptimConfig,
    VideoProbesConfig,
    ClipSamplingConfig,
)


class Mapped(NamedTuple):
    """One value that was taken over: the guide's key, the name of our value, and the value it got."""

    key: str
    ours: str
    value: Any


class Note(NamedTuple):
    """A key of the guide and what has to be said of it."""

    key: str
    why: str


@dataclass(frozen=True)
class GuideLoad:
    """A guide's file as one of our configurations.

    Attributes:
        mapped: values taken over.
        adjusted: keys whose value was bounded, completed or left out in part, and why.
        without_effect: keys that were read and change nothing, and why.
    """

    config: RunConfig
    mapped: tuple[Mapped, ...]
    adjusted: tuple[Note, ...]
    without_effect: tuple[Note, ...]


def is_guide(values: object) -> bool:
    """Whether a mapping is meant as the guide's file: it has a section that only the guide has, or a `model` or `data`
    section with keys that only the guide has. A run configuration of ours never does.
    """
    if not isinstance(values, dict):
        return False
    if any(section in values for section in KEYS if section not in ("model", "data")):
        return True
    model, data = values.get("model"), values.get("data")
    return (isinstance(model, dict) and "kind" not in model and not KEYS["model"].keys().isdisjoint(model)) or (
        isinstance(data, dict) and not (KEYS["data"].keys() - ClipsConfig.model_fields).isdisjoint(data)
    )


def from_guide(text: str, *, adapter: bool = False) -> GuideLoad:
    """Load the guide's YAML.

    `ConfigError` names an unknown section or key with the nearest valid one, a bad value with its range, and keys that
    contradict.

    Args:
        adapter: False runs its flow on the small backbone, with canvas and frames bounded for two cores, on the
            embedded digits when its data set is not there; True configures LTX-Video with LoRA (kind `ltx_video`).
    """
    return _load(parse_yaml(text), adapter)


def _load(document: object, adapter: bool) -> GuideLoad:
    given, empty = _check_document(document)
    translation = _Translation(given, adapter)
    translation.run()
    return GuideLoad(
        RunConfig.from_dict(translation.values),
        tuple(translation.mapped),
        tuple(translation.adjusted),
        (*translation.without_effect, *(Note(key, "it is left empty") for key in empty)),
    )


def read_config(text: str, *, adapter: bool = False, name: str = "") -> tuple[RunConfig, GuideLoad | None]:
    """A configuration file of ours or of the guide, told apart by its keys; the second is None for ours.

    Args:
        name: of the file, for refusals.

    Raises:
        ConfigError: as `RunConfig.from_yaml` and `from_guide`.
    """
    values = parse_yaml(text, name)
    if is_guide(values):
        loaded = _load(values, adapter)
        return loaded.config, loaded
    return RunConfig.from_dict({} if values is None else values), None


def _check_document(document: object) -> tuple[dict[str, Any], list[str]]:
    """`section.key` → value in its declared type, for all that the file gives, and the keys that it leaves empty."""
    if not isinstance(document, dict):
        raise ConfigError(f"the guide's file is a mapping of sections, not {type(document).__name__}")
    given: dict[str, Any] = {}
    empty: list[str] = []
    for section, part in document.items():
        if section not in KEYS:
            raise ConfigError(f"unknown section {short_repr(section)}{nearest_hint(str(section), KEYS)}")
        if part is None:
            continue
        if not isinstance(part, dict):
            raise ConfigError(f"section {section!r} is a mapping of keys to values, not {type(part).__name__}")
        for key, value in part.items():
            name = f"{section}.{key}"
            if key not in KEYS[section]:
                raise ConfigError(f"unknown key {shorten(name)}{_hint(str(key), section)}")
            if value is None:
                empty.append(name)
            else:
                given[name] = _value(name, KEYS[section][key], value)
    return given, empty


def _hint(key: str, section: str) -> str:
    homes = [other for other, keys in KEYS.items() if key in keys]
    return f"; it belongs to {' and '.join(homes)}" if homes else nearest_hint(key, KEYS[section])


def _value(name: str, control: Control, value: object) -> Any:
    control = replace(control, name=name)
    if name not in PAIRS:
        return control.check(value)
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ConfigError(
            f"{name} = {short_repr(value)} is refused: it must be a list of two, each {control.range_text}"
        )
    return [control.check(item) for item in value]


@dataclass
class _Translation:
    """The guide's values on their way to ours; every given key ends in `mapped` or in `without_effect`."""

    given: dict[str, Any]
    adapter: bool
    implied: set[str] = field(default_factory=set)
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    mapped: list[Mapped] = field(default_factory=list)
    adjusted: list[Note] = field(default_factory=list)
    without_effect: list[Note] = field(default_factory=list)

    def __post_init__(self) -> None:
        small, large = (VideoFlowConfig, ClipsConfig), (LTXVideoConfig, LatentsConfig)
        own: tuple[type[Section], ...] = large if self.adapter else small
        self._home = {name: part.section for part in (*own, *_SHARED) for name in part.model_fields}
        self.values["model"] = {"kind": "ltx_video" if self.adapter else "video_flow"}

    def run(self) -> None:
        """Translate everything that is given, in an order that puts what others depend on first."""
        path = self._method()
        if path == "quantum":
            self._complete()
        for key, ours in STRAIGHT.items():
            if key in self.given:
                self._set(key, ours, self.given[key])
        for key, why in NO_EFFECT.items():
            self._ignore(key, why)
        self._collapse(path)
        self._anchor(path)
        self._orthogonality()
        self._optimiser()
        self._intervals()
        if self.adapter:
            self._adapter_model()
            self._adapter_data()
        else:
            self._small_model()
            self._small_data()
        told = {row.key for row in self.mapped} | {row.key for row in self.without_effect}
        assert self.given.keys() - self.implied <= told, "a key of the guide was dropped silently"

    def _set(self, key: str, ours: str, value: Any) -> None:
        self.values.setdefault(self._home[ours], {})[ours] = value
        self.mapped.append(Mapped(f"{key} (left out: as published)" if key in self.implied else key, ours, value))

    def _ignore(self, key: str, why: str) -> None:
        if key in self.given and key not in self.implied:
            self.without_effect.append(Note(key, why))

    def _agreeing_value(self, *keys: str) -> tuple[list[str], Any]:
        """The given ones among `keys`, which name one value, and that value; `ConfigError` when they contradict."""
        found = [key for key in keys if key in self.given]
        for key in found[1:]:
            if self.given[key] != self.given[found[0]]:
                raise ConfigError(
                    f"{key} = {self.given[key]!r} contradicts {found[0]} = {self.given[found[0]]!r}: they name one "
                    "value; give both the same, or leave one out"
                )
        return found, self.given[found[0]] if found else None

    def _method(self) -> str:
        """The path, and the noise that goes with it: the published anchored methods share it among all frames."""
        for key in ("flow_matching.method", "training.strategy"):
            if key in self.given:
                self.given[key] = METHODS[self.given[key]]
        keys, path = self._agreeing_value("flow_matching.method", "training.strategy")
        if not keys:
            keys, path = ["flow_matching.method"], "quantum"
            self.implied.add(keys[0])
        for key in keys:
            self._set(key, "flow_path", path)
        self._set(keys[0], "noise_correlation", 1.0 if path in WITH_ANCHOR else 0.0)
        return path

    def _complete(self) -> None:
        """Fill in what the file leaves out of the published recipe."""
        same = {
            "flow_matching.t_star": "quantum.collapse_threshold",
            "flow_matching.use_anchor_net": "quantum.use_anchor_net",
        }
        for key, value in PUBLISHED.items():
            if key not in self.given and same.get(key) not in self.given:
                self.given[key] = value
                self.implied.add(key)

    def _collapse(self, path: str) -> None:
        keys, t_star = self._agreeing_value("flow_matching.t_star", "quantum.collapse_threshold")
        for key in keys:
            self._set(key, "t_star", t_star)
        for key, ours, paths in (
            ("quantum.frame_repulsion_strength", "repulsion", ("quantum",)),
            ("quantum.quantum_decay_rate", "anchor_decay", ("quantum", "rab")),
        ):
            if key in self.given and path in paths:
                self._set(key, ours, self.given[key])
            else:
                self._ignore(key, f"the {path} path has no such force")

    def _anchor(self, path: str) -> None:
        keys, wanted = self._agreeing_value("flow_matching.use_anchor_net", "quantum.use_anchor_net")
        network = bool(wanted) and path in WITH_ANCHOR
        for key in keys:
            if path in WITH_ANCHOR:
                self._set(key, "anchor", "network" if network else "statistics")
            else:
                self._ignore(key, f"the {path} path has no anchor")
        low, high = self.given.get("quantum.anchor_entropy_range", (0.0, 0.0))
        if low != -high or high < 0:
            raise ConfigError(
                f"quantum.anchor_entropy_range = [{low:g}, {high:g}] is refused: the log-variance is kept within ± one "
                f"limit, so the two must be [−x, x]; take [{-max(abs(low), abs(high)):g}, {max(abs(low), abs(high)):g}]"
            )
        if "quantum.anchor_entropy_range" in self.given:
            limit = replace(FlowConfig.control("log_variance_limit"), name="quantum.anchor_entropy_range (its end)")
            self.given["quantum.anchor_entropy_range"] = limit.check(high)
        for key, ours in (
            ("quantum.quantum_superposition_factor", "superposition"),
            ("quantum.high_freq_jitter", "anchor_jitter"),
            ("quantum.anchor_entropy_range", "log_variance_limit"),
        ):
            if key in self.given and network:
                self._set(key, ours, self.given[key])
            else:
                self._ignore(key, "only the anchor network reads it, and this run has none")

    def _orthogonality(self) -> None:
        """The published loss adds weight × (orthogonality + decoherence); the penalty's switch multiplies it by 0."""
        weight, switch = "training.orthogonality_loss_weight", "quantum.cosine_similarity_penalty"
        on = self.given.get(switch, True)
        if on:
            for ours in ("orthogonality_weight", "decoherence_weight"):
                if weight in self.given:
                    self._set(weight, ours, self.given[weight])
            if switch in self.given:
                self._note_switch(switch, weight)
        else:
            for ours in ("orthogonality_weight", "decoherence_weight"):
                self._set(switch, ours, 0.0)
            self._ignore(weight, f"{switch} is false, so its weight is 0")

    def _note_switch(self, switch: str, weight: str) -> None:
        if weight in self.given:
            self._set(switch, "orthogonality_weight", self.given[weight])
        else:
            self._ignore(switch, f"{weight} is left out, and this path has no published one")

    def _optimiser(self) -> None:
        if (policy := self.given.get("lr_scheduler.type")) is not None:
            self._set("lr_scheduler.type", "lr_policy", "cosine" if policy.startswith("cosine") else "constant")
        if (betas := self.given.get("optimizer.betas")) is not None:
            self._set("optimizer.betas", "beta1", betas[0])
            self._set("optimizer.betas", "beta2", betas[1])
        if (precision := self.given.get("training_config.mixed_precision")) is not None:
            self._set("training_config.mixed_precision", "precision", "fp32" if precision == "no" else precision)
        if (floor := self.given.get("lr_scheduler.min_lr")) is not None:
            peak = self.given.get("training_config.learning_rate")
            if peak is None:
                self._ignore(
                    "lr_scheduler.min_lr", "the peak is our own default here, and the cosine ends at its share"
                )
            elif floor > peak:
                raise ConfigError(
                    f"lr_scheduler.min_lr = {floor:g} is refused: it must be a number from 0 to "
                    f"training_config.learning_rate = {peak:g}"
                )
            else:
                self._set("lr_scheduler.min_lr", "min_lr_ratio", round(floor / peak, 9))

    def _intervals(self) -> None:
        own, general = "training.quantum_metrics_log_interval", "logging.metric_log_steps"
        used = own if own in self.given else general
        if used in self.given:
            self._set(used, "frames_every", self.given[used])
        if used == own:
            self._ignore(general, f"{own} sets how often frames are measured")
        if (every := self.given.get("training_config.validation_steps")) is not None and (
            "logging.sample_log_steps" not in self.given
        ):
            self._set("training_config.validation_steps", "sample_every", every)

    def _small_model(self) -> None:
        for key in (f"{section}.{name}" for section in ("model", "lora") for name in KEYS[section]):
            self._ignore(key, "the small backbone stands in for LTX-Video and trains all its weights")

    def _small_data(self) -> None:
        videos = self._folder("video_flow")
        self._ignore("data.normalize_frames", "clips are always standardised over the training data")
        if not videos:
            self._ignore("data.frame_stride", "the digits' speed is set in pixels per frame")
            self._ignore("data.resolution", f"the digits keep their canvas of {ClipsConfig().canvas} px")
        elif "data.frame_stride" in self.given:
            self._set("data.frame_stride", "frame_stride", self.given["data.frame_stride"])
        if videos and (size := self.given.get("data.resolution")) is not None:
            patch = VideoFlowConfig().patch
            canvas = max(patch, min(*size, CANVAS_LIMIT) // patch * patch)
            self._set("data.resolution", "canvas", canvas)
            if size != [canvas, canvas]:
                self._adjust(
                    "data.resolution",
                    f"{size[0]} × {size[1]} px became a square of {canvas}: two cores handle at most {CANVAS_LIMIT}, "
                    f"in patches of {patch}",
                )
        if (frames := self.given.get("data.num_frames")) is not None:
            self._set("data.num_frames", "frames", min(frames, FRAMES_LIMIT))
            if frames > FRAMES_LIMIT:
                self._adjust("data.num_frames", f"{frames} frames became {FRAMES_LIMIT}: what two cores can handle")

    def _folder(self, kind: str) -> bool:
        """Set where the data come from; whether that is the guide's folder."""
        path = self.given.get("data.dataset_path", "")
        found = bool(path) and os.path.exists(person_path(path, "data.dataset_path"))
        if found:
            self._set("data.dataset_path", "source", "folder")
            self._set("data.dataset_path", "path", path)
        elif "data.dataset_path" in self.given:
            stand_in = "digits" if kind == "video_flow" else "random"
            self._set("data.dataset_path", "source", stand_in)
            self._adjust("data.dataset_path", f"there is no {path!r} on this machine, so the run takes {stand_in}")
        return found

    def _adjust(self, key: str, why: str) -> None:
        self.adjusted.append(Note(key, why))

    def _adapter_model(self) -> None:
        variant = self.given.get("model.variant")
        if variant is None:
            variant = "2b"
            self.implied.add("model.variant")
        self._set("model.variant", "variant", variant)
        if (name := self.given.get("model.id")) is not None:
            # the published name holds the 2b weights; under it a 13b run would load the wrong ones
            own = name == "Lightricks/LTX-Video" and variant == "13b"
            self._set("model.id", "model_id", "" if own else name)
            if own:
                self._adjust("model.id", f"{name} holds the 2b weights, so the variant's own name is used")
        if "model.cache_dir" in self.given:
            self._set("model.cache_dir", "cache_dir", self.given["model.cache_dir"])
        if not self.given.get("lora.enabled", True):
            raise ConfigError(
                "lora.enabled = False is refused: the adapter trains LoRA only; leave it out or take true"
            )
        self._ignore("lora.enabled", "the adapter always trains LoRA, and nothing else")
        for key, ours in (("rank", "lora_rank"), ("alpha", "lora_alpha"), ("dropout", "lora_dropout")):
            if f"lora.{key}" in self.given:
                self._set(f"lora.{key}", ours, self.given[f"lora.{key}"])
        if (targets := self.given.get("lora.target_modules")) is not None:
            known = [target for target in targets if not target.startswith("temporal_attn.")]
            self._set("lora.target_modules", "lora_targets", known)
            if known != targets:
                self._adjust(
                    "lora.target_modules", "LTX-Video has no temporal_attn: its attention spans space and time"
                )

    def _adapter_data(self) -> None:
        stored = self._folder("ltx_video")
        self._ignore("data.frame_stride", "latents are precomputed, with their own stride")
        self._ignore("data.normalize_frames", "latents are precomputed, from frames normalised at that time")
        if stored:
            self._set("data.dataset_path", "normalisation", "none")
            self._adjust("data.dataset_path", "it is read as latents that are already normalised (.safetensors)")
            self._ignore("data.resolution", "the latents bring their own")
        elif (size := self.given.get("data.resolution")) is not None:
            rows, columns = (max(1, side // SPATIAL_RATIO) for side in size)
            self._set("data.resolution", "latent_height", rows)
            self._set("data.resolution", "latent_width", columns)
            self._adjust(
                "data.resolution", f"{size[0]} × {size[1]} px are {rows} × {columns} latents ({SPATIAL_RATIO} px each)"
            )
        if not stored:
            self._set("model.variant", "channels", LTX_SIZES[self.values["model"]["variant"]].channels)
        if (frames := self.given.get("data.num_frames")) is not None:
            latent = max(2, (frames - 1) // TEMPORAL_RATIO + 1)
            self._set("data.num_frames", "frames", latent)
            self._adjust("data.num_frames", f"{frames} frames are {latent} latent frames ({TEMPORAL_RATIO} each)")
