"""What a path holds, told from its kind, its suffix and its first bytes, before anything is created or believed.

Nothing here reads more than `HEAD` bytes of a file, follows a link to a folder, or opens what is no regular file, so
that a pipe, a device or a sparse file of terabytes is refused at once. Reading whole files is the data's work.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import os
import re
import stat
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from qcore.config.encodings import is_wide, misfit
from qcore.config.forms import BOMS, PACKED, TABLES, Form, form_of
from qcore.config.ltx import LatentsConfig
from qcore.config.places import (
    BUILDERS,
    DataError,
    is_remote,
    local_files,
    looks_local,
    place,
    plain_error,
    printable_path,
)
from qcore.config.run import RunConfig
from qcore.config.sections import DataConfig
from qcore.config.video import ClipsConfig

HEAD = 8192
MOST_FILES = 500_000
_ENCODED = frozenset({"text", "html", "csv"})
"""Forms that may be in another encoding than UTF-8."""
_PASSED_FOLDERS = frozenset({"node_modules", "__pycache__"})
_ABOUT_A_FOLDER = frozenset({"readme", "license", "licence", "copying", "notice", "citation"})
_ABOUT_SUFFIXES = frozenset({"", ".md", ".txt", ".rst", ".cff", ".mit", ".apache"})
_SPLITS = {
    "train": "train",
    "test": "test",
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval"), "validation"),
}
_CARD = ("configs:", "dataset_info:", "task_categories:", "size_categories:")


@dataclass(frozen=True)
class SkippedFile:
    """A file that is not used, or not all of it: its path, relative to the folder, why, and its size in bytes."""

    path: str
    reason: str
    size: int = 0


@dataclass(frozen=True)
class Walk:
    """What lies below a folder, in sorted order: regular files, what is no file to open, and how many names are
    hidden.
    """

    files: tuple[Path, ...]
    odd: tuple[SkippedFile, ...]
    hidden: int


@dataclass(frozen=True)
class Survey:
    """The files below a folder by what they hold: prose and tables with their forms, others with the reason.

    Attributes:
        card: whether it is laid out as a data set of the hub.
        saved: whether the data-set library saved it.
    """

    prose: tuple[tuple[Path, Form], ...]
    tables: tuple[tuple[Path, Form], ...]
    skipped: tuple[SkippedFile, ...]
    hidden: int
    card: bool
    saved: bool


@dataclass(frozen=True)
class SourceCheck:
    """What a run's data look like from outside.

    Attributes:
        words: one line for a person.
        files, size: how many files would be read and their bytes; 0 where the data are built in or have a name on the
            hub.
        skipped: what would be left out.
    """

    words: str
    files: int = 0
    size: int = 0
    skipped: tuple[SkippedFile, ...] = ()


def check_source(config: RunConfig) -> SourceCheck:
    """Look at the paths that a run will read, by stat and first bytes only.

    Raises:
        DataError: naming the setting, the path and the remedy, where the run could only fail: a missing path, a pipe or
            device, an archive, a picture, an empty file, a folder without anything to learn from.
    """
    data = config.data
    if isinstance(data, ClipsConfig | LatentsConfig):
        return _check_clips(data)
    assert isinstance(data, DataConfig)
    if data.source == "text":
        found = _check_text(data.path, "data.path", data.encoding)
        if data.validation_path:
            _check_text(data.validation_path, "data.validation_path", data.encoding)
        return found
    if data.source == "huggingface":
        return _check_hub(data)
    return SourceCheck(f"built in: {data.source}")


def special_file_kind(mode: int) -> str:
    """What something is that is neither a regular file nor a folder; empty for those."""
    for test, words in (
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if test(mode):
            return words
    return "" if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "no regular file"


def read_head(path: Path) -> bytes:
    """The first bytes of a regular file.

    Raises:
        OSError: when it cannot be opened.
        ValueError: when it is not one.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise ValueError(f"is {special_file_kind(mode) or 'a folder'}, not a file")
    with path.open("rb") as file:
        return file.read(HEAD)


def detect_form(path: Path, encoding: str = "") -> Form:
    """The form of one file; of a packed one, what its first block unpacks to.

    Args:
        path: the file.
        encoding: of prose and CSV, as the owner has named it.

    Raises:
        ValueError: with the reason alone, when it cannot be opened or is no file.
    """
    try:
        head = read_head(path)
        form = form_of(head, path.name)
        if form.refused:
            form = form_of(_plain_head(head, encoding), path.name)
        elif form.packing:
            packed, head = form, _unpacked_head(path, form.packing)
            form = unpacked_form(head, path, packed)
            if form.refused:
                form = unpacked_form(_plain_head(head, encoding), path, packed)
        return replace(form, encoding=encoding) if form.name in _ENCODED else form
    except OSError as error:
        raise ValueError(f"cannot be read ({plain_error(error)})") from error


def _plain_head(head: bytes, encoding: str) -> bytes:
    """First bytes as those of UTF-8, where the encoding would make them look like no text."""
    if not is_wide(encoding) or misfit(head, encoding) or head.startswith(tuple(mark for mark, _ in BOMS)):
        return head
    return codecs.getincrementaldecoder(encoding)().decode(head).encode("utf-8", "replace")


def unpacked_form(head: bytes, path: Path, form: Form) -> Form:
    """The form of a packed file whose contents begin with `head`; as it was where nothing is known of them."""
    if not head:
        return form
    inner = form_of(head, unpacked_name(path.name, form.packing))
    words = f"{form.packing} around {inner.words}" if inner.refused else f"{inner.words}, packed with {form.packing}"
    return Form(inner.name, words, inner.remedy, form.packing)


def opened_packing(packed: IO[bytes], packing: str) -> Any:
    """The contents of a packed file as a stream; None for a packing that the standard library does not read."""
    if packing == "gzip":
        return gzip.GzipFile(fileobj=packed)
    if packing == "bz2":
        return bz2.BZ2File(packed)
    return lzma.LZMAFile(packed) if packing == "xz" else None


def _unpacked_head(path: Path, packing: str) -> bytes:
    """The first bytes of what is packed; none where they are damaged, or packed in a way that only the data read."""
    try:
        with path.open("rb") as packed:
            stream = opened_packing(packed, packing)
            return bytes(stream.read(HEAD)) if stream else b""
    except (OSError, EOFError, zlib.error, lzma.LZMAError, MemoryError):
        return b""


def walk(folder: Path) -> Walk:
    """Everything below a folder but hidden names, in sorted order; links to folders are not followed."""
    files: list[Path] = []
    odd: list[SkippedFile] = []
    hidden = 0
    unread: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=unread.append):
        kept: list[str] = []
        for name in sorted(folders):
            path = Path(parent, name)
            if name.startswith("."):
                # counted, not listed: a .git has thousands, and nobody means them
                hidden += 1
            elif name in _PASSED_FOLDERS:
                odd.append(SkippedFile(_relative(path, folder), "is a folder of programs, which nothing is read from"))
            # a link may lead back up: the walk would not end
            elif path.is_symlink():
                odd.append(SkippedFile(_relative(path, folder), "is a link to a folder, and links are not followed"))
            else:
                kept.append(name)
        # in place: that is how os.walk is told where to go, and in which order
        folders[:] = kept
        for name in names:
            path = Path(parent, name)
            if name.startswith("."):
                hidden += 1
                continue
            try:
                # through links to files, which are common in data folders
                mode = path.stat().st_mode
            except (OSError, RuntimeError) as error:
                odd.append(SkippedFile(_relative(path, folder), f"is a link to nothing ({plain_error(error)})"))
                continue
            if stat.S_ISREG(mode):
                files.append(path)
            else:
                kind = special_file_kind(mode) or "a folder"
                odd.append(SkippedFile(_relative(path, folder), f"is {kind}, not a file"))
        # inside the walk: a home folder given by mistake is refused before all of it was looked at
        if len(files) > MOST_FILES:
            raise DataError(
                f"{printable_path(folder)!r} holds more than {MOST_FILES:,} files: give a folder of fewer, or join them"
            )
    for closed in unread:
        where = Path(os.fsdecode(closed.filename)) if closed.filename else folder
        odd.append(SkippedFile(_relative(where, folder), f"cannot be opened ({plain_error(closed)})"))
    return Walk(tuple(sorted(files)), tuple(odd), hidden)


def _relative(path: Path, folder: Path) -> str:
    return printable_path(path.relative_to(folder) if path.is_relative_to(folder) else path)


def survey(folder: Path, encoding: str = "") -> Survey:
    """Every file below a folder by its form; encoding: as of `detect_form`. A file about the folder (README,
    LICENSE) is never prose.
    """
    found = walk(folder)
    prose: list[tuple[Path, Form]] = []
    tables: list[tuple[Path, Form]] = []
    skipped = list(found.odd)
    card = False
    for path in found.files:
        size = path.stat().st_size
        try:
            form = detect_form(path, encoding)
        except ValueError as error:
            skipped.append(SkippedFile(_relative(path, folder), str(error), size))
            continue
        # only at the top: a README deeper inside describes a part
        if path.name.lower() == "readme.md" and path.parent == folder:
            card = is_card(path)
        if form.refused:
            skipped.append(SkippedFile(_relative(path, folder), f"is {form.words}", size))
        elif size == 0:
            skipped.append(SkippedFile(_relative(path, folder), "is empty", 0))
        elif is_folder_description(path):
            reason = "is about the folder; give it by itself if it is to be learned"
            skipped.append(SkippedFile(_relative(path, folder), reason, size))
        else:
            (tables if form.name in TABLES else prose).append((path, form))
    names = {path.name for path, _ in tables if path.parent == folder}
    # the files that the library writes beside its tables
    saved = "dataset_dict.json" in names or {"dataset_info.json", "state.json"} <= names
    # prose beside tables without a card is a folder of texts in which some tables lie, not a data set
    laid_out = bool(tables) and (card or (not prose and _has_splits([path for path, _ in tables])))
    return Survey(tuple(prose), tuple(tables), tuple(skipped), found.hidden, laid_out, saved)


def _has_splits(tables: Sequence[Path]) -> bool:
    """Whether two different splits lie in one folder, as files named train, test and so on."""
    splits: dict[Path, set[str]] = {}
    for path in tables:
        split = _SPLITS.get(re.split(r"[-.]", path.stem.lower(), maxsplit=1)[0])
        if split:
            splits.setdefault(path.parent, set()).add(split)
    return any(len(found) > 1 for found in splits.values())


def is_folder_description(path: Path) -> bool:
    """Whether a file describes the folder it lies in."""
    return path.stem.lower() in _ABOUT_A_FOLDER and path.suffix.lower() in _ABOUT_SUFFIXES


def is_card(path: Path) -> bool:
    """Whether a README is the card of a data set: a front matter with the keys of one."""
    try:
        head = read_head(path).decode("utf-8", "replace")
    except (OSError, ValueError):
        return False
    front = head[3:].split("\n---", 1)[0] if head.startswith("---") else ""
    return any(line.startswith(_CARD) for line in front.split("\n"))


def data_set_folder(folder: str) -> str:
    """What to do with a data set that was given as text."""
    return (
        f"this is a data set folder: use source=huggingface, hub_name={printable_path(folder)} (and hub_config, "
        "hub_split, "
        "text_column where it has several)"
    )


def _check_text(location: str, setting: str, encoding: str) -> SourceCheck:
    path = place(location, setting, "the path of a UTF-8 text file or a folder of them")
    said = f"{setting} = {printable_path(location)!r}"
    if path.is_dir():
        found = survey(path, encoding)
        used = found.prose or (() if found.card and not found.saved else found.tables)
        if found.card and not found.saved:
            raise DataError(f"{said} is refused: {data_set_folder(location)}")
        if not used:
            raise DataError(f"{said} is refused: {no_text_reason(found)}")
        form = "a saved data set" if found.saved else ("tables" if not found.prose else "text")
        passed = () if used is found.tables else tuple(_skipped_tables(path, found))
        size = sum(file.stat().st_size for file, _ in used)
        return SourceCheck(f"a folder of {form}, {len(used):,} files", len(used), size, (*found.skipped, *passed))
    found_file = check_file(path, said, encoding)
    _check_encoding(path, said, encoding)
    return found_file


def _check_encoding(path: Path, said: str, encoding: str) -> None:
    """Refuse a text whose first bytes are not in its encoding; what comes behind them is found when it is read."""
    head, form = read_head(path), detect_form(path, encoding)
    if form.packing or form.name in ("parquet", "arrow") or head.startswith(tuple(mark for mark, _ in BOMS)):
        return
    if form.encoding and (where := misfit(head, form.encoding)):
        raise DataError(f"{said} is not {form.encoding}: {where}; set data.encoding to the file's own")
    if not form.encoding and (where := misfit(head, "utf-8")):
        raise DataError(f"{said} is not UTF-8: {where}; save it as UTF-8, or name its encoding in data.encoding")


def _skipped_tables(folder: Path, found: Survey) -> list[SkippedFile]:
    """Tables beside prose, which are not read with it."""
    return [
        SkippedFile(_relative(path, folder), skipped_table_reason(form), path.stat().st_size)
        for path, form in found.tables
    ]


def skipped_table_reason(form: Form) -> str:
    """Why a table beside prose is left out."""
    return f"is {form.words}; give it by itself to read it"


def skipped_tables(folder: Path, found: Survey) -> tuple[SkippedFile, ...]:
    """The tables of a folder that is read as prose, as files that are left out."""
    return tuple(_skipped_tables(folder, found))


def no_text_reason(found: Survey) -> str:
    """Why a folder gives no text."""
    reasons = "; ".join(f"{file.path} {file.reason}" for file in found.skipped[:5]) or "it holds no files"
    hidden = f"; {found.hidden} hidden names are not looked at" if found.hidden else ""
    return f"no file under it holds UTF-8 text ({reasons}{hidden}): give another folder, or a text file"


def check_file(path: Path, said: str, encoding: str = "") -> SourceCheck:
    """One file that is to give text; encoding: as of `detect_form`. `DataError` names what it is and the remedy."""
    try:
        form, size = detect_form(path, encoding), path.stat().st_size
    except (ValueError, OSError) as error:
        raise DataError(f"{said} {error}: give a UTF-8 text file or a folder of them") from None
    if size == 0:
        raise DataError(f"{said} is empty: give a file with text")
    if form.refused:
        raise DataError(f"{said} is {form.words}, not text: {form.remedy}")
    return SourceCheck(form.words, 1, size)


def _check_hub(data: DataConfig) -> SourceCheck:
    if data.data_files and not is_remote(data.data_files):
        if data.hub_name not in BUILDERS and not os.path.isdir(os.path.expanduser(data.hub_name)):
            return SourceCheck(f"{data.hub_name} on the hub")  # its own files, named relative to it
        if data.hub_name not in BUILDERS:
            return SourceCheck(f"files of the data set folder {printable_path(data.hub_name)}")
        files = local_files(data.data_files)
        checks = [check_file(path, f"data.data_files = {printable_path(path)!r}", data.encoding) for path in files]
        return SourceCheck(
            f"{len(files)} local file{'s' * (len(files) > 1)}", len(files), sum(found.size for found in checks)
        )
    if data.hub_name in BUILDERS and not data.data_files:
        raise DataError(f"hub_name = {data.hub_name!r} reads local files and data_files is empty: name a file there")
    if looks_local(data.hub_name):
        path = place(data.hub_name, "data.hub_name", "the name of a data set, or a folder that holds one")
        if not path.is_dir():
            raise DataError(
                f"data.hub_name = {printable_path(data.hub_name)!r} is a file: take hub_name=json (or csv, "
                "parquet, arrow, "
                "text) with data_files, or source=text with path"
            )
        found = walk(path)
        if not found.files:
            raise DataError(
                f"data.hub_name = {printable_path(data.hub_name)!r} is a folder without files: give another"
            )
        return SourceCheck(
            f"the data set folder {printable_path(path.name)}",
            len(found.files),
            sum(file.stat().st_size for file in found.files),
            found.odd,
        )
    return SourceCheck(f"{data.hub_name} on the hub")


def _check_clips(data: ClipsConfig | LatentsConfig) -> SourceCheck:
    if data.source in ("digits", "random"):
        return SourceCheck(f"built in: {data.source}")
    wanted = "a folder of videos, or one" if isinstance(data, ClipsConfig) else "a folder of .safetensors files"
    path = place(data.path, "data.path", wanted)
    said = f"data.path = {printable_path(data.path)!r}"
    if not path.is_dir():
        try:
            read_head(path)
        except (OSError, ValueError) as error:
            raise DataError(f"{said} {_reason(error)}: give {wanted}") from None
        if path.stat().st_size == 0:
            raise DataError(f"{said} is empty: give {wanted}")
        return SourceCheck(printable_path(path.name), 1, path.stat().st_size)
    found = walk(path)
    if not found.files:
        raise DataError(f"{said} is a folder without files: give {wanted}")
    sizes = sum(file.stat().st_size for file in found.files)
    return SourceCheck(f"a folder of {len(found.files):,} files", len(found.files), sizes, found.odd)


def _reason(error: OSError | ValueError) -> str:
    return f"cannot be read ({plain_error(error)})" if isinstance(error, OSError) else str(error)


def unpacked_name(name: str, packing: str) -> str:
    """The name of a compressed file without the suffix of its compression."""
    return name[: -len(Path(name).suffix)] if packing and Path(name).suffix.lower() in PACKED else name
