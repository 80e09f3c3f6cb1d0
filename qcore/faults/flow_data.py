"""X1–X6: unscaled pixels, times that are never drawn, frames that the loss leaves out, inputs that do not arrive."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from qcore.faults.patching import VideoPlantable, no_clips_error, override
from qcore.models import VideoFlow, VideoOutput

_SOME_TIME = 0.5


def unscaled_pixels(engine: VideoPlantable) -> None:
    """X1: pixels of 0 to 255 go in as they are."""
    engine.dataset = replace(engine.dataset, mean=0.0, std=1.0)


def whole_times(engine: VideoPlantable) -> None:
    """X2: t is cast to a whole number: only t = 0 and t = 1 are trained."""
    override(engine, "draw", _draw_whole)


def _draw_whole(self: Any, *arguments: Any) -> Any:
    drawn = type(self).draw(self, *arguments)
    return replace(drawn, t_B=drawn.t_B.round())


def first_frame_only(engine: VideoPlantable) -> None:
    """X3: the loss reads the first frame of each clip."""
    override(engine, "_inputs", _inputs_of_first)


def _inputs_of_first(self: Any, step: int, velocity_BFCHW: Tensor, *rest: Any) -> Any:
    seen = type(self)._inputs(step, velocity_BFCHW, *rest)
    others = seen.target_BFCHW[:, 1:].to(velocity_BFCHW)
    return replace(seen, velocity_BFCHW=torch.cat([velocity_BFCHW[:, :1], others], 1))


def constant_time(engine: VideoPlantable) -> None:
    """X4: the model is told the same time at every step, in training and in sampling."""
    _override_models(engine, "forward", _forward_at_one_time)


def _forward_at_one_time(self: VideoFlow, z_BFCHW: Tensor, t_B: Tensor, **more: Any) -> VideoOutput:
    return VideoFlow.forward(self, z_BFCHW, torch.full_like(t_B, _SOME_TIME), **more)


def unseen_input(engine: VideoPlantable) -> None:
    """X5: the noisy clip does not reach the model: its patches are zeros."""
    _override_models(engine, "_patches", _no_patches)


def _no_patches(self: VideoFlow, frames: Tensor) -> Tensor:
    return torch.zeros_like(VideoFlow._patches(self, frames))


def interleaved_frames(engine: VideoPlantable) -> None:
    """X6: clips stored as [F, C, H, W] are read as [H, W, F, C]: reshaped where they had to be permuted."""

    def scramble(clips_NFCHW: Tensor) -> Tensor:
        count, frames, channels, height, width = clips_NFCHW.shape
        read = clips_NFCHW.reshape(count, height, width, frames, channels)
        return read.permute(0, 3, 4, 1, 2).contiguous()

    data = engine.dataset
    engine.dataset = replace(
        data, train_NFCHW=scramble(data.train_NFCHW), validation_NFCHW=scramble(data.validation_NFCHW)
    )


def _override_models(engine: VideoPlantable, name: str, method: Any) -> None:
    """Replace a method of the model and of its running average.

    Raises:
        ValueError: for a model of another family.
    """
    if not isinstance(engine.model, VideoFlow):
        raise no_clips_error(engine)
    for module in [*engine.model.modules(), *(engine.ema.modules() if engine.ema is not None else ())]:
        if isinstance(module, VideoFlow):
            override(module, name, method)


PLANTERS = {
    "X1": unscaled_pixels,
    "X2": whole_times,
    "X3": first_frame_only,
    "X4": constant_time,
    "X5": unseen_input,
    "X6": interleaved_frames,
}
