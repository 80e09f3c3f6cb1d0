r"""Documents from five sources: the story grammars, Python's own documentation, text files, and data sets.

What a document is: one story · one documentation topic · one file of a folder · one row of a table. A single file is
divided, at blank lines, else at line ends, else at spaces, into pieces of at least 1,000 characters. Text in WikiText
layout (" = Title = " lines) is divided by article wherever it comes from. Line ends become "\n"; blank documents go.
The rules of runs from before are in `earlier`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from qcore.config import DataConfig, DataError, SkippedFile
from qcore.config.places import printable_path
from qcore.data.text import earlier
from qcore.data.text.documents import cut_anywhere
from qcore.data.text.files import Texts
from qcore.data.text.local import read_place
from qcore.data.text.stories import write_bilingual, write_stories
from qcore.data.text.tables import ColumnChoice


@dataclass(frozen=True)
class Corpus:
    """Documents, and their exact −ln p in nats where a grammar wrote them (None elsewhere).

    Attributes:
        size: bytes of the files that were read, 0 where there are none.
        skipped: files that were not read.
        notes: what a person should know of the reading, a sentence each.
    """

    name: str
    documents: tuple[str, ...]
    nats: tuple[float, ...] | None
    size: int = 0
    skipped: tuple[SkippedFile, ...] = ()
    notes: tuple[str, ...] = ()


def load_corpus(config: DataConfig) -> Corpus:
    """The documents of `config.source`.

    Raises:
        DataError: naming the path, data set or column, and the remedy.
    """
    if config.source in ("stories", "bilingual"):
        write = write_stories if config.source == "stories" else write_bilingual
        written = write(config.documents, config.data_seed)
        return Corpus(config.source, tuple(w.text for w in written), tuple(w.nats for w in written))
    if config.source == "pydoc":
        return _corpus("pydoc", _python_documentation())
    if config.source == "text":
        found = _texts(config, config.path, "data.path")  # first: it says what is wrong with a path
        return _corpus(_name(config.path), found)
    if config.source == "huggingface":
        return _corpus(config.hub_name, _rows(config, config.hub_split))
    raise ValueError(f"data.source is {config.source!r}; choose stories, bilingual, pydoc, text or huggingface")


def load_held_out(config: DataConfig) -> Corpus | None:
    """The documents of `config.validation_path` or of the split `config.validation_split`; None where both are empty.
    Errors as of `load_corpus`.
    """
    if config.validation_split:
        if config.source != "huggingface":
            raise DataError(
                f"data.validation_split = {config.validation_split!r} goes with the source 'huggingface', and the "
                f"source is {config.source!r}: leave it empty"
            )
        return _corpus(config.hub_name, _rows(config, config.validation_split))
    if not config.validation_path:
        return None
    if config.source != "text":
        raise DataError(
            f"data.validation_path = {config.validation_path!r} goes with the source 'text', and the source is "
            f"{config.source!r}: leave it empty, or choose text"
        )
    found = _texts(config, config.validation_path, "data.validation_path")
    return _corpus(_name(config.validation_path), found)


def make_splittable(corpus: Corpus, version: int) -> Corpus:
    """The corpus, in pieces where it would be one document only (or copies of one): a text without blank lines, lines
    and spaces can be cut anywhere. Written corpora, whose nats belong to whole documents, stay as they are.
    """
    if version < 2 or corpus.nats is not None or len(set(corpus.documents)) > 1:
        return corpus
    pieces = tuple(piece for document in corpus.documents for piece in cut_anywhere(document))
    if len(pieces) == len(corpus.documents):
        return corpus
    note = f"the text has no blank lines and was cut into {len(pieces):,} pieces, after sentences where it has them"
    return replace(corpus, documents=tuple(filter(str.strip, pieces)), notes=(*corpus.notes, note))


def _name(location: str) -> str:
    return printable_path(Path(location).expanduser().resolve().name)


def _texts(config: DataConfig, location: str, setting: str) -> Texts:
    if config.data_version < 2:
        _refuse_encoding(config)
        return Texts(tuple(earlier.read_text(location, setting)))
    return read_place(location, setting, ColumnChoice(config.text_column), config.encoding)


def _refuse_encoding(config: DataConfig) -> None:
    if config.encoding:
        raise DataError(
            f"data.encoding = {config.encoding!r} is refused: this run reads by the rules of data_version 1, which "
            "knows UTF-8 alone; leave it empty, or start a new run"
        )


def _rows(config: DataConfig, split: str) -> Texts:
    if config.data_version < 2:
        _refuse_encoding(config)
        return Texts(tuple(earlier.read_hugging_face(config)))
    from qcore.data.text.hub import read_hub

    return read_hub(config, split)


def _corpus(name: str, found: Texts | Iterable[str]) -> Corpus:
    texts = found if isinstance(found, Texts) else Texts(tuple(found))
    stripped = (document.strip("\n") for document in texts.documents)
    kept = tuple(document for document in stripped if document.strip())
    if not kept:
        raise DataError(f"{name!r} holds no text: every document is empty or blank; give another source")
    return Corpus(name, kept, None, texts.size, texts.skipped, texts.notes)


def _python_documentation() -> list[str]:
    """The interpreter's help topics, one a document, without trailing blanks and runs of empty lines."""
    from pydoc_data.topics import topics

    return [re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+$", "", topics[key], flags=re.M)) for key in sorted(topics)]
