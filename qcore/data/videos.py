"""Clips cut from real videos: any container and codec that PyAV decodes, read as a stream, kept as small uint8 frames.

A frame is scaled until its shorter side fills the canvas, then cropped at the centre, so that motion keeps its shape.
A file that cannot be read, or is too short, is left out with its reason, and a file that breaks off keeps the clips
before the break. Only local files are read: a playlist among them cannot reach the network.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qcore.config import ClipsConfig
from qcore.data.earlier import text_files
from qcore.data.streams import split_documents

log = logging.getLogger(__name__)
_Sides = tuple[list[np.ndarray], list[np.ndarray]]


@dataclass(frozen=True)
class SkippedFile:
    """A file that gave no clips, or not all: its path, relative to the folder, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Footage:
    """Clips of a source, uint8 [N, F, C, H, W] each side, and the files that gave none. name: of the folder or file."""

    name: str
    train_NFCHW: np.ndarray
    validation_NFCHW: np.ndarray
    skipped: tuple[SkippedFile, ...]


def video_clips(config: ClipsConfig) -> Footage:
    """Clips from the file or folder `config.path` (hidden names are passed over), at most `config.clips`.

    Every file may give an equal share of the clips still wanted, from its start. With two or more readable files,
    `validation_fraction` of the files are held out; with one, its last clips are, and training clips that reach into
    them are dropped. A copy of another file is skipped. Errors: ValueError naming the path, for a missing path, no
    readable video, or too few clips for both sides.
    """
    files, root = _video_files(config.path)
    clips: dict[str, list[np.ndarray]] = {}
    skipped: list[SkippedFile] = []
    seen: dict[str, str] = {}
    wanted = config.clips
    for number, file in enumerate(files):
        name = str(file.relative_to(root))
        found, problem = read_clips(file, config, -(-wanted // (len(files) - number)))
        if found:
            key = _digest(found)
            if key in seen:
                found, problem = [], f"shows the same as {seen[key]}, which is used"
            else:
                clips[name], seen[key] = found, name
                wanted -= len(found)
        if problem:
            log.warning("%s: %s", name, problem)
            skipped.append(SkippedFile(name, problem))
        if wanted <= 0:
            break
    if not clips:
        reasons = "; ".join(f"{file.path}: {file.reason}" for file in skipped[:5])
        raise ValueError(
            f"no video under data.path {config.path!r} could be used ({reasons or 'it holds no files'}): give a folder "
            "of videos, or lower frames or frame_stride"
        )
    train, validation = _by_file(config, clips, seen) if len(clips) > 1 else _by_time(config, *clips.values())
    return Footage(Path(config.path).expanduser().resolve().name, np.stack(train), np.stack(validation), tuple(skipped))


def read_clips(path: Path, config: ClipsConfig, limit: int) -> tuple[list[np.ndarray], str]:
    """The first `limit` clips of one video, each uint8 [F, C, H, W], and what is wrong with the file ("": nothing).

    Of the frames, every `frame_stride`-th is taken; clips start `clip_stride` taken frames apart (0: F, no overlap).
    No more than one clip of frames is held beside the finished clips, however long the video is.
    """
    import av  # only this source needs it
    from av.video.reformatter import VideoReformatter

    frames, step = config.frames, config.clip_stride or config.frames
    pixel_format = "rgb24" if config.colour == "rgb" else "gray"
    scale = VideoReformatter().reformat  # one for the file: it keeps the scaler's tables from frame to frame
    window: deque[np.ndarray] = deque(maxlen=frames)
    clips: list[np.ndarray] = []
    taken = number = 0
    try:
        source = av.open(str(path), metadata_errors="replace")
        with source as container:
            if container.format.name == "tty":  # the decoder of terminal art, which takes any text
                return [], "is text, not a video"
            if not container.streams.video:
                return [], "has no video stream"
            for frame in container.decode(container.streams.video[0]):
                number += 1
                if (number - 1) % config.frame_stride:
                    continue
                if taken % step < frames:  # else between two clips
                    window.append(_pixels(scale, frame, config.canvas, pixel_format))
                taken += 1
                if taken >= frames and (taken - frames) % step == 0:
                    clips.append(np.stack(window))
                    if len(clips) == limit:
                        return clips, ""
    except (av.FFmpegError, OSError) as error:
        broken = (error.strerror or str(error)).rstrip(".")
        after = f" after {number} frames; its first {len(clips)} clips are used" if clips else ""
        return clips, f"cannot be decoded ({broken}){after}"
    if not clips:
        needed = (frames - 1) * config.frame_stride + 1
        return [], f"is too short: {number} frames, and a clip takes {needed}"
    return clips, ""


def _pixels(scale: Callable[..., Any], frame: Any, canvas: int, pixel_format: str) -> np.ndarray:
    """The centre of a frame as uint8 [C, canvas, canvas]; area scaling averages what falls into a pixel."""
    shorter = min(frame.width, frame.height)
    width, height = (max(canvas, round(side * canvas / shorter)) for side in (frame.width, frame.height))
    small = scale(frame, width=width, height=height, format=pixel_format, interpolation="AREA").to_ndarray()
    top, left = (height - canvas) // 2, (width - canvas) // 2
    cropped = small[top : top + canvas, left : left + canvas]
    return np.ascontiguousarray(cropped.reshape(canvas, canvas, -1).transpose(2, 0, 1))


def _by_file(config: ClipsConfig, clips: dict[str, list[np.ndarray]], digests: dict[str, str]) -> _Sides:
    """Whole files on one side, chosen by the content of all of them and the data seed."""
    names = [name for _, name in sorted((digest, name) for digest, name in digests.items())]
    split = split_documents(sorted(digests), config.validation_fraction, config.data_seed)
    held_out = {names[number] for number in split.validation}
    train = [clip for name, found in clips.items() if name not in held_out for clip in found]
    return train, [clip for name, found in clips.items() if name in held_out for clip in found]


def _by_time(config: ClipsConfig, clips: list[np.ndarray]) -> _Sides:
    """The last clips of one video; clip i spans frames i·step … i·step + F − 1, and no frame is on both sides."""
    step = config.clip_stride or config.frames
    first = len(clips) - max(1, round(config.validation_fraction * len(clips)))
    train = first - -(-config.frames // step) + 1
    if train < 1:
        raise ValueError(
            f"the only readable video under data.path {config.path!r} gives {len(clips)} clips, too few to hold one "
            "out that shares no frame with training: lower frames or frame_stride, or add videos"
        )
    return clips[:train], clips[first:]


def _video_files(location: str) -> tuple[list[Path], Path]:
    """The files to try, in sorted order, and the folder that their names are relative to."""
    if not location.strip():
        raise ValueError("data.path is empty: the source 'folder' needs the path of a folder of videos, or of one")
    path = Path(location).expanduser().absolute()
    if path.is_file():
        return [path], path.parent
    if not path.is_dir():
        problem = "is neither a file nor a folder" if os.path.lexists(path) else "does not exist"
        raise ValueError(f"data.path {location!r} {problem}: give a folder of videos, or one video")
    return text_files(path), path


def _digest(clips: list[np.ndarray]) -> str:
    return hashlib.sha256(b"".join(clip.tobytes() for clip in clips)).hexdigest()
