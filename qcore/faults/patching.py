"""How a fault gets into one engine and nowhere else: methods, terms and data of its own objects are replaced.

A replaced method is bound to its instance, so that it follows a deep copy of the model and still sees the class's own
version as `type(self).method(self, …)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MethodType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from qcore.config import RunConfig, TextRunConfig, VideoRunConfig, kinds_with
from qcore.data import Batch, ClipDataset, Dataset
from qcore.flow import Path, PathSample
from qcore.models import LanguageModel, ModelOutput, PhaseLM, Transformer
from qcore.models.phase.model import PhaseLayer
from qcore.models.transformer.model import TransformerLayer
from qcore.objectives import Derived, Term, TermInputs

TermFunction = Callable[[Derived, Mapping[str, float]], Tensor]


class AnyEngine(Protocol):
    """What any engine has."""

    @property
    def config(self) -> RunConfig: ...


class Plantable(Protocol):
    """What a fault needs of a language run's engine."""

    config: TextRunConfig
    model: LanguageModel
    dataset: Dataset
    optimizer: torch.optim.AdamW
    terms: tuple[Term, ...]

    def term_inputs(self, output: ModelOutput, batch: Batch) -> TermInputs: ...
    def step(self, step: int, controls: Mapping[str, Any]) -> Any: ...


class VideoPlantable(Protocol):
    """What a fault needs of a video run's engine."""

    config: VideoRunConfig
    model: nn.Module
    ema: nn.Module | None
    dataset: ClipDataset

    def measured_frames(self, result: Any) -> dict[str, Tensor]: ...
    def measured_samples(self, samples_NFCHW: Tensor) -> Tensor: ...
    def velocity_target(
        self, path: Path, noise_BFCHW: Tensor, anchor_BCHW: Tensor, latents_BFCHW: Tensor, t_B: Tensor
    ) -> PathSample: ...


def override(owner: object, name: str, method: Callable[..., Any]) -> None:
    """Replace one method of one instance by `method(self, …)`."""
    assert callable(getattr(owner, name)), f"{type(owner).__name__} has no method {name}"
    setattr(owner, name, MethodType(method, owner))


def replace_term(engine: Plantable, name: str, make: Callable[[Term], TermFunction], **changes: Any) -> None:
    """Give the engine's term `name` the function `make(term)`; weight, control and place in the list stay."""
    assert name in {term.name for term in engine.terms}, f"no term is called {name}"
    engine.terms = tuple(
        replace(term, fn=make(term), **changes) if term.name == name else term for term in engine.terms
    )


def transformer_layers(engine: Plantable) -> list[TransformerLayer]:
    """The layers of a transformer; `ValueError` for another model."""
    if not isinstance(engine.model, Transformer):
        raise wrong_family_error(engine, "transformer")
    return [layer for layer in engine.model.layers if isinstance(layer, TransformerLayer)]


def phase_model(engine: Plantable) -> PhaseLM:
    """The phase model; `ValueError` for another model."""
    if not isinstance(engine.model, PhaseLM):
        raise wrong_family_error(engine, "phase_lm")
    return engine.model


def phase_layers(engine: Plantable) -> list[PhaseLayer]:
    """The layers of a phase model; `ValueError` for another model."""
    return [layer for layer in phase_model(engine).layers if isinstance(layer, PhaseLayer)]


def wrong_family_error(engine: AnyEngine | Plantable | VideoPlantable, needed: str) -> ValueError:
    """What to say of a fault that this model cannot have."""
    return ValueError(
        f"this fault is a mistake of a {needed} and cannot be planted in a {engine.config.kind}: set kind to "
        f"{needed}, or choose another fault"
    )


def no_clips_error(engine: AnyEngine | Plantable | VideoPlantable) -> ValueError:
    """What to say of a mistake of a model of clips that this model cannot have."""
    return wrong_family_error(engine, kinds_with("clips")[0])


def count_updates(engine: Plantable) -> int:
    """Optimizer updates behind the present weights. The optimizer's own count: checkpoints keep it, and a rewind
    takes it back.
    """
    first = engine.optimizer.param_groups[0]["params"][0]  # the embedding: it has a gradient at every step
    return int(engine.optimizer.state.get(first, {}).get("step", 0))


def change_batches(engine: Plantable, change: Callable[[Batch], Batch]) -> None:
    """Pass every batch, of training and of validation, through `change`."""
    engine.dataset = _ChangedBatches(**vars(engine.dataset), change=change)


@dataclass(frozen=True, eq=False)
class _ChangedBatches(Dataset):
    """The same data, each batch changed on its way out."""

    change: Callable[[Batch], Batch]

    def train_batch(self, seed: int, position: int, batch_size: int) -> Batch:
        return self.change(super().train_batch(seed, position, batch_size))

    def validation_batches(self, batch_size: int, count: int) -> list[Batch]:
        return [self.change(batch) for batch in super().validation_batches(batch_size, count)]
