"""Bytes of a text file as text: by the mark at its beginning or as UTF-8; what is neither is refused with its place."""

from __future__ import annotations

from qcore.config import DataError
from qcore.config.forms import BOMS

_CHUNK = 1 << 20


def decode(raw: bytes, name: str) -> str:
    """Bytes of a text file as text, by the mark at its beginning or as UTF-8. `DataError` says line and byte."""
    encoding = next((encoding for mark, encoding in BOMS if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = decode_before(raw, error.start, encoding).count("\n") + 1
        if encoding not in ("utf-8", "utf-8-sig"):
            raise DataError(
                f"{name!r} begins with the mark of {encoding.upper()} and is none: byte offset {error.start}, line "
                f"{line}; save it as UTF-8"
            ) from error
        raise DataError(
            f"{name!r} is not UTF-8: byte 0x{raw[error.start]:02X} at offset {error.start}, line {line}"
            f"{_likely_encoding(raw)}; save it as UTF-8, or name its encoding in data.encoding"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{name!r} is not text: NUL at byte offset {raw.index(0)}, line {line}; give a text file")
    return text.removeprefix("\ufeff")


def decode_before(raw: bytes, end: int, encoding: str) -> str:
    """The text before a byte, as far as it can be read."""
    return raw[:end].decode(encoding, "replace")


def _likely_encoding(raw: bytes) -> str:
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
