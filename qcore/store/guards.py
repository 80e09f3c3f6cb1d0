"""What every connection to a run's database carries, because any file may be a stranger's.

SQLite's own advice for foreign files: `trusted_schema` off, `cell_size_check` on, limits on sizes, and a handler that
ends a query. The end is counted in steps of SQLite's virtual machine, not in seconds, so that a slow machine refuses
nothing that a fast one reads: a tree of pages that repeats itself a million times is what it is made for.
"""

from __future__ import annotations

import sqlite3
from typing import Any

PULSE = 1_000_000
"""Steps of the virtual machine between two looks at the count: some 20 ms."""
READ_PULSES = 400
"""Most that one read may take: a million rows take some ten."""
WRITE_PULSES = 4000
LONGEST = 512 * 2**20
"""Most bytes of one value or row. A probe's arrays are below 256 MiB."""

_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: LONGEST,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 64,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 64,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 4,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 25_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 8,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 64,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}


class GuardedConnection(sqlite3.Connection):
    """A connection whose queries are bounded; `begin_work` gives it its whole budget again."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        for limit, value in _LIMITS.items():
            self.setlimit(limit, value)
        self.execute("PRAGMA trusted_schema = OFF")
        self.execute("PRAGMA cell_size_check = ON")
        self._most = self._left = READ_PULSES
        self.set_progress_handler(self._look, PULSE)

    def begin_work(self, most: int | None = None) -> None:
        """Start to count anew; `most` pulses from now on, each time."""
        self._most = self._most if most is None else most
        self._left = self._most

    def may_attach(self, count: int) -> None:
        """Let `count` databases be attached: VACUUM needs one, for itself."""
        self.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, count)

    def _look(self) -> int:
        self._left -= 1
        return int(self._left < 0)
