"""What a checkpoint holds: weights and optimizer moments as safetensors, and the state beside them.

Randomness is a pure function of (seed, step), so weights, moments, step and control values are all that a bitwise
resume needs. Nothing is copied into a model before names, shapes and types have been found to be exactly the
model's.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from qcore.base import DocumentError, parse_json
from qcore.runs.checkpoint_folders import CheckpointError, CheckpointState, read_folder, refusal, write_folder

_MOMENTS = {"step", "exp_avg", "exp_avg_sq"}
MODEL_FILE, OPTIMIZER_FILE, WATCH_FILE = "model.safetensors", "optimizer.safetensors", "watch.json"
_UNUSABLE = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What decoding raises when a value is not what it should be."""


@dataclass(frozen=True)
class Weights:
    """Tensors of a model and of its optimizer, by name.

    Attributes:
        folder: where they lie, or would.
    """

    folder: Path
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint(Weights):
    """A loaded checkpoint: its weights and state, and what the callbacks remembered (`saving.callback_states`)."""

    state: CheckpointState
    watch: dict[str, Any]


def save_checkpoint(
    run_dir: Path,
    saved: nn.Module,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    step: int,
    reason: str,
    controls: Mapping[str, Any],
    event_seq: int,
    seconds_trained: float,
    scaler: dict[str, Any],
    watch: dict[str, Any],
    section: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint of now and return its folder; see `write_folder`.

    Args:
        saved: the module whose state is kept.
        model: the one whose parameters the optimizer moves; often the same.
        section: the model section of the configuration that the weights belong to.
    """
    state = CheckpointState(
        step=step,
        reason=reason,
        created=time.time(),
        controls=dict(controls),
        event_seq=event_seq,
        seconds_trained=seconds_trained,
        scaler=scaler,
        threads=torch.get_num_threads(),
        torch_version=torch.__version__,
        model=dict(section or {}),
    )
    contents = {
        MODEL_FILE: save_tensors(_model_tensors(saved)),
        OPTIMIZER_FILE: save_tensors(optimizer_tensors(model, optimizer)),
        WATCH_FILE: json.dumps(watch, separators=(",", ":")).encode(),
    }
    return write_folder(run_dir, state, contents)


def snapshot(saved: nn.Module, model: nn.Module, optimizer: torch.optim.Optimizer) -> Weights:
    """A copy in memory of what `save_checkpoint` would write."""
    found = [_model_tensors(saved), optimizer_tensors(model, optimizer)]
    copies = [{name: value.clone() for name, value in tensors.items()} for tensors in found]
    return Weights(Path("weights in memory"), *copies)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read and verify a checkpoint. Raises `CheckpointError` when anything is missing, altered or foreign."""
    state, contents = read_folder(folder)
    loaded = []
    for name in (MODEL_FILE, OPTIMIZER_FILE):
        if name not in contents:
            raise refusal(folder, f"it has no {name}")
        try:
            loaded.append(load_tensors(contents[name]))
        except SafetensorError as error:
            raise refusal(folder, f"{name} is not a safetensors file ({error})") from error
    try:
        watch = parse_json(contents.get(WATCH_FILE, b"{}"), WATCH_FILE)
    except DocumentError as error:
        raise refusal(folder, str(error)) from error
    if not isinstance(watch, dict):
        raise refusal(folder, f"{WATCH_FILE} holds no object")
    return Checkpoint(folder, loaded[0], loaded[1], state, watch)


@contextlib.contextmanager
def checkpoint_errors(folder: Path, part: str) -> Iterator[None]:
    """Turn whatever goes wrong with a part of a checkpoint within into `CheckpointError`."""
    try:
        yield
    except CheckpointError:
        raise
    except _UNUSABLE as error:
        raise refusal(folder, f"{part} in it cannot be used ({str(error) or type(error).__name__})") from error


def check_fits(saved: nn.Module, model: nn.Module, weights: Weights) -> None:
    """Raise `CheckpointError` unless weights and moments are exactly this model's.

    Args:
        saved, model: see `save_checkpoint`.
    """
    own = {name: (value.shape, value.dtype) for name, value in _unshared_tensors(saved).items()}
    _check_same(own, weights.model, weights.folder)
    try:
        _check_moments(dict(model.named_parameters()), weights.optimizer)
    except ValueError as error:
        raise refusal(weights.folder, str(error)) from error


def put_back(saved: nn.Module, model: nn.Module, optimizer: torch.optim.Optimizer, weights: Weights) -> None:
    """Copy weights and moments. Raises `CheckpointError`, and changes nothing, unless both are exactly this model's."""
    check_fits(saved, model, weights)
    restore_model(saved, weights)
    restore_optimizer(model, optimizer, weights)


def restore_model(model: nn.Module, checkpoint: Weights) -> None:
    """Copy the weights. Raises `CheckpointError`, and changes nothing, unless they are exactly this model's."""
    own = _unshared_tensors(model)
    _check_same({name: (value.shape, value.dtype) for name, value in own.items()}, checkpoint.model, checkpoint.folder)
    with torch.no_grad():
        for name, value in checkpoint.model.items():
            own[name].copy_(value)


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Weights) -> None:
    """Put the moments back. Raises `CheckpointError`, and changes nothing, unless they fit the model's parameters."""
    try:
        set_moments(model, optimizer, checkpoint.optimizer)
    except ValueError as error:
        raise refusal(checkpoint.folder, str(error)) from error


def set_moments(model: nn.Module, optimizer: torch.optim.Optimizer, moments: Mapping[str, Tensor]) -> None:
    """Give the optimizer moments named as in `optimizer_tensors`. Raises `ValueError`, and changes nothing, unless they
    fit the model's parameters.
    """
    parameters = dict(model.named_parameters())
    _check_moments(parameters, moments)
    state: dict[Tensor, dict[str, Tensor]] = {}
    for full_name, value in moments.items():
        name, _, key = full_name.rpartition(".")
        parameter = parameters[name]
        moved = value.clone() if key == "step" else value.to(parameter.device, copy=True)
        state.setdefault(parameter, {})[key] = moved
    optimizer.state.clear()
    optimizer.state.update(state)


def _check_moments(parameters: Mapping[str, nn.Parameter], moments: Mapping[str, Tensor]) -> None:
    """Raise `ValueError` unless every moment fits a parameter, and each of those has all that an update reads."""
    found: dict[str, set[str]] = {}
    for full_name, value in moments.items():
        name, _, key = full_name.rpartition(".")
        parameter = parameters.get(name)
        fits = parameter is not None and (
            value.numel() == 1 if key == "step" else (value.shape, value.dtype) == (parameter.shape, parameter.dtype)
        )
        if not fits:
            raise ValueError(f"it has a moment {full_name!r} that fits no parameter of the model")
        found.setdefault(name, set()).add(key)
    for name, keys in found.items():
        if keys != _MOMENTS:
            raise ValueError(f"the moments of {name} are {', '.join(sorted(keys))}, not {', '.join(sorted(_MOMENTS))}")


def _unshared_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name; a shared tensor stands once, under its first name."""
    seen: set[int] = set()
    tensors = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) not in seen:
            seen.add(id(value))
            tensors[name] = value
    return tensors


def _model_tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().contiguous().cpu() for name, value in _unshared_tensors(model).items()}


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Moments as `<parameter name>.<moment>`."""
    tensors = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{name}.{key}"] = torch.as_tensor(value).detach().contiguous().cpu()
    return tensors


def _check_same(
    expected: Mapping[str, tuple[torch.Size, torch.dtype]], found: Mapping[str, Tensor], folder: Path
) -> None:
    if missing := sorted(expected.keys() - found.keys()):
        raise refusal(folder, f"it lacks {len(missing)} tensors of the model, {missing[0]!r} first")
    if extra := sorted(found.keys() - expected.keys()):
        raise refusal(folder, f"it has {len(extra)} tensors that the model lacks, {extra[0]!r} first")
    for name, (shape, dtype) in expected.items():
        if shape != found[name].shape or dtype != found[name].dtype:
            raise refusal(
                folder, f"{name} is {found[name].dtype} {tuple(found[name].shape)}, not {dtype} {tuple(shape)}"
            )
