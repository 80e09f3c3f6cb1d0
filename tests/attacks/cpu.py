"""CPU time of a call on a loaded machine: bounded, so that a hang is a failure; measured as the least of several."""

from __future__ import annotations

import contextlib
import gc
import signal
import time
from collections.abc import Callable, Iterator


class TooSlow(AssertionError):
    """A call used more CPU than it may."""


@contextlib.contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Raise `TooSlow` once this process has used so much CPU inside; the `re` engine is interrupted, too."""

    def ring(number: int, frame: object) -> None:
        raise TooSlow(f"it used more than {seconds:g} s of CPU")

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def cpu_seconds(act: Callable[[], object], at_least: int = 1) -> float:
    """CPU seconds of one call: the least of `at_least` calls, as what else runs here can only add to it."""
    found = []
    gc.disable()  # a collection costs what all else of this process keeps
    try:
        for _ in range(at_least):
            began = time.thread_time()
            act()
            found.append(time.thread_time() - began)
    finally:
        gc.enable()
    return min(found)


ONCE_MORE = 2.5
"""How much longer a call on twice the size may seem to take before it is measured again, and again."""


def growth(make: Callable[[int], Callable[[], object]], size: int, limit: float, noise: float = 0.004) -> float:
    """How much longer a call takes on twice the size, 0 where both are too short to tell. `TooSlow` past `limit` CPU
    seconds of a call. The smaller sizes come first, so that an exponential one is stopped where it begins to hurt.
    """
    small = size
    while small > 32:
        small //= 4
    while small <= size:
        with bounded(limit):
            once = cpu_seconds(make(small))
        small *= 4
    with bounded(limit):
        twice = cpu_seconds(make(2 * size))
    if twice < noise:
        return 0.0
    with bounded(20 * limit):
        once, twice = cpu_seconds(make(size), 2), min(twice, cpu_seconds(make(2 * size)))
        if twice > ONCE_MORE * once:
            once, twice = cpu_seconds(make(size), 5), cpu_seconds(make(2 * size), 5)
    return twice / max(once, noise / 4)
