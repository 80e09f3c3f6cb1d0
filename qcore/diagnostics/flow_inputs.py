"""What a flow is trained on: spread of the latents, times, frames with a gradient, dependence on t and z, and pictures.

Exact where there is an identity: frames that the loss does not read have a gradient of exactly 0, a time or a clip that
does not reach the model changes nothing. Times are held against the distribution that was asked for, by the largest
difference of the two distribution functions. A clip that was loaded right is smoother than any other reading of the
same numbers; where one is smoother, its axes were read in another order.

Legend: B clips · F frames · C channels · H, W height, width · K times.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from qcore.diagnostics.positions import drop_undefined
from qcore.probes import catalog

_CHANCE = 3.0
"""P(√K · distance > 3) = 2·e⁻¹⁸ ≈ 3·10⁻⁸."""
_FEWEST_TIMES = 32
_SMALLEST = 6
"""Fewer pixels on a side say nothing of how likeness falls with distance."""
_READ_VALUES = 100_000
_CONSTANT = 1e-3
_SAME = 1e-7


@dataclass(frozen=True)
class DrawnTimes:
    """Times of several updates against the distribution asked for.

    Attributes:
        distance: largest difference of the distribution functions; NaN below 32 times.
        limit: the distance that chance stays below.
        values: different values ÷ times.
    """

    distance: float
    limit: float
    low: float
    high: float
    values: float

    def scalars(self) -> dict[str, float]:
        """Series by name."""
        return drop_undefined(
            {
                catalog.CLIPS_TIME_DISTANCE: self.distance,
                catalog.CLIPS_TIME_LIMIT: self.limit,
                catalog.CLIPS_TIME_LOW: self.low,
                catalog.CLIPS_TIME_HIGH: self.high,
                catalog.CLIPS_TIME_VALUES: self.values,
            }
        )


def _logit_normal(t_K: Tensor) -> Tensor:
    return torch.special.ndtr(torch.logit(t_K, eps=1e-12))


_DISTRIBUTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"uniform": torch.clone, "logit_normal": _logit_normal}


def drawn_times(t_K: Tensor, sampling: str) -> DrawnTimes:
    """Compare times with what `sampling` (uniform, logit_normal) names; distance NaN for a name that is not known.

    Example:
        >>> found = drawn_times(torch.linspace(0, 1, 200), "uniform")
        >>> found.distance < found.limit, drawn_times(torch.linspace(0, 1, 200).round(), "uniform").distance
        (True, 0.5)
    """
    t_K = t_K.detach().flatten().double().cpu().sort().values
    count = len(t_K)
    distance = math.nan
    if count >= _FEWEST_TIMES and sampling in _DISTRIBUTIONS:
        wanted_K = _DISTRIBUTIONS[sampling](t_K)
        rank_K = torch.arange(count + 1, dtype=torch.float64) / count
        distance = float(torch.maximum(wanted_K - rank_K[:-1], rank_K[1:] - wanted_K).max())
    return DrawnTimes(
        distance=round(distance, 9),
        limit=_CHANCE / math.sqrt(max(1, count)),
        low=float(t_K[0]) if count else math.nan,
        high=float(t_K[-1]) if count else math.nan,
        values=len(t_K.unique()) / count if count else math.nan,
    )


def untrained_frames(gradient_BFCHW: Tensor) -> float:
    """Share of the frames at which a gradient is 0 beside the others'; NaN for one frame, or where all of it is 0."""
    by_frame_F = gradient_BFCHW.detach().double().abs().amax((0, 2, 3, 4))
    largest = float(by_frame_F.max())
    if len(by_frame_F) < 2 or not math.isfinite(largest) or largest == 0:
        return math.nan
    return float((by_frame_F <= _SAME * largest).double().mean())


def input_responses(velocity: Callable[[Tensor, Tensor], Tensor], z_BFCHW: Tensor, t_B: Tensor) -> tuple[float, float]:
    """How much a velocity changes with t alone (half a unit away), and with z alone (another clip's), relative to it;
    NaN where there is no velocity or only one clip.
    """
    base = velocity(z_BFCHW, t_B)
    size = float(base.double().square().mean().sqrt())
    if not math.isfinite(size) or size == 0:
        return math.nan, math.nan

    def change(other: Tensor) -> float:
        return float((other - base).double().square().mean().sqrt()) / size

    of_time = change(velocity(z_BFCHW, (t_B + 0.5) % 1.0))
    of_clip = change(velocity(z_BFCHW.roll(1, 0), t_B)) if len(z_BFCHW) > 1 else math.nan
    return of_time, of_clip


@dataclass(frozen=True)
class PixelOrder:
    """Whether the numbers of clips read as pictures that move.

    Attributes:
        roughness: mean square of the differences of neighbours (in time, height and width), over that of the smoothest
            other reading of the same numbers; NaN where there is no other reading.
        time_alike, space_alike: correlation of pixels at least half a side apart, over time and along the direction of
            a frame where it is larger; NaN unless a frame has as many rows or columns as the clip has frames: another
            reading then only exchanges the axes, and is exactly as smooth.
        time_near: correlation from one frame to the next.
    """

    roughness: float
    time_alike: float
    space_alike: float
    time_near: float

    def scalars(self) -> dict[str, float]:
        """Series by name."""
        return drop_undefined(
            {
                catalog.CLIPS_ROUGHNESS: self.roughness,
                catalog.CLIPS_TIME_ALIKE: self.time_alike,
                catalog.CLIPS_SPACE_ALIKE: self.space_alike,
                catalog.CLIPS_TIME_NEAR: self.time_near,
            }
        )


def pixel_order(clips_BFCHW: Tensor) -> PixelOrder:
    """Read the clips in every other order of their axes, as a reshape in place of a permute (or the reverse) does.

    A clip that was loaded right is smoother than any other reading of its numbers, whatever it shows; of one that was
    scrambled, some reading is the clip itself. At most 100,000 values are read.
    """
    shape = tuple(clips_BFCHW.shape[1:])
    count = max(1, _READ_VALUES // math.prod(shape))
    x = clips_BFCHW[:count].detach().float().cpu()
    x = x - x.mean()
    variance = float(x.square().mean())
    if math.prod(shape) > _READ_VALUES or variance == 0 or not math.isfinite(variance):
        return PixelOrder(math.nan, math.nan, math.nan, math.nan)
    own, others = _differences(x), []
    for order in itertools.permutations(range(4)):
        # an axis of one element may stand anywhere: only readings that differ are compared
        if [axis for axis in order if shape[axis] > 1] == [axis for axis in range(4) if shape[axis] > 1]:
            continue
        axes = [1 + axis for axis in order]
        back = [1 + order.index(axis) for axis in range(4)]
        others.append(_differences(x.permute(0, *axes).reshape(x.shape)))
        others.append(_differences(x.reshape(len(x), *(shape[axis] for axis in order)).permute(0, *back)))
    best = min(others, default=math.nan)
    # bars that never change along a side are as smooth in many readings
    bars = min(_difference(x, 3), _difference(x, 4)) < _CONSTANT * variance
    roughness = own / best if best > 0 and not bars else math.nan
    frames, _, height, width = shape
    if frames not in (height, width) or min(frames, height, width) < _SMALLEST:
        return PixelOrder(roughness, math.nan, math.nan, math.nan)
    over_time, *over_space = (_far_likeness(x, axis) / variance for axis in (1, 3, 4))
    near = float((x[:, :-1] * x[:, 1:]).mean()) / variance
    return PixelOrder(roughness, over_time, max(over_space), near)


def _differences(x_BFCHW: Tensor) -> float:
    return sum(_difference(x_BFCHW, axis) for axis in (1, 3, 4))


def _difference(x_BFCHW: Tensor, axis: int) -> float:
    """Mean square of the differences along an axis; 0 where it has one element."""
    return float(x_BFCHW.diff(dim=axis).square().mean()) if x_BFCHW.shape[axis] > 1 else 0.0


def _far_likeness(x_BFCHW: Tensor, axis: int) -> float:
    """Mean product of pixels between half a side and all but one of it apart."""
    side = x_BFCHW.shape[axis]
    lags = range(side // 2, side - 1)
    return sum(
        float((x_BFCHW.narrow(axis, 0, side - lag) * x_BFCHW.narrow(axis, lag, side - lag)).mean()) for lag in lags
    ) / len(lags)
