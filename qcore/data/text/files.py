"""Files of text as documents: packed or not, UTF-8 or with a mark that says otherwise, prose or the rows of a table.

What is read is bounded: a packed file by its memory and by how far it unpacks, a plain one by the machine's memory.
Errors are `DataError`s that name the file, the place in it and the remedy.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from qcore.base.stopping import check_stop
from qcore.config import DataError, SkippedFile
from qcore.config.encodings import misfit
from qcore.config.forms import BOMS, TABLES, Form
from qcore.config.places import plain_error, printable_path
from qcore.config.sources import (
    HEAD,
    opened_packing,
    skipped_table_reason,
    unpacked_form,
)
from qcore.data.text.decoding import decode
from qcore.data.text.documents import articles, divide
from qcore.data.text.html import page_text
from qcore.data.text.size_limits import Room
from qcore.data.text.tables import ColumnChoice, table_documents

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Texts:
    """Documents of a place.

    Attributes:
        size: bytes of the files that were read.
        skipped: files that were not.
        notes: what a person should know of the reading, a sentence each.
    """

    documents: tuple[str, ...]
    size: int = 0
    skipped: tuple[SkippedFile, ...] = ()
    notes: tuple[str, ...] = ()


def read_files(
    files: Iterable[tuple[Path, Form]],
    column: ColumnChoice,
    root: Path,
    divided: bool,
    skipped: list[SkippedFile] | None = None,
    as_prose: bool = False,
) -> Texts:
    """Documents of some files.

    Args:
        divided: a lone text is cut into pieces.
        skipped: takes files that cannot be read, with the reason; without it they are errors.
        as_prose: what is packed is prose, whatever it looks like.
    """
    texts: list[str] = []
    tables: list[tuple[Path, Form]] = []
    size = 0
    for path, form in files:
        check_stop()
        if form.name in TABLES:
            tables.append((path, form))
            continue
        try:
            found = read_prose(path, form, as_prose=as_prose)
        except DataError as error:
            if skipped is None:
                raise
            _leave_out(skipped, root, path, error)
            continue
        if isinstance(found, Form):  # a table inside of what is packed
            tables.append((path, found))
        else:
            texts.append(found)
            size += path.stat().st_size
    if texts and tables and skipped is not None:  # tables that only their contents have shown
        skipped += [
            SkippedFile(_relative_name(path, root), skipped_table_reason(form), path.stat().st_size)
            for path, form in tables
        ]
        tables = []
    if tables:
        rows = table_documents(
            [(path, form, unpack_file) for path, form in tables],
            column,
            None if skipped is None else partial(_leave_out, skipped, root),
        )
        return Texts(rows.documents, size + rows.size, (), rows.notes)
    if divided or len(texts) == 1:
        return Texts(tuple(piece for text in texts for piece in divide(text)), size)
    return Texts(tuple(article for text in texts for article in articles(text)), size)


def _leave_out(skipped: list[SkippedFile], root: Path, path: Path, error: DataError) -> None:
    """A file below `root` that could not be read, with the reason."""
    reason = str(error).removeprefix(repr(printable_path(path))).lstrip(" ,")
    skipped.append(SkippedFile(_relative_name(path, root), reason, path.stat().st_size))


def _relative_name(path: Path, root: Path) -> str:
    return printable_path(path.relative_to(root))


def read_prose(path: Path, form: Form, *, as_prose: bool = False) -> str | Form:
    r"""The text of one file, line ends as "\n"; the form of a table, where one is packed in it under another name,
    unless it is to be read as prose.

    Errors: `DataError` naming file, line, byte and remedy.
    """
    raw = unpack_file(path, form)
    if form.packing:
        inner = unpacked_form(raw[:HEAD], path, form)
        if inner.refused:
            raise DataError(f"{printable_path(path)!r} is {inner.words}, not text: {inner.remedy}")
        if inner.name not in TABLES:
            form = inner
        elif not as_prose:
            return replace(inner, encoding=form.encoding)
    text = decode(raw, printable_path(path))
    if form.name == "html":
        text = page_text(text)
    if not text.strip():
        raise DataError(f"{printable_path(path)!r} is empty: give a file with text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def unpack_file(path: Path, form: Form) -> bytes:
    """The bytes of a file, unpacked, and in UTF-8 where its form names another encoding.

    Raises:
        DataError: when it cannot be read, unpacks without an end, or is not in that encoding.
    """
    raw = _unpacked(path, form)
    if not form.encoding or raw.startswith(tuple(mark for mark, _ in BOMS)):
        return raw
    try:
        return raw.decode(form.encoding).encode("utf-8")
    except UnicodeError as error:
        where = misfit(raw, form.encoding) or plain_error(error)
        raise DataError(
            f"{printable_path(path)!r} is not {form.encoding}: {where}; set data.encoding to the file's own"
        ) from error


def _unpacked(path: Path, form: Form) -> bytes:
    try:
        if not form.packing:
            return path.read_bytes()
        with path.open("rb") as packed:
            return _read_bounded(_open_packed(packed, form.packing), path)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        words = f" as {form.packing}" if form.packing else ""
        raise DataError(
            f"{printable_path(path)!r} cannot be read{words} ({plain_error(error)}): it is damaged or cut off; "
            "give a whole file"
        ) from error
    except MemoryError as error:
        raise DataError(f"{printable_path(path)!r} does not fit into memory: give a part of it") from error


def _open_packed(packed: IO[bytes], packing: str) -> Any:
    stream = opened_packing(packed, packing)
    if stream is not None:
        return stream
    import pyarrow  # which brings zstd with it

    return pyarrow.CompressedInputStream(packed, "zstd")


def _read_bounded(stream: Any, path: Path) -> bytes:
    room, out = Room(path), bytearray()
    while block := stream.read(_CHUNK):
        room.take(len(block))
        out += block
    return bytes(out)
