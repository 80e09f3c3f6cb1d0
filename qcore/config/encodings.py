"""Names of text encodings, as a person writes them for files that are no UTF-8."""

from __future__ import annotations

import codecs
import contextlib
import re
from encodings.aliases import aliases

from qcore.config.controls import ConfigError, nearest_hint

_NO_TEXT = {
    "base64_codec",
    "bz2_codec",
    "hex_codec",
    "quopri_codec",
    "rot_13",
    "uu_codec",
    "zlib_codec",
    "mbcs",
    "utf_7",
}
"""Codecs of bytes into bytes or letters into letters, of another system, or of letters that no file holds."""
_USUAL = "cp1252, latin-1, cp1251, shift_jis, gb18030, big5, euc_kr or utf-16"
_KNOWN = (
    {"utf_8_sig", *aliases, *aliases.values()}
    - {name for name, codec in aliases.items() if codec in _NO_TEXT}
    - _NO_TEXT
)


def known_encoding(name: str) -> str:
    """The same name, of an encoding of text that this Python knows; empty stays empty. `ConfigError` for any other."""
    plain = re.sub(r"[-\s.]+", "_", name.strip().lower())
    if not plain:
        return ""
    with contextlib.suppress(LookupError):  # also of a name that is listed and has no codec
        if re.fullmatch(r"\w{1,40}", plain, re.ASCII):
            found = codecs.lookup(plain).name.replace("-", "_")
            if plain in _KNOWN or found in _KNOWN:
                return name.strip()
    raise ConfigError(
        f"encoding = {name[:60]!r} is refused: it is no encoding of text that Python knows"
        f"{nearest_hint(plain, _KNOWN)}; take {_USUAL}, or leave it empty for UTF-8"
    )


def is_wide(name: str) -> bool:
    """Whether plain letters have NUL bytes in this encoding, as in what is no text."""
    return bool(name) and b"\0" in "a".encode(name)


def misfit(raw: bytes, encoding: str) -> str:
    """Where bytes are not of this encoding, in words; empty when they are. Half a character at the end is none."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(raw)
    except UnicodeDecodeError as error:
        line = raw[: error.start].decode(encoding, "replace").count("\n") + 1
        return f"byte 0x{raw[error.start]:02X} at offset {error.start}, line {line}"
    except UnicodeError as error:  # UTF-16 and UTF-32 without a mark, which name no order of their own
        return str(error)
    return ""
