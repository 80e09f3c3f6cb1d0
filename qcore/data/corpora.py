"""Documents from five sources: the story grammars, Python's own documentation, text files, and Hugging Face data sets.

What a document is: one story · one documentation topic · one file of a folder · one row of a data set. A single file is
divided, at blank lines, else at line ends, else at spaces, into pieces of at least 1,000 characters. Text in WikiText
layout (" = Title = " lines) is divided by article wherever it comes from. Line ends become "\\n"; blank documents go.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from qcore.config import DataConfig, nearest_hint
from qcore.data.stories import write_bilingual, write_stories

log = logging.getLogger(__name__)
PIECE = 1000  # characters, at least, of a document cut out of a single file: several windows of a small model
_ARTICLE = re.compile(r"^ ?= [^=\n]+ = *$", re.MULTILINE)


@dataclass(frozen=True)
class Corpus:
    """Documents, and their exact −ln p in nats where a grammar wrote them (None elsewhere)."""

    name: str
    documents: tuple[str, ...]
    nats: tuple[float, ...] | None


def load_corpus(config: DataConfig) -> Corpus:
    """The documents of `config.source`. Errors: ValueError naming the path, data set or column, and the remedy."""
    if config.source in ("stories", "bilingual"):
        write = write_stories if config.source == "stories" else write_bilingual
        written = write(config.documents, config.data_seed)
        return Corpus(config.source, tuple(w.text for w in written), tuple(w.nats for w in written))
    if config.source == "pydoc":
        return _corpus("pydoc", _python_documentation())
    if config.source == "text":
        path = Path(config.path).expanduser()
        return _corpus(path.resolve().name, read_text(config.path))
    if config.source == "huggingface":
        return _corpus(config.hub_name, _hugging_face(config))
    raise ValueError(f"data.source is {config.source!r}; choose stories, bilingual, pydoc, text or huggingface")


def load_held_out(config: DataConfig) -> tuple[str, ...] | None:
    """The documents of `config.validation_path`; None where it is empty. Errors as of `load_corpus`."""
    if not config.validation_path:
        return None
    if config.source != "text":
        raise ValueError(
            f"data.validation_path = {config.validation_path!r} goes with the source 'text', and the source is "
            f"{config.source!r}: leave it empty, or choose text"
        )
    name = Path(config.validation_path).expanduser().resolve().name
    return _corpus(name, read_text(config.validation_path, "data.validation_path")).documents


def _corpus(name: str, documents: Iterable[str]) -> Corpus:
    stripped = (document.strip("\n") for document in documents)
    kept = tuple(document for document in stripped if document.strip())
    if not kept:
        raise ValueError(f"{name!r} holds no text: every document is empty or blank")
    return Corpus(name, kept, None)


def _python_documentation() -> list[str]:
    """The interpreter's help topics, one a document, without trailing blanks and runs of empty lines."""
    from pydoc_data.topics import topics

    return [re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+$", "", topics[key], flags=re.M)) for key in sorted(topics)]


def read_text(location: str, setting: str = "data.path") -> list[str]:
    """Documents of a UTF-8 file, or of every UTF-8 file under a folder, in sorted order. setting: named in errors.

    In a folder, hidden names are passed over, and files that are not UTF-8 text are skipped with a logged warning.
    Errors: ValueError when the path is missing, a single file is empty or not UTF-8 (with the byte offset), or a
    folder has no text.
    """
    if not location.strip():
        raise ValueError(f"{setting} is empty: the source 'text' needs the path of a UTF-8 file or a folder")
    path = Path(location).expanduser()
    if path.is_file():
        return divide(_decoded(path))
    if not path.is_dir():
        problem = "is neither a file nor a folder" if os.path.lexists(path) else "does not exist"
        raise ValueError(f"{setting} {location!r} {problem}: give a UTF-8 text file or a folder of them")
    texts = []
    for file in text_files(path):
        try:
            texts.append(_decoded(file))
        except ValueError as error:
            log.warning("skipped: %s", error)
    if not texts:
        raise ValueError(f"no file under {setting} {location!r} holds UTF-8 text: give another folder or a text file")
    return divide(texts[0]) if len(texts) == 1 else [article for text in texts for article in articles(text)]


def text_files(folder: Path) -> list[Path]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(file for file in found if file.is_file())


def _decoded(path: Path) -> str:
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


def articles(text: str) -> list[str]:
    """The articles of a text in WikiText layout, title line first; any other text whole."""
    starts = [match.start() for match in _ARTICLE.finditer(text)]
    if len(starts) < 2:
        return [text]
    bounds = [0, *starts, len(text)] if text[: starts[0]].strip() else [*starts, len(text)]
    return [text[a:b] for a, b in pairwise(bounds)]


def divide(text: str) -> list[str]:
    """One text as documents: articles, else pieces of at least PIECE characters; their union is the text."""
    found = articles(text)
    if len(found) > 1:
        return found
    for boundary in (r"\n\s*\n", r"\n", r"\s"):
        pieces, start = [], 0
        for match in re.finditer(boundary, text):
            if match.end() - start >= PIECE:
                pieces.append(text[start : match.end()])
                start = match.end()
        rest = text[start:]
        if pieces and len(rest.strip()) < PIECE // 2:
            pieces[-1] += rest
        else:
            pieces.append(rest)
        if len(pieces) > 1:
            return pieces
    return [text]


def _hugging_face(config: DataConfig) -> list[str]:
    """One column of a data set through `datasets.load_dataset`: from the hub by name, or local files by builder."""
    if not config.hub_name.strip():
        raise ValueError(
            "data.hub_name is empty: the source 'huggingface' needs a data set's name, or json, text or csv"
        )
    import datasets  # two seconds, and only this source needs it

    try:
        loaded = datasets.load_dataset(
            config.hub_name, config.hub_config or None, split=config.hub_split, data_files=config.data_files or None
        )
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
    titles = sum(_ARTICLE.fullmatch(row.strip("\n")) is not None for row in texts)
    return articles("\n".join(row.strip("\n") for row in texts)) if titles > 1 else texts
