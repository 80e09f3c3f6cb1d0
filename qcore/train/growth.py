"""Growth of a run in training: the engine's model and moments at another size, its outputs the same.

The size in force is the run's configuration and its growth events; a checkpoint keeps the section that its weights
belong to. A window of another length would be other data, so the context does not grow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qcore.config import ConfigError, RunConfig, TextRunConfig, short_repr
from qcore.models import build_model
from qcore.models.sizing.growth import grow_model, grow_moments, growth_plan
from qcore.runs.replay_plan import UNSIZED
from qcore.train.checkpoint import optimizer_tensors, set_moments
from qcore.train.engine import RANDOM_LOCK, make_optimizer
from qcore.train.text_engine import Engine

_KEPT = ("kind", "context")


def config_with_section(config: RunConfig, section: Mapping[str, Any]) -> RunConfig:
    """The configuration with the sizes of a model section; as it is for an empty one. `ConfigError` for a section that
    growth could not have made of this configuration's.
    """
    for name in _KEPT:
        if name in section and section[name] != config.value(name):
            raise ConfigError(f"{name} = {short_repr(section[name])} is refused: the run has {config.value(name)!r}")
    sizes = {name: value for name, value in section.items() if name not in UNSIZED and config.value(name) != value}
    return config.with_values(sizes) if sizes else config


def grown_section(config: RunConfig, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The model section after growth. Raises `ConfigError` when a model of this configuration cannot grow so."""
    if not isinstance(config, TextRunConfig):
        raise ConfigError(f"a {config.kind} cannot grow: start a new run with the sizes you want")
    if config.fault:
        raise ConfigError(
            f"fault {config.fault} is planted in this model, so it cannot grow: fork it with fault= first"
        )
    wanted = config.with_values(dict(changes))
    assert isinstance(wanted, TextRunConfig)
    for name in changes:
        if name not in type(config.model).model_fields or name in (*_KEPT, *UNSIZED):
            raise ConfigError(f"{name} is no size that can grow: a model grows in what its weights are made of")
    if wanted.model == config.model:
        raise ConfigError(f"the model has these sizes already: {', '.join(f'{k} = {v}' for k, v in changes.items())}")
    try:
        growth_plan(config.model, wanted.model)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return wanted.model.model_dump()


def grow(engine: Engine, section: Mapping[str, Any]) -> None:
    """Put the grown model in the engine's place, moments carried over."""
    config = _text(config_with_section(engine.config, section))
    old, vocab_size = engine.model, engine.dataset.tokenizer.vocab_size
    moments = optimizer_tensors(old, engine.optimizer)
    with RANDOM_LOCK:
        model = grow_model(old, config.model, vocab_size, config.seed)
    carried = grow_moments(moments, old, model)
    engine.replace_model(config, model, make_optimizer(model.to(engine.device)))
    set_moments(engine.model, engine.optimizer, carried)


def resize(engine: Engine, section: Mapping[str, Any]) -> None:
    """Give the engine a fresh model of a checkpoint's size, to be filled from it; nothing when it has that already."""
    config = _text(config_with_section(engine.config, section))
    if config.model == engine.config.model:
        return
    with RANDOM_LOCK:
        model = build_model(config.model, engine.dataset.tokenizer.vocab_size, engine.counts, seed=config.seed)
    engine.replace_model(config, model, make_optimizer(model.to(engine.device)))


def _text(config: RunConfig) -> TextRunConfig:
    assert isinstance(config, TextRunConfig)
    return config
