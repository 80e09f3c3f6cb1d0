"""The secret that a client must show, and the file that keeps it: readable by its owner alone.

256 random bits, written once when a server first starts over a runs folder. It is compared by digest, so that neither
its length nor its first wrong letter can be told from the time an answer takes.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from qcore.config import ConfigError
from qcore.lab.errors import sentence

TOKEN_FILE = ".protocol-token"
SHORTEST = 20


@dataclass(frozen=True)
class Token:
    """The secret. `fresh`: made just now, so it may be shown once."""

    value: str
    path: Path | None = None
    fresh: bool = False

    def __repr__(self) -> str:
        return f"Token(path={str(self.path)!r})"  # never in a log

    def matches(self, shown: str) -> bool:
        """Whether a client showed this secret; takes the same time for any other text."""
        digests = (hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in (self.value, shown))
        return hmac.compare_digest(*digests)


def open_token(path: Path, *, renew: bool = False) -> Token:
    """The token of a file, made with mode 0600 when there is none, or anew when `renew`.

    Raises `ConfigError` for a file that others may read, or that holds no secret of 20 letters or more.
    """
    if renew:
        path.unlink(missing_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return read_token(path)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        value = secrets.token_urlsafe(32)
        file.write(value + "\n")
    return Token(value, path, fresh=True)


def read_token(path: Path) -> Token:
    """The token of an existing file; errors as in `open_token`."""
    try:
        mode = path.stat().st_mode
        value = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise ConfigError(f"there is no token file {str(path)!r}: start qcore serve, which makes it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the token file {str(path)!r} cannot be read: {sentence(error)}") from None
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(f"the token file {str(path)!r} is readable by others ({mode & 0o777:o}): chmod 600 it")
    if len(value) < SHORTEST or any(letter.isspace() for letter in value):
        raise ConfigError(f"the token file {str(path)!r} holds no token of {SHORTEST} letters or more: delete it")
    return Token(value, path)
