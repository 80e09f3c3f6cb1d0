"""Forms of files, told from suffix and first bytes: text, tables and packed ones of both, and all that is no text.

First bytes win over the suffix; where the bytes are plain text, the suffix and the beginning of the text decide between
prose and a table. Every pattern here is linear in what it reads.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from dataclasses import dataclass
from pathlib import PurePath

TABLES = frozenset({"jsonl", "json", "csv", "parquet", "arrow"})
TEXT_COLUMNS = ("text", "content", "body", "document", "article", "story", "sentence", "messages", "conversations")
"""Names that columns of text usually have."""
_MOST_CONTROLS = 0.05
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\v\x1b"))


@dataclass(frozen=True)
class Form:
    """What a file is.

    Attributes:
        name: text, html, jsonl, json, csv, parquet or arrow; empty when it is none of these.
        words: for a person.
        remedy: what to do with it instead, where it is refused.
        packing: gzip, bz2, xz or zstd around it.
        encoding: of a text that begins with no mark, as its owner has named it; empty is UTF-8.
    """

    name: str
    words: str
    remedy: str = ""
    packing: str = ""
    encoding: str = ""

    @property
    def refused(self) -> bool:
        """Whether nothing here reads it."""
        return not self.name


_UNPACK = "unpack it and give the file or folder that comes out"
_CONVERT = "convert it to UTF-8 text first"
_PICTURES = "source=text learns from text; videos and pictures go with kind=video_flow"
_EXPORT = "export the column of text as CSV or JSON lines"
_PROGRAM = "give a text file, or a folder of them"
_WEIGHTS = "give a text file; a run's weights come from its own checkpoints"
_FETCH = "fetch the file itself (git lfs pull)"

_MAGIC: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"%PDF-", "a PDF document", _CONVERT),
    (0, b"\x89PNG\r\n", "a PNG picture", _PICTURES),
    (0, b"\xff\xd8\xff", "a JPEG picture", _PICTURES),
    (0, b"GIF8", "a GIF picture", _PICTURES),
    (0, b"II*\0", "a TIFF picture", _PICTURES),
    (0, b"MM\0*", "a TIFF picture", _PICTURES),
    (0, b"RIFF", "a sound, picture or video (RIFF)", _PICTURES),
    (4, b"ftyp", "a video", _PICTURES),
    (0, b"\x1aE\xdf\xa3", "a video", _PICTURES),
    (0, b"OggS", "a sound or video", _PICTURES),
    (0, b"fLaC", "a sound", _PICTURES),
    (0, b"ID3", "a sound", _PICTURES),
    (0, b"PK\x03\x04", "a zip archive (or an office document)", _UNPACK),
    (0, b"PK\x05\x06", "an empty zip archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!", "a rar archive", _UNPACK),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"\xd0\xcf\x11\xe0", "an office document", _CONVERT),
    (0, b"{\\rtf", "an RTF document", _CONVERT),
    (0, b"SQLite format 3\0", "an SQLite database", _EXPORT),
    (0, b"\x7fELF", "a program", _PROGRAM),
    (0, b"\xcf\xfa\xed\xfe", "a program", _PROGRAM),
    (0, b"\xca\xfe\xba\xbe", "a program", _PROGRAM),
    (0, b"\0asm", "a program", _PROGRAM),
    (0, b"GGUF", "a file of weights", _WEIGHTS),
    (0, b"\x93NUMPY", "a NumPy array", _EXPORT),
    (0, b"\x89HDF", "an HDF5 file", _EXPORT),
    (0, b"Obj\x01", "an Avro table", _EXPORT),
    (0, b"ORC", "an ORC table", _EXPORT),
    (0, b"version https://git-lfs", "a pointer of Git LFS", _FETCH),
)
_PLAIN_MAGIC = (b"%PDF-", b"{\\rtf", b"version https://git-lfs")
"""Beginnings that are plain letters and mean what they say all the same."""
_PACKING = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
)
PACKED = {".gz": "gzip", ".gzip": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd", ".zstd": "zstd", ".lz4": "lz4"}
_SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonlines": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".psv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
}
_REFUSED_SUFFIXES = {
    **dict.fromkeys(
        (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".bin", ".safetensors", ".gguf", ".onnx"), ""
    ),
    **dict.fromkeys(
        (".npy", ".npz", ".h5", ".hdf5", ".db", ".sqlite", ".sqlite3", ".xls", ".xlsx", ".orc", ".avro"), ""
    ),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ico", ".heic"), ""),
    **dict.fromkeys((".mp3", ".wav", ".flac", ".ogg", ".m4a", ".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v"), ""),
    **dict.fromkeys((".exe", ".dll", ".so", ".dylib", ".o", ".a", ".class", ".pyc", ".jar", ".wasm", ".whl"), ""),
    **dict.fromkeys((".zip", ".7z", ".rar", ".tar", ".tgz", ".pdf", ".doc", ".docx", ".odt", ".epub", ".rtf"), ""),
    **dict.fromkeys((".ipynb", ".xml", ".svg"), ""),
}
_WORDS = {
    "text": "text",
    "html": "an HTML page",
    "jsonl": "a table (JSON lines)",
    "json": "a table (JSON)",
    "csv": "a table (CSV)",
    "parquet": "a table (Parquet)",
    "arrow": "a table (Arrow)",
}
_JSON_ROWS = re.compile(r"\s*(?:\[\s*)?\{\s*\"(?:[^\"\\]|\\.)*\"\s*:")
_HTML = re.compile(r"\s*<(?:!doctype html|html|head|body)\b", re.IGNORECASE)
_XML = re.compile(r"\s*<\?xml\b")
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Marks at the beginning of a text, and the encoding that they announce; UTF-32 before UTF-16, whose mark it begins
with."""


def form_of(head: bytes, name: str) -> Form:
    """The form of a file whose first bytes are `head` and whose name is `name`."""
    suffix = PurePath(name).suffix.lower()
    binary = _why_binary(head)
    plain = not binary and _is_utf8(head)  # so that a text may begin with the letters ORC
    # bytes before names: a suffix is a promise, and a packed file under a wrong name would be read as text
    for first, packing in _PACKING:
        if head.startswith(first) and not plain:
            return _packed_form(packing, name, suffix)
    for at, first, words, remedy in _MAGIC:
        if head[at : at + len(first)] == first and (not plain or first in _PLAIN_MAGIC):
            return Form("", words, remedy)
    if head.startswith(b"PAR1") and not plain:
        return Form("parquet", _WORDS["parquet"])
    if head.startswith((b"ARROW1\0\0", b"\xff\xff\xff\xff")) or (head.startswith(b"FEA1") and not plain):
        return Form("arrow", _WORDS["arrow"])
    # an empty file of any name is only empty
    if suffix in _REFUSED_SUFFIXES and head:
        return Form("", f"a {suffix} file", _remedy_of(suffix))
    if suffix in PACKED and head:
        return Form("", f"named {suffix} and not packed so", "give it the suffix of what it holds")
    if binary:
        return Form("", binary, _CONVERT if "UTF-16" in binary else _PROGRAM)
    if suffix in (".parquet", ".arrow", ".feather") and head:
        return Form("", f"named {suffix} and no such table", "give the table itself, or the right suffix")
    # text may be anything that is written as text: here the name decides
    if suffix in _SUFFIXES:
        found = _SUFFIXES[suffix]
        return Form(found, _WORDS[found])
    return _text_form(decode_head(head))


def _packed_form(packing: str, name: str, suffix: str) -> Form:
    inner = name[: -len(suffix)] if suffix in PACKED else name
    if packing == "lz4":
        return Form("", "an lz4 file", _UNPACK)
    # a tar holds files with names of their own, which may lead anywhere
    if suffix == ".tgz" or PurePath(inner).suffix.lower() == ".tar":
        return Form("", "a tar archive", _UNPACK)
    found = _SUFFIXES.get(PurePath(inner).suffix.lower(), "text")
    if PurePath(inner).suffix.lower() in _REFUSED_SUFFIXES:
        return Form("", f"a packed {PurePath(inner).suffix} file", _UNPACK)
    return Form(found, f"{_WORDS[found]}, packed with {packing}", packing=packing)


def _remedy_of(suffix: str) -> str:
    if suffix in (".db", ".sqlite", ".sqlite3", ".xls", ".xlsx", ".orc", ".avro", ".npy", ".npz", ".h5", ".hdf5"):
        return _EXPORT
    if suffix in (".zip", ".7z", ".rar", ".tar", ".tgz", ".jar", ".whl"):
        return _UNPACK
    if suffix in (".pdf", ".doc", ".docx", ".odt", ".epub", ".rtf", ".ipynb", ".xml", ".svg"):
        return _CONVERT
    return _PROGRAM


def _why_binary(head: bytes) -> str:
    """Why these bytes are no text; empty when they may be. Bytes that are no UTF-8 are the reader's to name."""
    if any(head.startswith(mark) for mark, _ in BOMS):
        return ""
    if b"\0" in head:
        # UTF-16 of western text has a NUL in every second byte, all at even or all at odd places
        few, many = sorted(part.count(0) / max(1, len(part)) for part in (head[::2], head[1::2]))
        if few < 0.1 < 0.3 < many and len(head) > 8:
            return "UTF-16 without a mark at its beginning, or binary"
        return f"binary (a NUL at byte offset {head.index(0)})"
    if head[:1] == b"\x80" and head[1:2] in b"\2\3\4\5":
        return "a pickle, which would run code"
    controls = len(head) - len(head.translate(None, _CONTROLS))
    if controls > _MOST_CONTROLS * len(head):
        return f"binary ({controls} of its first {len(head)} bytes are control characters)"
    return ""


def _is_utf8(head: bytes) -> bool:
    try:
        # incremental: the head may end inside a character
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def decode_head(head: bytes) -> str:
    """First bytes as text, as far as they are; what is half a character at the end is replaced."""
    for mark, encoding in BOMS:
        if head.startswith(mark):
            return head.decode(encoding, "replace")
    return head.decode("utf-8", "replace")


def _text_form(head: str) -> Form:
    if _HTML.match(head):
        return Form("html", _WORDS["html"])
    if _XML.match(head):
        return Form("", "an XML document", _CONVERT)
    if _JSON_ROWS.match(head):
        first = next((line for line in head.split("\n") if line.strip()), "")
        return Form("jsonl", _WORDS["jsonl"]) if _is_object(first) else Form("json", _WORDS["json"])
    return Form("csv", _WORDS["csv"]) if _is_delimited(head) else Form("text", _WORDS["text"])


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _is_delimited(head: str) -> bool:
    """Whether a text without a telling suffix is a table all the same: a header with a usual column of text, and lines
    of as many fields below it.
    """
    lines = head.split("\n")[:-1][:20]
    if len(lines) < 4:
        return False
    for delimiter in "\t;,|":
        try:
            rows = list(csv.reader(lines, delimiter=delimiter))
        except csv.Error:
            continue
        names = [name.strip().lower() for name in rows[0]] if rows else []
        of_text = len(names) > 1 and len(set(names)) == len(names) and bool(set(names) & set(TEXT_COLUMNS))
        even = sum(len(row) == len(names) for row in rows) > len(rows) / 2
        if of_text and even and all(name.isidentifier() for name in names):
            return True
    return False
