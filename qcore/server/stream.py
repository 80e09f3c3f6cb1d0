"""Server-sent events of a run: event rows, state, findings and new points of curves, one poll for all who listen.

A feed polls a run's database once every half second while anyone listens, in a thread of the pool, writes each message
once for every distinct choice of curves, and hands it to the listeners' queues. The id of a message is
`<seq of the last event row>.<step>`; a listener that comes back with it as `Last-Event-ID` gets the event rows after
that one, each once, and the points from that step on: a point may come twice, so merge by step. Who reads too slowly is
disconnected, and loses nothing by coming back.
"""

from __future__ import annotations

import asyncio
import fnmatch
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool

from qcore.lab import Lab, LabError
from qcore.server.endpoint import to_json
from qcore.server.problems import Problem
from qcore.server.reads import finding_json, run_json

POLL_SECONDS = 0.5
FINDINGS_EVERY = 4  # polls: findings are slower to read and rarely change
QUIET_SECONDS = 15.0
QUEUE = 64
LISTENERS = 64
POINTS = 200
_ID = re.compile(r"(-?\d{1,15})\.(-?\d{1,15})")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StreamPosition:
    """How far a listener has read: the last event row, the last step."""

    seq: int = -1
    step: int = -1

    @staticmethod
    def parsed(text: str) -> StreamPosition:
        """The position of a `Last-Event-ID`.

        Raises:
            Problem: 422 for one that this server did not give.
        """
        found = _ID.fullmatch(text.strip())
        if found is None:
            detail = f"Last-Event-ID {text[:80]!r} is none of this stream's ids, such as 12.340"
            raise Problem(422, "refused-value", detail, "Send the id of the last message, or none.")
        return StreamPosition(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.seq}.{self.step}"


@dataclass(eq=False)
class Listener:
    """One open stream.

    Attributes:
        curves: patterns of the wanted names.
        queue: messages, None is the end.
    """

    curves: tuple[str, ...]
    position: StreamPosition
    fresh: bool = True
    queue: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(QUEUE))

    def wants(self, name: str) -> bool:
        """Whether a curve is among the wanted ones."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.curves)


def position_now(lab: Lab, run: str) -> StreamPosition:
    """Where a stream begins that was asked for without an id."""
    reader = lab.reader(run)
    return StreamPosition(max((event.seq for event in reader.events()), default=-1), lab.info(run).step)


def message(kind: str, data: Any, position: StreamPosition) -> bytes:
    """One server-sent event."""
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (str(position).encode(), kind.encode(), to_json(data))


class Feed:
    """What the listeners of one run share."""

    def __init__(self, lab: Lab, run: str, poll_seconds: float, done: Callable[[], None]) -> None:
        self._lab, self._run, self._poll_seconds, self._done = lab, run, poll_seconds, done
        self._cursor: Any = None
        self._seen = StreamPosition()
        self._state: dict[str, Any] = {}
        self._findings: dict[str, dict[str, Any]] = {}
        self._polls = 0
        self.listeners: list[Listener] = []

    async def run(self) -> None:
        """Poll and hand out until nobody listens."""
        try:
            # a list of its own: who joins while the thread reads is served by the next poll
            while self.listeners:
                listeners = list(self.listeners)
                for listener, found in zip(listeners, await run_in_threadpool(self._poll, listeners), strict=True):
                    self._hand(listener, found)
                await asyncio.sleep(self._poll_seconds)
        except (LabError, OSError) as error:  # deleted, or damaged, while somebody listened
            logger.info("the stream of %s ended: %s", self._run, error)
        finally:
            self.end()
            self._done()

    def end(self) -> None:
        """Let every listener's stream end after what it has been handed."""
        for listener in self.listeners:
            _close(listener)
        self.listeners.clear()

    def _hand(self, listener: Listener, found: bytes) -> None:
        if listener not in self.listeners or not found:
            return
        try:
            listener.queue.put_nowait(found)
        except asyncio.QueueFull:
            # a client too slow for its queue is cut off instead of waited for; it comes back with its last id and
            # misses nothing
            self.listeners.remove(listener)
            _close(listener)

    def _poll(self, listeners: list[Listener]) -> list[bytes]:
        """What is new for each listener, as text of the stream."""
        lab, run = self._lab, self._run
        reader = lab.reader(run)
        # read once for all listeners, whatever they asked for: a run is polled once however many watch
        series, cursor = reader.tail(self._cursor)
        # the first tail is always a reset; only a later one means that the run went back
        rewound = cursor.reset and self._cursor is not None
        self._cursor = cursor
        events = reader.events(self._seen.seq)
        state = run_json(lab.info(run))
        changed = {key: value for key, value in state.items() if self._state.get(key, ...) != value}
        # no status news on the first poll: every listener then is fresh and gets the whole of it
        news: list[tuple[str, Any]] = [("status", changed)] if changed and self._state else []
        if self._polls % FINDINGS_EVERY == 0:
            findings = {found.id: finding_json(found) for found in lab.findings(run)}
            news += [("finding", found) for key, found in findings.items() if self._findings.get(key) != found]
            self._findings = findings
        self._polls += 1
        self._state = state
        last = max((int(found.steps[-1]) for found in series.values()), default=self._seen.step)
        if rewound:
            back = reader.meta()["rewinds"][-1]["step"]
            # first, so that a client has cut its curves before the points of the new way arrive
            news.insert(0, ("rewind", {"step": back}))
            series = {name: _points_after(found, back) for name, found in series.items()}
        self._seen = StreamPosition(max([self._seen.seq, *(event.seq for event in events)]), last)
        # equal wishes share the bytes: most listeners are pages that ask for the same curves
        shared: dict[tuple[str, ...], bytes] = {}
        found_for = []
        for listener in listeners:
            if listener.fresh:
                found_for.append(self._welcome(listener))
                continue
            if listener.curves not in shared:
                wanted = {name: found for name, found in series.items() if listener.wants(name)}
                shared[listener.curves] = self._write_messages(news, events, wanted)
            found_for.append(shared[listener.curves])
        return found_for

    def _welcome(self, listener: Listener) -> bytes:
        """The first messages of a stream: how things stand, and what happened since the listener's position."""
        reader, listener.fresh = self._lab.reader(self._run), False
        news: list[tuple[str, Any]] = [("status", self._state)]
        news += [("finding", found) for found in self._findings.values()]
        if listener.position.step > self._seen.step:  # the run has gone back while the listener was away
            news.insert(0, ("rewind", {"step": self._seen.step}))
        events = [event for event in reader.events(listener.position.seq) if event.seq <= self._seen.seq]
        # from the listener's own step on: after a break it gets the gap, not the run
        names = [name for name in reader.names() if listener.wants(name)]
        return self._write_messages(news, events, reader.scalars_of(names, start=listener.position.step))

    def _write_messages(self, news: list[tuple[str, Any]], events: list[Any], series: Mapping[str, Any]) -> bytes:
        seen = self._seen
        parts = [message(kind, data, seen) for kind, data in news]
        # An event row bears its own seq: a stream cut here goes on with the next row.
        parts += [message("event", vars(event), StreamPosition(event.seq, seen.step)) for event in events]
        points = {name: _points(found) for name, found in series.items() if len(found)}
        if points:
            parts.append(message("scalars", points, seen))
        return b"".join(parts)


def _points_after(series: Any, step: int) -> Any:
    keep = series.steps > step
    return type(series)(series.steps[keep], series.wall[keep], series.values[keep])


def _points(series: Any) -> dict[str, list[Any]]:
    thinned = series.downsampled(POINTS)
    return {"steps": thinned.steps.tolist(), "values": thinned.values.tolist()}


def _close(listener: Listener) -> None:
    """End a stream. One that is full loses all that it has not sent: it comes back for it with its last id."""
    if listener.queue.full():
        while not listener.queue.empty():
            listener.queue.get_nowait()
    listener.queue.put_nowait(None)


class Hub:
    """All feeds of a server; used on its event loop alone, but for `close`."""

    def __init__(self, lab: Lab, poll_seconds: float = POLL_SECONDS) -> None:
        self._lab, self._poll_seconds = lab, poll_seconds
        self._feeds: dict[str, Feed] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def listen(self, run: str, curves: tuple[str, ...], position: StreamPosition) -> Listener:
        """Open a stream of what happens to a run after a position.

        Raises:
            Problem: 503 when there are too many, or the server stops.
        """
        if self._closed or sum(len(feed.listeners) for feed in self._feeds.values()) >= LISTENERS:
            detail = "the server is stopping" if self._closed else f"{LISTENERS} streams are open: no more are served"
            raise Problem(503, "busy", detail, "Try again later.", headers={"Retry-After": "5"})
        listener = Listener(curves, position)
        if run in self._feeds:
            self._feeds[run].listeners.append(listener)
            return listener
        feed = self._feeds[run] = Feed(self._lab, run, self._poll_seconds, lambda: self._forget(run))
        feed.listeners.append(listener)
        task = asyncio.get_running_loop().create_task(feed.run(), name=f"feed-{run}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return listener

    def leave(self, run: str, listener: Listener) -> None:
        """The listener's stream has ended."""
        feed = self._feeds.get(run)
        if feed is not None and listener in feed.listeners:
            feed.listeners.remove(listener)

    async def messages(self, listener: Listener) -> AsyncIterator[bytes]:
        """The bytes of a stream; a comment now and then shows that it lives."""
        yield b"retry: 2000\n\n"
        while True:
            try:
                found = await asyncio.wait_for(listener.queue.get(), QUIET_SECONDS)
            except TimeoutError:
                yield b": nothing new\n\n"
                continue
            if found is None:
                return
            yield found

    def close(self) -> None:
        """End every stream; call it on the event loop."""
        self._closed = True
        for feed in self._feeds.values():
            feed.end()

    def _forget(self, run: str) -> None:
        self._feeds.pop(run, None)
