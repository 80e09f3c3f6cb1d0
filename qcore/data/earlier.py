"""The rules of data version 1, by which runs from before there was a second go on: kept as they were, bit for bit.

Every file that decodes as UTF-8 is prose, tables and READMEs too; the library reads every data set, and a line of a
file given to its builder `text` is a document.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from qcore.config import DataConfig, nearest_hint
from qcore.data.documents import ARTICLE, articles, divide

log = logging.getLogger(__name__)


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
    """Regular files below a folder whose names are not hidden, in sorted order."""
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


def read_hugging_face(config: DataConfig) -> list[str]:
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
    titles = sum(ARTICLE.fullmatch(row.strip("\n")) is not None for row in texts)
    return articles("\n".join(row.strip("\n") for row in texts)) if titles > 1 else texts
