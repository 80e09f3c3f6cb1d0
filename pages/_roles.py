"""Who may do what: the person in front of the page is an operator, or a viewer who sees all and changes nothing.

On its own machine the app asks nobody: whoever opens it operates. Opened to a network it trusts nobody by default:
without a login everyone is a viewer. With Streamlit's login (`[auth]` in .streamlit/secrets.toml) only people who have
logged in see anything, and those whose e-mail is listed as an operator's may change runs; the log then bears the
e-mail. A viewer's widgets are disabled, and the lab that the pages hand around refuses for them what is not reading.
"""

from __future__ import annotations

import contextlib
import inspect
import ipaddress
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, NoReturn, cast

import streamlit as st

from qcore.lab import Lab, LabError
from qcore.lab.reading import Reading

OPERATORS = "QCORE_OPERATORS"
EVERYONE = "*"
VIEWER_HELP = "You are a viewer: an operator of this lab can do this."
NOTE = (
    "**You are a viewer.** This app can be reached from a network and has no login, so nothing can be changed here. "
    "To operate it, open it on its own machine, or set up a login: `[auth]` in `.streamlit/secrets.toml`, and the "
    f"operators' e-mails in the environment variable `{OPERATORS}`."
)
READS = frozenset({name for name in vars(Reading) if not name.startswith("_")} | {"outcome", "runs_dir", "wait"})
"""What a viewer may use of a lab; anything else is refused, so that a new method is no hole."""

_FORWARDED = ("X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "X-Real-IP")


@dataclass(frozen=True)
class Person:
    """Who looks. author: as the log writes it · email: of the login, empty without one."""

    operates: bool
    author: str = "person"
    email: str = ""


def person() -> Person:
    """The person of this session. Call it in a page's script or a callback."""
    user = st.user.to_dict()
    if "is_logged_in" in user:  # there is a login
        email = str(user.get("email") or "").strip().lower()
        known = bool(user["is_logged_in"]) and bool(email) and user.get("email_verified") is not False
        named = _operators()
        return Person(known and (email in named or EVERYONE in named), email or "person", email)
    return Person(is_local() or EVERYONE in _operators())


def can_operate() -> bool:
    """Whether this person may change runs."""
    return person().operates


def is_local() -> bool:
    """Whether only this machine can reach the app: it listens at a loopback address, and no proxy sent the request."""
    headers = st.context.headers
    if any(name in headers for name in _FORWARDED):
        return False
    host = headers.get("Host")
    named = host is None or _is_loopback(host.rsplit(":", 1)[0] if host[-1:] != "]" else host)
    return named and _is_loopback(str(st.get_option("server.address") or ""))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _operators() -> frozenset[str]:
    """E-mails of the environment, and of `[roles] operators` in the secrets."""
    listed = os.environ.get(OPERATORS, "").split(",")
    with contextlib.suppress(FileNotFoundError):  # no secrets at all
        listed += list(st.secrets.get("roles", {}).get("operators", ()))
    return frozenset(name.strip().lower() for name in listed if name.strip())


def gate() -> None:
    """Where there is a login, show nothing before it."""
    if st.user.to_dict().get("is_logged_in", True):
        return
    st.title("Collapse Lab", anchor=False)
    st.info("This lab asks who you are. Log in to see its runs; its operators may also change them.")
    about = "With the account that this lab's owner has chosen."
    st.button("Log in", icon=":material/login:", type="primary", help=about, on_click=st.login)
    st.stop()


def badge() -> None:
    """Who is logged in, as what, and the way out; for a viewer of an open app, what to do."""
    who = person()
    if "is_logged_in" in st.user.to_dict():
        role = "operator" if who.operates else "viewer"
        name = who.email.replace("@", r"\@") or "an account without an e-mail"
        st.sidebar.caption(f"{name} · {role}", help=None if who.operates else VIEWER_HELP)
        st.sidebar.button(
            "Log out", icon=":material/logout:", type="tertiary", help="End this login.", on_click=st.logout
        )
    elif not who.operates:
        st.info(NOTE, icon=":material/visibility:")


def locked() -> dict[str, Any]:
    """Settings of a widget that changes a run: disabled with a reason for a viewer, none for an operator."""
    return {} if can_operate() else {"disabled": True, "help": VIEWER_HELP}


def refused() -> str:
    """Why this person may not change anything now; empty when they may. For what does not go through the lab."""
    return "" if can_operate() else VIEWER_HELP


def button(label: str, **settings: Any) -> bool:
    """`st.button` for what changes a run: for a viewer it is disabled, does nothing, and never counts as pressed."""
    if can_operate():
        return st.button(label, **settings)
    kept = {key: value for key, value in settings.items() if key not in ("args", "kwargs")}
    st.button(label, **{**kept, **locked(), "on_click": _say_viewer})
    return False


def _say_viewer() -> None:
    st.toast(VIEWER_HELP, icon=":material/visibility:")


def lab_for(lab: Lab) -> Lab:
    """The lab as this person may use it: their e-mail is the author, and a viewer can only read."""
    who = person()
    if who.operates and not who.email:
        return lab
    return cast(Lab, _PersonsLab(lab, who))


class _PersonsLab:
    """A lab in one person's hands. Equal to another of the same lab, so that caches are shared between persons."""

    def __init__(self, lab: Lab, who: Person) -> None:
        self._lab, self._who = lab, who

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._lab, name)
        if name in READS:
            return found
        if not self._who.operates:
            return _refusing(found)
        if callable(found) and "author" in inspect.signature(found).parameters:
            return partial(found, author=self._who.author)
        return found

    def __eq__(self, other: object) -> bool:
        return self._lab is (other._lab if isinstance(other, _PersonsLab) else other)

    def __hash__(self) -> int:
        return hash(self._lab)


def _refusing(method: Any) -> Callable[..., NoReturn]:
    @wraps(method)
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise LabError("you are a viewer of this lab: ask an operator to do this")

    return refuse
