"""The wire of both servers under clients that ask and never read, and under more of them than there is room for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from qcore.server import wire
from qcore.server.wire import Http, RepeatLimit
from tests.support.configs import eventually

LARGE = 24 << 20  # more than the kernel keeps for a client that does not read
ANSWERED = b"HTTP/1.1 200"


@dataclass
class Served:
    """A server in a thread. connections: those that it knows of."""

    port: int
    connections: set[Any]

    def ask(self, path: str = "/small", peer: str = "127.0.0.1", reads: bool = True, times: int = 1) -> socket.socket:
        """A connection that has asked, or not yet; one that does not read has no room for an answer."""
        line = socket.socket()
        if not reads:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.bind((peer, 0))
        line.settimeout(30)
        line.connect(("127.0.0.1", self.port))
        line.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * times if path else b"")
        return line

    def work(self, count: int, peer: str = "127.0.0.1") -> list[socket.socket]:
        """Connections whose requests are being processed, one after another."""
        lines = []
        for _ in range(count):
            wanted = sum(_at_work(one) for one in list(self.connections)) + 1
            lines.append(self.ask("/work", peer))
            eventually(lambda wanted=wanted: sum(_at_work(one) for one in list(self.connections)) == wanted)
        return lines


def _at_work(one: Any) -> bool:
    return one.cycle is not None and not one.cycle.response_complete


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    """/small, /large; /closed, which is large and ends the connection; /work, which never answers."""
    path = scope["path"]
    if path == "/work":
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    body = b"x" * (LARGE if path in ("/large", "/closed") else 100)
    headers = [(b"content-length", str(len(body)).encode()), *([(b"connection", b"close")] * (path == "/closed"))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextlib.contextmanager
def serving(**limits: Any) -> Iterator[Served]:
    """A server with other limits than the usual ones."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            _app,
            http=type("Limited", (Http,), {"head_seconds": 1000.0, "unread_seconds": 1000.0, **limits}),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=1000,
            timeout_graceful_shutdown=1,
        )
    )
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])), name="wire")
    thread.start()
    try:
        eventually(lambda: server.started)
        yield Served(listening.getsockname()[1], server.server_state.connections)
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
    assert not thread.is_alive()


@pytest.mark.parametrize(("path", "times"), [("/large", 1), ("/large", 6), ("/closed", 1)])
def test_who_never_reads_is_hung_up_and_who_reads_gets_all(path: str, times: int):
    """The buffer of a socket is full, the server waits for it to drain; or it has closed, and waits to be rid of it."""
    with serving(unread_seconds=0.4, unread_rate=1e12) as served:
        lines = [served.ask(path, reads=False, times=times) for _ in range(3)]
        eventually(lambda: len(served.connections) == 3)
        eventually(lambda: not served.connections)
        for line in lines:
            line.close()
    with serving(unread_seconds=0.4, unread_rate=1.0) as served, served.ask("/large") as line:
        found = 0
        while found < LARGE:
            found += len(line.recv(1 << 20))


def test_connections_that_are_closing_make_room_and_then_those_that_wait():
    with serving(most=6) as served:
        closing = [served.ask("/closed", reads=False) for _ in range(3)]
        eventually(lambda: sum(one.transport.is_closing() for one in list(served.connections)) == 3)
        idle = [served.ask() for _ in range(3)]
        assert all(line.recv(100).startswith(ANSWERED) for line in idle)
        later = [served.ask() for _ in range(5)]
        assert all(line.recv(100).startswith(ANSWERED) for line in later)
        eventually(lambda: len(served.connections) <= 6)
        assert not any(one.transport.is_closing() for one in list(served.connections))
        for line in (*closing, *idle, *later):
            line.close()


def test_where_all_are_at_work_a_new_one_is_refused_and_one_peer_has_a_quarter(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wire, "is_loopback", lambda host: host != "127.0.0.2")
    with serving(most=16) as served:
        theirs = served.work(4, "127.0.0.2")
        for _ in range(5):
            with served.ask("", "127.0.0.2") as line:
                assert line.recv(100).startswith(b"HTTP/1.1 503")
        with served.ask() as line:
            assert line.recv(100).startswith(ANSWERED)
        eventually(lambda: len(served.connections) == 4)
        own = served.work(12)  # this machine has no share: it may stand for many
        with served.ask("") as line:
            assert line.recv(100).startswith(b"HTTP/1.1 503")
        for line in (*theirs, *own):
            line.close()
        eventually(lambda: not served.connections)


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING])
def test_a_line_of_each_refused_handshake_does_not_fill_a_log(level: int):
    written: list[str] = []
    spare = RepeatLimit(few=3)
    for number in range(50):
        record = logging.LogRecord("uvicorn.error", level, "", 0, '%s - "WebSocket %s" 403', (number, "/x" * 99), None)
        if spare.filter(record):
            written.append(record.getMessage())
    assert len(written) == 3
    assert all(
        spare.filter(logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, "broken", (), None)) for _ in range(9)
    )
