"""Clips cut from real videos: any container and codec that PyAV decodes, read as a stream, kept as small uint8 frames.

A frame is scaled until its shorter side fills the canvas, then cropped at the centre, so that motion keeps its shape.
Pictures that are numbered are the frames of a sequence. A file that cannot be read, or is too short, is left out with
its reason, and a file that breaks off keeps the clips before the break. Only local files are read: a playlist among
them cannot reach the network.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qcore.base.stopping import check_stop
from qcore.config import ClipsConfig, DataError, SkippedFile
from qcore.config.places import place, printable_path
from qcore.config.sources import special_file_kind, walk
from qcore.data.text import earlier
from qcore.data.text.batches import split_documents
from qcore.data.video.frames import Said, UnusableError, frames_of, gaps, picture, sequences

_Sides = tuple[list[np.ndarray], list[np.ndarray]]


@dataclass(frozen=True)
class Footage:
    """Clips of a source, uint8 [N, F, C, H, W] each side, and the files that gave none.

    Attributes:
        name: of the folder or file.
    """

    name: str
    train_NFCHW: np.ndarray
    validation_NFCHW: np.ndarray
    skipped: tuple[SkippedFile, ...]
    notes: tuple[str, ...] = ()


def video_clips(config: ClipsConfig) -> Footage:
    """Clips from the file or folder `config.path` (hidden names are passed over), at most `config.clips`.

    Every file may give an equal share of the clips still wanted, from its start. With two or more readable files,
    `validation_fraction` of the files are held out; with one, its last clips are, and training clips that reach into
    them are dropped. A copy of another file is skipped.

    Raises:
        DataError: naming the path, for a missing path, no readable video, or too few clips for both sides.
    """
    sources, skipped, notes = _sources(config)
    clips: dict[str, list[np.ndarray]] = {}
    seen: dict[str, str] = {}
    wanted = config.clips
    for number, (name, source) in enumerate(sources):
        check_stop()
        # an even share of what is still wanted: a file that gives less leaves more to those after it
        found, problem = _read(source, config, -(-wanted // (len(sources) - number)), name, notes)
        if found:
            key = _digest(found)
            # by the clips, not by the file: the same film in two formats would stand on both sides of the split
            if key in seen:
                found, problem = [], f"shows the same as {seen[key]}, which is used"
            else:
                clips[name], seen[key] = found, name
                wanted -= len(found)
        if problem:
            skipped.append(SkippedFile(name, problem, _size(source)))
        if wanted <= 0:
            break
    if not clips:
        reasons = "; ".join(f"{file.path}: {file.reason}" for file in skipped[:5])
        raise DataError(
            f"no video under data.path {config.path!r} could be used ({reasons or 'it holds no files'}): give a folder "
            "of videos, or lower frames or frame_stride"
        )
    # of one file its end is held out, as clips cut side by side are nearly the same
    train, validation = _by_file(config, clips, seen) if len(clips) > 1 else _by_time(config, *clips.values())
    name = printable_path(Path(config.path).expanduser().resolve().name)
    return Footage(name, np.stack(train), np.stack(validation), tuple(skipped), tuple(notes))


def _read(
    source: Path | list[Path], config: ClipsConfig, limit: int, name: str, notes: list[str]
) -> tuple[list[np.ndarray], str]:
    # runs from before must find the clips that they were trained on
    if config.data_version < 2:
        assert isinstance(source, Path)
        return earlier.read_clips(source, config, limit)
    said: list[str] = []
    found = read_clips(source, config, limit, said)
    notes += [f"{name} {note}" for note in said]
    return found


def _size(source: Path | list[Path]) -> int:
    return sum(path.stat().st_size for path in ([source] if isinstance(source, Path) else source))


def _sources(config: ClipsConfig) -> tuple[list[tuple[str, Path | list[Path]]], list[SkippedFile], list[str]]:
    """What to cut clips from, by name: videos and sequences of pictures; what is skipped, and notes."""
    files, root, odd, hidden = _video_files(config.path, config.data_version)
    if config.data_version < 2:
        return [(str(file.relative_to(root)), file) for file in files], [], []
    groups, others = sequences(files)
    notes = [f"{hidden} hidden names were skipped"] if hidden else []
    named: list[tuple[str, Path | list[Path]]] = [(printable_path(file.relative_to(root)), file) for file in others]
    for group in groups:
        first, last = (printable_path(path.relative_to(root)) for path in (group[0], group[-1]))
        named.append((f"{first} … {Path(last).name}", group))
        notes.append(f"{len(group)} pictures, {first} … {Path(last).name}, are read as one sequence")
    return sorted(named, key=lambda pair: pair[0]), list(odd), notes


def read_clips(
    path: Path | Sequence[Path], config: ClipsConfig, limit: int, notes: list[str] | None = None
) -> tuple[list[np.ndarray], str]:
    """The first `limit` clips of one video, each uint8 [F, C, H, W], and what is wrong with the file ("": nothing).

    Args:
        path: a video, or the pictures of a sequence in order. Of the frames, every `frame_stride`-th is taken; clips
            start `clip_stride` taken frames apart (0: F, no overlap). No more than one clip of frames is held beside
            the finished clips, however long the video is.
        notes: takes what else should be known, such as frames that were turned.
    """
    frames, step = config.frames, config.clip_stride or config.frames
    pixel_format = "rgb24" if config.colour == "rgb" else "gray"
    said = Said()

    def wanted(number: int) -> bool:
        # what no clip takes need not be scaled to pixels
        taken, rest = divmod(number - since, config.frame_stride)
        return rest == 0 and taken % step < frames

    since = number = 0
    # a window of frames: the whole film may be larger than the memory
    window: deque[np.ndarray] = deque(maxlen=frames)
    clips: list[np.ndarray] = []
    if isinstance(path, Path):
        source = frames_of(path, config.canvas, pixel_format, wanted, said)
    else:
        source = _pictures(path, config.canvas, pixel_format, wanted, said)
    try:
        for frame in source:
            if frame is None:  # no clip goes over a damaged frame, or over a hole in time
                since = number
                window.clear()
                continue
            place, number = number - since, number + 1
            if place % config.frame_stride:
                continue
            taken = place // config.frame_stride + 1
            if isinstance(frame, np.ndarray):
                window.append(frame)
            if taken >= frames and (taken - frames) % step == 0:
                clips.append(np.stack(window))
                if len(clips) == limit:
                    break
    except UnusableError as reason:
        return [], str(reason)
    finally:
        source.close()
    if notes is not None and clips:
        notes += said.notes
    return clips, _problem(said, len(clips), config)


def _problem(said: Said, clips: int, config: ClipsConfig) -> str:
    needed = (config.frames - 1) * config.frame_stride + 1
    damaged = f"has {said.damaged} damaged frames, which are left out" if said.damaged else ""
    if said.broken:
        after = f" after {said.frames} frames; its first {clips} clips are used" if clips else ""
        if "breaks off" in said.broken:
            after = f"; its first {clips} clips are used" if clips else ""
        return "; ".join(filter(None, (said.broken + after, damaged)))
    if not clips:
        short = f"is too short: {said.frames} frames, and a clip takes {needed}"
        if said.breaks:
            short += f" without a break, of which there are {said.breaks}"
        return f"{short}; {damaged}" if damaged else short
    return damaged


def _pictures(
    files: Sequence[Path], canvas: int, pixel_format: str, wanted: Callable[[int], bool], said: Said
) -> Generator[Any, None, None]:
    """The pictures of a sequence as frames; one that cannot be read counts as damaged. The sequence breaks off, and
    begins anew, where pictures are missing and where their size changes.
    """
    number, size, missing, resized = 0, (0, 0), gaps(files), False
    if missing:
        said.notes.append(f"misses pictures at {len(missing)} places of its numbering; no clip spans a gap")
    for at, file in enumerate(files):
        said.frames += 1
        if at in missing:
            said.breaks += 1
            yield None
        if not wanted(number):
            # counted but not read: nobody wanted its pixels
            yield True
            number += 1
            continue
        try:
            found, its_size = picture(file, canvas, pixel_format)
        except UnusableError:
            said.damaged += 1
            yield None
            continue
        if size not in (its_size, (0, 0)):
            said.breaks += 1
            if not resized:
                said.notes.append("changes the size of its frames midway; no clip spans the change")
            resized = True
            yield None
        size = its_size
        yield found
        number += 1


def _by_file(config: ClipsConfig, clips: dict[str, list[np.ndarray]], digests: dict[str, str]) -> _Sides:
    """Whole files on one side, chosen by the content of all of them and the data seed."""
    names = [name for _, name in sorted((digest, name) for digest, name in digests.items())]
    split = split_documents(sorted(digests), config.validation_fraction, config.data_seed, version=config.data_version)
    held_out = {names[number] for number in split.validation}
    train = [clip for name, found in clips.items() if name not in held_out for clip in found]
    return train, [clip for name, found in clips.items() if name in held_out for clip in found]


def _by_time(config: ClipsConfig, clips: list[np.ndarray]) -> _Sides:
    """The last clips of one video; clip i spans frames i·step … i·step + F − 1, and no frame is on both sides."""
    step = config.clip_stride or config.frames
    first = len(clips) - max(1, round(config.validation_fraction * len(clips)))
    train = first - -(-config.frames // step) + 1
    if train < 1:
        raise DataError(
            f"the only readable video under data.path {config.path!r} gives {len(clips)} clips, too few to hold one "
            "out that shares no frame with training: lower frames or frame_stride, or add videos"
        )
    return clips[:train], clips[first:]


def _video_files(location: str, version: int) -> tuple[list[Path], Path, tuple[SkippedFile, ...], int]:
    """The files to try, in sorted order, the folder that their names are relative to, what is no file, and how many
    names are hidden.
    """
    if not location.strip():
        raise DataError("data.path is empty: the source 'folder' needs the path of a folder of videos, or of one")
    path = place(location, "data.path", "a folder of videos, or one video").absolute()
    if path.is_file():
        return [path], path.parent, (), 0
    if not path.is_dir():
        kind = special_file_kind(path.stat().st_mode)
        raise DataError(
            f"data.path = {printable_path(location)!r} is {kind}, not a file: give a folder of videos, or one video"
        )
    if version < 2:
        return earlier.text_files(path), path, (), 0
    found = walk(path)
    return list(found.files), path, found.odd, found.hidden


def _digest(clips: list[np.ndarray]) -> str:
    return hashlib.sha256(b"".join(clip.tobytes() for clip in clips)).hexdigest()
