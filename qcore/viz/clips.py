"""Clips as one block of bytes for the player in the browser: a header in JSON, then the pixels as they are.

The browser gets a clip once for each change of the data and animates it by itself. Frames that are larger than a screen
shows beside others are averaged over blocks of pixels, and long clips are thinned, so that a page stays within
`MOST_BYTES` whatever the run's videos are. Numbers shown elsewhere are measured on the whole clips.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

MOST_SIDE = 128
MOST_FRAMES = 64
MOST_BYTES = 4_000_000
STRIP_FRAMES = 16
_LENGTH_BYTES = 4


@dataclass(frozen=True)
class ClipRow:
    """N clips that belong together.

    Attributes:
        clips_NFHWC: uint8, 0–255.
        captions: a short text under each clip, or none.
        hint: what the row is, in one sentence.
    """

    label: str
    clips_NFHWC: np.ndarray
    captions: Sequence[str] = ()
    hint: str = ""


def clip_bytes(rows: Sequence[ClipRow], *, layout: Literal["film", "strip"], alt: str) -> bytes:
    """All rows for the player: 4 bytes of header length (little endian), the header, the pixels row by row.

    The header's `rows` hold label, hint, captions, count, shape [F, H, W, C], the places of the
    frames in the whole clip, and the offset of their pixels. Clips with other than 1 or 3 channels are shown as the
    mean of their channels.

    Args:
        rows: drawn one below the other.
        layout: film: every clip of a row plays beside the others; strip: the frames of the first clip of each row, side
            by side, at most 16 of them.
        alt: what is seen, for screen readers.

    Raises:
        ValueError: for clips that are not uint8 with five axes.
    """
    kept = [_check_clips(row) for row in rows]
    if layout == "strip":
        kept = [clips[:1] for clips in kept]
    most = STRIP_FRAMES if layout == "strip" else MOST_FRAMES
    places = [spread_frames(clips.shape[1], most) for clips in kept]
    kept = [clips[:, place] for clips, place in zip(kept, places, strict=True)]
    total = sum(clips.size for clips in kept)
    block = max(1, math.ceil(math.sqrt(total / MOST_BYTES)))
    heads, parts, offset = [], [], 0
    for row, clips, place in zip(rows, kept, places, strict=True):
        shown = average_blocks(clips, max(block, math.ceil(max(clips.shape[2:4], default=1) / MOST_SIDE)))
        heads.append(
            {
                "label": row.label,
                "hint": row.hint,
                "captions": [str(caption) for caption in row.captions],
                "count": shown.shape[0],
                "shape": list(shown.shape[1:]),
                "places": place,
                "frames": int(np.shape(row.clips_NFHWC)[1]),
                "offset": offset,
            }
        )
        parts.append(shown.tobytes())
        offset += len(parts[-1])
    header = json.dumps({"layout": layout, "alt": alt, "rows": heads}, separators=(",", ":")).encode()
    return b"".join([len(header).to_bytes(_LENGTH_BYTES, "little"), header, *parts])


def spread_frames(count: int, most: int) -> list[int]:
    """At most `most` of the frames 0 … count − 1, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [place * (count - 1) // (most - 1) for place in range(most)]


def average_blocks(clips_NFHWC: NDArray[np.uint8], block: int) -> NDArray[np.uint8]:
    """Mean over squares of `block` pixels a side; what is left over at the right and the bottom is cut off."""
    if block <= 1 or not clips_NFHWC.size:
        return clips_NFHWC
    count, frames, height, width, channels = clips_NFHWC.shape
    rows, columns = max(1, height // block), max(1, width // block)
    tall, wide = min(block, height), min(block, width)
    cut = clips_NFHWC[:, :, : rows * tall, : columns * wide]
    squares = cut.reshape(count, frames, rows, tall, columns, wide, channels)
    return np.rint(squares.mean(axis=(3, 5), dtype=np.float32)).astype(np.uint8)


def stored_clips(tokens: Sequence[Mapping[str, Any]]) -> NDArray[np.uint8]:
    """Clips [N, F, H, W, C] of a generation as the store keeps them: `shape` and base64 `pixels` each; N may be 0.

    Raises:
        ValueError: for pixels that are no base64 or do not fill the shape, and for clips of different shapes.
    """
    found = []
    for token in tokens:
        shape = tuple(int(size) for size in token["shape"])
        try:
            pixels = base64.b64decode(token["pixels"], validate=True)
        except binascii.Error as error:
            raise ValueError(f"the pixels of a clip are damaged: {error}") from None
        if len(shape) != 4 or len(pixels) != math.prod(shape):
            raise ValueError(f"a clip of shape {shape} does not fit its {len(pixels)} bytes")
        found.append(np.frombuffer(pixels, np.uint8).reshape(shape))
    if len({clip.shape for clip in found}) > 1:
        raise ValueError(f"clips of one generation differ in shape: {sorted({clip.shape for clip in found})}")
    return np.stack(found) if found else np.zeros((0, 1, 1, 1, 1), np.uint8)


def _check_clips(row: ClipRow) -> NDArray[np.uint8]:
    clips = np.asarray(row.clips_NFHWC)
    if clips.ndim != 5 or clips.dtype != np.uint8:
        raise ValueError(f"the clips of {row.label!r} must be uint8 [N, F, H, W, C], not {clips.dtype} {clips.shape}")
    if clips.shape[4] not in (1, 3):
        clips = np.rint(clips.mean(axis=4, keepdims=True, dtype=np.float32)).astype(np.uint8)
    return clips
