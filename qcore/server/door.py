"""The app's door: pages, websocket, uploads, media, static files and channels are all behind it.

The same names and origins as the protocol (`qcore.server.hosts`), a token where one is asked for, and headers that keep
other pages from framing the app. What is refused is a plain page of one sentence, which loads nothing. The token comes
once, in the address that the start-up line prints; then a cookie stands for it, and the address is asked for again
without it. Where strangers are let in without one, half of the connections are for their websockets at most: who opens
another ends the oldest of whoever has most of them.

    GET /any/page?token=…   303 to the same page, with the cookie · 403 another token
    GET /_lab/leave         the cookie's pass ends, with every websocket that it opened
"""

from __future__ import annotations

import asyncio
import html
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qcore.server.hosts import Hosts, headers, is_loopback
from qcore.server.problems import Problem
from qcore.server.token import Passes
from qcore.server.wire import most_connections

LEAVE = "/_lab/leave"
_APP = {
    b"x-frame-options": b"DENY",
    b"content-security-policy": b"frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",  # not no-referrer, which would make the Origin of an upload null
}
_OWN = {
    **_APP,
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cache-control": b"no-store",
}


@dataclass(frozen=True)
class Entry:
    """What is asked of who comes in.

    Attributes:
        passes: those of the token that is asked for, or None.
        here_only: answer at loopback addresses alone, for an app that asks nobody.
        base: path below which the app is served.
    """

    hosts: Hosts
    passes: Passes | None = None
    here_only: bool = False
    base: str = ""

    @property
    def middleware(self) -> Middleware:
        """The door, as an app takes it."""
        return Middleware(Door, self)

    @property
    def leave(self) -> str:
        """Where a browser gives its pass back."""
        return (f"/{self.base.strip('/')}" if self.base.strip("/") else "") + LEAVE


class Door:
    """ASGI middleware of an app with this entry."""

    def __init__(self, app: ASGIApp, entry: Entry) -> None:
        self._app, self._entry = app, entry
        self._passes = entry.passes
        self._sockets: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._strangers: dict[asyncio.Event, str] = {}
        self.most_strangers = max(1, most_connections() // 2)
        """Websockets of people who have shown nothing, at a time."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or one websocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            shown = self._let_in(scope)
        except _AnswerError as answer:
            await _send_page(scope, send, answer.status, answer.sentence, answer.headers)
        except Problem as problem:
            await _send_page(scope, send, problem.status, f"{problem.detail}. {problem.remedy}", problem.headers)
        else:
            if scope["type"] == "websocket" and shown:
                await self._socket(self._open(shown), scope, receive, send)
            elif scope["type"] == "websocket" and self._passes is None and not self._entry.here_only:
                await self._socket(self._open_to_a_stranger(scope), scope, receive, send)
            else:
                await self._app(scope, receive, _with_headers(send))

    def _let_in(self, scope: Scope) -> str:
        """The pass that was shown; empty where none is asked for."""
        server = scope.get("server")
        # who asks nobody for a token must not be reached by an address that other machines can use
        if self._entry.here_only and server and not is_loopback(server[0]):
            detail = "this app was started for its own machine only and has no login"
            raise Problem(403, "not-here", detail, "Start it with --server.address, and it will ask for a token.")
        self._entry.hosts.check(scope)
        _align_host(scope)
        if self._passes is None:
            return ""
        shown = next((one for one in _cookies(scope, self._passes.cookie) if self._passes.holds(one)), "")
        # latin-1 takes any byte: a query that is no UTF-8 is refused by its content, not by an error here
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        # only what a browser opens by itself: a token in the address of a POST would be in logs for nothing
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            if scope["path"] == self._entry.leave:
                self._end(scope, shown)
            if given := [value for name, value in query if name == "token"]:
                self._exchange(scope, given, [pair for pair in query if pair[0] != "token"])
        if not shown and not self._passes.token.is_borne(headers(scope, b"authorization")):
            raise _AnswerError(
                401,
                "This lab asks for its token: open the address that its start-up line printed, which ends in ?token=…, "
                "or load this page again if you have just done that.",
                {"www-authenticate": "Bearer"},
            )
        return shown

    def _exchange(self, scope: Scope, given: list[str], rest: list[tuple[str, str]]) -> None:
        assert self._passes is not None
        if len(given) != 1 or not self._passes.token.matches(given[0]):
            raise _AnswerError(
                403, "The token in this address is not this lab's: open the one that its start-up line printed.", {}
            )
        # the token leaves the address at once, where it would be in the history and in what is shared
        path = "/" + quote(scope["path"].lstrip("/\\"), safe="/~")  # one slash: two would name another host
        secure = "; Secure" if scope["scheme"] in ("https", "wss") else ""
        cookie = f"{self._passes.cookie}={self._passes.issue()}; Path=/; HttpOnly; SameSite=Strict{secure}"
        to = f"{path}?{urlencode(rest)}" if rest else path
        raise _AnswerError(303, "Access granted.", {"location": to, "set-cookie": cookie})

    def _end(self, scope: Scope, shown: str) -> None:
        assert self._passes is not None
        # a picture on a stranger's page could otherwise end the session
        if any(site not in ("same-origin", "none") for site in headers(scope, b"sec-fetch-site")):
            raise _AnswerError(403, "Another page asked for this; nothing was done.", {})
        if shown:
            self._passes.end(shown)
            # a page that is open lives on its socket: without this it would go on with an ended pass
            for left in self._sockets.pop(shown, ()):
                left.set()
        cookie = f"{self._passes.cookie}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"
        sentence = (
            "You are logged out: this browser has no access any more until it opens the address with the token again."
        )
        raise _AnswerError(200, sentence, {"set-cookie": cookie})

    async def _socket(
        self, opened: AbstractContextManager[asyncio.Event], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """A websocket that ends with the pass that opened it, or when a stranger's has to make room."""
        with opened as left:
            ended = asyncio.ensure_future(left.wait())

            async def receive_until_end() -> Message:
                # both at once: a quiet page sends nothing for hours, and its pass may end meanwhile
                message = asyncio.ensure_future(receive())
                try:
                    await asyncio.wait({message, ended}, return_when=asyncio.FIRST_COMPLETED)
                    if not ended.done():
                        return await message
                finally:
                    message.cancel()
                await send({"type": "websocket.close", "code": 1008})
                return {"type": "websocket.disconnect", "code": 1008}

            try:
                await self._app(scope, receive_until_end, send)
            finally:
                ended.cancel()

    @contextmanager
    def _open(self, shown: str) -> Iterator[asyncio.Event]:
        left = asyncio.Event()
        self._sockets[shown].add(left)
        try:
            yield left
        finally:
            self._sockets[shown].discard(left)
            if not self._sockets[shown]:
                del self._sockets[shown]

    @contextmanager
    def _open_to_a_stranger(self, scope: Scope) -> Iterator[asyncio.Event]:
        while len(self._strangers) >= self.most_strangers:
            [(peer, _)] = Counter(self._strangers.values()).most_common(1)
            oldest = next(one for one, its_peer in self._strangers.items() if its_peer == peer)
            del self._strangers[oldest]
            oldest.set()
        left = asyncio.Event()
        self._strangers[left] = (scope.get("client") or ("",))[0]
        try:
            yield left
        finally:
            self._strangers.pop(left, None)


class _AnswerError(Exception):
    """The door answers by itself."""

    def __init__(self, status: int, sentence: str, headers: dict[str, str]) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers


def _align_host(scope: Scope) -> None:
    """Write the Host as the Origin does, where they are the same in other letters: Streamlit compares the texts, and
    asks an outside server for this machine's address when they differ.
    """
    if origins := headers(scope, b"origin"):
        host = origins[0].partition("://")[2].encode("latin-1")
        scope["headers"] = [(key, host if key == b"host" else value) for key, value in scope["headers"]]


def _cookies(scope: Scope, name: str) -> list[str]:
    """All values of a cookie; those of other names may be written as badly as they like."""
    pairs = (part.strip().partition("=") for text in headers(scope, b"cookie") for part in text.split(";"))
    return [value for key, _, value in pairs if key == name]


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [pair for pair in message.get("headers", ()) if pair[0].lower() not in _APP]
            message = {**message, "headers": [*kept, *_APP.items()]}
        await send(message)

    return send_with_headers


async def _send_page(scope: Scope, send: Send, status: int, sentence: str, more: Mapping[str, str]) -> None:
    """A page of one sentence; a websocket is refused, which HTTP calls 403."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    title = "Collapse Lab"
    body = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><h1>{title}</h1>'
        f"<p>{html.escape(sentence)}</p></html>\n"
    ).encode()
    raw = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(body)).encode()), *_OWN.items()]
    raw += [(key.lower().encode(), value.encode("latin-1")) for key, value in more.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
