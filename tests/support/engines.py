"""What tests of any engine do: look at all of its state, and write a checkpoint of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from qcore.train.checkpoint import save_checkpoint
from qcore.train.engine import BaseEngine


def all_state(engine: BaseEngine) -> list[Tensor]:
    """Copies of weights, averages, moments and gradients."""
    moments = [value for state in engine.optimizer.state.values() for value in state.values()]
    gradients = [parameter.grad for parameter in engine.model.parameters() if parameter.grad is not None]
    return [tensor.clone() for tensor in (*engine.saved.state_dict().values(), *moments, *gradients)]


def checkpoint_of(folder: Path, engine: BaseEngine, board: Mapping[str, Any], step: int) -> Path:
    """The folder of a checkpoint of the engine as it is."""
    return save_checkpoint(
        folder,
        engine.saved,
        engine.model,
        engine.optimizer,
        step=step,
        reason="interval",
        controls=board,
        event_seq=0,
        seconds_trained=0.0,
        scaler={},
        watch={},
    )
