"""What the app's door asks for, from Streamlit's settings and the environment: read once, when the server starts.

On a loopback address the app asks nobody for anything. Where it listens beyond that and has no login, it asks for a
token: QCORE_TOKEN, which may also say `on` or `off`, else the secret of the file that `qcore serve` keeps in the runs
folder (QCORE_TOKEN_FILE). QCORE_HOSTS lists further names of this machine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import streamlit as st
from streamlit import net_util
from streamlit.errors import StreamlitSecretNotFoundError

from qcore.config import ConfigError
from qcore.runs.errors import sentence
from qcore.server.door import LEAVE, Entry
from qcore.server.hosts import HOSTS, Hosts, is_loopback
from qcore.server.live import lifespan
from qcore.server.token import ENDED_FILE, TOKEN_FILE, TOKEN_PATH, Passes, open_token, token_setting

EVERYWHERE = ("", "0.0.0.0", "::")
PROBLEM = 2


_entry: Entry | None = None


def serves_app() -> bool:
    """Whether this process serves the app: otherwise a test runs its script, and nobody stands in front of it."""
    return _entry is not None


def asks_for_token() -> bool:
    """Whether everybody who sees a page has shown the lab's token."""
    return _entry is not None and _entry.passes is not None


def leave_address() -> str:
    """Where a browser gives its pass back."""
    return _entry.leave if _entry else LEAVE


def secrets() -> dict[str, object]:
    """The owner's secrets; empty without any.

    Raises:
        ConfigError: for a file that cannot be read: what it says about logins and roles is not known then.
    """
    try:
        return dict(st.secrets)
    except StreamlitSecretNotFoundError as error:
        if getattr(error, "error_id", "") == "no-secrets-found":
            return {}
        raise ConfigError(f"the file .streamlit/secrets.toml cannot be read: {error}") from None
    except (OSError, ValueError) as error:  # ValueError: what is no TOML, or not UTF-8
        raise ConfigError(f"the file .streamlit/secrets.toml cannot be read: {sentence(error)}") from None


def has_login() -> bool:
    """Whether the owner has set up a login.

    Raises:
        ConfigError: as `secrets`, and for `auth` that is no table.
    """
    found = secrets().get("auth")
    if found is None:
        return False
    if not hasattr(found, "keys"):
        raise ConfigError(f"auth = {found!r} in .streamlit/secrets.toml is refused: it must be a table, [auth]")
    return bool(found)


def entry() -> Entry:
    """From the settings of now.

    Raises:
        ConfigError: for one that cannot be.
    """
    address = str(st.get_option("server.address") or "")
    here = is_loopback(address)
    wanted, given = token_setting()
    login = has_login()
    asked = wanted if wanted is not None else not here and not login
    names = [] if address in EVERYWHERE or here else [address]
    passes = Passes(given or open_token(_token_path()), _runs() / ENDED_FILE) if asked else None
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    hosts = Hosts.of(names, any_address=address in EVERYWHERE)
    return Entry(hosts, passes, here and not login and wanted is None, base)


def _token_path() -> Path:
    if named := os.environ.get(TOKEN_PATH):
        return Path(named)
    _runs().mkdir(parents=True, exist_ok=True)
    return _runs() / TOKEN_FILE


def _runs() -> Path:
    return Path(os.environ.get("QCORE_RUNS", "checkpoints"))


def open_door() -> Entry:
    """The door of this process, which serves the app; where a setting is wrong, the process ends and says which."""
    global _entry
    # Streamlit would ask servers outside for this machine's address, at a start and for a header that a stranger sends.
    for name in ("get_external_ip", "get_internal_ip"):
        setattr(net_util, name, lambda: None)
    try:
        _entry = entry()
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"Collapse Lab does not start: {sentence(error)}\n")
        raise SystemExit(PROBLEM) from None
    return _entry


@asynccontextmanager
async def app_lifespan(app: object) -> AsyncIterator[None]:
    """Says where the app answers, and closes the labs of this process with it."""
    sys.stdout.write("\n".join(["", *greeting(), "", ""]))
    sys.stdout.flush()
    async with lifespan(app):
        yield


def greeting() -> list[str]:
    """Lines for the terminal: the address, with the token in it where one is asked for."""
    assert _entry is not None
    scheme = "https" if st.get_option("server.sslCertFile") else "http"
    address = str(st.get_option("server.address") or "")
    host = "127.0.0.1" if address in EVERYWHERE else f"[{address}]" if ":" in address else address
    query = f"?token={quote(_entry.passes.token.value, safe='')}" if _entry.passes else ""
    base = f"{_entry.base}/" if _entry.base else ""
    rest = f":{st.get_option('server.port')}/{base}{query}"
    lines = [f"  Collapse Lab: {scheme}://{host}{rest if query or base else rest.rstrip('/')}"]
    if query:
        path = _entry.passes.token.path if _entry.passes else None
        lines.append(f"  Anyone with this address can operate the lab{f'; its token is in {path}' if path else ''}.")
    if address in EVERYWHERE:
        lines.append(f"  From other machines: this machine's address, or a name of {HOSTS}, in place of {host}.")
    return lines
