"""The rules of data version 1, by which runs from before there was a second go on: kept as they were, bit for bit.

Every file that decodes as UTF-8 is prose, tables and READMEs too; the library reads every data set, and a line of a
file given to its builder `text` is a document.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from qcore.config import ClipsConfig, DataConfig, DataError, nearest_hint
from qcore.config.places import BUILDERS, is_remote, looks_local
from qcore.data.text.documents import ARTICLE, articles, divide
from qcore.data.text.hub_download import download
from qcore.data.text.opening import load_dataset

log = logging.getLogger(__name__)


def read_text(location: str, setting: str = "data.path") -> list[str]:
    """Documents of a UTF-8 file, or of every UTF-8 file under a folder, in sorted order.

    In a folder, hidden names are passed over, and files that are not UTF-8 text are skipped with a logged warning.

    Args:
        setting: named in errors.

    Raises:
        ValueError: when the path is missing, a single file is empty or not UTF-8 (with the byte offset), or a folder
            has no text.
    """
    if not location.strip():
        raise ValueError(f"{setting} is empty: the source 'text' needs the path of a UTF-8 file or a folder")
    path = Path(location).expanduser()
    if path.is_file():
        return divide(_decode_file(path))
    if not path.is_dir():
        problem = "is neither a file nor a folder" if os.path.lexists(path) else "does not exist"
        raise ValueError(f"{setting} {location!r} {problem}: give a UTF-8 text file or a folder of them")
    texts = []
    for file in text_files(path):
        try:
            texts.append(_decode_file(file))
        except ValueError as error:
            log.warning("skipped: %s", error)
    if not texts:
        raise ValueError(f"no file under {setting} {location!r} holds UTF-8 text: give another folder or a text file")
    return divide(texts[0]) if len(texts) == 1 else [article for text in texts for article in articles(text)]


def text_files(folder: Path) -> list[Path]:
    """Regular files below a folder whose names are not hidden, in sorted order."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(file for file in found if file.is_file())


def _decode_file(path: Path) -> str:
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{str(path)!r} is not UTF-8: byte 0x{raw[error.start]:02X} at offset {error.start}; save it as UTF-8"
        ) from error
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    if "\0" in text:
        raise ValueError(f"{str(path)!r} is not text: NUL at byte offset {raw.index(0)}")
    if not text.strip():
        raise ValueError(f"{str(path)!r} is empty: give a file with text")
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def read_hugging_face(config: DataConfig) -> list[str]:
    """One column of a data set through `datasets.load_dataset`: from the hub by name, or local files by builder."""
    if not config.hub_name.strip():
        raise ValueError(
            "data.hub_name is empty: the source 'huggingface' needs a data set's name, or json, text or csv"
        )
    import datasets  # two seconds, and only this source needs it

    wanted = (config.hub_name, config.hub_config, config.hub_split, config.data_files)
    try:
        if not looks_local(config.hub_name) and (config.hub_name not in BUILDERS or is_remote(config.data_files)):
            download(*wanted)
        loaded = load_dataset(*wanted)
    except DataError:
        raise
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(
            f"the data set {config.hub_name!r} (configuration {config.hub_config or 'default'!r}, split "
            f"{config.hub_split!r}, data_files {config.data_files or 'none'!r}) could not be loaded: {error}. Check "
            "the names and the connection; without one, use a data set already in the cache, or hub_name json, text "
            "or csv with data_files"
        ) from error
    columns = list(loaded.column_names)
    if config.text_column not in columns:
        raise ValueError(
            f"the data set {config.hub_name!r} has no column {config.text_column!r}"
            f"{nearest_hint(config.text_column, columns)}; its columns are {', '.join(map(repr, columns))}"
        )
    rows = loaded[config.text_column][:]
    for number, row in enumerate(rows):
        if row is not None and not isinstance(row, str):
            raise ValueError(
                f"column {config.text_column!r} of {config.hub_name!r} holds {type(row).__name__}, not text (row "
                f"{number}): set data.text_column to a text column among {', '.join(map(repr, columns))}"
            )
    texts = [row.replace("\r\n", "\n") for row in rows if row is not None]
    titles = sum(ARTICLE.fullmatch(row.strip("\n")) is not None for row in texts)
    return articles("\n".join(row.strip("\n") for row in texts)) if titles > 1 else texts


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
