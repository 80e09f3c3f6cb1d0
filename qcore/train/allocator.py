"""What a step frees is kept for the next one, where the C library is glibc.

Left alone, glibc hands large freed blocks back to the system, and every step takes them anew, a page fault for each
4 KiB: 570 to 1,920 faults and 3 to 4 % of a small model's step (`bench/allocator.py`). Kept, there are a few.
It holds for the whole process, so that what a page has once read would stay, too: all that is kept goes back when a run
ends, and with a checkpoint when it has not for a minute. Giving it back takes 4 ms, and the next step, which takes it
anew, half as long again: with each of a small model's checkpoints, some seconds apart, it was 0.5 % of its training.
"""

from __future__ import annotations

import ctypes
import functools
import time

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # mallopt(3)
_MIB = 1 << 20
KEPT_BYTES = 1024 * _MIB
"""Free memory at the end of the heap above which it is given back all the same."""
GROWTH_BYTES = 64 * _MIB
LARGEST_BYTES = 32 * _MIB
"""Larger blocks come from the system each time; glibc allows no more."""
SELDOM_SECONDS = 60.0

_released = time.monotonic()


@functools.cache
def keep_freed_memory() -> bool:
    """Make this process keep what it frees; whether its C library can. Later calls change nothing."""
    library = _library()
    return library is not None and all(
        library.mallopt(option, value)
        for option, value in (
            (_MMAP_THRESHOLD, LARGEST_BYTES),
            (_TRIM_THRESHOLD, KEPT_BYTES),
            (_TOP_PAD, GROWTH_BYTES),
        )
    )


def release_freed_memory() -> None:
    """Give back to the system what is kept and not in use."""
    global _released
    _released = time.monotonic()
    library = _library()
    if library is not None:
        library.malloc_trim(0)


def release_seldom() -> None:
    """Give it back, but not within a minute of the last time that this process did."""
    if time.monotonic() - _released >= SELDOM_SECONDS:
        release_freed_memory()


def _library() -> ctypes.CDLL | None:
    """This process's C library, if it is glibc: others have no mallopt with these options."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    return library if hasattr(library, "gnu_get_libc_version") else None
