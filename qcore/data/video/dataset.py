"""Clips split into training and held-out ones, and the batches drawn from them.

Clips are kept as uint8 and standardised on the way out, by the mean and standard deviation of all training pixels. The
order of an epoch is that of the text batches, so that a run resumes at any position.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from qcore.config import SkippedFile
from qcore.data.text.batches import epoch_items, shuffled_order


@dataclass(frozen=True, eq=False)
class TextStates:
    """Prompt embeddings of clips, padded to the longest: states_BLE float32 · mask_BL int64, 1 a token, 0 padding."""

    states_BLE: Tensor
    mask_BL: Tensor

    def take(self, numbers: np.ndarray) -> TextStates:
        """Those of some clips."""
        chosen = torch.from_numpy(numbers)
        return TextStates(self.states_BLE[chosen], self.mask_BL[chosen])


@dataclass(frozen=True, eq=False)
class ClipDataset:
    """Clips split into training and held-out ones.

    Attributes:
        train_NFCHW, validation_NFCHW: uint8 pixels as read.
        mean, std: of all training pixels, in units of 0–255; what batches hold is (pixel − mean) ÷ std.
        notes: what a person should know of the reading, a sentence each.
        fingerprint: hex, equal exactly when the clips of both sides are.
    """

    name: str
    train_NFCHW: Tensor
    validation_NFCHW: Tensor
    mean: float
    std: float
    skipped: tuple[SkippedFile, ...]
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(F, C, H, W) of a clip."""
        frames, channels, height, width = self.train_NFCHW.shape[1:]
        return frames, channels, height, width

    @property
    def frames(self) -> int:
        """F of a clip."""
        return self.shape[0]

    @property
    def channels(self) -> int:
        """C of a clip."""
        return self.shape[1]

    @property
    def height(self) -> int:
        """H of a clip."""
        return self.shape[2]

    @property
    def width(self) -> int:
        """W of a clip."""
        return self.shape[3]

    @property
    def train_count(self) -> int:
        """Clips to train on."""
        return len(self.train_NFCHW)

    @property
    def validation_count(self) -> int:
        """Clips that are held out."""
        return len(self.validation_NFCHW)

    @property
    def low(self) -> float:
        """The darkest pixel there can be, standardised."""
        return (0 - self.mean) / self.std

    @property
    def high(self) -> float:
        """The brightest pixel there can be, standardised."""
        return (255 - self.mean) / self.std

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of the clips of both sides."""
        digest = hashlib.sha256()
        for side in (self.train_NFCHW, self.validation_NFCHW):
            digest.update(repr(tuple(side.shape)).encode())
            digest.update(side.numpy().data)
        return digest.hexdigest()

    def train_batch(self, seed: int, position: int, batch_size: int) -> Tensor:
        """Batch number `position` of that size, float32 [B, F, C, H, W]: a pure function of the arguments, bit for bit.

        Every training clip comes once an epoch, in an order of (seed, epoch).

        Raises:
            ValueError: for a negative seed or position, or an empty batch.
        """
        order = partial(epoch_order, self.train_count)
        return self._standardised(self.train_NFCHW, epoch_items(order, self.train_count, seed, position, batch_size))

    def train_text(self, seed: int, position: int, batch_size: int) -> TextStates | None:
        """Prompt embeddings of the clips of `train_batch` with the same arguments; None where the data bring none."""
        del seed, position, batch_size
        return None

    def validation_text(self, count: int) -> TextStates | None:
        """Prompt embeddings of the clips of `validation_clips` with the same count; None where the data bring none."""
        del count
        return None

    def validation_batches(self, batch_size: int, count: int) -> list[Tensor]:
        """At most `count` batches of held-out clips, evenly spread, always the same; the last may be smaller."""
        if batch_size < 1 or count < 1:
            raise ValueError(f"validation needs batch_size ≥ 1 and count ≥ 1, got {batch_size} and {count}")
        return list(self.validation_clips(batch_size * count).split(batch_size))

    def validation_clips(self, count: int) -> Tensor:
        """At most `count` held-out clips, evenly spread, always the same: float32 [N, F, C, H, W]."""
        if count < 1:
            raise ValueError(f"the number of held-out clips starts at 1, got {count}")
        wanted = min(count, self.validation_count)
        return self._standardised(self.validation_NFCHW, np.arange(wanted) * self.validation_count // wanted)

    def _standardised(self, clips_NFCHW: Tensor, numbers: np.ndarray) -> Tensor:
        return (clips_NFCHW[torch.from_numpy(numbers)].float() - self.mean) / self.std

    def to_pixels(self, x: Tensor) -> Tensor:
        """Standardised values of any shape as uint8 pixels, rounded and clamped; NaN is black."""
        pixels = (x.detach().float() * self.std + self.mean).round().nan_to_num(0.0)
        return pixels.clamp(0, 255).to(torch.uint8)


@lru_cache(maxsize=4)
def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Clip numbers of an epoch, in visiting order."""
    return shuffled_order(count, seed, epoch)
