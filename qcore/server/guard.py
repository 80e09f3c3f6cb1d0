"""The door: every request passes here before anything reads it.

First `Host` and `Origin` (`qcore.server.hosts`), then the bearer token, and a limit on requests at work at once. What
is refused is a problem document like any other.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qcore.server.hosts import Hosts, headers
from qcore.server.problems import MEDIA_TYPE, Problem
from qcore.server.token import Token

AT_WORK = 128
_REMEDY = "Use its IP address, or start qcore serve with --allow-host NAME."
SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]


class Guard:
    """ASGI middleware.

    Attributes:
        hosts: names beside IP addresses and localhost.
        open_paths: need no token.
    """

    def __init__(self, app: ASGIApp, token: Token, hosts: Iterable[str], open_paths: Iterable[str]) -> None:
        self._app, self._token = app, token
        self._hosts = Hosts.of(hosts, any_address=True, remedy=_REMEDY)
        self._open_paths = frozenset(open_paths)
        self._at_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *SECURITY]
            await send(message)

        try:
            self._check(scope)
        except Problem as problem:
            await refuse(problem, scope, send_with_headers)
            return
        self._at_work += 1
        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            self._at_work -= 1

    def _check(self, scope: Scope) -> None:
        self._hosts.check(scope)
        if scope["path"] not in self._open_paths:
            shown = headers(scope, b"authorization")
            if not self._token.is_borne(shown):
                detail = "the token is not this server's" if any(shown) else "no bearer token came with the request"
                remedy = "Send the header Authorization: Bearer TOKEN; qcore serve says which file holds the token."
                raise Problem(401, "unauthorized", detail, remedy, headers={"WWW-Authenticate": "Bearer"})
        if self._at_work >= AT_WORK:
            detail = f"{AT_WORK} requests are being processed"
            raise Problem(503, "busy", detail, "Try again in a second.", headers={"Retry-After": "1"})


async def refuse(problem: Problem, scope: Scope, send: Send) -> None:
    """Answer with a problem document."""
    body = problem.encoded(scope["path"])
    headers = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), **problem.headers}
    raw = [(key.lower().encode(), value.encode("latin-1")) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
