"""Frames of one video as small square pictures, with what the file says of them taken at its word.

The largest stream of moving pictures is read (a cover is none). A frame is turned as the file asks, its pixels are made
square, its place is its time: where frames come at uneven times, each stands for the time until the next one. A frame
that the decoder marks as damaged is left out, and no clip reaches over it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from qcore.config.places import plain_error
from qcore.config.sources import read_head

PICTURES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"))
_MOST_PIXELS = 64_000_000
_TIMED = 4000
_UNEVEN = 0.25
_UNEVEN_SHARE = 0.05
_LONGEST_HOLD = 64
_BROKEN_OFF = 0.9
_ODDEST_PIXEL = 16
"""A pixel is at most so many times as wide as high, or as high as wide; what says more is damaged."""


class UnusableError(Exception):
    """Why a file gives no frames."""


@dataclass
class Said:
    """What reading a file has found.

    Attributes:
        damaged: frames left out.
        breaks: places in a sequence of pictures that no clip goes over.
        notes: what was done, a sentence each.
        broken: why the file could not be read to its end.
        size: width and height of the last frame.
    """

    frames: int = 0
    damaged: int = 0
    breaks: int = 0
    broken: str = ""
    notes: list[str] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)


def frames_of(
    path: Path, canvas: int, pixel_format: str, wanted: Callable[[int], bool], said: Said
) -> Generator[Any, None, None]:
    """Frames in the order of time: uint8 [C, canvas, canvas], True for a frame that is not `wanted` by its number and
    therefore not scaled, or None where a clip must not go on.

    Raises:
        UnusableError: when it is refused.
    """
    import av  # only this source needs it
    from av.video.reformatter import VideoReformatter

    _check_head(path)
    scale = VideoReformatter().reformat  # one for the file: it keeps the scaler's tables from frame to frame
    number = 0
    try:
        step = _step_if_uneven(path)
        with av.open(str(path), metadata_errors="replace") as container:
            stream = _stream_of(container, said)
            aspect = _note_shape(stream, step, said)
            placed = _resample_in_time(container.decode(stream), step)
            for frame in placed:
                if frame is None:
                    yield None
                    continue
                said.frames += 1
                said.size = frame.width, frame.height
                if frame.is_corrupt:
                    said.damaged += 1
                    yield None
                    continue
                if wanted(number):
                    yield pixels(scale, frame, canvas, pixel_format, aspect)
                else:
                    yield True
                number += 1
            said.broken = _truncation_text(container, stream, said.frames, step)
    except (av.FFmpegError, OSError, OverflowError, MemoryError) as error:
        said.broken = f"cannot be decoded ({plain_error(error)})"


def _check_head(path: Path) -> None:
    """Refuse what a decoder would search for ever: a file that begins with nothing but zeros."""
    try:
        head = read_head(path)
    except (OSError, ValueError) as error:
        raise UnusableError(f"cannot be read ({plain_error(error)})") from error
    if head and not head.strip(b"\0"):
        raise UnusableError("begins with zeros, and is no video")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP" and b"ANIM" in head[:64]:
        raise UnusableError("is an animated WebP, which the decoder cannot read: convert it to GIF or a video")


def _video_streams(container: Any) -> list[Any]:
    """The streams of moving pictures, the largest first, which is the one that is read; a cover is none."""
    import av

    covers = av.stream.Disposition.attached_pic
    return sorted((one for one in container.streams.video if not one.disposition & covers), key=_size, reverse=True)


def _stream_of(container: Any, said: Said) -> Any:
    if container.format.name == "tty":  # the decoder of terminal art, which takes any text
        raise UnusableError("is text, not a video")
    streams = _video_streams(container)
    if not streams:
        has = "only a cover picture, no" if container.streams.video else "no"
        raise UnusableError(f"has {has} video stream")
    best = streams[0]
    if best.codec_context is None:
        raise UnusableError("has a video stream of a kind that the decoder does not know")
    width, height = best.codec_context.width, best.codec_context.height
    if (width or 0) * (height or 0) > _MOST_PIXELS:
        raise UnusableError(f"has frames of {width} × {height} pixels, more than {_MOST_PIXELS // 10**6} million")
    if len(streams) > 1:
        said.notes.append(f"has {len(streams)} video streams; the largest ({width} × {height}) is read")
    return best


def _size(stream: Any) -> int:
    """Pixels of a stream's frames; 0 where nobody knows them."""
    found = stream.codec_context
    return (found.width or 0) * (found.height or 0) if found is not None else 0


def _note_shape(stream: Any, step: Fraction | None, said: Said) -> Fraction:
    """The shape of a pixel, width over height, that is believed; what is to be said of it and of the times."""
    ratio = stream.sample_aspect_ratio or Fraction(1)
    if not Fraction(1, _ODDEST_PIXEL) <= ratio <= _ODDEST_PIXEL:
        said.notes.append(
            f"says its pixels are {float(ratio):.3g} times as wide as high, which is ignored as implausible"
        )
        ratio = Fraction(1)
    if ratio != 1:
        said.notes.append(f"has pixels {float(ratio):.3g} times as wide as high, which are made square")
    if step is not None:
        said.notes.append(f"has frames at uneven times, which are laid out at {float(1 / step):.3g} a second")
    return Fraction(ratio)


def _truncation_text(container: Any, stream: Any, frames: int, step: Fraction | None) -> str:
    """What is said of a file that ends before its own head says it does."""
    expected = int(stream.frames or 0)
    if not expected and container.duration and stream.average_rate and step is None:
        expected = int(container.duration / 1e6 * float(stream.average_rate))
    if step is None and frames < _BROKEN_OFF * expected - 1:
        return f"breaks off after {frames} of about {expected} frames"
    return ""


def _step_if_uneven(path: Path) -> Fraction | None:
    """Time between frames, s, where the first few thousand come at uneven times; None where they are even or untold."""
    import av

    with av.open(str(path), metadata_errors="replace") as container:
        streams = _video_streams(container)
        if container.format.name == "tty" or not streams:
            return None
        stream = streams[0]
        packets = islice(container.demux(stream), _TIMED)
        try:
            times = sorted(packet.pts for packet in packets if packet.pts is not None)
        except av.FFmpegError:
            return None
        base = stream.time_base
    gaps = [later - earlier for earlier, later in pairwise(times) if later > earlier]
    if len(gaps) < 3 or base is None:
        return None
    usual = statistics.median_low(gaps)
    resolution = max(_UNEVEN * usual, 1.01)  # a clock of milliseconds rounds 1/30 s up and down
    uneven = sum(abs(gap - usual) > resolution for gap in gaps)
    return usual * base if uneven > max(1, _UNEVEN_SHARE * len(gaps)) else None


def _resample_in_time(frames: Iterator[Any], step: Fraction | None) -> Iterator[Any]:
    """Frames on an even grid of times: held where the next comes late, left out where two share a place; None where
    nothing is shown for long. Without a step they pass as they come.
    """
    if step is None:
        yield from frames
        return
    held, origin, place = None, None, 0
    for frame in frames:
        # without a time nobody can say where it belongs
        if frame.pts is None or frame.time_base is None:
            continue
        time = frame.pts * frame.time_base
        # films cut from longer ones do not begin at 0
        origin = time if origin is None else origin
        due = round((time - origin) / step)
        if held is not None:
            if due <= place:
                continue
            hold = due - place
            # a picture that stands for long is a pause or a hole: a clip across it would learn that nothing moves
            if hold > _LONGEST_HOLD:
                yield held
                yield None
            else:
                for _ in range(hold):
                    yield held
        held, place = frame, due
    if held is not None:
        yield held


def pixels(scale: Callable[..., Any], frame: Any, canvas: int, pixel_format: str, aspect: Fraction) -> np.ndarray:
    """The centre of a frame as uint8 [C, canvas, canvas]; area scaling averages what falls into a pixel."""
    # pixels of some formats are not square
    wide = frame.width * aspect
    shorter = min(wide, frame.height)
    width, height = (max(canvas, round(side * canvas / shorter)) for side in (wide, frame.height))
    # the shorter side becomes the canvas: a frame of one pixel's height would be scaled to millions
    if width * height > _MOST_PIXELS:
        raise UnusableError(f"has frames of {frame.width} × {frame.height} pixels, too narrow for a square picture")
    small = scale(frame, width=width, height=height, format=pixel_format, interpolation="AREA").to_ndarray()
    top, left = (height - canvas) // 2, (width - canvas) // 2
    cropped = small[top : top + canvas, left : left + canvas].reshape(canvas, canvas, -1)
    turned = np.rot90(cropped, round(frame.rotation / 90) % 4)  # degrees against the clock, as np.rot90 turns
    return np.ascontiguousarray(turned.transpose(2, 0, 1))


def picture(path: Path, canvas: int, pixel_format: str) -> tuple[np.ndarray, tuple[int, int]]:
    """One picture as a frame, and its width and height in the file.

    Raises:
        UnusableError: when it is refused.
    """
    said = Said()
    frames = frames_of(path, canvas, pixel_format, lambda number: True, said)
    found = next((one for one in frames if one is not None), None)
    if found is None:
        raise UnusableError(said.broken or "holds no picture")
    return np.asarray(found), said.size


def sequences(files: Sequence[Path]) -> tuple[list[list[Path]], list[Path]]:
    """Pictures that are the frames of one sequence, in the order of their numbers, and the other files.

    A sequence is made of pictures of one folder, whose names differ in their last number only, in a folder without
    videos.
    """
    # pictures beside videos are covers, not films
    with_videos = {path.parent for path in files if path.suffix.lower() not in PICTURES and _may_be_video(path)}
    groups: dict[tuple[Path, str, str], list[Path]] = {}
    others = []
    for path in files:
        if path.suffix.lower() in PICTURES and path.parent not in with_videos:
            groups.setdefault((path.parent, *_stem(path)), []).append(path)
        else:
            others.append(path)
    found = [sorted(group, key=lambda path: (_number(path), path.name)) for group in groups.values()]
    return [group for group in found if len(group) > 1], sorted(
        [*others, *(group[0] for group in found if len(group) == 1)]
    )


_DIGITS = "0123456789"
_VIDEOS = frozenset((".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".gif", ".ogv", ".wmv"))


def gaps(files: Sequence[Path]) -> set[int]:
    """Places in a sequence before which pictures are missing: where its numbers go on by more than they usually do."""
    steps = [_number(later) - _number(earlier) for earlier, later in pairwise(files)]
    usual = statistics.median_low([step for step in steps if step] or [0])
    return {place for place, step in enumerate(steps, 1) if step > usual}


def _may_be_video(path: Path) -> bool:
    return path.suffix.lower() in _VIDEOS


def _stem(path: Path) -> tuple[str, str]:
    head = path.stem.rstrip(_DIGITS)
    return head if head == path.stem else f"{head}#", path.suffix.lower()


def _number(path: Path) -> int:
    digits = path.stem[len(path.stem.rstrip(_DIGITS)) :]
    return int(digits[-18:]) if digits else 0
