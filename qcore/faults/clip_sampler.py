"""W1–W5: the velocity is learned as it should be; clips are drawn by another one, at other times, or by an old one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from qcore.faults.patching import VideoPlantable, no_clips_error, override
from qcore.models import VideoFlow, VideoOutput

_TIME_UNIT = 1000.0
_DECAY = 0.999

Call = Callable[[Tensor, Tensor], VideoOutput]
"""(z, t) → what the averaged model says."""


def _when_sampling(engine: VideoPlantable, change: Callable[[Call, Tensor, Tensor], VideoOutput]) -> None:
    """Change what the averaged model is asked, or says; training asks the live one."""

    def predict(self: Any, model: nn.Module, z_BFCHW: Tensor, t_B: Tensor, *rest: Any) -> VideoOutput:
        def call(z: Tensor, t: Tensor) -> VideoOutput:
            output: VideoOutput = type(self).predict(self, model, z, t, *rest)
            return output

        return change(call, z_BFCHW, t_B) if model is self.ema else call(z_BFCHW, t_B)

    override(engine, "predict", predict)


def _average_of(engine: VideoPlantable) -> Any:
    if engine.ema is None:
        raise ValueError("this fault sits in the averaged weights, and ema_decay = 0 has none: set it to 0.99")
    return engine.ema


def opposite_sign(engine: VideoPlantable) -> None:
    """W1: the sampler adds the velocity where it should subtract it.

    Raises:
        ValueError: without averaged weights.
    """
    _average_of(engine)

    def change(call: Call, z: Tensor, t: Tensor) -> VideoOutput:
        output = call(z, t)
        return replace(output, velocity_BFCHW=-output.velocity_BFCHW)

    _when_sampling(engine, change)


def mirrored_time(engine: VideoPlantable) -> None:
    """W2: the sampler tells the model 1 − t.

    Raises:
        ValueError: without averaged weights.
    """
    _average_of(engine)
    _when_sampling(engine, lambda call, z, t: call(z, 1 - t))


def transposed_patches(engine: VideoPlantable) -> None:
    """W3: the sampler puts patches together column by column; training takes them apart row by row.

    Raises:
        ValueError: without averaged weights, or for a model that has no patches of its own.
    """
    average = _average_of(engine).module
    if not isinstance(average, VideoFlow):
        raise no_clips_error(engine)

    def frames(self: VideoFlow, patches_BFSV: Tensor) -> Tensor:
        rows = self.latent_shape[2] // self.config.patch
        grid = patches_BFSV.transpose(2, 3).unflatten(3, (-1, rows)).transpose(3, 4)
        return nn.functional.pixel_shuffle(grid, self.config.patch)

    override(average, "_frames", frames)


def unscaled_time(engine: VideoPlantable) -> None:
    """W4: the sampler counts time in thousandths, the model was trained on 0 to 1.

    Raises:
        ValueError: without averaged weights.
    """
    _average_of(engine)
    _when_sampling(engine, lambda call, z, t: call(z, _TIME_UNIT * t))


def slow_average(engine: VideoPlantable) -> None:
    """W5: the average remembers a thousand updates from the first one on, in a run that makes fewer.

    Raises:
        ValueError: without averaged weights.
    """

    def average(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        torch._foreach_lerp_(averaged, current, 1 - _DECAY)

    _average_of(engine).multi_avg_fn = average


PLANTERS = {
    "W1": opposite_sign,
    "W2": mirrored_time,
    "W3": transposed_patches,
    "W4": unscaled_time,
    "W5": slow_average,
}
