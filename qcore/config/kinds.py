"""The sections of each model family, and the values above them: what a run's nested mapping is made of."""

from __future__ import annotations

from typing import Any

from qcore.config.controls import ConfigError, Control
from qcore.config.errors import short_repr
from qcore.config.families import FAMILIES, LANGUAGE_KINDS, MODEL_KINDS, VIDEO_KINDS
from qcore.config.fault_bank import FAULTS
from qcore.config.names import normal_name
from qcore.config.sections import (
    DataConfig,
    ObjectiveConfig,
    OptimConfig,
    ProbesConfig,
    SamplingConfig,
    Section,
)
from qcore.config.video import (
    ClipSamplingConfig,
    FlowConfig,
    VideoObjectiveConfig,
    VideoProbesConfig,
)
from qcore.config.weakened_faults import WEAKENED

KIND = Control("kind", "model", "choice", next(iter(FAMILIES)), "Model family.", choices=tuple(MODEL_KINDS))
SEED = Control(
    "seed", "run", "int", 0, "Seed of the weights, the batch order, noise and dropout.", low=0, high=2**31 - 1
)
ORDER_SEED = Control(
    "order_seed",
    "run",
    "int",
    -1,
    "Seed of the batch order, noise and dropout, but not of the weights; −1 uses the run's seed.",
    low=-1,
    high=2**31 - 1,
)
FAULT = Control(
    "fault",
    "run",
    "choice",
    "",
    "Mistake of the fault bank to plant in this run; empty: none.",
    choices=("", *FAULTS, *WEAKENED),
)
TOP = {control.name: control for control in (SEED, ORDER_SEED, FAULT)}
"""Values of a run that belong to no section."""


def section_types(kind: str) -> dict[str, type[Section]]:
    """Section name → class, for one model family, in the order of the file."""
    if KIND.check(kind) in VIDEO_KINDS:
        return {
            "model": VIDEO_KINDS[kind],
            "data": FAMILIES[kind].data,
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


def normalize_keys(values: dict[Any, Any]) -> dict[Any, Any]:
    """The same under the names of the declarations.

    Raises:
        ConfigError: for two keys that are one name.
    """
    found: dict[Any, Any] = {}
    for key, part in values.items():
        name = normal_name(key) if isinstance(key, str) else key
        if name in found:
            raise ConfigError(f"{short_repr(key)} is given twice: leave one out")
        found[name] = part
    return found


def kind_of(values: dict[Any, Any]) -> str:
    """The model family that a nested mapping asks for.

    Raises:
        ConfigError: for one that there is not.
    """
    model = values.get("model")
    named = {normal_name(str(key)): value for key, value in model.items()} if isinstance(model, dict) else {}
    return str(KIND.check(named.get("kind", KIND.default)))


def split_live_controls(values: dict[Any, Any]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """A nested mapping without the live controls of its family, and those."""
    kept: dict[Any, Any] = {}
    live: dict[str, Any] = {}
    sections = section_types(kind_of(values))
    for key, part in values.items():
        kept[key] = part
        if key in sections and isinstance(part, dict):
            controls = {control.name for control in sections[key].controls() if control.live}
            live |= {f"{key}.{name}": value for name, value in part.items() if sections[key].named(name) in controls}
            kept[key] = {name: value for name, value in part.items() if sections[key].named(name) not in controls}
    return kept, live
