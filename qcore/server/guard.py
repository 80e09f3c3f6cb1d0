"""The door: every request passes here before anything reads it.

A page of another origin must not steer a run through its visitor's browser (DNS rebinding), so the `Host` must be an IP
address, localhost or a name that the server was told, and an `Origin` must be the same host. Then the bearer token, and
a limit on requests at work at once. What is refused is a problem document like any other.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qcore.server.problems import MEDIA_TYPE, Problem
from qcore.server.token import Token

AT_WORK = 128
SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]


class Guard:
    """ASGI middleware. hosts: names beside IP addresses and localhost · open_paths: need no token."""

    def __init__(self, app: ASGIApp, token: Token, hosts: Iterable[str], open_paths: Iterable[str]) -> None:
        self._app, self._token = app, token
        self._hosts = {"localhost", *(host.lower() for host in hosts)}
        self._open_paths = frozenset(open_paths)
        self._at_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return

        async def sends(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *SECURITY]
            await send(message)

        try:
            self._check(scope)
        except Problem as problem:
            await refuse(problem, scope, sends)
            return
        self._at_work += 1
        try:
            await self._app(scope, receive, sends)
        finally:
            self._at_work -= 1

    def _check(self, scope: Scope) -> None:
        headers: dict[bytes, list[bytes]] = {}
        for key, value in scope["headers"]:
            headers.setdefault(key, []).append(value)
        hosts = [value.decode("latin-1") for value in headers.get(b"host", [])]
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            detail = f"the Host {', '.join(hosts)[:80]!r} is not this server's"
            raise Problem(
                403, "foreign-host", detail, "Use its IP address, or start qcore serve with --allow-host NAME."
            )
        for origin in headers.get(b"origin", []):
            netloc = _host_of(origin.decode("latin-1"))
            if netloc is None or netloc.lower() != hosts[0].lower():
                detail = f"requests from the origin {origin.decode('latin-1')[:80]!r} are refused"
                raise Problem(403, "foreign-origin", detail, "Call the server from a script, not from another page.")
        if scope["path"] not in self._open_paths:
            shown = headers.get(b"authorization", [b""])
            scheme, _, secret = shown[0].decode("latin-1").partition(" ")
            if len(shown) != 1 or scheme.lower() != "bearer" or not self._token.matches(secret.strip()):
                detail = "no bearer token came with the request" if not shown[0] else "the token is not this server's"
                remedy = "Send the header Authorization: Bearer TOKEN; qcore serve says which file holds the token."
                raise Problem(401, "unauthorized", detail, remedy, headers={"WWW-Authenticate": "Bearer"})
        if self._at_work >= AT_WORK:
            detail = f"{AT_WORK} requests are at work"
            raise Problem(503, "busy", detail, "Try again in a second.", headers={"Retry-After": "1"})

    def _is_ours(self, netloc: str) -> bool:
        host = _host_of(f"//{netloc}", name_only=True)
        if host is None:
            return False
        if host in self._hosts:
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True


def _host_of(url: str, *, name_only: bool = False) -> str | None:
    """Host and port of a URL, or its host's name alone; None for one that has none."""
    try:
        parts = urlsplit(url)
        found = parts.hostname if name_only else parts.netloc
    except ValueError:
        return None
    return found or None


async def refuse(problem: Problem, scope: Scope, send: Send) -> None:
    """Answer with a problem document."""
    body = problem.encoded(scope["path"])
    headers = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), **problem.headers}
    raw = [(key.lower().encode(), value.encode("latin-1")) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
