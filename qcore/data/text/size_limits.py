"""How much text one place may give: by this machine's memory, and by what its files could honestly hold.

Text packs ten- to twentyfold, a column of a few words a hundredfold. What gives 200 times its size, and is large, is
made to fill a memory, whatever packs it: a compressed file, the pages of a Parquet file, the buffers of an Arrow one.
"""

from __future__ import annotations

import os
from pathlib import Path

from qcore.config import DataError
from qcore.config.places import printable_path

FREE_BYTES = 64 << 20
MOST_TIMES = 200


def memory_bytes() -> int:
    """The memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_room(size: int, said: str) -> None:
    """Refuse files that, as text, would fill more than half of the machine's memory: `DataError`."""
    if size > memory_bytes() // 2:
        raise DataError(
            f"{said} holds {size / 2**30:.1f} GB, more than half of this machine's memory of "
            f"{memory_bytes() / 2**30:.1f} GB, and text is held in memory: give a part of it"
        )


class Room:
    """What the contents of one file may take, counted while they come."""

    def __init__(self, path: Path) -> None:
        self._path, self._size = path, path.stat().st_size
        self._most = memory_bytes() // 2
        self.taken = 0

    def take(self, size: int) -> None:
        """Count what came.

        Raises:
            DataError: when it is too much.
        """
        self.check(size)
        self.taken += size

    def check(self, size: int) -> None:
        """Refuse what would be too much beside what came before, ahead of making it: `DataError`."""
        taken = self.taken + size
        if taken > self._most or (taken > FREE_BYTES and taken > MOST_TIMES * self._size):
            raise DataError(
                f"{printable_path(self._path)!r} unpacks to more than {taken >> 20} MB from {self._size >> 10} "
                "kB, which is no "
                "text or does not fit into memory: give a part of it"
            )
