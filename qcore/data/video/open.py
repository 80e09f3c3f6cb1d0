"""Open the clips of a run: moving digits, videos, or precomputed latents; split and measured.

Everything is a pure function of the configuration, the files and the seed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from qcore.config import ClipsConfig, DataError, LatentsConfig
from qcore.data.video.dataset import ClipDataset
from qcore.data.video.digits import digit_clips
from qcore.data.video.files import Footage, video_clips
from qcore.data.video.latents import open_latents

_MEMORY_LIMIT = 16 * 2**30  # bytes of clips, which are held in memory


def open_clips(config: ClipsConfig | LatentsConfig) -> ClipDataset:
    """Draw or read the clips, split and measure them; precomputed latents for the adapter of a published model.

    Raises:
        ValueError: naming the setting and the remedy, for anything a person can have got wrong: a missing path, no
            readable video, too few clips, clips that do not fit into memory, a picture without any contrast.
    """
    if isinstance(config, LatentsConfig):
        return open_latents(config)
    channels = 3 if config.colour == "rgb" else 1
    size = config.clips * config.frames * channels * config.canvas**2
    if size > _MEMORY_LIMIT:
        raise DataError(
            f"clips = {config.clips} with frames = {config.frames} and canvas = {config.canvas} could take "
            f"{size / 2**30:.0f} GiB of memory (at most {_MEMORY_LIMIT / 2**30:.0f}): lower clips, frames or canvas"
        )
    drawn = config.source == "digits"
    footage = Footage("digits", *digit_clips(config), skipped=()) if drawn else video_clips(config)
    train, validation = torch.from_numpy(footage.train_NFCHW), torch.from_numpy(footage.validation_NFCHW)
    mean, std = _mean_and_deviation(train)
    if std == 0:
        raise DataError(
            f"every pixel of the training clips of {footage.name!r} is {mean:g}: give data with something to see"
        )
    return ClipDataset(footage.name, train, validation, mean, std, footage.skipped, notes=footage.notes)


def _mean_and_deviation(clips_NFCHW: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of uint8 pixels, from their histogram: exact, whatever the number of pixels."""
    counts = torch.bincount(clips_NFCHW.flatten(), minlength=256).tolist()
    total = sum(counts)
    mean = sum(value * count for value, count in enumerate(counts)) / total
    return mean, math.sqrt(sum(count * (value - mean) ** 2 for value, count in enumerate(counts)) / total)
