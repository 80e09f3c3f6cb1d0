"""The secret that a client must show, and the file that keeps it: readable by its owner alone.

256 random bits, written once when a server first starts over a runs folder. It is compared by digest, so that neither
its length nor its first wrong letter can be told from the time an answer takes.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import stat
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qcore.config import ConfigError
from qcore.runs.errors import sentence

TOKEN_FILE = ".protocol-token"
ENDED_FILE = ".ended-passes"
TOKEN = "QCORE_TOKEN"
"""Environment variable: `on`, `off`, or the secret itself; unset, the app asks for one where a stranger could come."""

TOKEN_PATH = "QCORE_TOKEN_FILE"
SHORTEST = 20
PASS_DAYS = 30
KEPT_ENDED = 10_000
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Token:
    """The secret.

    Attributes:
        fresh: made just now, so it may be shown once.
    """

    value: str
    path: Path | None = None
    fresh: bool = False

    def __repr__(self) -> str:
        return f"Token(path={str(self.path)!r})"  # never in a log

    def matches(self, shown: str) -> bool:
        """Whether a client showed this secret; takes the same time for any other text."""
        digests = (hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in (self.value, shown))
        return hmac.compare_digest(*digests)

    def is_borne(self, values: Sequence[str]) -> bool:
        """Whether the values of a request's `Authorization` headers are this secret as a bearer token."""
        scheme, _, secret = values[0].partition(" ") if len(values) == 1 else ("", "", "")
        return scheme.lower() == "bearer" and self.matches(secret.strip())


class Passes:
    """Proofs that a browser has shown the token: what its cookie holds, so that the token itself is in none.

    A pass is `time.nonce.MAC` under a key derived from the token: it outlives a restart of the server and ends with the
    token, after `PASS_DAYS`, or when its bearer leaves. Those that were left are kept, by digest, in a file that its
    owner alone reads, so that a restart brings none of them back.

    Attributes:
        ended: that file; None: they are kept in memory.
    """

    def __init__(self, token: Token, ended: Path | None = None) -> None:
        self.token = token
        self._file = ended
        self._key = hmac.digest(token.value.encode(), b"collapse lab: a browser's pass", "sha256")
        self.cookie = f"collapse-lab-{hmac.digest(self._key, b'name', 'sha256').hex()[:8]}"
        """Name of the cookie: cookies know no ports, so two labs of one machine need two names."""
        self._ended: OrderedDict[str, float] = OrderedDict()
        self._stamp: tuple[int, int] | None = None

    def issue(self) -> str:
        """A new pass."""
        head = f"{int(time.time()):x}.{secrets.token_hex(16)}"
        return f"{head}.{self._mac(head)}"

    def holds(self, text: str) -> bool:
        """Whether a text is a pass that has not ended."""
        head, _, mac = text.rpartition(".")
        if not hmac.compare_digest(mac.encode("utf-8", "replace"), self._mac(head).encode()):
            return False
        self._read_ended()
        if _digest(text) in self._ended:
            return False
        return time.time() - int(head.partition(".")[0], 16) < PASS_DAYS * 86400

    def end(self, text: str) -> None:
        """End a pass that holds."""
        self._read_ended()
        self._ended[_digest(text)] = time.time()
        while len(self._ended) > KEPT_ENDED:
            self._ended.popitem(last=False)
        if self._file is not None:
            try:
                self._write_ended(self._file)
            except OSError as error:  # it has ended in this process, which is what was asked for
                logger.warning("a logout is forgotten at the next start: %s", sentence(error))

    def _read_ended(self) -> None:
        """Take in what another process has ended over the same runs, or this one before it was started."""
        if self._file is None:
            return
        try:
            found = self._file.stat()
            stamp = found.st_mtime_ns, found.st_size
            if stamp == self._stamp:
                return
            lines = self._file.read_text(encoding="ascii", errors="replace").splitlines()[-KEPT_ENDED:]
        except OSError:  # none has ended yet
            return
        self._stamp = stamp
        oldest = time.time() - PASS_DAYS * 86400
        for line in lines:
            ended, _, digest = line.partition(" ")
            if ended.isdigit() and len(ended) < 16 and float(ended) > oldest and len(digest) == 64:
                self._ended.setdefault(digest, float(ended))

    def _write_ended(self, path: Path) -> None:
        oldest = time.time() - PASS_DAYS * 86400
        text = "".join(f"{int(ended)} {digest}\n" for digest, ended in self._ended.items() if ended > oldest)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        try:
            with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
                file.write(text)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)

    def _mac(self, head: str) -> str:
        return hmac.digest(self._key, head.encode("utf-8", "replace"), "sha256").hex()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def token_setting() -> tuple[bool | None, Token | None]:
    """What QCORE_TOKEN says: whether a token is asked for (None: where a stranger could come), and the secret, if it is
    given there.

    Raises:
        ConfigError: for one that is too short.
    """
    said = os.environ.get(TOKEN, "").strip()
    if said.lower() in ("", "on", "off"):
        return {"": None, "on": True, "off": False}[said.lower()], None
    if len(said) < SHORTEST or any(letter.isspace() for letter in said):
        raise ConfigError(
            f"{TOKEN} holds {len(said)} letters and no token: give it on, off, or a secret of {SHORTEST} letters or "
            "more without blanks"
        )
    return True, Token(said)


def open_token(path: Path, *, renew: bool = False) -> Token:
    """The token of a file, made with mode 0600 when there is none, or anew when `renew`.

    Raises:
        ConfigError: for a file that others may read, or that holds no secret of 20 letters or more.
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
