"""The running server: one named thread with uvicorn, its lab and its training process, and their clean end.

`close` ends streams and requests, joins the thread, then lets every run of the training process stop with a checkpoint.
What is no HTTP at all is refused with a problem document, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterable
from pathlib import Path

import uvicorn

from qcore.config import ConfigError
from qcore.lab import Lab
from qcore.runs.errors import sentence
from qcore.server.app import Protocol
from qcore.server.hosts import Hosts, is_loopback
from qcore.server.problems import MEDIA_TYPE, Problem
from qcore.server.stream import POLL_SECONDS
from qcore.server.token import TOKEN_FILE, Token, open_token
from qcore.server.trainer import TrainerProcess
from qcore.server.wire import Http, limit_repeats_in_log

__all__ = ["HOST", "PORT", "Service", "is_loopback"]

HOST = "127.0.0.1"
PORT = 8620
GRACE_SECONDS = 5
_JOIN_SECONDS = 30.0


class _Http(Http):
    """HTTP/1.1 whose own refusals are problem documents, too."""

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are no HTTP request, and hang up."""
        body = Problem(400, "malformed-http", msg, "Send an HTTP/1.1 request.").encoded()
        head = (
            f"HTTP/1.1 400 Bad Request\r\nContent-Type: {MEDIA_TYPE}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()


class Service:
    """The protocol over a runs folder.

    Attributes:
        port: 0 takes a free one.
        training: runs that train at a time.
    """

    def __init__(
        self,
        runs_dir: Path | str,
        *,
        host: str = HOST,
        port: int = PORT,
        token: Token | None = None,
        hosts: Iterable[str] = (),
        training: int = 1,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        Hosts.of([host, *hosts])  # a name that is none is refused before anything is opened
        self._socket = _bind_socket(host, port)
        self.port: int = self._socket.getsockname()[1]
        self.host = host
        self.lab = Lab(runs_dir)
        self.token = token or open_token(self.lab.runs_dir / TOKEN_FILE)
        self._trainer = TrainerProcess(self.lab.runs_dir, training)
        self._protocol = Protocol(self.lab, self._trainer, self.token, hosts=[host, *hosts], poll_seconds=poll_seconds)
        config = uvicorn.Config(
            self._protocol.app,
            http=_Http,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        self._server = uvicorn.Server(config)
        limit_repeats_in_log()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main, name="qcore-server", daemon=True)

    def __enter__(self) -> Service:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def alive(self) -> bool:
        """Whether its thread lives."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Answer requests, from now until `close`; returns when the loop runs."""
        self._thread.start()
        self._ready.wait()

    def close(self) -> None:
        """End it all, in order. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._protocol.hub.close)
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(_JOIN_SECONDS)
        self._trainer.close()
        self.lab.close()
        self._socket.close()

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._ready.set)
        await self._server.serve(sockets=[self._socket])


def _bind_socket(host: str, port: int) -> socket.socket:
    """A bound socket, so that the port is known, and taken, before the thread starts."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"{host}:{port} cannot be served: {sentence(error)}; choose another --port or --host"
        ) from None
