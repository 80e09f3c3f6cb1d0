"""What a person asks for many times in a row, done once: the last of it, when they have stopped for a moment.

A key held on a slider asks for eight values in a second; each would be an event of the run and a line on every chart.
The waiting is done by a thread of the process, not by the page, so that nothing is lost when the page is left or its
tab is closed; the thread lives only while something waits. Whatever else is sent to a run goes after what waits for it
(`flush`), and the end of the process does not lose it either.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

QUIET_SECONDS = 0.8
"""How long nothing newer may come before the last value is taken."""
HELD_SECONDS = 10.0
"""How long a value waits at most for the run of the script that brought it: until that ends, nothing newer can come."""
UNASKED_SECONDS = 3.0
"""How long it then waits for a word of the browser, which takes presses only when it has drawn that run. None comes
when the page was left.
"""
_JOIN_SECONDS = 5.0
Key = tuple[Hashable, ...]


@dataclass
class _Waiting:
    act: Callable[[], None]
    failed: Callable[[Exception], None]
    due: float
    displaced: Callable[[], None]


def _nothing() -> None:
    """Nobody asked to be told."""


class Debouncer:
    """Keys with what is to be done for each. Safe from any thread; what was handed over is called without a lock."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[Key, _Waiting] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    def put(
        self,
        key: Key,
        act: Callable[[], None],
        failed: Callable[[Exception], None],
        seconds: float | None = None,
        displaced: Callable[[], None] = _nothing,
    ) -> None:
        """Do `act` when nothing newer has come for this key for so many seconds; at once for 0. What waited for the key
        is forgotten.

        Args:
            failed: told what `act` raised.
            displaced: told that `act` is forgotten.
        """
        seconds = QUIET_SECONDS if seconds is None else seconds
        with self._changed:
            before = self._waiting.get(key)
            self._waiting[key] = _Waiting(act, failed, time.monotonic() + seconds, displaced)
            waits = seconds > 0 and not self._closed
            if waits:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="settling knobs", daemon=True)
                    self._thread.start()
                self._changed.notify_all()
        if before is not None:
            before.displaced()
        if not waits:
            self.flush(key)

    def release(self, prefix: Key, seconds: float | None = None) -> None:
        """From now on, what waits for keys that begin with `prefix` waits for so many seconds and no longer."""
        due = time.monotonic() + (QUIET_SECONDS if seconds is None else seconds)
        with self._changed:
            for key, one in self._waiting.items():
                if key[: len(prefix)] == prefix:
                    one.due = min(one.due, due)
            self._changed.notify_all()

    def drop(self, key: Key) -> None:
        """Forget what waits for a key."""
        with self._changed:
            before = self._waiting.pop(key, None)
        if before is not None:
            before.displaced()

    def flush(self, prefix: Key = ()) -> None:
        """Do now what waits for the keys that begin with `prefix`, oldest first."""
        for one in self._pop_waiting(lambda key, _: key[: len(prefix)] == prefix):
            _run_waiting(one)

    def close(self) -> None:
        """Do all that waits, and end the thread. May be called again; what comes later is done at once."""
        with self._changed:
            self._closed = True
            thread = self._thread
            self._changed.notify_all()
        self.flush()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_JOIN_SECONDS)

    def _pop_waiting(self, wanted: Callable[[Key, _Waiting], bool]) -> list[_Waiting]:
        with self._changed:
            keys = [key for key, one in self._waiting.items() if wanted(key, one)]
            return sorted((self._waiting.pop(key) for key in keys), key=lambda one: one.due)

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._closed or not self._waiting:
                    self._thread = None
                    return
                first = min(one.due for one in self._waiting.values())
                if (left := first - time.monotonic()) > 0:
                    self._changed.wait(left)
                    continue
            now = time.monotonic()
            for one in self._pop_waiting(lambda _, one, now=now: one.due <= now):  # type: ignore[misc]
                _run_waiting(one)


def _run_waiting(one: _Waiting) -> None:
    try:
        one.act()
    except Exception as error:  # noqa: BLE001 - the thread's outer edge: said where the knob is
        one.failed(error)


settling = Debouncer()
"""That of this process."""
atexit.register(settling.close)
