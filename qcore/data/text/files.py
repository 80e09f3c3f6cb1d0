"""Files of text as documents: packed or not, UTF-8 or with a mark that says otherwise, prose or the rows of a table.

What is read is bounded: a packed file by its memory and by how far it unpacks, a plain one by the machine's memory.
Errors are `DataError`s that name the file, the place in it and the remedy.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from qcore.config import DataError, SkippedFile
from qcore.config.forms import BOMS, TABLES, Form
from qcore.config.places import place, plain_error, shown
from qcore.config.sources import (
    HEAD,
    check_file,
    data_set_folder,
    look,
    nothing_in,
    opened_packing,
    passed_reason,
    passed_tables,
    survey,
    unpacked_form,
)
from qcore.data.text.documents import articles, divide
from qcore.data.text.html import page_text
from qcore.data.text.size_limits import Room, check_room
from qcore.data.text.tables import ColumnChoice, table_documents

_CHUNK = 1 << 20
_MOST_NAMED = 5


@dataclass(frozen=True)
class Texts:
    """Documents of a place. size: bytes of the files that were read · skipped: files that were not · notes: what a
    person should know of the reading, a sentence each.
    """

    documents: tuple[str, ...]
    size: int = 0
    skipped: tuple[SkippedFile, ...] = ()
    notes: tuple[str, ...] = ()


def read_place(location: str, setting: str, column: ColumnChoice) -> Texts:
    """Documents of a file or of all files below a folder: prose by file, tables by row.

    Below a folder, tables beside prose, files about the folder (README, LICENSE), what is no text and what cannot be
    read are skipped with the reason. Errors: `DataError` for a place that gives nothing, for a single file that cannot
    be read, and for a folder that is laid out as a data set.
    """
    path = place(location, setting, "a UTF-8 text file or a folder of them")
    said = f"{setting} = {shown(location)!r}"
    if not path.is_dir():
        size = check_file(path, said).size
        check_room(size, said)
        found = read_files([(path, look(path))], column, path.parent, divided=True)
        return Texts(found.documents, size, (), found.notes)
    survey_ = survey(path)
    if survey_.card and not survey_.saved:
        raise DataError(f"{said} is refused: {data_set_folder(location)}")
    if survey_.saved:
        from qcore.data.text.hub import read_saved  # which reads files with this module

        return read_saved(path, column)
    used, passed = survey_.prose, passed_tables(path, survey_)
    if not used:
        used, passed = survey_.tables, ()
    if not used:
        raise DataError(f"{said} is refused: {nothing_in(survey_)}")
    check_room(sum(file.stat().st_size for file, _ in used), said)
    skipped = [*survey_.skipped, *passed]
    hidden = (f"{survey_.hidden} hidden names were passed over",) if survey_.hidden else ()
    found = read_files(used, column, path, divided=len(used) == 1, skipped=skipped)
    if not any(document.strip() for document in found.documents):
        reasons = "; ".join(f"{file.path} {file.reason}" for file in skipped[:_MOST_NAMED])
        raise DataError(f"no file under {said} holds UTF-8 text ({reasons}): give another folder or a text file")
    return Texts(found.documents, found.size, tuple(skipped), (*found.notes, *hidden))


def read_files(
    files: Iterable[tuple[Path, Form]],
    column: ColumnChoice,
    root: Path,
    divided: bool,
    skipped: list[SkippedFile] | None = None,
    as_prose: bool = False,
) -> Texts:
    """Documents of some files. divided: a lone text is cut into pieces · skipped: takes files that cannot be read, with
    the reason; without it they are errors · as_prose: what is packed is prose, whatever it looks like.
    """
    texts: list[str] = []
    tables: list[tuple[Path, Form]] = []
    size = 0
    for path, form in files:
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
        skipped += [SkippedFile(_within(path, root), passed_reason(form), path.stat().st_size) for path, form in tables]
        tables = []
    if tables:
        rows = table_documents(
            [(path, form, unpacked) for path, form in tables],
            column,
            None if skipped is None else partial(_leave_out, skipped, root),
        )
        return Texts(rows.documents, size + rows.size, (), rows.notes)
    if divided or len(texts) == 1:
        return Texts(tuple(piece for text in texts for piece in divide(text)), size)
    return Texts(tuple(article for text in texts for article in articles(text)), size)


def _leave_out(skipped: list[SkippedFile], root: Path, path: Path, error: DataError) -> None:
    """A file below `root` that could not be read, with the reason."""
    reason = str(error).removeprefix(repr(shown(path))).lstrip(" ,")
    skipped.append(SkippedFile(_within(path, root), reason, path.stat().st_size))


def _within(path: Path, root: Path) -> str:
    return shown(path.relative_to(root))


def read_prose(path: Path, form: Form, *, as_prose: bool = False) -> str | Form:
    """The text of one file, line ends as "\\n"; the form of a table, where one is packed in it under another name,
    unless it is to be read as prose.

    Errors: `DataError` naming file, line, byte and remedy.
    """
    raw = unpacked(path, form)
    if form.packing:
        inner = unpacked_form(raw[:HEAD], path, form)
        if inner.refused:
            raise DataError(f"{shown(path)!r} is {inner.words}, not text: {inner.remedy}")
        if inner.name not in TABLES:
            form = inner
        elif not as_prose:
            return inner
    text = decode(raw, shown(path))
    if form.name == "html":
        text = page_text(text)
    if not text.strip():
        raise DataError(f"{shown(path)!r} is empty: give a file with text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def decode(raw: bytes, name: str) -> str:
    """Bytes of a text file as text, by the mark at its beginning or as UTF-8. `DataError` says line and byte."""
    encoding = next((encoding for mark, encoding in BOMS if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = decoded_before(raw, error.start, encoding).count("\n") + 1
        if encoding not in ("utf-8", "utf-8-sig"):
            raise DataError(
                f"{name!r} begins with the mark of {encoding.upper()} and is none: byte offset {error.start}, line "
                f"{line}; save it as UTF-8"
            ) from error
        raise DataError(
            f"{name!r} is not UTF-8: byte 0x{raw[error.start]:02X} at offset {error.start}, line {line}"
            f"{_likely(raw)}; save it as UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{name!r} is not text: NUL at byte offset {raw.index(0)}, line {line}; give a text file")
    return text.removeprefix("\ufeff")


def decoded_before(raw: bytes, end: int, encoding: str) -> str:
    """The text before a byte, as far as it can be read."""
    return raw[:end].decode(encoding, "replace")


def _likely(raw: bytes) -> str:
    """A guess at the encoding of bytes that are no UTF-8, for a message."""
    sample = raw[:_CHUNK]
    for encoding, words in (("shift_jis", "Shift-JIS"), ("euc_jp", "EUC-JP")):
        letters = sample.decode(encoding, "replace")
        kana = sum("\u3040" <= letter <= "\u30ff" for letter in letters)
        if letters.count("\ufffd") < 0.01 * len(letters) and kana > 0.05 * len(letters):
            return f" (it looks like {words})"
    high = [byte for byte in sample if byte > 127]
    if len(high) < 0.3 * len(sample):
        return " (it looks like CP1252)" if any(byte < 0xA0 for byte in high) else " (it looks like Latin-1 or CP1252)"
    return ""


def unpacked(path: Path, form: Form) -> bytes:
    """The bytes of a file, unpacked. Errors: `DataError` when it cannot be read, or unpacks without an end."""
    try:
        if not form.packing:
            return path.read_bytes()
        with path.open("rb") as packed:
            return _read_bounded(_opened(packed, form.packing), path)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        words = f" as {form.packing}" if form.packing else ""
        raise DataError(
            f"{shown(path)!r} cannot be read{words} ({plain_error(error)}): it is damaged or cut off; give a whole file"
        ) from error
    except MemoryError as error:
        raise DataError(f"{shown(path)!r} does not fit into memory: give a part of it") from error


def _opened(packed: IO[bytes], packing: str) -> Any:
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
