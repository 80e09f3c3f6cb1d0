"""Who may do what: the person in front of the page is an operator, or a viewer who sees all and changes nothing.

On its own machine the app asks nobody: whoever opens it operates. Where it asks for its token (`pages.session.doors`),
whoever has that operates. Else, opened to a network without a login, everyone is a viewer. With Streamlit's login
(`[auth]` in .streamlit/secrets.toml) only people who have logged in see anything, and those operate whose e-mail is
listed, and verified by the provider: the claim `email_verified` is there and is `true`. The log then bears the e-mail.
A viewer's widgets are disabled, and the lab that the pages hand around refuses for them what is not reading.

What makes a person local is the peer's address, the Host and that no proxy has left a header. A forwarder of bare TCP
leaves none, and whoever comes through it is local: only the token tells them apart.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, NoReturn, cast

import streamlit as st
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from pages.session import doors
from pages.session.markdown_escape import escape_markdown
from qcore.config import ConfigError
from qcore.lab import Lab, LabError
from qcore.runs.reader_set import RunReaderSet
from qcore.server.hosts import is_loopback, split_netloc

OPERATORS = "QCORE_OPERATORS"
EVERYONE = "*"
VIEWER_HELP = "You are a viewer: an operator of this lab can do this."
NOTE = (
    "**You are a viewer.** This app can be reached from a network and has no login, so nothing can be changed here. "
    "To operate it, open it on its own machine, start it without `QCORE_TOKEN=off`, so that it asks for its token, or "
    "set up a login: `[auth]` in `.streamlit/secrets.toml`, and the operators' e-mails in the environment variable "
    f"`{OPERATORS}`."
)
READS = frozenset({name for name in vars(RunReaderSet) if not name.startswith("_")} | {"outcome", "runs_dir", "wait"})
"""What a viewer may use of a lab; anything else is refused, so that a new method is no hole."""

# What a proxy adds. A browser writes no header X-… when it opens a websocket.
_FORWARDED = re.compile(
    r"(?:x|cf|cdn|fly|fastly|akamai|ali|incap|surrogate|proxy|remote|client|true-client)-.+|via|forwarded|.+-ip|"
    r".*forwarded.*",
    re.IGNORECASE,
)
_EMAIL = re.compile(r"[^@\s*,]+@[^@\s*,]+")


@dataclass(frozen=True)
class User:
    """Who looks.

    Attributes:
        author: as the log writes it.
        email: of the login, empty without one.
    """

    operates: bool
    author: str = "person"
    email: str = ""


def current_user() -> User:
    """The person of this session. Call it in a page's script or a callback."""
    return _identify(st.user.to_dict(), doors.asks_for_token() or is_local())


def _identify(user: Mapping[str, Any], trusted: bool) -> User:
    """Who this is, by what the login says of them.

    Where the settings are wrong, nobody operates; `gate` says why.

    Args:
        trusted: whoever comes may operate where there is no login.
    """
    try:
        named = operators()
    except ConfigError:
        return User(False)
    if "is_logged_in" in user:  # there is a login
        claimed = user.get("email")
        email = claimed.strip().lower() if isinstance(claimed, str) else ""
        known = user["is_logged_in"] is True and bool(email) and user.get("email_verified") is True
        return User(known and (email in named or EVERYONE in named), email or "person", email)
    return User(trusted or EVERYONE in named)


def connection_check() -> Callable[[], bool]:
    """A question for other threads: whether this session is still connected, logged in as now, with the same rights."""
    context = get_script_run_ctx() if doors.serves_app() else None
    if context is None:
        return lambda: True
    user = dict(st.user.to_dict())
    trusted = doors.asks_for_token() or is_local()
    who, owner, identity = _identify(user, trusted), dict(context.user_info), context.session_id

    def is_here() -> bool:
        session = runtime.get_instance().get_app_session(identity)
        return session is not None and bool(session.matches_user_info(owner)) and _identify(user, trusted) == who

    return is_here


def can_operate() -> bool:
    """Whether this person may change runs."""
    return current_user().operates


def is_local() -> bool:
    """Whether this machine alone can reach the app, and no proxy sent the request: it listens at a loopback address,
    the peer has one, the Host is one or localhost, and no header tells of a forwarder.
    """
    if not is_loopback(str(st.get_option("server.address") or "")):
        return False
    headers = st.context.headers
    if not headers and not doors.serves_app() and get_script_run_ctx(suppress_warning=True):
        return True  # the script runs without any server, so nobody is there who could be a stranger
    host = split_netloc(headers.get("Host") or "")
    peer = getattr(st.context, "ip_address", None)  # None: 127.0.0.1 or ::1
    return (
        host is not None
        and is_loopback(host[0])
        and (not isinstance(peer, str) or is_loopback(peer))
        and not any(_FORWARDED.fullmatch(name) for name in headers)
    )


def operators() -> frozenset[str]:
    """E-mails of the environment, and of `[roles] operators` in the secrets; `*` is everyone.

    Raises:
        ConfigError: for anything else than a list of e-mails: read as if it were one, a text would name people by its
            letters.
    """
    listed = [name for name in os.environ.get(OPERATORS, "").split(",") if name.strip()]
    roles = doors.secrets().get("roles", {})
    if not isinstance(roles, Mapping) or set(roles) - {"operators"}:
        raise ConfigError(
            f"roles = {_short_repr(roles)} in .streamlit/secrets.toml is refused: it is a table, [roles], with "
            "operators "
            "alone in it"
        )
    given = roles.get("operators", [])
    if not isinstance(given, list | tuple) or not all(isinstance(name, str) for name in given):
        raise ConfigError(
            f"operators = {_short_repr(given)} in .streamlit/secrets.toml is refused: it is a list of texts, such as "
            'operators = ["ada@example.org"]'
        )
    named = frozenset(name.strip().lower() for name in (*listed, *given))
    for name in named - {EVERYONE}:
        if not _EMAIL.fullmatch(name):
            raise ConfigError(
                f"{name!r} is refused as an operator: write whole e-mails ({OPERATORS}, or operators in "
                f".streamlit/secrets.toml), or {EVERYONE} alone for everyone"
            )
    return named


def _short_repr(value: object) -> str:
    text = repr(value.to_dict() if hasattr(value, "to_dict") else value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def gate() -> None:
    """Where there is a login, show nothing before it; where a setting of logins or roles is wrong, nothing at all."""
    try:
        login = doors.has_login()
        operators()
    except ConfigError as error:
        st.title("Collapse Lab", anchor=False)
        st.error(
            "**This lab is closed to everyone, because one of its settings is invalid.** "
            f"{escape_markdown(str(error))}",
            icon=":material/lock:",
        )
        st.stop()
    if st.user.to_dict().get("is_logged_in", not login) is True:
        return
    st.title("Collapse Lab", anchor=False)
    st.info("Log in to see the runs of this lab; its operators may also change them.")
    about = "With the login provider that this lab's owner has chosen."
    st.button("Log in", icon=":material/login:", type="primary", help=about, on_click=st.login)
    st.stop()


def account_badge() -> None:
    """Who is logged in, as what, and the way out; for a viewer of an open app, what to do."""
    who = current_user()
    if "is_logged_in" in st.user.to_dict():
        role = "operator" if who.operates else "viewer"
        before, at, host = who.email.rpartition("@")  # their own address may look like one
        name = f"{escape_markdown(before)}\\{at}{escape_markdown(host)}" if at else "an account without an e-mail"
        st.sidebar.caption(f"{name} · {role}", help=None if who.operates else VIEWER_HELP)
        st.sidebar.button(
            "Log out", icon=":material/logout:", type="tertiary", help="End this login.", on_click=st.logout
        )
    elif doors.asks_for_token():
        about = "End this browser's access; the token lets it in again."
        st.sidebar.link_button("Log out", doors.leave_address(), icon=":material/logout:", type="tertiary", help=about)
    elif not who.operates:
        st.info(NOTE, icon=":material/visibility:")


def viewer_lock() -> dict[str, Any]:
    """Settings of a widget that changes a run: disabled with a reason for a viewer, none for an operator."""
    return {} if can_operate() else {"disabled": True, "help": VIEWER_HELP}


def viewer_refusal() -> str:
    """Why this person may not change anything now; empty when they may. For what does not go through the lab."""
    return "" if can_operate() else VIEWER_HELP


def button(label: str, **settings: Any) -> bool:
    """`st.button` for what changes a run: for a viewer it is disabled, does nothing, and never counts as pressed."""
    if can_operate():
        return st.button(label, **settings)
    kept = {key: value for key, value in settings.items() if key not in ("args", "kwargs")}
    st.button(label, **{**kept, **viewer_lock(), "on_click": _say_viewer})
    return False


def _say_viewer() -> None:
    st.toast(VIEWER_HELP, icon=":material/visibility:")


def lab_for(lab: Lab) -> Lab:
    """The lab as this person may use it: their e-mail is the author, and a viewer can only read."""
    who = current_user()
    if who.operates and not who.email:
        return lab
    return cast(Lab, _UserLab(lab, who))


class _UserLab:
    """A lab in one person's hands. Equal to another of the same lab, so that caches are shared between persons."""

    def __init__(self, lab: Lab, who: User) -> None:
        self._lab, self._who = lab, who

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._lab, name)
        if name in READS:
            return found
        if not self._who.operates:
            return _refuse_viewers(found)
        if callable(found) and "author" in inspect.signature(found).parameters:
            return partial(found, author=self._who.author)
        return found

    def __eq__(self, other: object) -> bool:
        return self._lab is (other._lab if isinstance(other, _UserLab) else other)

    def __hash__(self) -> int:
        return hash(self._lab)


def _refuse_viewers(method: Any) -> Callable[..., NoReturn]:
    @wraps(method)
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise LabError("you are a viewer of this lab: ask an operator to do this")

    return refuse
