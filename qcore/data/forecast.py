"""What a run's data will take, told before they are opened: bytes of text by stat, memory by what was measured, and
the vocabulary that the tokenizer will find, counted where that is cheap.

Opening a text costs more than keeping it: documents are text, then ids, then the 64-bit codes of n-grams for the
references. Measured peaks over the bytes of the file (1, 10, 100 MB of Zipfian text): bytes 84, 72, – · words 34, 19,
12 · BPE 71, 34, –. The lines below go through the small ones and lie above the large one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from qcore.config import ConfigError, DataConfig, RunConfig, Section, check_root
from qcore.config.forms import PACKED
from qcore.config.places import BUILDERS, local_files, looks_local, place
from qcore.config.sources import detect_form
from qcore.data import build_tokenizer, open_corpus
from qcore.data.text.tokenizers import ByteTokenizer

COUNTED_BYTES = 4_000_000
"""Largest text whose vocabulary is counted for a forecast: half a second."""
_COUNTED_FILES = 2_000
_MOST_FILES = 100_000
_MEGA = 1e6
_PEAK = {"byte": (12 * _MEGA, 72.0), "word": (60 * _MEGA, 18.0), "bpe": (37 * _MEGA, 30.0)}
"""Tokenizer → bytes whatever the text, and bytes for each byte of it, while it is opened."""
_HELD = {"byte": 8.0, "word": 2.5, "bpe": 3.0}
"""Bytes for each byte of text that stay for training: ids, and what marks the targets."""
_TIMES = {"gzip": 4.0, "zstd": 4.0, "bz2": 5.0, "xz": 5.0}
_PARQUET_TIMES = 3.0
"""How much larger than the file its text is, as a rule, by packing."""
_STORY_BYTES, _PYDOC_BYTES = 210.0, 470_000
_BUILT_IN = ("stories", "bilingual", "pydoc")


@dataclass(frozen=True)
class DataForecast:
    """What the data of a run take, in bytes.

    Attributes:
        source: of the text or clips, None when nobody can tell.
        peak, held: of memory while they are opened, and while the run trains on them.
    """

    source: float | None
    peak: int
    held: int


def data_forecast(config: RunConfig) -> DataForecast:
    """What the data of a configuration will take. Nothing is opened; what is not there counts as nothing.

    Raises:
        ConfigError: for data outside of the root that the lab's owner has set.
    """
    check_root(config)
    data = config.data
    if isinstance(data, DataConfig):
        size = text_bytes(data)
        fixed, factor = _PEAK[data.tokenizer]
        if size is None:
            return DataForecast(None, 0, 0)
        return DataForecast(size, int(fixed + factor * size), int(_HELD[data.tokenizer] * size))
    size = _clip_bytes(data)
    return DataForecast(size, int(2 * size), int(size))


def _clip_bytes(data: Section) -> float:
    """Clips are held as they are trained on: pixels as bytes, latents as float32."""
    values: dict[str, int] = data.model_dump()
    if "canvas" in values:
        channels = 3 if getattr(data, "colour", "") == "rgb" else 1
        return float(values["clips"] * values["frames"] * channels * values["canvas"] ** 2)
    frame = values["channels"] * values["latent_height"] * values["latent_width"]
    return 4.0 * values["clips"] * values["frames"] * frame


def text_bytes(data: DataConfig) -> float | None:
    """Bytes of a source's text by stat; None for a data set that is known by its name only."""
    if data.source == "pydoc":
        return _PYDOC_BYTES
    if data.source in _BUILT_IN:
        return _STORY_BYTES * data.documents
    found = [size for path in _places(data) for size in _sizes(path)]
    if data.source == "huggingface" and not found:
        return None
    return sum(found)


def _places(data: DataConfig) -> list[Path]:
    """The files and folders of a source that are there."""
    try:
        if data.source == "text":
            named = [text for text in (data.path, data.validation_path) if text.strip()]
            return [place(text, "data.path", "a text") for text in named]
        if data.hub_name in BUILDERS:
            return local_files(data.data_files)
        return [place(data.hub_name, "data.hub_name", "a folder")] if looks_local(data.hub_name) else []
    except ConfigError:  # nothing is there; `check_source` says so
        return []


def _sizes(path: Path) -> Iterator[float]:
    """Bytes of text in a file, or in the files below a folder that are not hidden."""
    for file in _files(path):
        try:
            yield os.stat(file).st_size * _times(Path(file).suffix.lower())
        except OSError:
            continue


def _times(suffix: str) -> float:
    return _PARQUET_TIMES if suffix == ".parquet" else _TIMES.get(PACKED.get(suffix, ""), 1.0)


def _files(path: Path) -> Iterator[str]:
    if path.is_file():
        yield str(path)
        return
    seen = 0
    for parent, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                seen += 1
                yield os.path.join(parent, name)
        if seen > _MOST_FILES:
            return


# the vocabulary


def vocabulary(config: RunConfig) -> tuple[int, bool]:
    """Tokens that the tokenizer of a run on text will have, and whether that was counted: else it is the most there
    can be. What says by its size nothing of its text, such as a packed file, is not counted.

    Raises:
        ValueError: for data that cannot be used, or that lie outside of the root that the lab's owner has set.
    """
    check_root(config)
    data = config.data
    assert isinstance(data, DataConfig)
    if data.tokenizer == "byte":
        return ByteTokenizer.vocab_size, True
    if data.source not in _BUILT_IN and (data.source != "text" or not _is_cheap(data)):
        return data.vocab_size, False
    size = text_bytes(data)
    if size is None or size > COUNTED_BYTES:
        return data.vocab_size, False
    return _count_vocabulary(data.model_dump_json(), _signature(data)), True


def _is_cheap(data: DataConfig) -> bool:
    """Whether the files of a source are few, and none holds more text than it has bytes."""
    files = [Path(file) for path in _places(data) for file in _files(path)]
    if len(files) > _COUNTED_FILES or sum(map(_size, files)) > COUNTED_BYTES:
        return False
    for file in files:
        try:
            form = detect_form(file)
        except ValueError:  # it cannot be read, and gives no text
            continue
        if form.packing or form.name in ("parquet", "arrow"):
            return False
    return True


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _signature(data: DataConfig) -> tuple[tuple[str, int, int], ...]:
    """Changes when a file of the source does."""
    found = []
    for path in _places(data) if data.source == "text" else []:
        for file in sorted(_files(path)):
            try:
                stat = os.stat(file)
            except OSError:  # a link to nothing: the reader passes it over, too
                continue
            found.append((file, stat.st_size, stat.st_mtime_ns))
    return tuple(found)


@lru_cache(maxsize=32)
def _count_vocabulary(text: str, signature: object) -> int:
    """The vocabulary of a source: its training side is tokenized as the run will."""
    del signature
    data = DataConfig.model_validate_json(text)
    corpus, split = open_corpus(data)
    return build_tokenizer(data, [corpus.documents[number] for number in split.train]).vocab_size
