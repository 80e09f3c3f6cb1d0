"""Channels: how an open page follows its run without running its script again.

A script rerun costs the machine that trains: Streamlit goes through all elements of the page, whatever has changed. A
page that only shows newer figures opens a channel instead, and the browser asks it every few seconds. The address of a
channel is a secret of its page: only a session that was let in gets one. It ends when nobody has asked for a minute (a
page in a hidden tab asks not at all: back in view it is told so, and draws itself anew, with another address), and it
answers only while the session of its page is connected and has the rights that it had.

    GET /live/{secret}    200 what is shown now, as JSON, with its ETag · 304 nothing is newer than If-None-Match
                          205 the page itself has changed: run its script again · 410 no such channel, or no such run
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from weakref import WeakValueDictionary

import uvicorn
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qcore.lab import LabError, close_shared
from qcore.runs.errors import sentence
from qcore.server.wire import Http, limit_repeats_in_log

IDLE_SECONDS = 60.0
"""A channel that nobody has asked for so long has ended; pages ask more often."""


@dataclass(frozen=True)
class View:
    """What a page shows now.

    Attributes:
        tag: names its state, in any letters; equal tags show the same.
        body: its JSON, made only when someone wants it.
        stale: whether the rest of the page would look different by now.
    """

    tag: str
    body: Callable[[], str]
    stale: bool = False

    @property
    def etag(self) -> str:
        """The tag as HTTP writes it: a header holds no name of a run in any script, and no quotation mark."""
        name = hashlib.blake2b(self.tag.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return f'"{name}"'


class Channel:
    """One page of one session. It is open as long as someone holds it, and asks.

    Attributes:
        read: gives the view of now; called in the server's threads, so it must not touch the session.
        here: whether the session that it was made for is connected, with the same rights; called on the server's loop.
        within: what an answer is given in, the view and its body alike: such as one moment of the run.
    """

    def __init__(
        self,
        read: Callable[[], View],
        here: Callable[[], bool] = lambda: True,
        within: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        self._read, self._here, self._within = read, here, within
        self._asked = time.monotonic()
        self._secret = secrets.token_urlsafe(24)
        self.address = f"live/{self._secret}"
        _open[self._secret] = self
        for one in (reference() for reference in _open.valuerefs()):
            if one is not None and one.is_over:
                _open.pop(one._secret, None)

    @property
    def is_over(self) -> bool:
        """Whether nobody has asked for so long that nobody will be answered again."""
        return time.monotonic() - self._asked > IDLE_SECONDS

    def may_answer(self) -> bool:
        """Whether a question that comes now is answered. While the session is away it is not; that alone ends
        nothing, as a broken connection comes back.
        """
        if self.is_over or not self._here():
            return False
        self._asked = time.monotonic()
        return True

    def answer(self, known: str | None) -> Response:
        """The answer to someone who has the view with the ETag `known`, or none yet."""
        try:
            with self._within():
                view = self._read()
                headers = {"ETag": view.etag, "Cache-Control": "no-store"}
                if view.stale:
                    return Response(status_code=205)
                if view.etag == known:
                    return Response(status_code=304, headers=headers)
                return Response(view.body(), media_type="application/json", headers=headers)
        except (LabError, OSError) as error:
            return Response(f"{sentence(error)}\n", 410, media_type="text/plain")


_open: WeakValueDictionary[str, Channel] = WeakValueDictionary()


async def _answer(request: Request) -> Response:
    channel = _open.get(request.path_params["secret"])
    if channel is None or not channel.may_answer():
        return Response("this page is no longer open: load it again\n", 410, media_type="text/plain")
    return await run_in_threadpool(channel.answer, request.headers.get("if-none-match"))


def route(base: str = "") -> Route:
    """The route of all channels of this process, for the server that also serves the pages.

    Args:
        base: path below which it serves them.
    """
    return Route(f"{'/' + base.strip('/') if base.strip('/') else ''}/live/{{secret}}", _answer, methods=["GET"])


GRACE_SECONDS = 3
"""How long a server that ends waits for answers under way and for browsers to hang up."""


@contextlib.asynccontextmanager
async def lifespan(_: object) -> AsyncIterator[None]:
    """Closes the process's labs with the server; a signal first does that, and then ends the process as it always does.

    Left to itself, uvicorn dies of SIGTERM with runs not stopped and checkpoints not written. After SIGINT it lets the
    process run to its end, where more of them raise KeyboardInterrupt in whatever is being taken down, and a second one
    skips this function altogether. Here every signal after the first changes nothing: checkpoints are being written.
    """
    received: list[int] = []
    server = getattr(signal.getsignal(signal.SIGINT), "__self__", None)
    limit_repeats_in_log()
    if isinstance(server, uvicorn.Server):
        server.config.http_protocol_class = Http
        server.config.timeout_graceful_shutdown = server.config.timeout_graceful_shutdown or GRACE_SECONDS

        def end(number: int, _: object) -> None:
            received.append(number)
            server.should_exit = True

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, end)
    yield
    await asyncio.to_thread(close_shared)
    if received:
        sys.stdout.flush()
        signal.signal(received[0], signal.SIG_DFL)
        signal.raise_signal(received[0])
