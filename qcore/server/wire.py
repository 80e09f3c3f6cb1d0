"""HTTP on the wire, for both servers: heads, bodies and answers that never end, too many connections, a log that fills.

uvicorn waits for ever for the rest of a request's head or body and for a client to read its answer, and takes any
number of connections: some hundred half heads of a stranger, without any token, take all descriptors of the process
that trains. Here a head has `head_seconds`, a body `body_seconds` and one second more for every `body_rate` bytes that
came, and so has an answer that lies unread, `unread_seconds` and `unread_rate`. Where `most` connections are open,
those that are closing make room, else the one that has been idle or unfinished for longest; where all are at work, the
new one is refused. One peer has a quarter of them, unless it is this machine, where a proxy may stand for many.
Requests at work, streams and websockets have no limit of time while their client reads.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from qcore.server.hosts import is_loopback

HEAD_SECONDS = 10.0
BODY_SECONDS = 20.0
BODY_RATE = 16_384
UNREAD_SECONDS = 20.0
UNREAD_RATE = 1024
MOST = 512
FREE_SHARE = 0.5
PEER_SHARE = 0.25
_REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 5\r\nConnection: close\r\n\r\n"


def most_connections() -> int:
    """`MOST`, or half of the descriptors that this process may open, as runs need the others."""
    try:
        import resource
    except ModuleNotFoundError:  # no such limit on Windows
        return MOST
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST if soft == resource.RLIM_INFINITY else max(8, min(MOST, int(FREE_SHARE * soft)))


class Http(H11Protocol):
    """HTTP/1.1 with limits of time and number; subclasses may set others."""

    head_seconds: float = HEAD_SECONDS
    body_seconds: float = BODY_SECONDS
    body_rate: float = BODY_RATE
    unread_seconds: float = UNREAD_SECONDS
    unread_rate: float = UNREAD_RATE
    most: int | None = None

    _due: asyncio.TimerHandle | None = None
    _waits_for: str = ""
    _since: float = 0.0
    _came: int = 0
    _upgraded: bool = False
    _watch: asyncio.TimerHandle | None = None
    _unread: int = 0
    _unread_since: float = 0.0
    _read: int = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it where no room can be made."""
        super().connection_made(transport)
        self._watch = self.loop.call_later(self.unread_seconds / 4, self._look_at_unread)
        most = self.most if self.most is not None else most_connections()
        peer = self.client[0] if self.client else ""
        alike = [one for one in self.connections if (getattr(one, "client", None) or ("",))[0] == peer]
        crowded = bool(peer) and not is_loopback(peer) and len(alike) > max(2, int(PEER_SHARE * most))
        if (crowded and not self._make_room(alike)) or (
            len(self.connections) > most and not self._make_room(list(self.connections))
        ):
            transport.write(_REFUSED)
            transport.close()
            return
        self._wait_for("head")

    def _make_room(self, others: list[Any]) -> bool:
        """Drop the connections that are closing, whose answer nobody fetches; without any, the one that has waited for
        longest. Whether there was one.
        """
        closing = [one for one in others if one is not self and one.transport.is_closing()]
        waiting = [one for one in others if isinstance(one, Http) and one is not self and one._is_idle]
        for one in closing or sorted(waiting, key=lambda one: one._since)[:1]:
            self.connections.discard(one)
            one.transport.abort()
        return bool(closing or waiting)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget its time."""
        self._stop()
        self._stop_watching()
        super().connection_lost(exc)

    def _look_at_unread(self) -> None:
        """End a connection whose client does not read: what is to be sent lies there, and becomes less too slowly."""
        size, now = self.transport.get_write_buffer_size(), time.monotonic()
        self._watch = None
        if self.transport.is_closing() and not size:  # it has ended, as a websocket if it had become one
            return
        if not size or not self._unread:
            self._unread_since, self._read = now, 0
        self._read += max(0, self._unread - size)
        self._unread = size
        if size and now - self._unread_since > self.unread_seconds + self._read / self.unread_rate:
            self._stop()
            self.transport.abort()
            return
        self._watch = self.loop.call_later(self.unread_seconds / 4, self._look_at_unread)

    def resume_writing(self) -> None:
        """What lay there was read, all but a little."""
        self._unread, self._read = 0, 0
        super().resume_writing()

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def data_received(self, data: bytes) -> None:
        """Take bytes, and see what is still missing of the request."""
        self._came += len(data)
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """One answer is done; a request that had been sent behind it may be half here."""
        super().on_response_complete()
        self._look()

    def handle_websocket_upgrade(self, event: Any) -> None:
        """A websocket has no limit of time."""
        self._upgraded = True
        self._stop()
        super().handle_websocket_upgrade(event)

    def hang_up(self) -> None:
        """Close a connection whose request did not come."""
        self._stop()
        if not self.transport.is_closing():
            self.transport.close()

    @property
    def _is_idle(self) -> bool:
        return not self._upgraded and (self.cycle is None or self.cycle.response_complete)

    def _look(self) -> None:
        state = repr(self.conn.their_state)
        if self._upgraded or self.transport.is_closing():
            self._stop()
        elif state == "SEND_BODY":
            self._wait_for("body")
        elif state == "IDLE" and (self.cycle is None or self.conn.trailing_data[0]):
            self._wait_for("head")
        else:
            self._stop()
            self._since = time.monotonic()

    def _wait_for(self, what: str) -> None:
        if self._waits_for == what:
            return
        self._stop()
        self._waits_for, self._since, self._came = what, time.monotonic(), 0
        self._due = self.loop.call_later(self._seconds, self._on_deadline)

    @property
    def _seconds(self) -> float:
        return self.head_seconds if self._waits_for == "head" else self.body_seconds + self._came / self.body_rate

    def _on_deadline(self) -> None:
        left = self._since + self._seconds - time.monotonic()
        if self._waits_for == "body" and self.flow.read_paused:
            left = max(left, 1.0)  # what came is more than was read: the server is slow, not the client
        if left > 0.001:
            self._due = self.loop.call_later(left, self._on_deadline)
        else:
            self.hang_up()

    def _stop(self) -> None:
        self._waits_for = ""
        if self._due is not None:
            self._due.cancel()
            self._due = None


class RepeatLimit(logging.Filter):
    """Lets the first few of equal messages through in a stretch of time; the next one after it says how many were left
    out. What a stranger sends must not fill a log: warnings of bad requests, a line for each websocket that is refused,
    with the path that was asked for.
    """

    def __init__(self, few: int = 3, seconds: float = 60.0) -> None:
        super().__init__()
        self._few, self._seconds = few, seconds
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write a record; those above WARNING always are."""
        if record.levelno > logging.WARNING:
            return True
        text, now = str(record.msg), time.monotonic()
        began, count = self._seen.get(text, (now, 0))
        if now - began > self._seconds:
            if count > self._few:
                record.msg = f"{text} ({count - self._few} more like it were not written)"
            began, count = now, 0
        self._seen[text] = began, count + 1
        while len(self._seen) > 100:
            del self._seen[next(iter(self._seen))]
        return count < self._few


def limit_repeats_in_log() -> None:
    """Bound what uvicorn writes about bad requests. A second call changes nothing."""
    logger = logging.getLogger("uvicorn.error")
    if not any(isinstance(one, RepeatLimit) for one in logger.filters):
        logger.addFilter(RepeatLimit())
